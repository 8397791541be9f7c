"""A host on which the n-th effect goes wrong: it fails, or the whole program dies there.

Every effect is counted: files, commands, units and packages; reading is not. So a test runs once without a fault, asks
`FaultyHost.count`, and then runs once for each number up to that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NoReturn

import msgspec

from aquiline.errors import HostError
from aquiline.host.objects import (
    Absent,
    Enablement,
    FileObject,
    Metadata,
    Package,
    Present,
    RegularFile,
    Status,
    sha256,
)
from aquiline.host.protocol import (
    Accounts,
    Command,
    Completed,
    Entry,
    Host,
    Packages,
    Protection,
    Staged,
    Units,
    UnitState,
)  # fmt: skip


class Died(BaseException):
    """The program ended here as if it was killed: nothing may catch it, and nothing it asks of the host is answered."""


class FaultyHost:
    """Pass everything to `base`, but for the effect numbered `fail_at` or `die_at` (from 1; 0 is never).

    `when` says whether that effect happens: not at all, wholly, or *torn*: of a content that it would write the first
    half is there, and other effects do not happen. After death every call raises `Died`; with `kill` the process
    itself is killed by SIGKILL instead.
    """

    def __init__(
        self,
        base: Host,
        *,
        fail_at: int = 0,
        die_at: int = 0,
        when: Literal["before", "torn", "after"] = "before",
        error: HostError | None = None,
        kill: bool = False,
    ) -> None:
        self.base = base
        #: What was asked for so far, in words: ``publish /etc/motd``.
        self.effects: list[str] = []
        self._fault_at = fail_at or die_at
        self._deadly = not fail_at
        self._when = when
        self._error = error if error is not None else HostError("no space left on device")
        self._kill = kill
        self._dead = False

    def count(self) -> int:
        """Return how many effects were asked for."""
        return len(self.effects)

    # ---- reading --------------------------------------------------------------------------------------------------

    @property
    def root(self) -> str:
        return self._alive.root

    @property
    def offline(self) -> bool:
        return self._alive.offline

    @property
    def accounts(self) -> Accounts:
        return _FaultyAccounts(self, self._alive.accounts)

    @property
    def units(self) -> Units:
        return _FaultyUnits(self, self._alive.units)

    @property
    def packages(self) -> Packages:
        return _FaultyPackages(self, self._alive.packages)

    def status(self, path: str) -> Status | None:
        return self._alive.status(path)

    def protection(self, path: str) -> Protection:
        return self._alive.protection(path)

    def observe(self, path: str) -> FileObject:
        return self._alive.observe(path)

    def observe_kept(self, name: str, path: str) -> FileObject:
        return self._alive.observe_kept(name, path)

    def read(self, path: str) -> bytes:
        return self._alive.read(path)

    def chunks(self, path: str) -> Iterator[bytes]:
        return self._alive.chunks(path)

    def names(self, path: str) -> tuple[str, ...]:
        return self._alive.names(path)

    # ---- effects --------------------------------------------------------------------------------------------------

    def run(self, command: Command) -> Completed:
        with self.effect(f"run {' '.join(command.argv)}"):
            return self.base.run(command)

    def stage(self, path: str, wanted: Present, content: Iterable[bytes] | None, label: str) -> Staged:
        what = f"stage {path}"
        if self.tears_now and isinstance(wanted, RegularFile):
            half = _half(content or ())
            torn = msgspec.structs.replace(wanted, size=len(half), sha256=sha256(half))
            self.base.stage(path, torn, [half], label)
        with self.effect(what):
            return self.base.stage(path, wanted, content, label)

    def sync(self, staged: Sequence[Staged]) -> None:
        with self.effect(f"sync {len(staged)} objects"):
            self.base.sync(staged)

    def publish(self, staged: Staged) -> None:
        with self.effect(f"publish {staged.path}"):
            self.base.publish(staged)

    def discard(self, path: str, label: str) -> None:
        with self.effect(f"discard {path}"):
            self.base.discard(path, label)

    def write_in_place(self, path: str, content: Iterable[bytes], metadata: Metadata) -> FileObject:
        if self.tears_now:
            self.base.write_in_place(path, [_half(content)], metadata)
        with self.effect(f"write in place {path}"):
            return self.base.write_in_place(path, content, metadata)

    def link(self, path: str, existing: str, label: str) -> None:
        with self.effect(f"link {path} to {existing}"):
            self.base.link(path, existing, label)

    def keep(self, path: str, name: str) -> None:
        with self.effect(f"keep {path}"):
            self.base.keep(path, name)

    def kept_folder(self, path: str) -> str:
        return self._alive.kept_folder(path)

    def restore_kept(self, name: str, path: str, label: str) -> None:
        with self.effect(f"restore {path}"):
            self.base.restore_kept(name, path, label)

    def drop_kept(self, name: str, path: str) -> None:
        with self.effect(f"drop what was kept of {path}"):
            self.base.drop_kept(name, path)

    def move(self, source: str, destination: str) -> None:
        with self.effect(f"move {source} to {destination}"):
            self.base.move(source, destination)

    def remove(self, path: str) -> None:
        with self.effect(f"remove {path}"):
            self.base.remove(path)

    def set_metadata(self, path: str, metadata: Metadata) -> None:
        with self.effect(f"set metadata of {path}"):
            self.base.set_metadata(path, metadata)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        with self.effect(f"set mtime of {path}"):
            self.base.set_mtime(path, mtime_ns)

    def sync_directories(self, paths: Iterable[str]) -> None:
        listed = tuple(paths)
        with self.effect(f"sync directories {' '.join(listed)}"):
            self.base.sync_directories(listed)

    # ---- the fault ------------------------------------------------------------------------------------------------

    @contextmanager
    def effect(self, what: str) -> Iterator[None]:
        """Count one effect, and let the fault strike before or after it where it is the one."""
        self._refuse_if_dead()
        self.effects.append(what)
        struck = self.count() == self._fault_at
        if struck and self._when != "after":
            self._strike(what)
        yield
        if struck:
            self._strike(what)

    @property
    def _alive(self) -> Host:
        self._refuse_if_dead()
        return self.base

    @property
    def tears_now(self) -> bool:
        """Whether the next effect is the one to be torn."""
        return not self._dead and self._when == "torn" and self.count() + 1 == self._fault_at

    def _refuse_if_dead(self) -> None:
        if self._dead:
            raise Died("asked something of the host after its death")

    def _strike(self, what: str) -> NoReturn:
        if not self._deadly:
            raise self._error
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self._dead = True
        raise Died(f"{self._when} effect {self.count()}: {what}")


class _FaultyAccounts:
    def __init__(self, host: FaultyHost, base: Accounts) -> None:
        self._host = host
        self._base = base

    def uid(self, user: str | int) -> int:
        return self._base.uid(user)

    def gid(self, group: str | int) -> int:
        return self._base.gid(group)

    def entry(self, database: str, name: str) -> Entry:
        return self._base.entry(database, name)

    def set_entries(self, database: str, entries: Sequence[Entry]) -> None:
        with self._host.effect(f"set {', '.join(entry.name for entry in entries)} in {database}"):
            self._base.set_entries(database, entries)


class _FaultyUnits:
    def __init__(self, host: FaultyHost, base: Units) -> None:
        self._host = host
        self._base = base

    def state(self, unit: str) -> UnitState:
        return self._base.state(unit)

    def states(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        return self._base.states(units)

    def restore(self, unit: str, enablement: Enablement) -> None:
        with self._host.effect(f"restore {unit}"):
            self._base.restore(unit, enablement)

    def set_enabled(self, unit: str, enabled: str) -> None:
        with self._host.effect(f"set {unit} {enabled}"):
            self._base.set_enabled(unit, enabled)

    def set_active(self, unit: str, active: bool) -> None:
        with self._host.effect(f"{'start' if active else 'stop'} {unit}"):
            self._base.set_active(unit, active)

    def settle(self, units: Iterable[str]) -> None:
        self._base.settle(units)

    def react(self, unit: str, action: str) -> None:
        with self._host.effect(f"{action} {unit}"):
            self._base.react(unit, action)

    def daemon_reload(self) -> None:
        with self._host.effect("daemon-reload"):
            self._base.daemon_reload()


class _FaultyPackages:
    def __init__(self, host: FaultyHost, base: Packages) -> None:
        self._host = host
        self._base = base

    @property
    def manager(self) -> str:
        return self._base.manager

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        return self._base.surplus(named)

    def installed(self) -> Mapping[str, Package]:
        return self._base.installed()

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        return self._base.simulate(install, remove)

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return self._base.lacking(wanted)

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        return self._base.contents(wanted)

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        return self._base.owners(paths)

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        return self._base.configuration(names)

    def is_older(self, version: str, other: str) -> bool:
        return self._base.is_older(version, other)

    def wait(self) -> None:
        self._base.wait()

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        with self._host.effect(f"fetch {' '.join(name for name, _ in wanted)}"):
            self._base.fetch(wanted)

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        if self._host.tears_now:
            half = list(targets.items())[: len(targets) // 2]
            self._base.transact(dict(half))
        with self._host.effect(f"transact {' '.join(targets)}"):
            return self._base.transact(targets)


def _half(content: Iterable[bytes]) -> bytes:
    data = b"".join(content)
    return data[: len(data) // 2]
