"""kill -9 between the links of one unit: it is enabled by the first of them, and by the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from aquiline.changes.kinds import SetUnit
from tests.engine.site import component

from .everything import Host, Tree
from .killing import kill_at, points_of
from .test_killed_anywhere import interrupted

_CONFIGURED = "etc/systemd/system"
#: The first one's folder is its own.
_LINKS = (f"{_CONFIGURED}/quiet.target.wants/some.service", f"{_CONFIGURED}/spare.service")
_MOST = 100_000
Wanted = Literal["enabled", "disabled"]


class OfUnits(Host):
    """A host whose plan enables or disables a unit that is enabled by two links."""

    def __init__(self, place: Path, wanted: Wanted) -> None:
        super().__init__(place)
        self.wanted = wanted
        self.components = {"one": component("one", (SetUnit(unit="some.service", enabled=wanted),))}

    def copied(self, place: Path) -> OfUnits:
        """Return a copy."""
        super().copied(place)
        return OfUnits(place, self.wanted)

    def units(self) -> Tree:
        """Return what is below the folder of links."""
        return {path: found for path, found in self.tree().items() if path.startswith(f"/{_CONFIGURED}")}

    def links(self) -> set[str]:
        """Return those of the links that are there, and their folder."""
        paths = (*_LINKS, str(Path(_LINKS[0]).parent))
        return {path for path in paths if (self.root / path).is_symlink() or (self.root / path).is_dir()}


@pytest.fixture(params=["enabled", "disabled"])
def fresh(place: Path, request: pytest.FixtureRequest) -> OfUnits:
    """A host whose unit is to become enabled, or disabled."""
    at = place / f"units-{request.node.name.replace('/', '-')}"
    Host.made(at)
    host = OfUnits(at, request.param)
    (host.root / _CONFIGURED).mkdir(parents=True, exist_ok=True)
    file = host.root / "usr/lib/systemd/system/some.service"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=quiet.target\nAlias=spare.service\n")
    for link in _LINKS if request.param == "disabled" else ():
        (host.root / link).parent.mkdir(parents=True, exist_ok=True)
        (host.root / link).symlink_to("/usr/lib/systemd/system/some.service")
    return host


def killed(start: OfUnits, place: Path) -> Iterator[tuple[int, OfUnits]]:
    """Return the host as each kill of its run leaves it, where that leaves a run open."""
    for point in range(1, _MOST):
        host = start.copied(place / "killed")
        if not kill_at(point, host.apply):
            return
        if interrupted(host):
            yield point, host


def killed_between_and_after(start: OfUnits, place: Path) -> Iterator[tuple[int, OfUnits]]:
    """Return the host as kills of its run leave it: with each part of the links, and last with all that it makes."""
    seen = [start.links()]
    left, last = start, 0
    for point, host in killed(start, place):
        left, last = host.copied(place / "left"), point
        if host.links() not in seen:
            seen.append(host.links())
            yield point, left
    yield last, left


def script_undoes(host: OfUnits, before: Tree) -> list[str]:
    """Return what is wrong once the script of the first run, as it is found, was run."""
    with host.session() as session, session.reading() as journal:
        base = journal.open_runs()[0].id
    if not (host.state / "undo" / f"{base}.sh").exists():
        return [] if host.units() == before else ["changed before the script was there"]
    ran = host.run_script(base)
    wrong = [f"exit status {ran.returncode}: {ran.stderr}"] if ran.returncode else []
    found = host.units()
    differ = [path for path in sorted({*found, *before}) if found.get(path, ())[:3] != before.get(path, ())[:3]]
    return wrong + [f"{path}: {found.get(path)}, not {before.get(path)}" for path in differ]


@pytest.mark.parametrize("direction", ["undo", "finish"])
def test_killed_between_links(place: Path, fresh: OfUnits, direction: str) -> None:
    """Whatever point a run that changes such a unit is killed at, each recovery gives all its links, or none."""
    before = fresh.units()
    whole = fresh.copied(place / "whole")
    whole.apply()
    broken, count = [], 0
    for point, host in killed(fresh, place):
        count += 1
        host.recover(direction)
        is_right = host.units() == before if direction == "undo" else host.links() == whole.links()
        if not is_right or host.left_over():
            broken.append(f"point {point}: {sorted(host.units())}")

    assert 10 < count
    assert whole.links() != fresh.links()
    assert [] == broken


def test_the_script_between_links(place: Path, fresh: OfUnits) -> None:
    """The script of such a run puts back exactly the links that were there, wherever the run was killed."""
    before = fresh.units()
    broken, count = [], 0
    for point, host in killed(fresh, place):
        count += 1
        broken += [f"point {point}: {wrong}" for wrong in script_undoes(host, before)]

    assert 10 < count
    assert [] == broken


@pytest.mark.slow
def test_the_script_between_links_of_a_recovery(place: Path, fresh: OfUnits) -> None:
    """So it does where the run was killed between its links or after them, and the recovery that puts them back too."""
    before = fresh.units()
    broken, count = [], 0
    for point, left in killed_between_and_after(fresh, place):
        counted = left.copied(place / "counted")
        points = points_of(lambda: counted.recover("undo"), place / "points")  # noqa: B023 - called here and now
        for second, name in enumerate(points, 1):
            again = left.copied(place / "again")
            kill_at(second, lambda: again.recover("undo"))  # noqa: B023
            if interrupted(again):
                count += 1
                broken += [f"point {point}, then {second}, {name}: {wrong}" for wrong in script_undoes(again, before)]

    assert 10 < count
    assert [] == broken
