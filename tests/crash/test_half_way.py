"""What became of a step, told from what stands there alone: each thing that a crash can leave, and what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.changes.kinds import Change, Inline, Move, Restore, WriteFile
from aquiline.changes.resolve import resolve
from aquiline.changes.steps import Cause, Step
from aquiline.execution.recovery import what_became_of
from aquiline.host import SimulatedHost
from aquiline.host.objects import Directory, Metadata
from aquiline.host.protocol import Host
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.state import StateDirectory
from tests.host.conformance import THEN, directory, put, write

OLD, NEW = b"o" * 6000, b"n" * 9000


@pytest.fixture
def preimages(tmp_path: Path) -> PreimageStore:
    """An empty store."""
    state = StateDirectory(tmp_path / "state")
    state.create()
    return PreimageStore(state)


def step_of(change: Change, host: Host) -> Step:
    """Return the step that makes `change` on a host."""
    effect = resolve(change, host)
    assert effect is not None
    return Step(1, "one", "", change, "", Cause("intentional"), effect.before, effect.after, effect.undo)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (OLD, "not-done"),
        (NEW, "done"),
        (NEW[:4000] + OLD[4000:], "half-way"),
        (NEW[:8000], "half-way"),
        (b"", "half-way"),
        (NEW[:100] + b"\0" * 4000 + NEW[4100:], "half-way"),
        (OLD[:3000] + NEW[3000:5000] + OLD[5000:], "half-way"),
        (OLD[:3000] + b"foreign" + OLD[3007:], "in-doubt"),
        (NEW[:4000] + b"x" + OLD[4001:], "in-doubt"),
        (NEW[:-1] + b"x", "in-doubt"),
        (NEW + b"n", "in-doubt"),
        (NEW[:8000] + b"o" * 10, "in-doubt"),
    ],
)
def test_a_torn_overwrite(found: bytes, verdict: str, preimages: PreimageStore) -> None:
    """Bytes of the old or the new content in their places, or never written, are half way; a foreign one is in doubt.

    Whoever wrote that is not to be overwritten without being asked.
    """
    host = SimulatedHost()
    write(host, "/file", OLD)
    step = step_of(WriteFile(path="/file", content=Inline(NEW), in_place=True), host)
    preimages.keep(host.chunks("/file"))

    host.write_in_place("/file", [found], Metadata(0o644, 0, 0, THEN))

    assert verdict == what_became_of(step, host, preimages)[0]


def test_a_directory_that_was_used_is_there(preimages: PreimageStore) -> None:
    """One that is back is done, although what was put into it since gave it another time."""
    host = SimulatedHost()
    step = step_of(Restore(path="/folder", object=Directory(Metadata(0o755, 0, 0, THEN))), host)

    put(host, "/folder", directory(mtime_ns=THEN))
    write(host, "/folder/file", b"x")

    assert THEN != getattr(host.status("/folder"), "mtime_ns", THEN)
    assert "done" == what_became_of(step, host, preimages)[0]


def test_a_move(preimages: PreimageStore) -> None:
    """What was moved is at its new place, or still at its old one: there is nothing between."""
    host = SimulatedHost()
    write(host, "/old", b"x")
    step = step_of(Move(source="/old", destination="/new"), host)

    assert "not-done" == what_became_of(step, host, preimages)[0]
    host.move("/old", "/new")
    assert "done" == what_became_of(step, host, preimages)[0]
