"""Which values are a host's own, and that they make like hosts alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.changes.placeholders import Placeholders
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.facts import facts_of
from aquiline.profile.loading import load
from aquiline.profile.profile import Profile

SHARED = Path(os.environ.get("AQUILINE_SHARED", Path(__file__).parents[3] / "shared"))
ID = "0123456789abcdef0123456789abcdef"


def profile(hostname: str = "wn3", serial: str = "7RTTL2J") -> Profile:
    return Profile(
        {
            "system": {
                "network": {
                    "hostname": hostname,
                    "domainname": "example.org",
                    "interfaces": {"eth0": {"ip": "192.0.2.1"}, "br_dmz:1": {"ip": "192.0.2.2"}, "eth1": {}},
                }
            },
            "hardware": {"serialnumber": serial, "cards": {"nic": {"eth0": {"hwaddr": "AA:bb:00:11:22:33"}}}},
        }
    )


def test_facts() -> None:
    """Names, addresses, hardware addresses in any case, serial number and machine id."""
    host = SimulatedHost.drawn(f"""
        /etc/
            machine-id: {ID}
    """)

    expected = {
        "name": "wn3.example.org",
        "short-name": "wn3",
        "address.br_dmz:1": "192.0.2.2",
        "address.eth0": "192.0.2.1",
        "hardware-address.eth0": "AA:bb:00:11:22:33",
        "hardware-address-lower.eth0": "aa:bb:00:11:22:33",
        "hardware-address-upper.eth0": "AA:BB:00:11:22:33",
        "serial-number": "7RTTL2J",
        "machine-id": ID,
    }

    assert expected == facts_of(profile(), host)


def test_what_is_no_fact() -> None:
    """A short name that is a word, a serial number that nobody filled in, and what is not there."""
    found = facts_of(profile("argus", "to be filled in"), SimulatedHost())

    assert found.keys().isdisjoint({"short-name", "serial-number", "machine-id"})
    assert {} == facts_of(Profile({}), SimulatedHost())


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}/{name}")
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from leaves(member, f"{path}/{number}")
    else:
        yield path, value


@pytest.mark.skipif(not (SHARED / "quattor").is_dir(), reason="the shared profiles are not on this machine")
def test_two_nodes_of_one_kind_are_alike() -> None:
    """Of two real worker nodes, everything below /system has one shape, given their short names too."""
    host = SimulatedHost()
    nodes = [load(SHARED / "quattor" / "hosts" / f"{name}.example.org.json") for name in ("wn", "wn3")]

    plain = [dict(leaves(node.tree["system"])) for node in nodes]
    shapes = []
    for node, values in zip(nodes, plain, strict=True):
        placeholders = Placeholders({**facts_of(node, host), "short-name": node.name.partition(".")[0]})
        shapes.append({path: placeholders.shape(str(value)) for path, value in values.items()})

    assert plain[0] != plain[1]
    assert shapes[0] == shapes[1]
