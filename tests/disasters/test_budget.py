"""Files too large to be kept for undo are said to be, before anybody deploys (D15)."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from aquiline.agent.session import Session
from aquiline.changes.kinds import CommandUndo, Move, Remove, RunCommand, SetMetadata, Touches
from aquiline.journal.store import Journal
from aquiline.planning.known import Budget, Known
from aquiline.profile import Profile
from tests.cli.conftest import Host, write
from tests.engine.site import Site

from .conftest import Ask

KNOWN = Session.known


@pytest.fixture
def small(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that keeps 1000 bytes for a step and 1500 for a run."""
    limit(monkeypatch)
    return host


def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host keep 1000 bytes for a step and 1500 for a run."""

    def known(session: Session, journal: Journal, profile: Profile | None) -> Known:
        return msgspec.structs.replace(KNOWN(session, journal, profile), budget=Budget(step=1000, run=1500))

    monkeypatch.setattr(Session, "known", known)


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


def test_holes_are_not_kept(small: Host, ask: Ask) -> None:
    """A file costs what is stored of it: one of 64 MiB that is a single hole fits the smallest budget."""
    place = small.path("/etc/sparse")
    place.touch()
    os.truncate(place, 64 << 20)

    assert 0 == ask("apply", small.profile(Remove(path="/etc/sparse")))[0]
    assert not place.exists()
    assert 0 == ask("undo")[0]
    assert (64 << 20, 0) == (place.stat().st_size, place.stat().st_blocks)


def test_what_keeps_its_content_needs_none(small: Host, ask: Ask) -> None:
    """A file of any size that moves, is new or gets a mode costs nothing and can be taken back."""
    for name in ("big", "meta"):
        small.write(f"/etc/{name}", name * 1000)
    moved = Move(source="/etc/big", destination="/etc/moved")
    meta = SetMetadata(path="/etc/meta", mode=0o600)
    profile = small.profile(moved, write("/etc/new", "y" * 5000), meta)

    assert 0 == ask("apply", profile)[0]
    assert 0 == ask("undo")[0]
    assert 0o644 == small.path("/etc/meta").stat().st_mode & 0o7777
    assert ("big" * 1000, None) == tuple(small.text(f"/etc/{name}") for name in ("big", "new"))


def test_other_names_are_no_way_around_it(small: Host, ask: Ask) -> None:
    """A file with several names costs what any other does: its content is kept beside its inode, in case that goes."""
    small.write("/etc/linked", "x" * 5000)
    os.link(small.path("/etc/linked"), small.path("/etc/other"))
    profile = small.profile(Remove(path="/etc/linked"))

    (step,) = json.loads(ask("--json", "plan", profile)[1])["steps"]

    assert "too large: 5000 bytes are over the pre-image budget of a step" == step["undo"]["reason"]
    assert 13 == ask("apply", profile)[0]
    assert 0 == ask("apply", profile, "--allow-irreversible")[0]
    assert [] == [path for path in small.state.rglob("*") if path.is_file() and path.stat().st_size == 5000]


def test_other_names_are_within_it(small: Host, ask: Ask) -> None:
    """One that fits is taken back as the inode it was."""
    small.write("/etc/linked", "x" * 500)
    os.link(small.path("/etc/linked"), small.path("/etc/other"))

    assert 0 == ask("apply", small.profile(Remove(path="/etc/linked")))[0]
    assert 0 == ask("undo")[0]
    assert small.path("/etc/linked").samefile(small.path("/etc/other"))


@pytest.mark.parametrize("is_write", [False, True])
def test_new_metadata_needs_no_content(small: Host, ask: Ask, is_write: bool) -> None:
    """A file of any size that only gets another owner or mode costs no pre-image, and gets them back."""
    small.write("/etc/big", "x" * 5000)
    before = small.path("/etc/big").stat()
    wanted = (
        write("/etc/big", "x" * 5000, mode=0o600) if is_write else SetMetadata(path="/etc/big", mode=0o600, owner=7)
    )
    profile = small.profile(wanted)

    (step,) = json.loads(ask("--json", "plan", profile)[1])["steps"]

    assert "exact" == step["undo"]["class"]
    assert 0 == ask("apply", profile)[0]
    assert 0o600 == small.path("/etc/big").stat().st_mode & 0o777
    assert 0 == ask("undo")[0]
    after = small.path("/etc/big").stat()
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns)


def test_all_stages_share_the_budget_of_their_run(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a later stage replaces counts beside what earlier ones did: it is irreversible, and refused."""
    limit(monkeypatch)
    for name in ("a", "b"):
        with_shell.path(f"/{name}").write_text(name * 900)
    command = RunCommand(
        argv=("/bin/sh", "-c", "echo made > /made"), always=True, touches=Touches(paths=("/made",)),
        undo=CommandUndo(changes=(Remove(path="/made"),)),
    )  # fmt: skip
    with_shell.wants(write("/a", "new\n"), command)
    with_shell.computes(lambda view: [write("/b", "new\n")] if view.read("/made") else [], name="two", pre=("one",))

    ended = with_shell.apply(allow_irreversible=False)

    assert 13 == ended.exit_status
    assert ended.error is not None
    assert "too large: 900 bytes are over the pre-image budget of a run" in ended.error.message
    assert ("new\n", "b" * 900) == (with_shell.path("/a").read_text(), with_shell.path("/b").read_text())


def test_a_site_sets_it(host: Host, ask: Ask) -> None:
    """The host's policy says how much is kept, in MiB; nothing, for one that keeps nothing."""
    host.write("/etc/big", "x" * (2**20 + 1))
    profile = host.profile(write("/etc/big", "small\n"))
    found = []
    for limits in ("preimage_mib_per_step = 0", "preimage_mib_per_step = 1", "preimage_mib_per_run = 1", ""):
        host.write("/etc/aquiline/policy.toml", f"{limits}\n")
        (step,) = json.loads(ask("--json", "plan", profile)[1])["steps"]
        found.append((step["undo"]["class"], step["undo"].get("reason", "")[-6:]))
    host.write("/etc/aquiline/policy.toml", "preimage_mib_per_run = -1\n")

    assert [*[("irreversible", "a step")] * 2, ("irreversible", " a run"), ("exact", "")] == found
    assert 1 == ask("plan", profile)[0]
