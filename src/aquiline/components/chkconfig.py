"""Services that are on or off, in the words of System V; on units.

Schema is Quattor's ncm-chkconfig, behaviour that of ncm-systemd for it; docs/reference/components/chkconfig.md says
where ours differs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from aquiline.components.units import unit_name
from aquiline.components.unitstates import State, Wanted, brought
from aquiline.errors import ProfileError
from aquiline.planning.component import Changes, Component, Note, View
from aquiline.profile import unescape

PATH = "/software/components/chkconfig"
#: What wins over what, and may therefore not be combined with it (Quattor's schema).
_WINS_OVER = {"del": ("add", "on", "reset"), "off": ("on", "reset"), "on": ("reset",)}


class Service(msgspec.Struct, frozen=True, kw_only=True, rename={"del_": "del"}):
    """One service."""

    #: Where it is not the key.
    name: str | None = None
    #: It is known, and off.
    add: bool | None = None
    #: It is masked.
    del_: bool | None = None
    #: Runlevels in which it is on; any, none too, means enabled.
    on: str | None = None
    #: Runlevels in which it is off; any, none too, means disabled.
    off: str | None = None
    reset: str | None = None
    #: Start or stop it as well.
    startstop: bool = True


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/software/components/chkconfig`` holds."""

    #: By escaped name.
    service: dict[str, Service] = {}
    default: Literal["ignore", "off"] = "ignore"


class Chkconfig(Component[Configuration]):
    """Quattor's chkconfig, on systemd."""

    name = "chkconfig"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield one task for each service, but for those that the systemd component has too."""
        if configuration.default == "off":
            yield Note("default off is not done: units that are not in the profile stay as they are")
        yield from brought(services(configuration.service, host), host)


def services(configured: Mapping[str, Service], host: View) -> list[Wanted]:
    """Return the services as units; one that the systemd component has under its own key is left to it."""
    taken = _units_of_systemd(host)
    found = {
        wanted.unit: wanted
        for key, service in sorted(configured.items())
        if (wanted := _wanted(key, service, f"{PATH}/service/{key}")) is not None
    }
    return [wanted for unit, wanted in found.items() if unit not in taken]


def _units_of_systemd(host: View) -> Collection[str]:
    section = host.profile("/software/components/systemd")
    if not isinstance(section, Mapping) or section.get("active", True) is False:
        return ()
    if section.get("skip", {}).get("service", False):
        return ()
    units: Mapping[str, Mapping[str, Any]] = section.get("unit", {})
    return {_name_of(key, unit) for key, unit in units.items() if not unit.get("file", {}).get("only", False)}


def _name_of(key: str, unit: Mapping[str, Any]) -> str:
    return full_name(unit.get("name") or unescape(key), unit.get("type", "service"))


def full_name(name: str, sort: str) -> str:
    """Return the name of a unit of this type, which may have its suffix already."""
    suffix = "service" if sort == "sysv" else sort
    return name if name.endswith(f".{suffix}") else f"{name}.{suffix}"


def _wanted(key: str, service: Service, where: str) -> Wanted | None:
    for winner, losers in _WINS_OVER.items():
        both = [loser for loser in losers if _has(service, loser)] if _has(service, winner) else []
        if both:
            raise ProfileError(f"found {winner} and {both[0]}, expected at most one of them", path=where)
    state = _state(service)
    if state is None:
        return None
    return Wanted(unit_name(service.name or unescape(key)), state, service.startstop, where)


def _has(service: Service, word: str) -> bool:
    return getattr(service, "del_" if word == "del" else word) is not None


def _state(service: Service) -> State | None:
    if service.del_:
        return "masked"
    if service.off is not None:
        return "disabled"
    if service.on is not None:
        return "enabled"
    return "disabled" if service.add else None
