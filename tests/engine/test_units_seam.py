"""Objects that are no files go through the whole engine as files do; here on a simulated host's units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.changes.kinds import Inline, SetUnit, WriteFile
from aquiline.errors import UndoConflict
from aquiline.host.protocol import UnitState
from aquiline.host.simulated import SimulatedHost

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


def test_a_unit_that_somebody_changed_is_a_conflict(simulated: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo does not touch a unit that is not as the run left it."""
    monkeypatch.setattr(SimulatedHost, "close", lambda _self: None, raising=False)
    simulated.wants(SetUnit(unit="web.service", enabled="enabled"))
    simulated.apply()
    simulated.session.host.units.set_enabled("web.service", "masked")

    with pytest.raises(UndoConflict, match=r"unit:web\.service: enabled"):
        simulated.undo()

    assert "masked" == units(simulated).enabled
