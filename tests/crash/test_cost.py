"""What durability costs: calls that wait for the disk, and bytes that are written, per file (D11)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from aquiline.changes.kinds import Inline, WriteFile
from tests.engine.site import component

from .everything import Host
from .killing import points_of


def host_of(place: Path, files: int) -> Host:
    """Return a host whose plan replaces so many files."""
    host = Host.made(place)
    for number in range(files):
        (host.root / f"etc/{number}").write_text(f"old {number}\n")
    changes = [WriteFile(path=f"/etc/{number}", content=Inline(b"new %d\n" % number)) for number in range(files)]
    host.components = {"one": component("one", changes)}
    return host


def cost(host: Host, place: Path) -> Counter[str]:
    """Run the plan; return how often each kind of point was passed."""
    return Counter(point.split(" ")[0] for point in points_of(host.apply, place / "points"))


@pytest.fixture
def per_file(place: Path) -> Counter[str]:
    """What ten more files cost in a run, a tenth of it."""
    few, many = (cost(host_of(place / str(files), files), place) for files in (10, 20))
    return Counter({name: round((many[name] - few[name]) / 10) for name in many})


def test_a_changed_file(per_file: Counter[str]) -> None:
    """A replaced file waits for the disk three times at most: its pre-image, that one's folder, itself."""
    assert per_file["fsync"] <= 3
    assert per_file["before"] == 0, "transactions are shared"
    assert 2 == per_file["os.rename"], "its pre-image and itself, once each"
    assert per_file["os.remove"] == 0


def test_an_unchanged_file(place: Path) -> None:
    """A second run of the same plan begins no run, and waits for the disk not once."""
    host = host_of(place / "unchanged", 20)
    assert 0 == host.apply().exit_status

    again = cost(host, place)

    assert (0, 0, 0) == (again["fsync"], again["os.rename"], again["before"])
