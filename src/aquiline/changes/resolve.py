"""What a change means on a given host: what it replaces, what will stand there, how it is taken back.

`resolve` only reads. It is the one place that turns a change into prior state, new state and undo; a dry-run and a live
run both go through it, on an overlay (P1). A change whose state is already right resolves to None: it is no step.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from aquiline.changes.describe import describe, describe_packages, describe_undo
from aquiline.changes.entries import check_record, is_secret_record
from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    EditFile,
    FileChange,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    ReactCommand,
    ReactDaemonReload,
    ReactSignal,
    ReactUnit,
    Remove,
    Restore,
    RunCommand,
    RunScript,
    SetMetadata,
    SetPackages,
    SetRecord,
    SetUnit,
    Validate,
    WriteFile,
)
from aquiline.changes.steps import Undo, UndoOrder
from aquiline.errors import HostError
from aquiline.host import unitfiles
from aquiline.host.acl import mode_with, with_mode
from aquiline.host.naming import observe, package_name, path_of, record_name, unit_name
from aquiline.host.objects import (
    ABSENT,
    Absent,
    At,
    Directory,
    Enablement,
    FileObject,
    Metadata,
    Package,
    Record,
    RegularFile,
    Special,
    Symlink,
    Unit,
    same_but_times,
)
from aquiline.host.protocol import Accounts, Reading, UnitState

#: Marks an undo that puts back a kept inode; the undo planner replaces it by the run and step that kept it.
KEPT_INODE = "inode"

#: Default metadata of new objects (CAF::FileWriter's 0644, LC::Check's 0755).
_FILE_MODE, _DIRECTORY_MODE, _SPECIAL_MODE = 0o644, 0o755, 0o600

#: The kernel drops file capabilities when content is written; so does replacing the file by one with other content.
_CAPABILITY = "security.capability"
_ACL = "system.posix_acl_access"


class Effect(msgspec.Struct, frozen=True):
    """What one change does to one host."""

    #: Every object it replaces or builds on, as it stands before.
    before: tuple[At, ...]
    #: The same objects afterwards; ``mtime_ns`` 0 is the time of the run.
    after: tuple[At, ...]
    undo: Undo
    undo_order: UndoOrder = "reversed"


def resolve(change: Change, host: Reading) -> Effect | None:
    """Return what `change` would do to `host`, None where its state is already right.

    Raises:
        HostError: it would fail: a missing parent, a directory in the way, an unknown owner.
        UnknownUntilRun: a pending command may change what it builds on.
    """
    match change:
        case RunCommand() | RunScript():
            return _resolve_opaque(change)
        case ReactUnit() | ReactSignal() | ReactDaemonReload() | ReactCommand():
            undo = Undo("command", describe(change), (change,))
            return Effect((), (), undo, "after")
        case Validate():
            return Effect((), (), Undo("exact", "nothing to take back: it changes nothing"))
        case SetUnit():
            return _resolve_unit(change, host)
        case SetPackages():
            return _resolve_packages(change, host)
        case SetRecord():
            return _resolve_record(change, host)
        case _:
            return _resolve_file(change, host)


# ---- files --------------------------------------------------------------------------------------------------------


def _resolve_file(change: FileChange, host: Reading) -> Effect | None:
    match change:
        case Move():
            return _resolve_move(change, host)
        case MakeHardlink():
            return _resolve_hardlink(change, host)
        case _:
            found = host.observe(change.path)
            wanted = _wanted(change, found, host)
            if _is_right(wanted, found) and not _must_be_parted(change, found):
                return None
            undo = exact_undo(
                change.path, found, secret=getattr(change, "secret", False), in_place=_overwrites(change, found, wanted)
            )
            return Effect((At(change.path, found),), (At(change.path, wanted),), undo)


def _overwrites(change: FileChange, found: FileObject, wanted: FileObject) -> bool:
    """Whether `change` overwrites the content of the file that is there; refuse where that file has other names."""
    if not isinstance(change, WriteFile | Restore) or not change.in_place:
        return False
    if not isinstance(found, RegularFile) or not isinstance(wanted, RegularFile) or found.sha256 == wanted.sha256:
        return False
    if found.links > 1:
        message = f"to overwrite it in place would change all its {found.links} names"
        raise HostError(message, path=change.path, hint="replace it: leave in_place out")
    return True


def exact_undo(path: str, found: FileObject, *, secret: bool = False, in_place: bool = False) -> Undo:
    """Return the undo that puts `found` back at `path`."""
    several_names = isinstance(found, RegularFile) and found.links > 1
    kept = KEPT_INODE if several_names else ""
    restore = Restore(path=path, object=found, kept=kept, secret=secret, in_place=in_place)
    return Undo("exact", describe(restore), (restore,))


class KeptInodes:
    """The inodes that steps of one plan keep: each name that goes keeps its own, the last too, or undo parts them."""

    def __init__(self) -> None:
        self._inodes: set[tuple[int, int]] = set()

    def complete(self, effect: Effect, host: Reading) -> Effect:
        """Return `effect`, before it is remembered on `host`, with an undo that keeps what an earlier step kept."""
        restores = [one for one in effect.undo.changes if isinstance(one, Restore)]
        if not any(one.kept for one in restores) and not self._inodes:
            return effect
        shared = {one.path for one in restores if self._is_kept(one, host)}
        if not shared:
            return effect
        changes = tuple(
            msgspec.structs.replace(one, kept=KEPT_INODE) if isinstance(one, Restore) and one.path in shared else one
            for one in effect.undo.changes
        )
        return msgspec.structs.replace(effect, undo=msgspec.structs.replace(effect.undo, changes=changes))

    def _is_kept(self, restore: Restore, host: Reading) -> bool:
        status = host.status(restore.path) if isinstance(restore.object, RegularFile) else None
        if status is None:
            return False
        if restore.kept:
            self._inodes.add(status.inode)
        return status.inode in self._inodes


def _is_right(wanted: FileObject, found: FileObject) -> bool:
    """Whether nothing has to be done; times count only where they are asked for."""
    if type(wanted) is not type(found):
        return False
    if isinstance(wanted, Absent):
        return True
    if not isinstance(found, Absent) and wanted.metadata.mtime_ns not in (0, found.metadata.mtime_ns):
        return False
    return same_but_times(wanted, found)


def _must_be_parted(change: FileChange, found: FileObject) -> bool:
    """Whether a name shares an inode that it did not share before."""
    return isinstance(change, Restore) and change.apart and isinstance(found, RegularFile) and found.links > 1


def _wanted(
    change: WriteFile | EditFile | Remove | MakeDirectory | MakeSymlink | MakeSpecial | SetMetadata | Restore,
    found: FileObject,
    host: Reading,
) -> FileObject:
    match change:
        case WriteFile():
            return _wanted_file(change, found, host.accounts)
        case EditFile():
            return _edited(change, found)
        case Remove():
            if isinstance(found, Directory) and host.names(change.path):
                raise HostError("the directory is not empty", path=change.path, hint="remove what is in it first")
            return ABSENT
        case MakeDirectory():
            kept = found.metadata if isinstance(found, Directory) else None
            _refuse_in_the_way(change.path, found, Directory)
            if change.seed and isinstance(found, Directory):
                return found
            return Directory(_metadata(change, kept, _DIRECTORY_MODE, host.accounts))
        case MakeSymlink():
            return _wanted_symlink(change, found, host.accounts)
        case MakeSpecial():
            kept = found.metadata if isinstance(found, Special) else None
            _refuse_directory(change.path, found)
            metadata = _metadata(change, kept, _SPECIAL_MODE, host.accounts)
            _refuse_attributes_of_users(change)
            return Special(metadata, change.special, change.device)
        case SetMetadata():
            if isinstance(found, Absent):
                raise HostError("there is nothing to change", path=change.path)
            if isinstance(found, Symlink) and change.mode not in (None, found.metadata.mode):
                raise HostError("a symbolic link has no mode of its own", path=change.path)
            if isinstance(found, Symlink | Special):
                _refuse_attributes_of_users(change)
            metadata = _metadata(change, found.metadata, found.metadata.mode, host.accounts)
            return msgspec.structs.replace(found, metadata=metadata)
        case Restore():
            return change.object
        case _:
            assert_never(change)


def _wanted_file(change: WriteFile, found: FileObject, accounts: Accounts) -> RegularFile:
    _refuse_directory(change.path, found)
    content = change.content
    digest = content.sha256
    if not isinstance(found, RegularFile):
        return RegularFile(_metadata(change, None, _FILE_MODE, accounts), content.size, digest)
    if change.seed or found.sha256 == digest:
        kept = _metadata(change, found.metadata, _FILE_MODE, accounts)
        return RegularFile(kept, found.size, found.sha256, found.links)
    kept = _without_capability(found.metadata)
    return RegularFile(_metadata(change, kept, _FILE_MODE, accounts), content.size, digest)


def _edited(change: EditFile, found: FileObject) -> RegularFile:
    if not isinstance(found, RegularFile):
        raise HostError("there is no file to edit", path=change.path)
    if found.sha256 == change.content.sha256:
        return msgspec.structs.replace(found, metadata=_timeless(found.metadata))
    if found.sha256 != change.edited_sha256:
        raise HostError("is not the file that was edited", path=change.path, hint="plan again")
    metadata = _timeless(_without_capability(found.metadata))
    return RegularFile(metadata, change.content.size, change.content.sha256)


def _wanted_symlink(change: MakeSymlink, found: FileObject, accounts: Accounts) -> Symlink:
    _refuse_directory(change.path, found)
    kept = found.metadata if isinstance(found, Symlink) else Metadata(0o777, 0, 0)
    uid = kept.uid if change.owner is None else accounts.uid(change.owner)
    gid = kept.gid if change.group is None else accounts.gid(change.group)
    return Symlink(Metadata(0o777, uid, gid, 0, kept.xattrs), change.target)


def _metadata(
    change: WriteFile | MakeDirectory | MakeSpecial | SetMetadata,
    kept: Metadata | None,
    default_mode: int,
    accounts: Accounts,
) -> Metadata:
    """Return what `change` says, completed by what is `kept`, else by the defaults.

    Mode and ACL hold the same permissions twice: the one that the change names decides, the mode where it names both.
    """
    base = kept if kept is not None else Metadata(default_mode, 0, 0)
    mode = base.mode if change.mode is None else change.mode
    xattrs = base.xattrs if change.xattrs is None else change.xattrs
    acl = dict(xattrs).get(_ACL)
    if acl is not None and change.mode is None:
        mode = mode_with(acl, mode)
    elif acl is not None:
        xattrs = tuple((name, with_mode(acl, mode) if name == _ACL else value) for name, value in xattrs)
    return Metadata(
        mode,
        base.uid if change.owner is None else accounts.uid(change.owner),
        base.gid if change.group is None else accounts.gid(change.group),
        change.mtime_ns or 0,
        xattrs,
    )


def _timeless(metadata: Metadata) -> Metadata:
    return msgspec.structs.replace(metadata, mtime_ns=0)


def _without_capability(metadata: Metadata) -> Metadata:
    if not metadata.xattrs:
        return metadata
    return msgspec.structs.replace(metadata, xattrs=tuple(pair for pair in metadata.xattrs if pair[0] != _CAPABILITY))


def _refuse_attributes_of_users(change: SetMetadata | MakeSpecial) -> None:
    """Refuse what the kernel would: links and special files have no ``user.`` attributes."""
    for name, _ in change.xattrs or ():
        if name.startswith("user."):
            raise HostError(f"only files and directories may have the attribute {name}", path=change.path)


def _refuse_directory(path: str, found: FileObject) -> None:
    if isinstance(found, Directory):
        raise HostError("a directory is in the way", path=path, hint="remove it in a step of its own")


def _refuse_in_the_way(path: str, found: FileObject, allowed: type) -> None:
    if not isinstance(found, Absent | allowed):
        raise HostError("something that is not a directory is in the way", path=path, hint="remove it first")


def _resolve_move(change: Move, host: Reading) -> Effect | None:
    moved = host.observe(change.source)
    replaced = host.observe(change.destination)
    if isinstance(moved, Absent):
        return None
    if isinstance(replaced, Directory) and (not isinstance(moved, Directory) or host.names(change.destination)):
        raise HostError("a directory is in the way", path=change.destination)
    if isinstance(moved, Directory) and not isinstance(replaced, Absent | Directory):
        raise HostError("something that is not a directory is in the way", path=change.destination)
    back: tuple[Change, ...] = (Move(source=change.destination, destination=change.source),)
    if not isinstance(replaced, Absent):
        back += exact_undo(change.destination, replaced).changes
    return Effect(
        (At(change.source, moved), At(change.destination, replaced)),
        (At(change.source, ABSENT), At(change.destination, moved)),
        Undo("exact", describe_undo(back), back),
    )


def _resolve_hardlink(change: MakeHardlink, host: Reading) -> Effect | None:
    existing, found = host.status(change.existing), host.status(change.path)
    if existing is None or existing.type != "file":
        raise HostError("there is no file to link to", path=change.existing)
    if found is not None and found.inode == existing.inode:
        return None
    linked, replaced = host.observe(change.existing), host.observe(change.path)
    _refuse_directory(change.path, replaced)
    undo = exact_undo(change.path, replaced)
    if isinstance(replaced, RegularFile):
        parted = tuple(msgspec.structs.replace(one, apart=True) for one in undo.changes if isinstance(one, Restore))
        undo = msgspec.structs.replace(undo, changes=parted)
    return Effect(
        (At(change.path, replaced), At(change.existing, linked)),
        (At(change.path, linked), At(change.existing, linked)),
        undo,
    )


# ---- accounts -----------------------------------------------------------------------------------------------------


def _resolve_record(change: SetRecord, host: Reading) -> Effect | None:
    if change.line is not None:
        check_record(change.database, change.name, change.line)
    place = host.accounts.entry(change.database, change.name)
    if place.line == change.line:
        return None
    path = path_of(record_name(change.database, change.name))
    if not isinstance(host.observe(path), RegularFile):
        raise HostError("there is no such account database", path=path, hint="an empty file makes one")
    back = SetRecord(
        database=change.database,
        name=change.name,
        line=place.line,
        after=place.after,
        below=place.below,
        unended=place.unended,
        secret=change.secret or is_secret_record(change.database, place.line or ""),
    )
    name = record_name(change.database, change.name)
    found, wanted = (ABSENT if line is None else Record(line) for line in (place.line, change.line))
    return Effect((At(name, found),), (At(name, wanted),), Undo("exact", describe(back), (back,)))


# ---- units and packages -------------------------------------------------------------------------------------------


def _resolve_unit(change: SetUnit, host: Reading) -> Effect | None:
    name = unit_name(change.unit)
    state = host.units.state(change.unit)
    if not state.exists:
        raise HostError(f"there is no unit {change.unit}")
    is_enabling = change.enabled is not None or change.restores is not None
    # A side that the change leaves alone is nobody's business: it may be another when this is run, or taken back.
    found = Unit(state.enabled if is_enabling else "", state.active if change.active is not None else "")
    wanted = Unit(_enabled_after(change, state, host), _active_after(change, state))
    enablement = _enablement(change, state, host)
    is_as_asked = change.restores is None or unitfiles.is_as(host, change.restores)
    relinks = wanted.enabled != found.enabled or not is_as_asked
    along = _along(change, found, wanted, host)
    if not relinks and wanted.active == found.active and not _brings_along(change, along):
        return None
    # What runs to its end is right when it is inactive; it is run by the step that enables it.
    must_run = bool(change.active and wanted.active == "inactive")
    if change.enabled == "masked" and relinks:
        _refuse_unmaskable(change.unit, host)
    back = SetUnit(
        unit=change.unit,
        restores=enablement if relinks else None,
        active=found.active == "active" if wanted.active != found.active or must_run else None,
    )
    limit = "it had failed, and is left stopped" if found.active == "failed" and back.active is not None else ""
    resets = back.active is False and found.active == "inactive"
    back = msgspec.structs.replace(back, resets_failed=resets, **_back_along(change, along))
    return Effect(
        (At(name, found), *(At(unit_name(unit), Unit("", was)) for unit, was, _ in along)),
        (At(name, wanted), *(At(unit_name(unit), Unit("", becomes)) for unit, _, becomes in along)),
        Undo("exact", describe(back), (back,), limit),
    )


def _along(change: SetUnit, found: Unit, wanted: Unit, host: Reading) -> list[tuple[str, str, str]]:
    """Return the units that start or stop with the one that `change` is about: name, as it is, as it becomes."""
    if not wanted.active:
        return []
    becoming: dict[str, str] = {}
    if (found.active, wanted.active) == ("active", "inactive"):
        becoming |= dict.fromkeys(_stopping_along(change.unit, host), "inactive")
    elif change.active and found.active != "active":
        becoming |= _starting_along(change.unit, host)
    ours = {change.unit, *change.stops_too, *becoming}
    for unit in change.stops_too:
        if host.units.state(unit).active != "inactive" and ours.issuperset(_stopping_along(unit, host)):
            becoming[unit] = "inactive"
    becoming |= dict.fromkeys((*change.along, *change.starts_again), "active")
    states = host.units.states(becoming)
    return [(unit, states[unit].active, becomes) for unit, becomes in becoming.items()]


def _brings_along(change: SetUnit, along: list[tuple[str, str, str]]) -> bool:
    """Whether units that `change` names itself are not yet as it wants them; what else comes along is no reason to act.

    One that runs to its end, and is right, would else be run again as long as what it wants does not stay.
    """
    named = {*change.along, *change.stops_too, *change.starts_again}
    return any(unit in named and was != becomes for unit, was, becomes in along)


def _back_along(change: SetUnit, along: list[tuple[str, str, str]]) -> dict[str, tuple[str, ...]]:
    """Return what of a change that takes `change` back brings back the units that start or stop along with it."""
    stopped = tuple(unit for unit, was, becomes in along if (was, becomes) == ("active", "inactive"))
    if not change.active:
        return {"along": stopped}
    by_itself = [one for one in along if one[0] not in change.along]
    started = tuple(unit for unit, was, becomes in by_itself if was != "active" and becomes == "active")
    return {"stops_too": started, "starts_again": stopped}


#: What stops along with a unit and is no process: to start it again would start all that it is there for.
_GROUPS = (".target", ".slice")
#: What starts along with a unit, and comes and goes by itself.
_NO_PROCESSES = (*_GROUPS, ".device", ".scope")


def _starting_along(unit: str, host: Reading) -> dict[str, str]:
    """Return what other units become when the service manager starts `unit`: what that needs or wants, and conflicts.

    What runs already is not looked into, as the service manager does.
    """
    states = {unit: host.units.state(unit)}
    waiting = dict(states)
    while waiting:
        wanted = {name for state in waiting.values() for name in state.starts} - states.keys()
        found = host.units.states(sorted(wanted)) if wanted else {}
        waiting = {name: state for name, state in found.items() if _can_start(state)}
        states |= waiting
    started = {name for name, state in states.items() if name != unit and not state.runs_once}
    against = sorted({name for state in states.values() for name in state.conflicts} - states.keys())
    running = [name for name, state in host.units.states(against).items() if state.active == "active"]
    stopped = {other for name in running for other in (name, *_stopping_along(name, host))} - states.keys()
    return {name: "active" for name in sorted(started) if not name.endswith(_NO_PROCESSES)} | {
        name: "inactive" for name in sorted(stopped) if not name.endswith(_GROUPS)
    }


def _can_start(state: UnitState) -> bool:
    is_off = state.active in ("inactive", "failed")
    return state.exists and is_off and not state.unmet and not state.enabled.startswith("masked")


def _stopping_along(unit: str, host: Reading) -> tuple[str, ...]:
    """Return the running units that the service manager stops when it stops `unit`, those of those too."""
    found: set[str] = set()
    waiting = {unit}
    while waiting:
        passed_on = {name for state in host.units.states(sorted(waiting)).values() for name in state.stops}
        new = sorted(name for name in passed_on - found - {unit} if not name.endswith(_GROUPS))
        waiting = {name for name, state in host.units.states(new).items() if state.active == "active"} if new else set()
        found |= waiting
    return tuple(sorted(found))


#: What systemctl neither enables nor disables: nothing in the unit's file says where, or the file is made at boot.
_NEVER_ENABLED = ("static", "indirect", "generated", "transient")


def _enabled_after(change: SetUnit, state: UnitState, host: Reading) -> str:
    """Return what `systemctl is-enabled` will say; empty where the change is not about that."""
    if change.restores is not None:
        return change.restores.state
    if change.enabled is None or change.enabled == "masked":
        return change.enabled or ""
    is_masked = state.enabled.startswith("masked")
    without = unitfiles.vendor_state(host, change.unit) if is_masked else state.enabled
    if without in _NEVER_ENABLED:
        return without
    if change.enabled == "enabled":
        return "enabled"
    return unitfiles.vendor_state(host, change.unit) if state.enabled.startswith("enabled") or is_masked else without


def _active_after(change: SetUnit, state: UnitState) -> str:
    """Return what `systemctl is-active` will say; empty where the change is not about that, or nothing runs."""
    if change.active is None or not state.active:
        return ""
    if change.active:
        return "inactive" if state.runs_once and state.active != "active" else "active"
    return "failed" if state.active == "failed" and not change.resets_failed else "inactive"


def _enablement(change: SetUnit, state: UnitState, host: Reading) -> Enablement:
    """Return how the unit is enabled now."""
    name = unitfiles.real_name(host, change.unit)
    if change.restores is not None:
        units = change.restores.units
        folders = {*unitfiles.folders_of(at.path for at in change.restores.links), *change.restores.absent_folders}
    else:
        units = unitfiles.related(host, name)
        made = [path for unit in units for path in unitfiles.enabling(host, unit)]
        folders = set(unitfiles.folders_of(made)) if change.enabled == "enabled" else set()
    absent = tuple(sorted(folder for folder in folders if host.status(folder) is None))
    return Enablement(state.enabled, units, unitfiles.links(host, units), absent)


def _refuse_unmaskable(unit: str, host: Reading) -> None:
    path = f"{unitfiles.PERSISTENT}/{unit}"
    if host.status(path) is not None and not unitfiles.is_mask(host, path):
        raise HostError(f"{unit} cannot be masked: its own file is where the link would be", path=path)


def _resolve_packages(change: SetPackages, host: Reading) -> Effect | None:
    if change.leaves:
        leaves = change.leaves
    else:
        becoming = host.packages.simulate(dict(change.install), change.remove)
        leaves = tuple(At(package_name(name), one) for name, one in becoming.items())
    before = tuple(At(at.path, observe(host, at.path)) for at in leaves)
    if all(same_but_times(one.object, at.object) for one, at in zip(before, leaves, strict=True)):
        return None
    back = SetPackages(leaves=before)
    undo = Undo("exact", describe_packages(leaves, before), (back,))
    lacking = host.packages.lacking(_versions(before))
    if lacking:
        listed = ", ".join(f"{name} {version}" for name, version in lacking)
        undo = Undo("irreversible", "nothing", (), f"can be had nowhere any more: {listed}")
    return Effect(before, leaves, undo)


def _versions(objects: tuple[At, ...]) -> tuple[tuple[str, str], ...]:
    """Return name and version of the packages that are installed among `objects`."""
    return tuple(
        (at.path.removeprefix("package:"), at.object.version)
        for at in objects
        if isinstance(at.object, Package) and at.object.version
    )


# ---- commands -----------------------------------------------------------------------------------------------------


def _resolve_opaque(change: RunCommand | RunScript) -> Effect:
    return Effect((), (), _command_undo(change, change.undo), change.undo_order or "reversed")


def _command_undo(change: RunCommand | RunScript, undo: CommandUndo) -> Undo:
    if undo.itself:
        again = msgspec.structs.replace(change, guard=None, done_when=None, with_task=False, always=True)
        return Undo("command", undo.description or f"again: {describe(change)}", (again,))
    if undo.changes:
        changes = tuple(map(_kept_secret, undo.changes)) if change.secret else undo.changes
        return Undo("command", undo.description or describe_undo(changes), changes, _needs(changes))
    return Undo("irreversible", "nothing", (), undo.irreversible or "its author gave no way to take it back")


def _kept_secret(change: Change) -> Change:
    """Return `change`, which takes back a change that holds a secret, as one that holds a secret itself (P10)."""
    return msgspec.structs.replace(change, secret=True) if hasattr(change, "secret") else change


def _needs(changes: tuple[Change, ...]) -> str:
    """Return what an undo of commands needs of the host besides a shell (D5)."""
    is_python = any(isinstance(change, RunScript) and change.language == "python" for change in changes)
    return "needs python3" if is_python else ""
