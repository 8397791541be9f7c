"""A whole host in memory: files, commands, units, packages and accounts; drawn as a tree in tests.

::

    host = SimulatedHost.drawn('''
        /etc/
            motd: old
    ''', commands={("newaliases",): Completed(0, b"", b"")})

Its clock stands still but for one second that passes with each change, so that the same test gives the same times.
It promises nothing about durability, and its commands do what the test says they do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Self

import msgspec

from aquiline.errors import HostError, NotPossibleHere
from aquiline.host import drawing
from aquiline.host.accounts import number_without_files, numbers
from aquiline.host.objects import (
    ABSENT,
    Absent,
    Directory,
    Enablement,
    Metadata,
    Package,
    Present,
    RegularFile,
    Special,
    Symlink,
    sha256,
)
from aquiline.host.packages.versions import is_older_deb
from aquiline.host.protocol import Accounts, Command, Completed, Entry, UnitState
from aquiline.host.records import Databases, edit
from aquiline.host.tree import Inode, Tree

#: When a simulated host begins, in nanoseconds since the epoch: 2001-09-09 01:46:40 UTC.
BEGINNING = 1_000_000_000 * 10**9
#: Who is known where the host has no ``/etc/passwd`` or ``/etc/group``; the numbers are Debian's.
USERS = {"root": 0, "daemon": 1, "www-data": 33, "nobody": 65534}
GROUPS = {"root": 0, "daemon": 1, "adm": 4, "www-data": 33, "shadow": 42, "nogroup": 65534}


class SimulatedHost(Tree):
    """A host in memory.

    `commands` says what can be run: by the whole argv, or by the program alone as a tuple of one, how it ends, or a
    function that is given host and command, may change the host, and says how it ended.
    """

    def __init__(
        self,
        *,
        commands: Mapping[tuple[str, ...], Completed | Action] | None = None,
        units: Mapping[str, UnitState] | None = None,
        packages: Mapping[str, str] | None = None,
        offered: Mapping[str, Sequence[Offered]] | None = None,
        users: Mapping[str, int] | None = None,
        groups: Mapping[str, int] | None = None,
        root: str = "/",
        offline: bool = False,
    ) -> None:
        self._time = BEGINNING
        top = Inode("directory", (1, 1), holds=Directory(Metadata(0o755, 0, 0, BEGINNING)))
        super().__init__(None, root=top)
        self.root = root
        self.offline = offline
        self.commands = dict(commands or {})
        #: Every command that was run, in order.
        self.ran: list[Command] = []
        self._units = SimulatedUnits(units or {})
        self._packages = SimulatedPackages(self, packages or {}, offered)
        self._accounts = _SimulatedAccounts(self, users, groups)

    @classmethod
    def drawn(
        cls,
        tree: str,
        *,
        commands: Mapping[tuple[str, ...], Completed | Action] | None = None,
        units: Mapping[str, UnitState] | None = None,
        packages: Mapping[str, str] | None = None,
        offered: Mapping[str, Sequence[Offered]] | None = None,
        users: Mapping[str, int] | None = None,
        groups: Mapping[str, int] | None = None,
        root: str = "/",
        offline: bool = False,
    ) -> Self:
        """Return a host with the files of a drawing; `aquiline.host.drawing` says how to draw."""
        host = cls(
            commands=commands,
            units=units,
            packages=packages,
            offered=offered,
            users=users,
            groups=groups,
            root=root,
            offline=offline,
        )
        host.add(tree)
        return host

    @property
    def accounts(self) -> Accounts:
        return self._accounts

    @property
    def units(self) -> SimulatedUnits:
        return self._units

    @property
    def packages(self) -> SimulatedPackages:
        return self._packages

    def run(self, command: Command) -> Completed:
        """Run what the test gave for this command; its program alone is looked up where its whole argv is not known."""
        action = self.commands.get(command.argv) or self.commands.get(command.argv[:1])
        if action is None:
            raise NotPossibleHere(f"no such program: {command.argv[0]}")
        self.ran.append(command)
        return action if isinstance(action, Completed) else action(self, command)

    def text(self, path: str) -> str:
        """Return the content of a file as text."""
        return self.read(path).decode("utf-8", "surrogateescape")

    def add(self, tree: str) -> None:
        """Put the objects of a drawing where they are drawn, over what is there."""
        drawn = list(drawing.lines(tree))
        for line in drawn:
            self._add(line)
        # Owners come last, because the passwd file that knows them may be further down.
        for line in drawn:
            if line.sort != "hardlink" and line.path:
                self.set_metadata(line.path, self._metadata(line))
        for line in reversed(drawn):
            if line.sort != "hardlink":
                self.set_mtime(line.path or "/", line.mtime_ns or BEGINNING)

    def add_file(self, path: str, content: bytes) -> None:
        """Put a file of root's there, and the directories it needs."""
        self._add_parents(path)
        wanted = RegularFile(Metadata(0o644, 0, 0, BEGINNING), len(content), sha256(content))
        self.remember(path, wanted, content)

    def draw(self, *, times: bool = False) -> str:
        """Return the tree as `drawn` reads it, sorted by name; with `times`, modification times too."""
        first_names: dict[tuple[int, int], str] = {}
        return "\n".join(self._drawn_below("", -1, first_names, times=times))

    def _now(self) -> int:
        self._time += 10**9
        return self._time

    def _add(self, line: drawing.Drawn) -> None:
        self._add_parents(line.path)
        if line.sort == "hardlink":
            self.link(line.path, os.fsdecode(line.content), "drawn")
            return
        if line.path:
            wanted, content = _wanted(line)
            self.remember(line.path, wanted, content)

    def _add_parents(self, path: str) -> None:
        names = path.split("/")[1:-1]
        for depth in range(1, len(names) + 1):
            parent = "/" + "/".join(names[:depth])
            if isinstance(self.observe(parent), Absent):
                self.remember(parent, Directory(Metadata(0o755, 0, 0, BEGINNING)), None)

    def _metadata(self, line: drawing.Drawn) -> Metadata:
        found = self.observe(line.path)
        assert not isinstance(found, Absent)
        return msgspec.structs.replace(
            found.metadata, uid=_number(line.owner, self.accounts.uid), gid=_number(line.group, self.accounts.gid)
        )

    def _drawn_below(self, path: str, depth: int, first_names: dict[tuple[int, int], str], *, times: bool) -> list[str]:
        found: list[str] = []
        for name in self.names(path or "/"):
            below = f"{path}/{name}"
            text = self._drawn_object(below, first_names)
            shown = drawing.escaped(os.fsencode(name), also=" :%=|[]")
            indent = " " * (drawing.INDENT * (depth + 1))
            slash = "/" if not path else ""
            found.append(f"{indent}{slash}{shown}{text}{self._drawn_attributes(below, text, times=times)}")
            if text == "/":
                found += self._drawn_below(below, depth + 1, first_names, times=times)
        return found

    def _drawn_object(self, path: str, first_names: dict[tuple[int, int], str]) -> str:
        found = self.observe(path)
        status = self.status(path)
        assert status is not None
        if not isinstance(found, Directory) and first_names.setdefault(status.inode, path) != path:
            return f" = {drawing.shown(os.fsencode(first_names[status.inode]))}"
        match found:
            case Directory():
                return "/"
            case RegularFile():
                return f": {drawing.shown(self.read(path))}".rstrip()
            case Symlink():
                return f" -> {drawing.shown(os.fsencode(found.target))}"
            case Special(special="fifo"):
                return "|"
            case Special(special="socket"):
                return "="
            case Special():
                sort = found.special.partition("-")[0]
                return f"% {sort} {os.major(found.device)}:{os.minor(found.device)}"
            case Absent():
                raise AssertionError(path)

    def _drawn_attributes(self, path: str, text: str, *, times: bool) -> str:
        found = self.observe(path)
        status = self.status(path)
        if isinstance(found, Absent) or status is None or text.startswith(" = "):
            return ""
        metadata = found.metadata
        words = []
        if metadata.mode != drawing.DEFAULT_MODES[status.type]:
            words.append(f"{metadata.mode:04o}")
        if (metadata.uid, metadata.gid) != (0, 0):
            words.append(f"{self._accounts.user(metadata.uid)}:{self._accounts.group(metadata.gid)}")
        if times:
            words.append(f"@{metadata.mtime_ns}")
        words += [f"{name}={drawing.escaped(value, also=' []')}" for name, value in metadata.xattrs]
        return f" [{' '.join(words)}]" if words else ""


Action = Callable[[SimulatedHost, Command], Completed]
"""What a command does to a simulated host."""


class SimulatedUnits:
    """Units that do what they are told; one that does not exist refuses."""

    def __init__(self, states: Mapping[str, UnitState]) -> None:
        self._states = dict(states)
        #: Reactions in order, as (unit, action); a daemon-reload has no unit.
        self.reactions: list[tuple[str, str]] = []

    def state(self, unit: str) -> UnitState:
        return self._states.get(unit, UnitState(exists=False, enabled="not-found", active="inactive"))

    def states(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        return {unit: self.state(unit) for unit in units}

    def restore(self, unit: str, enablement: Enablement) -> None:
        self.set_enabled(unit, enablement.state)

    def set_enabled(self, unit: str, enabled: str) -> None:
        self._states[unit] = msgspec.structs.replace(self._existing(unit), enabled=enabled)

    def set_active(self, unit: str, active: bool) -> None:
        state = self._existing(unit)
        if active and state.enabled == "masked":
            raise HostError(f"{unit} is masked")
        self.become(unit, "active" if active else "inactive")
        for other in state.starts if active else ():
            there = self.state(other)
            if there.exists and there.active != "active" and not there.unmet:
                self.set_active(other, True)
        for other in state.conflicts if active else ():
            if self.state(other).active == "active":
                self.become(other, "inactive")

    def settle(self, units: Iterable[str]) -> None:
        """Do nothing: whatever is told, is so."""

    def become(self, unit: str, active: str) -> None:
        """Let a unit be what `systemctl is-active` would say, as units become by themselves."""
        self._states[unit] = msgspec.structs.replace(self._existing(unit), active=active)

    def react(self, unit: str, action: str) -> None:
        running = self._existing(unit).active == "active"
        if action == "reload" and not running:
            raise HostError(f"{unit} is not active, cannot reload")
        if action not in ("reload", "try-restart"):
            self.set_active(unit, True)
        self.reactions.append((unit, action))

    def daemon_reload(self) -> None:
        self.reactions.append(("", "daemon-reload"))

    def _existing(self, unit: str) -> UnitState:
        state = self.state(unit)
        if not state.exists:
            raise HostError(f"unit {unit} not found")
        return state


class Offered(msgspec.Struct, frozen=True):
    """One version of a package in the repository of a simulated host."""

    version: str
    #: Names of packages that come with it and cannot go without it.
    needs: tuple[str, ...] = ()
    #: Names of packages that it removes.
    conflicts: tuple[str, ...] = ()
    #: Paths of the files it brings, and what is in them; they go with it.
    files: tuple[tuple[str, bytes], ...] = ()
    #: Those of its files that stay when it is removed.
    conffiles: tuple[str, ...] = ()
    #: What its script does to the host when it is installed.
    script: Callable[[SimulatedHost], None] | None = None


class SimulatedPackages:
    """Packages of a small world: versions are compared as Debian's, the newest offered is the candidate.

    A package that nobody offers has no dependencies and can be had in any version.
    """

    def __init__(
        self, host: SimulatedHost, installed: Mapping[str, str], offered: Mapping[str, Sequence[Offered]] | None = None
    ) -> None:
        self._host = host
        self._installed = {name: Package(version) for name, version in installed.items()}
        #: By name, in any order.
        self.offered = dict(offered or {})
        #: Names and versions that were fetched.
        #: Names of packages of which nobody can tell what they bring.
        self.unlisted: set[str] = set()
        self.kept: set[tuple[str, str]] = set()
        self.manager = ""

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        needed: set[str] = set()
        todo = [name for name in named if name in self._installed]
        while todo:
            name = todo.pop()
            if name not in needed:
                needed.add(name)
                todo += self._offer(name, self._installed[name].version).needs
        return tuple(name for name, one in sorted(self._installed.items()) if name not in needed and one.version)

    def installed(self) -> Mapping[str, Package]:
        return dict(sorted(self._installed.items()))

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        outcome: dict[str, Package | Absent] = {}
        for name, version in sorted(install.items()):
            self._bring(name, version, outcome, auto=False)
        for name in sorted(remove):
            self._take(name, outcome)
        return dict(sorted(outcome.items()))

    def _bring(self, name: str, version: str, outcome: dict[str, Package | Absent], *, auto: bool) -> None:
        now = self._installed.get(name)
        is_there = now is not None and bool(now.version)
        if name in outcome or (is_there and now is not None and version in ("", now.version)):
            return
        one = self._offer(name, version)
        outcome[name] = Package(
            one.version, auto=now.auto if now is not None and is_there else auto, hold=bool(now and now.hold)
        )
        for needed in one.needs:
            self._bring(needed, "", outcome, auto=True)
        for enemy in one.conflicts:
            self._take(enemy, outcome)

    def _take(self, name: str, outcome: dict[str, Package | Absent]) -> None:
        now = self._installed.get(name)
        if now is None or not now.version or name in outcome:
            return
        one = self._offer(name, now.version)
        outcome[name] = Package("", "config-files") if one.conffiles else ABSENT
        for other, found in self._installed.items():
            if found.version and name in self._offer(other, found.version).needs:
                self._take(other, outcome)

    def _offer(self, name: str, version: str) -> Offered:
        found = self.offered.get(name)
        if found is None:
            return Offered(version or "1")
        fitting = [one for one in found if version in ("", one.version)]
        if not fitting:
            raise HostError(f"there is no package {name} {version}".rstrip())
        newest = fitting[0]
        for one in fitting:
            newest = one if is_older_deb(newest.version, one.version) else newest
        return newest

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, version)
            for name, version in wanted
            if (name, version) not in self.kept
            and name in self.offered
            and version not in [one.version for one in self.offered[name]]
        )

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        lost = self.lacking(wanted)
        if lost:
            raise HostError(f"cannot be fetched: {', '.join(' '.join(one) for one in lost)}")
        self.kept.update(wanted)

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        return {one: self._contents(*one) for one in wanted}

    def _contents(self, name: str, version: str) -> tuple[str, ...] | None:
        if name in self.unlisted:
            return None
        is_offered = name not in self.offered or any(one.version == version for one in self.offered[name])
        return tuple(path for path, _ in self._offer(name, version).files) if is_offered else None

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        return tuple(
            name
            for name, found in sorted(self._installed.items())
            if found.version and any(path in paths for path, _ in self._offer(name, found.version).files)
        )

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(
            path
            for name, found in self._installed.items()
            if name in names
            for path in self._offer(name, found.version).conffiles
        )

    def is_older(self, version: str, other: str) -> bool:
        return is_older_deb(version, other)

    def wait(self) -> None:
        """Return: nobody else changes this host."""

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        for name, target in sorted(targets.items()):
            now = self._installed.pop(name, None)
            if now is not None and now.version and (isinstance(target, Absent) or target.version != now.version):
                self._remove_files(self._offer(name, now.version), keep=isinstance(target, Package))
            if isinstance(target, Absent):
                continue
            self._installed[name] = target
            if target.version and (now is None or now.version != target.version):
                self._install_files(self._offer(name, target.version))
        return ""

    def _remove_files(self, one: Offered, *, keep: bool) -> None:
        for path, _ in one.files:
            if not keep or path not in one.conffiles:
                self._host.remove(path)

    def _install_files(self, one: Offered) -> None:
        for path, content in one.files:
            if path in one.conffiles and not isinstance(self._host.observe(path), Absent):
                continue
            self._host.add_file(path, content)
        if one.script is not None:
            one.script(self._host)


class _SimulatedAccounts:
    """Accounts of the host's own passwd and group file, or `USERS` and `GROUPS` where it has none; and those given."""

    def __init__(self, host: SimulatedHost, users: Mapping[str, int] | None, groups: Mapping[str, int] | None) -> None:
        self._host = host
        self._databases = Databases(host)
        self._users = users or {}
        self._groups = groups or {}

    def uid(self, user: str | int) -> int:
        return self._number("user", user, self._known("/etc/passwd", USERS, self._users))

    def gid(self, group: str | int) -> int:
        return self._number("group", group, self._known("/etc/group", GROUPS, self._groups))

    def entry(self, database: str, name: str) -> Entry:
        return self._databases.of(database).entry(name)

    def set_entries(self, database: str, entries: Sequence[Entry]) -> None:
        edit(self._host, database, entries)

    def user(self, uid: int) -> str:
        """Return the name of a user, or the number where it has none."""
        return self._name(uid, self._known("/etc/passwd", USERS, self._users))

    def group(self, gid: int) -> str:
        """Return the name of a group, or the number where it has none."""
        return self._name(gid, self._known("/etc/group", GROUPS, self._groups))

    def _known(self, path: str, default: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
        file = isinstance(self._host.observe(path), RegularFile)
        return {**(numbers(self._host.read(path)) if file else default), **given}

    @staticmethod
    def _number(sort: str, name: str | int, known: dict[str, int]) -> int:
        if isinstance(name, int):
            return name
        number = known.get(name, number_without_files(name))
        if number is None:
            raise HostError(f"no such {sort}: {name}")
        return number

    @staticmethod
    def _name(number: int, known: dict[str, int]) -> str:
        return next((name for name, its in known.items() if its == number), str(number))


def _number(name: str, known: Callable[[str | int], int]) -> int:
    return int(name) if name.isdigit() else known(name)


def _wanted(line: drawing.Drawn) -> tuple[Present, bytes | None]:
    def metadata(default: str) -> Metadata:
        mode = drawing.DEFAULT_MODES[default] if line.mode is None else line.mode
        return Metadata(mode, 0, 0, BEGINNING, line.xattrs)

    match line.sort:
        case "directory":
            return Directory(metadata("directory")), None
        case "file":
            return RegularFile(metadata("file"), len(line.content), sha256(line.content)), line.content
        case "link":
            return Symlink(metadata("symlink"), os.fsdecode(line.content)), None
        case _:
            return Special(metadata("special"), line.special, line.device), None
