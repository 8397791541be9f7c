"""Names of systemd units, as profiles write services."""

from __future__ import annotations

#: Source: systemd.unit(5).
_SUFFIXES = (
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
)


def unit_name(service: str) -> str:
    """Return the unit that `service` means: as it is with a unit's suffix, else a service."""
    return service if service.endswith(_SUFFIXES) else f"{service}.service"
