"""Places that cannot be written to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aquiline.changes.kinds import (
    Change,
    Inline,
    MakeHardlink,
    Move,
    Remove,
    SetMetadata,
    SetRecord,
    WriteFile,
)
from aquiline.changes.render import plan_as_json, render_plan
from aquiline.errors import HostError
from tests.engine.site import Site, tree

from .mounts import in_private_mounts, make_read_only


def test_a_read_only_root(site: Site) -> None:
    """A dry-run works; a live run fails at its first step, says why, and changes nothing."""
    site.path("/file").write_bytes(b"old\n")
    site.wants(WriteFile(path="/file", content=Inline(b"new\n")))

    def work() -> None:
        make_read_only(site.root)
        site.session.host.close()
        site.session = type(site.session)(str(site.root), str(site.state))
        before = tree(site.root)
        assert 1 == len(site.plan().steps)
        ended = site.apply()
        assert 15 == ended.exit_status
        assert ended.error is not None
        assert "/file" in ended.error.message
        assert "read-only" in ended.error.message.lower()
        assert before == tree(site.root)

    in_private_mounts(work)


def test_a_read_only_state(site: Site) -> None:
    """No journal, no run: nothing is changed, and the message says where another place is given."""
    site.path("/file").write_bytes(b"old\n")
    site.wants(WriteFile(path="/file", content=Inline(b"new\n")))
    site.state.mkdir()

    def work() -> None:
        make_read_only(site.state)
        assert 1 == len(site.plan().steps)
        with pytest.raises(HostError, match="read-only") as raised:
            site.apply()
        assert "--state" in raised.value.hint
        assert b"old\n" == site.path("/file").read_bytes()

    in_private_mounts(work)


@pytest.mark.parametrize(("where", "flag"), [("file", "i"), ("file", "a"), ("directory", "i"), ("directory", "a")])
def test_immutable(site: Site, flag: str, where: str) -> None:
    """What is immutable or append-only is a clear failure; what came before it is taken back."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    place = site.path("/d/file" if where == "file" else "/d")
    before = site.tree()
    site.wants(WriteFile(path="/first", content=Inline(b"x")), WriteFile(path="/d/file", content=Inline(b"new\n")))
    subprocess.run(["chattr", f"+{flag}", str(place)], check=True)
    try:
        ended = site.apply(on_failure="undo")

        assert 16 == ended.exit_status
        assert ended.error is not None
        assert "/d/file" in ended.error.message
        assert "chattr" in ended.error.message + ended.error.hint
        assert before == site.tree()
    finally:
        subprocess.run(["chattr", f"-{flag}", str(place)], check=True)


@pytest.mark.parametrize("change", [Remove(path="/file"), SetMetadata(path="/file", mode=0o600)])
def test_immutable_is_not_touched(site: Site, change: Remove | SetMetadata) -> None:
    """Removing an immutable file or changing its mode fails just as clearly."""
    site.path("/file").write_bytes(b"old\n")
    before = site.tree()
    site.wants(change)
    subprocess.run(["chattr", "+i", str(site.path("/file"))], check=True)
    try:
        ended = site.apply()

        assert 15 == ended.exit_status
        assert ended.error is not None
        assert "chattr" in ended.error.message + ended.error.hint
        assert before == site.tree()
    finally:
        subprocess.run(["chattr", "-i", str(site.path("/file"))], check=True)


@contextmanager
def protected(place: Path, flag: str) -> Iterator[None]:
    """Give a file or directory a flag for a while."""
    subprocess.run(["chattr", f"+{flag}", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{flag}", str(place)], check=True)


IN_THE_WAY = [
    (WriteFile(path="/d/file", content=Inline(b"new\n")), "/d/file", "i", "/d/file is immutable (chattr +i)"),
    (WriteFile(path="/d/file", content=Inline(b"new\n")), "/d/file", "a", "/d/file is append-only (chattr +a)"),
    (WriteFile(path="/d/file", content=Inline(b"new\n")), "/d", "a", "/d is append-only (chattr +a)"),
    (WriteFile(path="/link/file", content=Inline(b"new\n")), "/d", "i", "/link is immutable (chattr +i)"),
    (WriteFile(path="/d/other", content=Inline(b"new\n")), "/d", "i", "/d is immutable (chattr +i)"),
    (Remove(path="/d/file"), "/d", "i", "/d is immutable (chattr +i)"),
    (Remove(path="/d/file"), "/d/file", "i", "/d/file is immutable (chattr +i)"),
    (SetMetadata(path="/d/file", mode=0o600), "/d/file", "i", "/d/file is immutable (chattr +i)"),
    (Move(source="/d/file", destination="/file"), "/d", "i", "/d is immutable (chattr +i)"),
    (MakeHardlink(path="/name", existing="/d/file"), "/d/file", "i", "/d/file is immutable (chattr +i)"),
    (SetRecord(database="group", name="wheel", line="wheel:x:10:"), "/etc/group", "i", "/etc/group is immutable"),
]


@pytest.mark.parametrize(("change", "place", "flag", "why"), IN_THE_WAY)
def test_immutable_is_foreseen(site: Site, change: Change, place: str, flag: str, why: str) -> None:
    """A dry-run says first which step would fail on a flag, and that this lowers its coverage; a live run fails so."""
    for folder in ("/d", "/etc"):
        site.path(folder).mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    site.path("/etc/group").write_bytes(b"root:x:0:\n")
    site.path("/link").symlink_to("d")
    site.wants(change)

    with protected(site.path(place), flag):
        plan = site.plan()
        ended = site.apply()

    (step,) = plan.steps
    assert step.would_fail.startswith(why)
    assert f"! would fail: step 1, {step.description}: {step.would_fail}\n" in render_plan(plan)
    assert (f"step 1 would fail: {step.would_fail}",) == plan.coverage.reduced_by
    assert step.would_fail == plan_as_json(plan)["steps"][0]["would_fail"]
    assert 15 == ended.exit_status


@pytest.mark.parametrize(
    ("change", "place", "flag"),
    [
        (SetMetadata(path="/d/file", mode=0o600), "/d", "i"),
        (WriteFile(path="/d/file", content=Inline(b"new\n"), in_place=True), "/d", "i"),
        (WriteFile(path="/d/below/file", content=Inline(b"new\n")), "/d", "i"),
        (SetMetadata(path="/link", owner=7), "/d", "i"),
    ],
)
def test_a_flag_that_is_not_in_the_way(site: Site, change: Change, place: str, flag: str) -> None:
    """No alarm where the flag keeps nothing from being done."""
    site.path("/d/below").mkdir(parents=True)
    site.path("/d/file").write_bytes(b"old\n")
    site.path("/link").symlink_to("d")
    site.wants(change)

    with protected(site.path(place), flag):
        plan = site.plan()
        ended = site.apply()

    assert ([""], 0) == ([step.would_fail for step in plan.steps], ended.exit_status)
