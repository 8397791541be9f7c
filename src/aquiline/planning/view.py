"""The host as a component sees it: the overlay, probes, facts and the site's templates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from aquiline.changes.kinds import Probe
from aquiline.errors import HostError, UnknownUntilRun
from aquiline.host.objects import Object, Package, RegularFile
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Command, Completed, UnitState
from aquiline.planning.guard import trusted
from aquiline.profile import Profile

Templates = Callable[[str], str | None]
"""Gives the text of a site's template by its path relative to the template folder."""


class PlannedView:
    """What `aquiline.planning.component.View` promises, over an overlay."""

    def __init__(
        self,
        overlay: Overlay,
        profile: Profile,
        *,
        templates: Templates,
        refuse_probe: Callable[[Probe], str | None],
        on_probe: Callable[[Probe, Completed], None],
    ) -> None:
        self._overlay = overlay
        self._profile = profile
        self._templates = templates
        self._refuse_probe = refuse_probe
        self._on_probe = on_probe

    @property
    def name(self) -> str:
        return self._profile.name

    def object(self, path: str) -> Object:
        with trusted():
            return self._overlay.observe(path)

    def exists(self, path: str) -> bool:
        with trusted():
            return self._overlay.status(path) is not None

    def read(self, path: str) -> bytes | None:
        with trusted():
            if not isinstance(self._overlay.observe(path), RegularFile):
                return None
            return self._overlay.read(path)

    def names(self, path: str) -> tuple[str, ...]:
        with trusted():
            return self._overlay.names(path)

    def unit(self, unit: str) -> UnitState:
        with trusted():
            return self._overlay.units.state(unit)

    def units(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        with trusted():
            return self._overlay.units.states(units)

    def has_user(self, user: str) -> bool:
        return self._has(lambda: self._overlay.accounts.uid(user))

    def has_group(self, group: str) -> bool:
        return self._has(lambda: self._overlay.accounts.gid(group))

    def _has(self, look_up: Callable[[], int]) -> bool:
        with trusted():
            try:
                look_up()
            except HostError:
                return False
            return True

    def packages(self) -> Mapping[str, Package]:
        with trusted():
            return self._overlay.packages.installed()

    def package_manager(self) -> str:
        with trusted():
            return self._overlay.packages.manager

    def surplus_packages(self, named: Collection[str]) -> tuple[str, ...]:
        with trusted():
            return self._overlay.packages.surplus(named)

    def probe(self, probe: Probe) -> Completed:
        with trusted():
            pending = self._refuse_probe(probe)
            if pending is not None:
                raise UnknownUntilRun(f"what {' '.join(probe.argv)} says", because=pending)
            completed = self._overlay.base.run(Command(probe.argv, timeout=probe.timeout))
            self._on_probe(probe, completed)
            return completed

    def profile(self, path: str) -> Any:
        return self._profile.at(path)

    def spread(self, below: int, salt: str = "") -> int:
        digest = hashlib.sha256(f"{self.name}\0{salt}".encode()).digest()
        return int.from_bytes(digest[:8]) % below

    def template(self, relative: str) -> str | None:
        with trusted():
            return self._templates(relative)
