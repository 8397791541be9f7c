"""Packages of a root, by the package manager that it has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from aquiline.errors import NotPossibleHere
from aquiline.host.objects import Absent, Package
from aquiline.host.packages.apt import AptPackages
from aquiline.host.packages.dnf import DnfPackages
from aquiline.host.packages.kept import KeptFiles
from aquiline.host.protocol import Packages, Reading

#: Where package files are kept, below the root, when nobody says.
_KEPT = "/var/lib/aquiline/packages"


class RootPackages:
    """Packages of `host`, whose files are kept in the folder `kept`; every method is that of its package manager.

    `say` is told, a line each, whom is waited for.
    """

    def __init__(self, host: Reading, kept: str = "", say: Callable[[str], None] = lambda _line: None) -> None:
        self._host = host
        self._kept = kept or host.root.rstrip("/") + _KEPT
        self._say = say
        self._found: Packages | None = None

    @property
    def _manager(self) -> Packages:
        """The package manager; raises `NotPossibleHere` where the root has none that we know."""
        if self._found is None:
            files = KeptFiles(self._kept, self._host.root)
            if self._has("/usr/bin/apt-get", "/var/lib/dpkg/status"):
                self._found = AptPackages(self._host, files, self._say)
            elif self._has("/usr/bin/dnf", "/usr/bin/rpm"):
                self._found = DnfPackages(self._host, files, self._say)
            else:
                raise NotPossibleHere("there is no package manager here: neither apt nor dnf")
        return self._found

    def _has(self, *paths: str) -> bool:
        return all(self._host.status(path) is not None for path in paths)

    @property
    def manager(self) -> str:
        return self._manager.manager

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        return self._manager.surplus(named)

    def installed(self) -> Mapping[str, Package]:
        return self._manager.installed()

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        return self._manager.simulate(install, remove)

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return self._manager.lacking(wanted)

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        self._manager.fetch(wanted)

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        return self._manager.contents(wanted)

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        return self._manager.owners(paths)

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        return self._manager.configuration(names)

    def wait(self) -> None:
        self._manager.wait()

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        return self._manager.transact(targets)

    def is_older(self, version: str, other: str) -> bool:
        return self._manager.is_older(version, other)
