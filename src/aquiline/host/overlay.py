"""A pretended host over another one: reads through to it, remembers what would be written, never changes it.

Planning runs components against it, so that later steps see what earlier ones will have done (P1). What a pending
command may change is *tainted*: from then on a read of it raises `UnknownUntilRun` (P2), and the component that read it
is deferred (D6).

A modification time of 0 says *when it runs*: the overlay has no clock, so that the same plan is the same bytes.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from aquiline.errors import HostError, UnknownUntilRun
from aquiline.host import unitfiles, unitlinks
from aquiline.host.accounts import numbers
from aquiline.host.objects import ABSENT, Absent, Enablement, FileObject, Package, RegularFile, sha256
from aquiline.host.protocol import Accounts, Command, Completed, Entry, Packages, Reading, Units, UnitState
from aquiline.host.records import Databases, place_of
from aquiline.host.tree import Inode, Source, Tree, Undone
from aquiline.host.unitfiles import SEARCHED, template_of, unit_of


class Overlay(Tree):
    """Read through to `base`, remember writes in memory."""

    def __init__(self, base: Reading) -> None:
        found = base.status("/")
        if found is None:
            raise HostError(f"the root {base.root} is not there", path="/")
        super().__init__(base, root=Inode("directory", found.inode, origin=""))
        #: What reads go through to, and where planning runs its probes.
        self.base = base
        #: Told of every read: a path without links and dots, ``unit:``, ``user:`` or ``group:`` and name, ``packages``.
        self.on_read: Callable[[str], None] | None = None
        #: Units of which a file or drop-in was written or removed here.
        self.units_written: set[str] = set()
        #: Goes up with each of these, and when one is taken back.
        self.unit_writes = 0
        self._tainted: dict[str, str] = {}
        #: Directories that hold something tainted: their names are not known either.
        self._uncertain: dict[str, str] = {}
        self._accounts = _OverlayAccounts(self, self._recorded)
        self._units = _OverlayUnits(self, self._undone, self._recorded)
        self._packages = _OverlayPackages(base, self._undone, self._recorded)

    @property
    def root(self) -> str:
        return self.base.root

    @property
    def offline(self) -> bool:
        return self.base.offline

    @property
    def accounts(self) -> Accounts:
        return self._accounts

    @property
    def units(self) -> Units:
        return self._units

    @property
    def packages(self) -> Packages:
        return self._packages

    @property
    def reactions(self) -> tuple[tuple[str, str], ...]:
        """The reactions asked for so far, as (unit, action); a daemon-reload has no unit."""
        return tuple(self._units.reactions)

    def run(self, command: Command) -> Completed:
        """Raise: nothing is run here, and what a command would do is not known. Probes go to ``overlay.base``."""
        raise HostError(f"a pretended host runs nothing: {command.argv[0]}")

    def remember(self, path: str, wanted: FileObject, source: Source, *, in_place: bool = False) -> None:
        """Put `wanted` at `path`, as `Tree` does; of a unit's file, remember whose it is."""
        super().remember(path, wanted, source, in_place=in_place)
        unit = unit_of(path)
        if unit:
            self.units_written.add(unit)
            self._count_unit_write()
            self._undone.add(self._count_unit_write)

    def _count_unit_write(self) -> None:
        self.unit_writes += 1

    def where(self, path: str) -> str:
        """Return where `path` leads, links in its parents followed; as it is where its parent is not there."""
        place = self._place(path)
        return path if place is None else place[2]

    def taint(self, paths: Iterable[str], because: str) -> None:
        """From now on raise `UnknownUntilRun` for reads at or below `paths`, and for the names beside them."""
        for path in paths:
            place = self._place(path)
            at = path.rstrip("/") if place is None else place[2]
            self._undone.assign(self._tainted, at, because)
            self._undone.assign(self._uncertain, at.rpartition("/")[0], because)
        self._walked.clear()

    def taint_units(self, names: Iterable[str], because: str) -> None:
        """From now on raise `UnknownUntilRun` for the state of these units."""
        for name in names:
            self._undone.assign(self._units.tainted, name, because)

    def taint_missing_units(self, because: str) -> None:
        """From now on raise `UnknownUntilRun` for units that are not there: what is pending may bring any."""
        self._undone.assign(self._units.may_come, "", because)

    def taint_packages(self, names: Iterable[str], because: str) -> None:
        """From now on raise `UnknownUntilRun` for what is installed: the whole set, for dependencies come along."""
        for name in names:
            self._undone.assign(self._packages.tainted, name, because)

    def _now(self) -> int:
        return 0

    def _visit(self, path: str) -> None:
        if self._tainted and path in self._tainted:
            raise UnknownUntilRun(path, because=self._tainted[path])

    def _listed(self, directory: Inode, at: str) -> tuple[str, ...]:
        if self._uncertain and at in self._uncertain:
            raise UnknownUntilRun(f"what is in {at or '/'}", because=self._uncertain[at])
        return super()._listed(directory, at)

    def _reading(self, path: str) -> None:
        self._recorded(path)
        if self._tainted:
            self._visit(path)

    def _recorded(self, what: str) -> None:
        if self.on_read is not None:
            self.on_read(what)

    def writes_unit(self, unit: str) -> bool:
        """Return whether the file of `unit`, or of its template, is another than the base's."""
        paths = [f"{folder}/{name}" for folder in SEARCHED for name in (unit, template_of(unit)) if name]
        for path in paths if self._tainted else ():
            self._visit(path)
        return any(self._changed(path) is not None for path in paths)

    def would_be(self, path: str) -> FileObject | None:
        """Return the object remembered for `path`, None where it is as the base has it."""
        self._reading(path)
        return self._changed(path)

    def _changed(self, path: str) -> FileObject | None:
        place = self._place(path)
        if place is None or place[1] not in place[0].entries:
            return None
        inode = place[0].entries[place[1]]
        return ABSENT if inode is None else inode.object


class _OverlayAccounts:
    """Accounts as the would-be ``/etc/passwd`` and ``/etc/group`` have them; the base's where these are unchanged."""

    def __init__(self, overlay: Overlay, recorded: Callable[[str], None]) -> None:
        self._overlay = overlay
        self._recorded = recorded
        #: By path: the object that was parsed, and what it held.
        self._parsed: dict[str, tuple[FileObject, dict[str, int]]] = {}
        self._databases = Databases(overlay)

    def entry(self, database: str, name: str) -> Entry:
        return self._databases.of(database).entry(name)

    def set_entries(self, database: str, entries: Sequence[Entry]) -> None:
        path = place_of(database)
        found = self._overlay.observe(path)
        if not isinstance(found, RegularFile):
            raise HostError("there is no such account database, or it is no regular file", path=path)
        changed = self._databases.of(database).with_entries(entries)
        content = changed.content
        metadata = msgspec.structs.replace(found.metadata, mtime_ns=0)
        self._overlay.remember(path, RegularFile(metadata, len(content), sha256(content)), content)
        # Kept, because a plan may set thousands of entries, and asks for each before and after.
        self._databases.is_now(database, changed)

    def uid(self, user: str | int) -> int:
        if isinstance(user, int):
            return user
        self._recorded(f"user:{user}")
        return self._number("/etc/passwd", user, self._overlay.base.accounts.uid)

    def gid(self, group: str | int) -> int:
        if isinstance(group, int):
            return group
        self._recorded(f"group:{group}")
        return self._number("/etc/group", group, self._overlay.base.accounts.gid)

    def _number(self, path: str, name: str, in_base: Callable[[str], int]) -> int:
        would_be = self._overlay.would_be(path)
        if would_be is None:
            return in_base(name)
        known = self._names(path, would_be)
        if name in known:
            return known[name]
        if name in numbers(self._before(path)):
            raise HostError(f"no {name} will be in it", path=path)
        return in_base(name)  # not an account of these files: a directory service may know it

    def _names(self, path: str, would_be: FileObject) -> dict[str, int]:
        if path not in self._parsed or self._parsed[path][0] is not would_be:
            content = self._overlay.read(path) if isinstance(would_be, RegularFile) else b""
            self._parsed[path] = (would_be, numbers(content))
        return self._parsed[path][1]

    def _before(self, path: str) -> bytes:
        base = self._overlay.base
        return base.read(path) if isinstance(base.observe(path), RegularFile) else b""


class _OverlayUnits:
    """Units as they will be; reactions are remembered and change nothing.

    What the base says of a unit is asked for once. Units whose file an earlier step writes or removes are seen as the
    would-be files say, by which they are not running yet.
    """

    def __init__(self, overlay: Overlay, undone: Undone, recorded: Callable[[str], None]) -> None:
        self._overlay = overlay
        self._known: dict[str, UnitState] = {}
        self._undone = undone
        self._recorded = recorded
        self._states: dict[str, UnitState] = {}
        self.tainted: dict[str, str] = {}
        #: Units that were enabled or disabled, by the unit that wants them.
        self._relinked: dict[str, set[str]] = {}
        self._said_at = 0
        self._relations: dict[str, unitfiles.Relations] = {}
        #: What may bring units that are not there, under no name.
        self.may_come: dict[str, str] = {}
        self.reactions: list[tuple[str, str]] = []

    def state(self, unit: str) -> UnitState:
        self._recorded(f"unit:{unit}")
        if unit in self.tainted:
            raise UnknownUntilRun(unit, because=self.tainted[unit])
        return self._related(unit, self._states[unit] if unit in self._states else self._foreseen(unit))

    def states(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        asked = tuple(units)
        lacking = [unit for unit in asked if unit not in self._known and unit not in self._states]
        if lacking:
            self._known.update(self._overlay.base.units.states(lacking))
        return {unit: self.state(unit) for unit in asked}

    def _foreseen(self, unit: str) -> UnitState:
        if unit not in self._known:
            self._known[unit] = self._overlay.base.units.state(unit)
        known = self._known[unit]
        if not self._overlay.writes_unit(unit):
            for because in self.may_come.values() if not known.exists else ():
                raise UnknownUntilRun(unit, because=because)
            return known
        name = unitfiles.real_name(self._overlay, unit)
        enabled = unitfiles.state(self._overlay, name)
        runs_once = unitfiles.runs_once(self._overlay, name)
        if not enabled and known.active in ("", "inactive", "failed"):
            return UnitState(exists=False, enabled="not-found", active=known.active)
        return msgspec.structs.replace(known, exists=True, enabled=enabled or "static", runs_once=runs_once)

    def _related(self, unit: str, state: UnitState) -> UnitState:
        """Return a state with what the files that are written here say of other units, and the links made here.

        What the base says stays: no file takes that back but the unit's own.
        """
        stops = {one for one, said in self._said().items() if unit in said.stops_with}
        starts, conflicts = set(state.starts), set(state.conflicts)
        if {unit, template_of(unit)} & self._overlay.units_written or unit in self._relinked:
            said = unitfiles.relations(self._overlay, unit)
            starts = set() if self._overlay.writes_unit(unit) else starts - self._relinked.get(unit, set())
            starts |= said.starts
            conflicts |= said.conflicts
        if stops <= {*state.stops} and (starts, conflicts) == ({*state.starts}, {*state.conflicts}):
            return state
        return msgspec.structs.replace(
            state,
            stops=tuple(sorted({*state.stops, *stops})),
            starts=tuple(sorted(starts)),
            conflicts=tuple(sorted(conflicts)),
        )

    def _said(self) -> Mapping[str, unitfiles.Relations]:
        """Return what the files of each unit say of which one is written here; asked again once another is written.

        What a pending command may bring is not known to anybody who asks for that unit itself.
        """
        if self._said_at != self._overlay.unit_writes:
            self._said_at, self._relations = self._overlay.unit_writes, {}
            for one in self._overlay.units_written:
                with contextlib.suppress(UnknownUntilRun):
                    self._relations[one] = unitfiles.relations(self._overlay, one)
        return self._relations

    def _note_links(self, units: Iterable[str]) -> None:
        """Remember who wants these units, by the links that there are now."""
        for at in unitfiles.links(self._overlay, units):
            folder, _, _ = posixpath.basename(posixpath.dirname(at.path)).rpartition(".")
            if posixpath.dirname(at.path).endswith(unitfiles.FOLDERS):
                self._relinked.setdefault(folder, set()).add(posixpath.basename(at.path))

    def restore(self, unit: str, enablement: Enablement) -> None:
        self._note_links(enablement.units)
        unitlinks.restore(self._overlay, enablement)
        self._note_links(enablement.units)
        self._enabled(unit, enablement.state, enablement.units)

    def set_enabled(self, unit: str, enabled: str) -> None:
        related = unitfiles.related(self._overlay, unit)
        make = {"enabled": unitlinks.enable, "disabled": unitlinks.disable, "masked": unitlinks.mask}.get(enabled)
        self._note_links(related)
        if make is not None:
            make(self._overlay, unit)
        self._note_links(related)
        self._enabled(unit, enabled, () if enabled == "masked" else related)

    def _enabled(self, unit: str, enabled: str, related: Iterable[str]) -> None:
        """Remember how a unit is enabled, and what that means for those that are so together with it."""
        self._undone.assign(self._states, unit, msgspec.structs.replace(self.state(unit), enabled=enabled))
        for other in related:
            state = self.state(other) if other != unit else None
            by_links = unitfiles.state(self._overlay, other)
            if state is not None and state.exists and by_links and state.enabled != by_links:
                self._undone.assign(self._states, other, msgspec.structs.replace(state, enabled=by_links))

    def set_active(self, unit: str, active: bool) -> None:
        state = msgspec.structs.replace(self.state(unit), active="active" if active else "inactive")
        self._undone.assign(self._states, unit, state)

    def settle(self, units: Iterable[str]) -> None:
        """Do nothing: whatever is foreseen, is so."""

    def react(self, unit: str, action: str) -> None:
        self.reactions.append((unit, action))
        self._undone.add(self.reactions.pop)

    def daemon_reload(self) -> None:
        self.react("", "daemon-reload")


class _OverlayPackages:
    """Packages as they will be."""

    def __init__(self, base: Reading, undone: Undone, recorded: Callable[[str], None]) -> None:
        self._base = base
        self._undone = undone
        self._recorded = recorded
        #: What each package will have become.
        self._changed: dict[str, Package | Absent] = {}
        self.tainted: dict[str, str] = {}

    @property
    def manager(self) -> str:
        return self._base.packages.manager

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        """Return what the base says, as far as it will still be there."""
        now = self.installed()
        return tuple(name for name in self._base.packages.surplus(named) if name in now and now[name].version)

    def installed(self) -> Mapping[str, Package]:
        self._recorded("packages")
        for name, because in self.tainted.items():
            raise UnknownUntilRun(f"whether package {name} is installed", because=because)
        found: dict[str, Package | Absent] = {**self._base.packages.installed(), **self._changed}
        return {name: one for name, one in sorted(found.items()) if isinstance(one, Package)}

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        """Ask the base for all that is pending together with this, and leave out what is pending already."""
        now = self.installed()
        pending = {name: one.version for name, one in self._changed.items() if isinstance(one, Package) and one.version}
        gone = {name for name, one in self._changed.items() if name not in pending}
        asked = {name: version or (now[name].version if name in now else "") for name, version in install.items()}
        wanted = {name: version for name, version in {**pending, **asked}.items() if name not in remove}
        outcome = self._base.packages.simulate(wanted, {*(gone - wanted.keys()), *remove})
        outcome = {**self._as_in_base(self._changed.keys() & {*install, *remove} - outcome.keys()), **outcome}
        return {name: self._marked(name, one) for name, one in outcome.items() if not _is_same(now.get(name), one)}

    def _as_in_base(self, names: Iterable[str]) -> Mapping[str, Package | Absent]:
        """Return what packages are whose pending change is taken back: as in the base, which says nothing of them."""
        installed = self._base.packages.installed()
        return {name: installed.get(name, ABSENT) for name in names}

    def _marked(self, name: str, one: Package | Absent) -> Package | Absent:
        """Return `one` with the marks that it has already, pending ones too; what is new has those of the base."""
        now = self.installed().get(name)
        if isinstance(one, Absent) or not one.version or now is None or not now.version:
            return one
        return msgspec.structs.replace(one, auto=now.auto, hold=now.hold or one.hold)

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return self._base.packages.lacking(wanted)

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        """Do nothing: what would be kept changes nothing that anybody sees."""

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        return self._base.packages.contents(wanted)

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        """Return what the base says: who owns what is there now."""
        return self._base.packages.owners(paths)

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        return self._base.packages.configuration(names)

    def is_older(self, version: str, other: str) -> bool:
        return self._base.packages.is_older(version, other)

    def wait(self) -> None:
        """Do nothing: nobody else changes what is pretended."""

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        for name, one in targets.items():
            self._undone.assign(self._changed, name, one)
        return ""


def _is_same(now: Package | None, then: Package | Absent) -> bool:
    """Whether a package stays what it is; marks aside, which no simulation knows of what is pending."""
    if now is None or isinstance(then, Absent):
        return now is None and isinstance(then, Absent)
    return (now.version, now.status) == (then.version, then.status)
