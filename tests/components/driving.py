"""Runs one component against a simulated host, as planning does, and keeps what it yields."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aquiline.changes.kinds import Change, Probe, Reaction
from aquiline.errors import HostError
from aquiline.host.objects import Object, Package, RegularFile
from aquiline.host.protocol import Command, Completed, UnitState
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.component import Component, Note, Task
from aquiline.profile import Profile, convert


class Looking:
    """The view of a host on which nothing is pending."""

    def __init__(self, host: SimulatedHost, profile: Profile, templates: Mapping[str, str]) -> None:
        self._host = host
        self._profile = profile
        self._templates = templates

    @property
    def name(self) -> str:
        return self._profile.name

    def object(self, path: str) -> Object:
        return self._host.observe(path)

    def exists(self, path: str) -> bool:
        return self._host.status(path) is not None

    def read(self, path: str) -> bytes | None:
        return self._host.read(path) if isinstance(self._host.observe(path), RegularFile) else None

    def names(self, path: str) -> tuple[str, ...]:
        return self._host.names(path)

    def unit(self, unit: str) -> UnitState:
        return self._host.units.state(unit)

    def units(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        return self._host.units.states(units)

    def has_user(self, user: str) -> bool:
        try:
            return self._host.accounts.uid(user) >= 0
        except HostError:
            return False

    def has_group(self, group: str) -> bool:
        try:
            return self._host.accounts.gid(group) >= 0
        except HostError:
            return False

    def packages(self) -> Mapping[str, Package]:
        return self._host.packages.installed()

    def package_manager(self) -> str:
        return self._host.packages.manager

    def surplus_packages(self, named: Collection[str]) -> tuple[str, ...]:
        return self._host.packages.surplus(named)

    def probe(self, probe: Probe) -> Completed:
        return self._host.run(Command(probe.argv, timeout=probe.timeout))

    def profile(self, path: str) -> Any:
        return self._profile.at(path)

    def spread(self, below: int, salt: str = "") -> int:
        return int.from_bytes(hashlib.sha256(f"{self.name}\0{salt}".encode()).digest()[:8]) % below

    def template(self, relative: str) -> str | None:
        return self._templates.get(relative)


class Yielded:
    """What a component yielded, sorted by what it is."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.notes: list[str] = []

    @property
    def changes(self) -> list[Change]:
        return [change for task in self.tasks for change in task.changes]

    @property
    def reactions(self) -> list[Reaction]:
        """Each once, in the order they were first called for."""
        return list(dict.fromkeys(reaction for task in self.tasks for reaction in task.reactions))


def run(
    component: type[Component[Any]],
    configuration: dict[str, Any],
    host: SimulatedHost | None = None,
    *,
    name: str = "web01.example.org",
    templates: Mapping[str, str] | None = None,
) -> Yielded:
    """Return what `component` yields for its part of a profile, everything being needed."""
    tree = {"software": {"components": {component.name: configuration}}}
    return run_profile(component, Profile(tree=tree, given_name=name), host, templates=templates)


def run_profile(
    component: type[Component[Any]],
    profile: Profile,
    host: SimulatedHost | None = None,
    *,
    templates: Mapping[str, str] | None = None,
) -> Yielded:
    """Return what `component` yields for `profile`, everything being needed."""
    view = Looking(host or SimulatedHost(), profile, templates or {})
    configured = convert(profile.components()[component.name], component.configuration)
    generator = component().configure(configured, view)
    found = Yielded()
    try:
        yielded = next(generator)
        while True:
            match yielded:
                case Note():
                    found.notes.append(yielded.text)
                case Task():
                    found.tasks.append(yielded)
                case _:
                    found.tasks.append(Task(description="", changes=(yielded,)))
            yielded = generator.send(True)
    except StopIteration:
        return found
