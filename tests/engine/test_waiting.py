"""A component that needs a user, group or unit which another brings comes after it, whether or not the profile says so.

Nothing but dependencies leaves components in the reverse order of their names (`tests/planning/test_order.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, SetRecord, SetUnit, Touches, WriteFile
from aquiline.planning.component import Note, View, Yielded

from .site import Site

ROOT = "root:x:0:0::/root:/bin/sh\n"
ALICE = SetRecord(database="passwd", name="alice", line="alice:x:1001:1001::/:/bin/sh")
STAFF = SetRecord(database="group", name="staff", line="staff:x:50:")
UNIT = WriteFile(path="/etc/systemd/system/web.service", content=Inline(b"[Install]\nWantedBy=multi-user.target\n"))


@pytest.fixture
def site(site: Site) -> Site:
    """A host that has no user but root."""
    site.path("/etc").mkdir()
    site.path("/etc/passwd").write_text(ROOT)
    site.path("/etc/group").write_text("root:x:0:\n")
    return site


def file_of(user: str, path: str = "/file") -> WriteFile:
    return WriteFile(path=path, content=Inline(b"x\n"), owner=user, group=0)


def careful(view: View) -> Iterable[Yielded]:
    """Yield a file of alice's, as filecopy does: nothing where there is no such user."""
    yield file_of("alice") if view.has_user("alice") else Note("left out: no user alice", lowers_coverage=True)


def components(site: Site) -> list[str]:
    """Return the components in the order of their steps."""
    return list(dict.fromkeys(step.component for step in site.plan().steps))


def settled(site: Site) -> None:
    """One run does all, and undo takes all of it back."""
    before = site.tree()
    plan = site.plan()
    ended = site.apply()
    assert (0, plan) == (ended.exit_status, ended.plan)
    assert () == site.plan().steps
    assert 0 == site.undo().exit_status
    changed = {path for path, found in site.tree().items() if before[path] != found}
    assert before.keys() == site.tree().keys()
    assert changed <= {"/etc/passwd", "/etc/group"}, "entries have no time of their own"


def test_one_that_looks_first(site: Site) -> None:
    """What leaves something out because a user is not there, waits for who brings that user, and a line says so."""
    site.computes(careful, name="z")
    site.wants(ALICE, name="a")
    plan = site.plan()

    assert ["a", "z"] == components(site)
    assert ["z waits for a: user alice"] == list(plan.notes)
    assert not [line for line in plan.coverage.reduced_by if "alice" in line]
    settled(site)


def test_one_that_would_fail(site: Site) -> None:
    """What could not be done without the user or the group does not fail: it waits."""
    site.wants(WriteFile(path="/file", content=Inline(b"x\n"), owner="alice", group="staff"), name="z")
    site.wants(ALICE, STAFF, name="a")

    assert ["a", "z"] == components(site)
    assert {"planned"} == {report.state for report in site.plan().components.values()}
    settled(site)


def test_another_number(site: Site) -> None:
    """A user who is there but gets another number: the file is given to the one that will be theirs."""
    site.path("/etc/passwd").write_text(f"{ROOT}alice:x:7:7::/:/bin/sh\n")
    site.wants(file_of("alice"), name="z")
    site.wants(ALICE, name="a")
    site.apply()

    assert 1001 == site.path("/file").stat().st_uid
    assert () == site.plan().steps


def test_a_unit(site: Site) -> None:
    """A unit is enabled after the component that writes its file."""

    def enable(view: View) -> Iterable[Yielded]:
        if view.unit("web.service").exists:
            yield SetUnit(unit="web.service", enabled="enabled")

    site.computes(enable, name="z")
    site.wants(UNIT, name="a")

    assert ["z waits for a: unit web.service"] == list(site.plan().notes)
    settled(site)
    assert not site.path("/etc/systemd").exists()


def test_one_after_the_other(site: Site) -> None:
    """Who waits may be waited for: each comes after the one it needs."""
    site.wants(file_of("bob"), name="z")
    bob = SetRecord(database="passwd", name="bob", line="bob:x:1002:1002::/:/bin/sh")
    site.computes(lambda view: [bob] if view.has_user("alice") else [], name="m")
    site.wants(ALICE, name="a")

    assert ["a", "m", "z"] == components(site)
    assert ["m waits for a: user alice", "z waits for m: user bob"] == list(site.plan().notes)
    settled(site)


def test_who_depends_on_one_that_waits_comes_after_it(site: Site) -> None:
    """What a profile says of the order still holds."""
    site.computes(careful, name="z")
    site.computes(lambda view: [file_of("root", "/seen")] if view.exists("/file") else [], name="y", pre=("z",))
    site.wants(ALICE, name="a")

    assert ["a", "z", "y"] == components(site)


def test_the_profile_has_the_last_word(site: Site) -> None:
    """Where dependencies put who needs the user first, it stays so; a line says it, and the next run does the rest."""
    site.computes(careful, name="z")
    site.wants(ALICE, name="a", pre=("z",))
    plan = site.plan()
    line = "z comes before a and cannot wait for it: user alice: what is left is for the next run"

    assert ["a"] == components(site)
    assert [line] == [note for note in plan.notes if "wait" in note]
    assert line in plan.coverage.reduced_by
    site.apply()
    assert ["z"] == components(site)
    assert [] == [note for note in site.plan().notes if "wait" in note]
    site.apply()
    assert () == site.plan().steps


def test_two_that_wait_for_each_other(site: Site) -> None:
    """They stay as they stand; the plan says what is left for the next run, which is all that is."""
    site.computes(lambda view: [ALICE, *([file_of("root")] if view.has_group("staff") else [])], name="z")
    site.computes(lambda view: [STAFF] if view.has_user("alice") else [], name="a")
    plan = site.plan()

    assert ["passwd:alice", "group:staff"] == [step.after[0].path for step in plan.steps]
    assert ["z comes before a and cannot wait for it: group staff: what is left is for the next run"] == list(
        plan.notes
    )
    assert plan == site.plan()
    site.apply()
    assert ["/file"] == [step.after[0].path for step in site.plan().steps]
    site.apply()
    assert () == site.plan().steps


def test_what_it_brings_itself_is_nothing_to_wait_for(site: Site) -> None:
    """A component that asks for a user and then makes it is planned once."""
    asked = []

    def both(view: View) -> Iterable[Yielded]:
        asked.append(view.has_user("alice"))
        yield ALICE
        asked.append(view.has_user("alice"))

    site.computes(both, name="z")
    site.wants(STAFF, name="a")

    assert ["z", "a"] == components(site)
    assert [False, True] == asked


def test_nobody_is_asked_twice_for_nothing(site: Site) -> None:
    """Where nobody waits, each component is run once; where somebody does, all of the stage twice."""
    runs = []

    def counted(view: View) -> Iterable[Yielded]:
        runs.append("z")
        yield from careful(view)

    site.computes(counted, name="z")
    site.wants(STAFF, name="a")
    site.plan()
    assert ["z"] == runs

    site.wants(ALICE, name="a")
    site.plan()
    assert ["z"] * 3 == runs


def test_a_command_stands_once(site: Site) -> None:
    """What is planned again is not done twice: a command that always runs, a reaction, a step."""
    restart = RunCommand(argv=("true",), always=True, touches=Touches(), undo=CommandUndo(itself=True))
    site.wants(file_of("alice"), restart, name="z")
    site.wants(ALICE, name="a")

    assert ["set_record", "write_file", "run_command"] == [
        step.change.__struct_config__.tag for step in site.plan().steps
    ]
    assert [1, 2, 3] == [step.number for step in site.plan().steps]


def test_what_is_known_only_later_makes_nobody_wait(site: Site) -> None:
    """A unit that a pending command may change is unknown: who asks for it is deferred, as ever."""
    site.computes(lambda view: [file_of("root")] if view.unit("web.service").exists else [], name="z")
    touching = RunCommand(
        argv=("true",), always=True, touches=Touches(units=("web.service",)), undo=CommandUndo(itself=True)
    )
    site.wants(touching, name="a")

    assert [] == [note for note in site.plan().notes if "wait" in note]
