"""What a plan foresees of units, and in which order it tells the service manager."""

from typing import Any

import pytest

from aquiline.changes.kinds import Inline, ReactDaemonReload, ReactUnit, SetPackages, SetUnit, WriteFile
from aquiline.changes.steps import Plan
from aquiline.execution.recovery import what_became_of
from aquiline.host.protocol import UnitState
from aquiline.host.simulated import SimulatedHost
from aquiline.journal.preimages import PreimageStore
from aquiline.planning.component import Task, Yielded
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.engine.site import component

OFF = UnitState(exists=True, enabled="disabled", active="inactive")
RESTART = ReactUnit(unit="a.service", action="restart")


def planned(host: SimulatedHost, *yields: Yielded) -> Plan:
    profile = Profile({"software": {"components": {"one": {}}}}, "host.example.org")
    return plan(profile, host, {"one": component("one", yields)})


def unit_file(name: str, text: bytes = b"[Service]\n") -> WriteFile:
    return WriteFile(path=f"/etc/systemd/system/{name}", content=Inline(text))


def kinds(made: Plan) -> list[str]:
    return [type(step.change).__name__ for step in made.steps if "Directory" not in type(step.change).__name__]


def test_unit_files_are_read_again_once_and_first() -> None:
    """Several unit files, one reload: before the first unit is touched, and before any reaction of one."""
    host = SimulatedHost(units={"a.service": OFF})
    task = Task(description="", changes=(unit_file("a.service"), unit_file("b.service.d/x.conf")), reactions=(RESTART,))

    made = planned(host, task, SetUnit(unit="a.service", active=True))
    by_reaction = planned(host, Task(description="", changes=(unit_file("a.service"),), reactions=(RESTART,)))
    asked_for = planned(
        host, Task(description="", changes=(unit_file("a.service"),), reactions=(RESTART, ReactDaemonReload()))
    )

    assert ["WriteFile", "WriteFile", "ReactDaemonReload", "ReactUnit", "SetUnit"] == kinds(made)
    assert ["WriteFile", "ReactDaemonReload", "ReactUnit"] == kinds(by_reaction) == kinds(asked_for)


def test_other_files_need_no_reload() -> None:
    """What is no unit file is none of the service manager's business."""
    assert ["WriteFile"] == kinds(planned(SimulatedHost(), WriteFile(path="/etc/motd", content=Inline(b"x"))))


def test_a_unit_of_the_same_plan_is_seen() -> None:
    """A unit that a step before brings is there, off; a reaction of one that nobody brings would fail, and says so."""
    install = b"[Install]\nWantedBy=multi-user.target\n"
    reaction = ReactUnit(unit="none.service", action="reload")
    task = Task(description="", changes=(unit_file("new.service", install),), reactions=(reaction,))

    made = planned(SimulatedHost(), task, SetUnit(unit="new.service", enabled="enabled", active=True))

    assert ("disabled", "inactive") == next(
        (step.before[0].object.enabled, step.before[0].object.active)  # type: ignore[union-attr]
        for step in made.steps
        if isinstance(step.change, SetUnit)
    )
    assert any("would fail: there is no unit none.service" in line for line in made.coverage.reduced_by)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (("disabled", "inactive"), "not-done"),
        (("enabled", "inactive"), "half-way"),
        (("enabled", "failed"), "half-way"),
        (("enabled", "activating"), "half-way"),
        (("enabled", "active"), "half-way"),
        (("masked", "inactive"), "in-doubt"),
    ],
)
def test_what_became_of_a_unit(found: tuple[str, str], verdict: str, preimages: PreimageStore) -> None:
    """After a crash: as before, or on its way and done again; a state that the step does not lead to is a question.

    Enabled and running may be half way too: of several links one may be missing.
    """
    host = SimulatedHost(units={"a.service": OFF})
    (step,) = planned(host, SetUnit(unit="a.service", enabled="enabled", active=True)).steps
    enabled, active = found
    crashed = SimulatedHost(units={"a.service": UnitState(exists=True, enabled=enabled, active=active)})

    assert verdict == what_became_of(step, crashed, preimages)[0]


def test_a_step_is_about_its_side_only() -> None:
    """Who only enables a unit does not mind whether it runs."""
    host = SimulatedHost(units={"a.service": OFF})

    (step,) = planned(host, SetUnit(unit="a.service", enabled="enabled")).steps

    assert [("disabled", ""), ("enabled", "")] == [
        (at.object.enabled, at.object.active)  # type: ignore[union-attr]
        for at in (*step.before, *step.after)
    ]


def test_what_runs_to_its_end_is_right_when_it_is_inactive() -> None:
    """A oneshot is started by the step that enables it, and by no later one."""
    once = UnitState(exists=True, enabled="disabled", active="inactive", runs_once=True)
    enabled = UnitState(exists=True, enabled="enabled", active="inactive", runs_once=True)
    change = SetUnit(unit="a.service", enabled="enabled", active=True)

    assert ["SetUnit"] == kinds(planned(SimulatedHost(units={"a.service": once}), change))
    assert [] == kinds(planned(SimulatedHost(units={"a.service": enabled}), change))


RUNNING = UnitState(exists=True, enabled="enabled", active="active")


def passing_on(*units: str) -> UnitState:
    """A running unit that passes its stop on to these."""
    return UnitState(exists=True, enabled="enabled", active="active", stops=units)


def test_what_stops_along_is_foreseen() -> None:
    """Stopping a unit stops those that need it, and those that need these; only the running ones, and no target."""
    units = {
        "a.service": passing_on("b.service", "off.service", "multi-user.target"),
        "b.service": passing_on("a.service", "c.service"),
        "c.service": RUNNING,
        "off.service": OFF,
        "multi-user.target": passing_on("d.service"),
        "d.service": RUNNING,
    }

    (step,) = planned(SimulatedHost(units=units), SetUnit(unit="a.service", active=False)).steps

    assert "stop a.service, which stops b.service, c.service too" == step.description
    assert ["unit:a.service", "unit:b.service", "unit:c.service"] == [at.path for at in step.after]
    assert "start a.service, then start b.service, c.service" == step.undo.description


def test_later_steps_see_what_stopped_along() -> None:
    """A unit that stopped along is started by a later step that wants it running."""
    units = {"a.service": passing_on("b.service"), "b.service": RUNNING}
    changes = SetUnit(unit="a.service", active=False), SetUnit(unit="b.service", active=True)

    steps = planned(SimulatedHost(units=units), *changes).steps

    assert ["stop a.service, which stops b.service too", "start b.service"] == [step.description for step in steps]


def unit(active: str, **more: Any) -> UnitState:
    return UnitState(exists=True, enabled="disabled", active=active, **more)


def test_what_starts_along_is_foreseen() -> None:
    """What a unit needs and wants starts with it, and what these need; what is against it stops, and what needs that.

    Nothing is listed that runs already, cannot start, is not there, or is no process.
    """
    units = {
        "a.service": unit("inactive", starts=("b.service", "on.service", "none.service", "x.target")),
        "b.service": unit("failed", starts=("c.service", "once.service", "unmet.service"), conflicts=("old.service",)),
        "c.service": OFF,
        "on.service": unit("active", starts=("not-looked-at.service",)),
        "not-looked-at.service": OFF,
        "once.service": unit("inactive", runs_once=True, starts=("d.service",)),
        "d.service": OFF,
        "unmet.service": unit("inactive", unmet=True),
        "x.target": unit("inactive", starts=("e.service",)),
        "e.service": OFF,
        "old.service": unit("active", stops=("with-old.service",)),
        "with-old.service": unit("active"),
    }
    host = SimulatedHost(units=units)

    (step,) = planned(host, SetUnit(unit="a.service", active=True)).steps

    assert (
        "start a.service, which starts b.service, c.service, d.service, e.service"
        " and stops old.service, with-old.service too"
    ) == step.description
    assert (
        "stop a.service, then stop b.service, c.service, d.service, e.service, then start old.service, with-old.service"
    ) == step.undo.description


def test_what_runs_to_its_end_is_right_whatever_it_wants() -> None:
    """A unit that ran to its end is not run again because something that it wants has not stayed."""
    units = {"job.service": unit("inactive", runs_once=True, starts=("wanted.service",)), "wanted.service": OFF}
    host = SimulatedHost(units=units)

    assert () == planned(host, SetUnit(unit="job.service", active=True)).steps
    assert ["start job.service, then start wanted.service"] == [
        step.description
        for step in planned(host, SetUnit(unit="job.service", active=True, along=("wanted.service",))).steps
    ]


def test_what_others_need_by_now_is_left_running() -> None:
    """Undo of a start does not stop what came along where something else that runs needs it by now."""
    units = {
        "a.service": unit("active"),
        "mine.service": unit("active", stops=("a.service",)),
        "shared.service": unit("active", stops=("a.service", "other.service")),
        "other.service": unit("active"),
    }
    back = SetUnit(unit="a.service", active=False, stops_too=("mine.service", "shared.service"))

    (step,) = planned(SimulatedHost(units=units), back).steps

    assert ["unit:a.service", "unit:mine.service"] == [at.path for at in step.after]


def test_files_and_links_of_the_same_plan_say_what_starts_and_stops_along() -> None:
    """A drop-in binds a unit to another, a new unit needs one, a link makes one wanted: the steps after that know."""
    units = {name: unit("active") for name in ("a.service", "part.service", "old.service")}
    units |= {"db.service": OFF, "wanted.service": OFF}
    new = b"[Unit]\nRequires=db.service\nConflicts=old.service\n[Service]\nExecStart=/bin/new\n"

    steps = planned(
        SimulatedHost(units=units),
        unit_file("part.service.d/x.conf", b"[Unit]\nPartOf=a.service\n"),
        unit_file("new.service", new),
        unit_file("wanted.service", b"[Service]\n[Install]\nWantedBy=new.service\n"),
        SetUnit(unit="wanted.service", enabled="enabled"),
        SetUnit(unit="a.service", active=False),
        SetUnit(unit="new.service", active=True),
        SetUnit(unit="part.service", active=True),
    ).steps

    assert [
        "enable wanted.service",
        "stop a.service, which stops part.service too",
        "start new.service, which starts db.service, wanted.service and stops old.service too",
        "start part.service",
    ] == [step.description for step in steps if isinstance(step.change, SetUnit)]


def test_units_of_packages_that_nobody_can_list_are_waited_for() -> None:
    """A unit that is not there may come with a package whose files are not known: the component that asks waits."""
    host = SimulatedHost(units={"a.service": OFF})
    host.packages.unlisted.add("daemon")
    wants: dict[str, SetPackages | SetUnit] = {
        "z": SetPackages(install=(("daemon", ""),)),
        "there": SetUnit(unit="a.service", active=True),
        "missing": SetUnit(unit="daemon.service", active=True),
    }
    profile = Profile({"software": {"components": {name: {} for name in wants}}}, "host.example.org")

    made = plan(profile, host, {name: component(name, (change,)) for name, change in wants.items()})

    assert ["z", "planned", "there", "planned", "missing", "deferred"] == [
        word for name in wants for word in (name, made.components[name].state)
    ]
    assert "daemon.service is unknown until run" in made.components["missing"].detail
