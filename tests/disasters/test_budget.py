"""Files too large to be kept for undo are said to be, before anybody deploys (D15)."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from aquiline.agent.session import Session
from aquiline.changes.kinds import Move, Remove
from aquiline.journal.store import Journal
from aquiline.planning.planner import Budget, Known
from aquiline.profile import Profile
from tests.cli.conftest import Host, write

from .conftest import Ask

KNOWN = Session.known


@pytest.fixture
def small(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that keeps 1000 bytes for a step and 1500 for a run."""

    def known(session: Session, journal: Journal, profile: Profile | None) -> Known:
        return msgspec.structs.replace(KNOWN(session, journal, profile), budget=Budget(step=1000, run=1500))

    monkeypatch.setattr(Session, "known", known)
    return host


def test_a_step(small: Host, ask: Ask) -> None:
    """A file over the budget of a step is irreversible in the plan, refused with 13, and done where allowed."""
    small.write("/etc/big", "x" * 1001)
    profile = small.profile(Remove(path="/etc/big"), write("/etc/motd", "hello\n"))

    (step, _) = json.loads(ask("--json", "plan", profile)[1])["steps"]
    refused = ask("apply", profile)

    assert "irreversible" == step["undo"]["class"]
    assert "too large: 1001 bytes are over the pre-image budget of a step" == step["undo"]["reason"]
    assert (13, None, 1001) == (refused[0], small.text("/etc/motd"), small.path("/etc/big").stat().st_size)
    assert "too large: 1001 bytes" in refused[2]
    assert 0 == ask("apply", profile, "--allow-irreversible")[0]
    assert not small.path("/etc/big").exists()
    status, _, said = ask("undo")
    assert (17, None) == (status, small.text("/etc/motd"))
    assert "too large" in said


def test_a_run(small: Host, ask: Ask) -> None:
    """What is within the budget of a step may be over that of the run: those that still fit stay undoable."""
    for name in ("a", "b", "c"):
        small.write(f"/etc/{name}", name * (900 if name != "c" else 500))
    profile = small.profile(*(write(f"/etc/{name}", "new\n") for name in ("a", "b", "c")))

    steps = json.loads(ask("--json", "plan", profile)[1])["steps"]

    assert ["exact", "irreversible", "exact"] == [step["undo"]["class"] for step in steps]
    assert "too large: 900 bytes are over the pre-image budget of a run" == steps[1]["undo"]["reason"]


def test_nothing_of_it_is_kept(small: Host, ask: Ask) -> None:
    """What is over the budget takes no space in the pre-image store."""
    small.write("/etc/big", "x" * 5000)

    assert 0 == ask("apply", small.profile(write("/etc/big", "small\n")), "--allow-irreversible")[0]
    assert [] == [path for path in small.state.rglob("*") if path.is_file() and path.stat().st_size == 5000]
    assert 17 == ask("undo")[0]
    assert "small\n" == small.text("/etc/big")


def test_what_keeps_its_content_needs_none(small: Host, ask: Ask) -> None:
    """A file of any size that moves, has other names or is new costs no pre-image and can be taken back."""
    for name in ("big", "linked"):
        small.write(f"/etc/{name}", name * 1000)
    os.link(small.path("/etc/linked"), small.path("/etc/other"))
    moved = Move(source="/etc/big", destination="/etc/moved")
    profile = small.profile(moved, Remove(path="/etc/linked"), write("/etc/new", "y" * 5000))

    assert 0 == ask("apply", profile)[0]
    assert 0 == ask("undo")[0]
    assert ("big" * 1000, "linked" * 1000, None) == tuple(
        small.text(f"/etc/{name}") for name in ("big", "linked", "new")
    )
