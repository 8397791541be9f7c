"""Objects that are no files go through the whole engine as files do; here on a simulated host's units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.changes.kinds import Inline, SetUnit, WriteFile
from aquiline.errors import StepFailed, UndoConflict
from aquiline.host.protocol import UnitState
from aquiline.host.simulated import SimulatedHost, SimulatedUnits

from .site import Site


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site on a host that is only a tree and some units."""
    with Site(tmp_path, monkeypatch) as site:
        states = {"web.service": UnitState(exists=True, enabled="disabled", active="inactive")}
        host = SimulatedHost(units=states)
        host.add("/etc/\n    motd: old\n")
        site.session.host.close()
        site.session.host = host  # type: ignore[assignment]  # all that a session asks of it is what a Host promises
        yield site


def becomes(site: Site, active: str) -> None:
    """Let the unit be active or not by itself."""
    site.session.host.units.become("web.service", active)  # type: ignore[attr-defined]  # only a simulated one can


def units(site: Site) -> UnitState:
    """Return how the unit is."""
    return site.session.host.units.state("web.service")


def test_a_unit_is_set_and_taken_back(simulated: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prior state comes back, and a second plan is empty."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    before = units(simulated)
    simulated.wants(
        SetUnit(unit="web.service", enabled="enabled", active=True), WriteFile(path="/etc/motd", content=Inline(b"new"))
    )

    run = simulated.apply()

    assert 0 == run.exit_status
    assert ("enabled", "active") == (units(simulated).enabled, units(simulated).active)
    assert () == simulated.plan().steps
    assert 0 == simulated.undo().exit_status
    assert before == units(simulated)


@pytest.mark.parametrize("at_undo", ["active", "activating", "failed"])
def test_a_unit_that_ended_by_itself_is_no_conflict(
    at_undo: str, simulated: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a unit that dies and comes back is when it is looked at, undo stops it, and it has not failed before."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    before = units(simulated)
    simulated.wants(SetUnit(unit="web.service", enabled="enabled", active=True))
    simulated.apply()
    becomes(simulated, at_undo)

    assert 0 == simulated.undo().exit_status

    assert before == units(simulated)


@pytest.mark.parametrize("at_undo", ["active", "activating", "failed", "inactive"])
@pytest.mark.parametrize("enabled", ["enabled", "disabled"])
def test_a_start_that_failed_is_taken_back(
    enabled: str, at_undo: str, simulated: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that did not hold is stopped by undo, though it seems to run when that looks at it."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    simulated.session.host.units.set_enabled("web.service", enabled)
    before = units(simulated)
    simulated.wants(SetUnit(unit="web.service", enabled="enabled", active=True))

    def fail(_self: SimulatedUnits, unit: str, active: bool) -> None:
        becomes(simulated, "failed")
        raise StepFailed(f"{unit} is not {active}")

    with monkeypatch.context() as patched:
        patched.setattr(SimulatedUnits, "set_active", fail)
        assert 15 == simulated.apply().exit_status
    becomes(simulated, at_undo)

    if (enabled, at_undo) != ("enabled", "inactive"):  # then nothing is left to take back
        assert 0 == simulated.undo().exit_status
    assert before == units(simulated)


def test_a_unit_that_fails_after_the_plan_is_what_it_was_planned_for(
    simulated: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between plan and step it may fail, or come back: nobody did that, and the step is the same."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    becomes(simulated, "failed")
    simulated.wants(SetUnit(unit="web.service", enabled="enabled", active=True))

    run = simulated.apply(before_first_step=lambda _run: becomes(simulated, "active"))

    assert 0 == run.exit_status
    assert ("enabled", "active") == (units(simulated).enabled, units(simulated).active)


def test_a_unit_that_somebody_changed_is_a_conflict(simulated: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo does not touch a unit that is not as the run left it."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    simulated.wants(SetUnit(unit="web.service", enabled="enabled"))
    simulated.apply()
    simulated.session.host.units.set_enabled("web.service", "masked")

    with pytest.raises(UndoConflict, match=r"unit:web\.service: enabled"):
        simulated.undo()

    assert "masked" == units(simulated).enabled
