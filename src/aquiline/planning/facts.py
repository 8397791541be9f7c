"""A host's own facts: what differs between hosts that are otherwise alike (DESIGN D8).

They only decide which hosts a report shows together; what is left out here makes more groups, never a wrong one. What
is worth a placeholder, and what is not, was found on real profiles: docs/explanation/decisions/0002.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aquiline.changes.placeholders import Facts
from aquiline.errors import HostError
from aquiline.host.protocol import Reading
from aquiline.profile.profile import Profile

_MACHINE_ID = re.compile(r"[0-9a-f]{32}")


def facts_of(profile: Profile, host: Reading) -> Facts:
    """Return the facts of the host that `profile` is for, by the names of their placeholders.

    Its names, addresses and hardware addresses, serial number and machine id. A short name without a digit in it is no
    fact: it is a word (``argus``, ``mail``) that means something else in most places. Nor is a value with blanks: it is
    what somebody wrote where they had no serial number.
    """
    found = {name: value for name, value in _candidates(profile, host) if isinstance(value, str)}
    return {name: value for name, value in found.items() if value and not re.search(r"[\s⟦⟧]", name + value)}


def _candidates(profile: Profile, host: Reading) -> Iterator[tuple[str, Any]]:
    yield "name", profile.name
    short = profile.name.partition(".")[0]
    if any(character.isdigit() for character in short):
        yield "short-name", short
    for interface, settings in _members(profile.at("/system/network/interfaces")):
        yield f"address.{interface}", settings.get("ip")
    for card, settings in _members(profile.at("/hardware/cards/nic")):
        address = settings.get("hwaddr")
        if isinstance(address, str):
            yield f"hardware-address.{card}", address
            yield f"hardware-address-lower.{card}", address.lower()
            yield f"hardware-address-upper.{card}", address.upper()
    yield "serial-number", profile.at("/hardware/serialnumber")
    yield "machine-id", machine_id_of(host)


def _members(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield from ((name, member) for name, member in sorted(value.items()) if isinstance(member, dict))


def machine_id_of(host: Reading) -> str:
    """Return the machine id that systemd gave the host, empty where there is none (machine-id(5))."""
    try:
        found = host.read("/etc/machine-id").decode("ascii", "replace").strip()
    except HostError:
        return ""
    return found if _MACHINE_ID.fullmatch(found) else ""
