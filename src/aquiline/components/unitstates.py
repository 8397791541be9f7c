"""What systemd and chkconfig share: units as a profile wants them, brought to that one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import msgspec

from aquiline.changes.kinds import SetUnit
from aquiline.host.protocol import UnitState
from aquiline.planning.component import Note, Task, View

State = Literal["enabled", "disabled", "masked"]
#: Quattor's order; within a state by name.
_ORDER = ("masked", "disabled", "enabled")
_MULTI_USER = "multi-user.target"
#: Neither enabled nor disabled by anybody.
_AS_THEY_ARE = ("static", "indirect", "generated", "transient")


class Wanted(msgspec.Struct, frozen=True):
    """A unit as a profile wants it."""

    unit: str
    state: State
    #: Start it where it is to be enabled, else stop it.
    startstop: bool
    #: Profile path.
    cause: str


def brought(wanted: Collection[Wanted], host: View) -> Iterator[Task | Note]:
    """Yield one task for each unit that there is, and notes on those that stay as they are."""
    states = host.units((_MULTI_USER, *(one.unit for one in wanted)))
    # Quattor: who starts or stops while the host boots or goes down, may hang it
    runs = states[_MULTI_USER].active in ("active", "")
    if not runs and any(one.startstop for one in wanted):
        yield Note(f"{_MULTI_USER} is not active: nothing is started or stopped", lowers_coverage=True)
    yield from _notes(wanted, states)
    for one in sorted(wanted, key=lambda one: (_ORDER.index(one.state), one.unit)):
        if states[one.unit].exists:
            active = one.state == "enabled" if one.startstop and runs else None
            change = SetUnit(unit=one.unit, enabled=one.state, active=active)
            yield Task(description=f"{one.unit} is to be {one.state}", changes=(change,), cause=one.cause)


def _notes(wanted: Collection[Wanted], states: Mapping[str, UnitState]) -> Iterator[Note]:
    missing = [one for one in wanted if not states[one.unit].exists]
    for one in missing:
        if one.state == "enabled":
            yield Note(f"{one.unit}: there is no such unit here to be enabled", lowers_coverage=True)
    off = sorted(one.unit for one in missing if one.state != "enabled")
    if off:
        yield Note(f"not here, so there is nothing to turn off: {', '.join(off)}")
    fixed = [one.unit for one in wanted if one.state != "masked" and states[one.unit].enabled in _AS_THEY_ARE]
    if fixed:
        yield Note(f"neither enabled nor disabled, their files say nothing about it: {', '.join(sorted(fixed))}")
