"""Every kind of change in words.

A description is one line, in the imperative, exact, and safe to show: control characters and bytes that are not UTF-8
are escaped, and what a secret change carries is left out (DESIGN P10, D9). It depends on nothing but its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import assert_never

from aquiline.changes.entries import is_secret_record
from aquiline.changes.kinds import (
    Change,
    EditFile,
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
from aquiline.changes.text import bytes_of, command_line, quoted, visible
from aquiline.host.objects import (
    Absent,
    At,
    Directory,
    Metadata,
    Object,
    Package,
    Record,
    RegularFile,
    Special,
    Symlink,
    System,
    Unit,
)

_Owning = WriteFile | MakeDirectory | MakeSymlink | MakeSpecial | SetMetadata
_DEFAULT_MODES = {WriteFile: 0o644, MakeDirectory: 0o755, MakeSpecial: 0o600}


def describe(change: Change, before: Object | None = None) -> str:
    """Return what `change` does, in one line; `before` is what stands at its path now, None where nobody knows."""
    match change:
        case WriteFile():
            return f"write {quoted(change.path)}{_write_details(change, before)}"
        case EditFile():
            return f"edit {quoted(change.path)}{_details(['secret'] if change.secret else [])}"
        case Remove():
            return _remove(change.path, before)
        case MakeDirectory():
            verb = "set directory" if isinstance(before, Directory) else "make directory"
            return f"{verb} {quoted(change.path)}{_details(_owned(change, before))}{_replacing(change, before)}"
        case MakeSymlink():
            link = f"{quoted(change.path)} -> {quoted(change.target)}"
            return f"make symbolic link {link}{_details(_owned(change, before))}{_replacing(change, before)}"
        case MakeHardlink():
            return f"make {quoted(change.path)} a hard link to {quoted(change.existing)}"
        case MakeSpecial():
            what = special_name(change.special, change.device)
            details = _details(_owned(change, before))
            return f"make {what} {quoted(change.path)}{details}{_replacing(change, before)}"
        case Move():
            return f"move {quoted(change.source)} to {quoted(change.destination)}"
        case SetMetadata():
            return f"set {', '.join(_owned(change, before)) or 'nothing'} of {quoted(change.path)}"
        case Restore():
            return _restore(change, before)
        case SetUnit():
            then = (("stop", change.stops_too), ("start", (*change.along, *change.starts_again)))
            along = "".join(f", then {verb} {', '.join(map(visible, units))}" for verb, units in then if units)
            return f"{_unit_verbs(change)} {visible(change.unit)}{along}"
        case SetPackages():
            return _packages(change)
        case SetRecord():
            return _record(change, before)
        case RunCommand() | RunScript() | ReactCommand():
            return visible(change.description) or what_runs(change)
        case ReactUnit():
            return f"{_ACTIONS[change.action]} {visible(change.unit)}"
        case ReactSignal():
            return f"send {visible(change.signal)} to every process named {quoted(change.process)}"
        case ReactDaemonReload():
            return "make the service manager read its unit files again"
        case Validate():
            return f'check the new {quoted(change.path)} by "{command_line(change.argv)}"'
        case _:
            assert_never(change)


def describe_step(change: Change, before: Sequence[At], after: Sequence[At]) -> str:
    """Return what a step does, in one line: `change` on a host where `before` is replaced by `after`."""
    if isinstance(change, SetPackages):
        return describe_packages(before, after)
    if isinstance(change, SetUnit):
        return f"{describe(change)}{_by_itself(change, after[1:])}"
    return describe(change, before[0].object if before else None)


def describe_undo(changes: Sequence[Change]) -> str:
    """Return what undo by `changes` does, in one line."""
    return ", then ".join(map(describe, changes)) or "nothing to do"


def what_runs(change: RunCommand | RunScript | ReactCommand) -> str:
    """Return the command itself, as it would be typed; of a secret one, only the program."""
    match change:
        case RunScript():
            lines = len(change.text.splitlines())
            what = f"run a {change.language} script of {lines} line{'' if lines == 1 else 's'}"
            return what + (" (secret)" if change.secret else "")
        case RunCommand(secret=True):
            return f'run "{command_line(change.argv[:1])} …" (secret arguments)'
        case RunCommand() | ReactCommand():
            return f'run "{command_line(change.argv)}"'
        case _:
            assert_never(change)


def object_name(found: Object) -> str:
    """Return what sort of object this is."""
    match found:
        case Absent():
            return "nothing"
        case RegularFile():
            return "file"
        case Directory():
            return "directory"
        case Symlink():
            return "symbolic link"
        case Special():
            return special_name(found.special, found.device)
        case Unit():
            return "unit"
        case Record():
            return "entry"
        case Package():
            return "package"
        case _:
            assert_never(found)


def special_name(special: str, device: int) -> str:
    """Return what sort of special file this is, with major and minor number of a device."""
    if special in {"fifo", "socket"}:
        return {"fifo": "FIFO", "socket": "socket"}[special]
    return f"{special.replace('-', ' ')} {os.major(device)}:{os.minor(device)}"


_ACTIONS = {
    "reload": "reload",
    "restart": "restart",
    "try-restart": "restart, if it runs,",
    "reload-or-restart": "reload or restart",
    "stop-sleep-start": "stop, wait and start",
}
_ENABLED = {"enabled": "enable", "disabled": "disable", "masked": "mask"}


def _details(parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f" ({text})" if text else ""


def _write_details(change: WriteFile, before: Object | None) -> str:
    parts = _owned(change, before)
    if change.in_place:
        parts.append("in place, not atomic")
    if change.secret:
        parts.append("secret")
    return _details(parts) + _replacing(change, before)


def _replacing(change: Change, before: Object | None) -> str:
    same: dict[type[Change], type[Object]] = {
        WriteFile: RegularFile,
        MakeDirectory: Directory,
        MakeSymlink: Symlink,
        MakeSpecial: Special,
    }
    if before is None or isinstance(before, Absent | same[type(change)]):
        return ""
    return f", replacing a {object_name(before)}"


def _owned(change: _Owning, before: Object | None) -> list[str]:
    """Return the metadata that `change` gives: what it names, and its kind's defaults where nothing stands yet."""
    old = None if before is None or isinstance(before, Absent | System) else before.metadata
    makes = not isinstance(change, SetMetadata) and isinstance(before, Absent)
    parts = []
    if not isinstance(change, MakeSymlink):
        mode = _DEFAULT_MODES[type(change)] if change.mode is None and makes else change.mode
        if mode is not None:
            parts.append(f"mode {mode:04o}{_was(change, old, f'{old.mode:04o}' if old else '', f'{mode:04o}')}")
    owner, group = change.owner, change.group
    if makes:
        owner, group = "root" if owner is None else owner, "root" if group is None else group
    if owner is not None or group is not None:
        was = owner_and_group(old.uid, old.gid) if old else ""
        parts.append(owner_and_group(owner, group) + _was(change, old, was, ""))
    if not isinstance(change, MakeSymlink):
        if change.mtime_ns is not None:
            parts.append(f"time {change.mtime_ns // 10**9}.{change.mtime_ns % 10**9:09}")
        has_attributes = old is not None and bool(old.xattrs)
        if change.xattrs is not None and (change.xattrs or has_attributes or isinstance(change, SetMetadata)):
            parts.append(f"attributes {', '.join(visible(name) for name, _ in change.xattrs) or 'none'}")
    return parts


def owner_and_group(owner: str | int | None, group: str | int | None) -> str:
    """Return both in words; of the numbers only 0 has the same name on every host."""
    if group is None:
        return f"owner {_account(owner)}"
    if owner is None:
        return f"group {_account(group)}"
    return f"{_account(owner)}:{_account(group)}"


def _account(which: str | int | None) -> str:
    return "root" if which == 0 else visible(str(which))


def _was(change: _Owning, old: Metadata | None, before: str, after: str) -> str:
    if not isinstance(change, SetMetadata) or old is None or before == after:
        return ""
    return f" (was {before})"


def _remove(path: str, before: Object | None) -> str:
    match before:
        case None | Absent() | RegularFile():
            return f"remove {quoted(path)}"
        case Symlink():
            return f"remove symbolic link {quoted(path)} -> {quoted(before.target)}"
        case _:
            return f"remove {object_name(before)} {quoted(path)}"


def _restore(change: Restore, before: Object | None) -> str:
    found = change.object
    if isinstance(found, Absent):
        return _remove(change.path, before)
    metadata = found.metadata
    target = f" -> {quoted(found.target)}" if isinstance(found, Symlink) else ""
    size = f"{bytes_of(found.size)}, " if isinstance(found, RegularFile) else ""
    what = "" if isinstance(found, RegularFile) else f"{object_name(found)} "
    state = f"{size}mode {metadata.mode:04o}, {owner_and_group(metadata.uid, metadata.gid)}"
    return f"restore {what}{quoted(change.path)}{target} ({state})"


def _unit_verbs(change: SetUnit) -> str:
    verbs = []
    if change.enabled is not None:
        verbs.append(_ENABLED[change.enabled])
    if change.restores is not None:
        verbs.append(_ENABLED.get(change.restores.state, f"make {visible(change.restores.state)} again"))
    if change.active is not None:
        verbs.append("start" if change.active else "stop")
    return " and ".join(verbs) or "leave as it is"


def _by_itself(change: SetUnit, along: Sequence[At]) -> str:
    """Return in words what the service manager starts and stops along with a unit by itself."""
    told = {*change.along, *change.stops_too, *change.starts_again}
    found: dict[str, list[str]] = {"starts": [], "stops": []}
    for at in along:
        unit = at.path.removeprefix("unit:")
        if isinstance(at.object, Unit) and unit not in told:
            found["starts" if at.object.active == "active" else "stops"].append(visible(unit))
    words = " and ".join(f"{verb} {', '.join(units)}" for verb, units in found.items() if units)
    return f", which {words} too" if words else ""


def _packages(change: SetPackages) -> str:
    if change.leaves:
        return describe_packages((), change.leaves)
    parts = []
    if change.install:
        parts.append(
            "install " + ", ".join(f"{visible(name)} {visible(version)}".rstrip() for name, version in change.install)
        )
    if change.remove:
        parts.append("remove " + ", ".join(map(visible, change.remove)))
    return "; ".join(parts) or "change no packages"


def describe_packages(before: Sequence[At], after: Sequence[At]) -> str:
    """Return a transaction of packages in one line, each with its version; `before` is empty where nobody knows."""
    was = {at.path: at.object for at in before}
    by_verb: dict[str, list[str]] = {}
    for at in after:
        if at.path.startswith("package:"):
            verb, words = _package_change(was.get(at.path), at.object)
            by_verb.setdefault(verb, []).append(f"{visible(at.path.removeprefix('package:'))}{words}")
    others = sum(1 for at in after if not at.path.startswith("package:"))
    parts = [f"{verb} {', '.join(listed)}" for verb, listed in sorted(by_verb.items())]
    parts += [f"restore {others} object{'' if others == 1 else 's'} around them"] if others else []
    return "; ".join(parts) or "change no packages"


def _package_change(was: Object | None, becomes: Object) -> tuple[str, str]:
    """Return verb and versions."""
    old = visible(was.version) if isinstance(was, Package) else ""
    if not isinstance(becomes, Package):
        return (
            ("purge", "")
            if isinstance(was, Package) and was.status == "config-files"
            else ("remove", f" {old}".rstrip())
        )
    if not becomes.version:
        return "remove", f" {old}".rstrip() + " (its configuration stays)"
    new = visible(becomes.version)
    if not old:
        return "install", f" {new}{' (automatic)' if becomes.auto else ''}"
    if old != new:
        return "change", f" {old} to {new}"
    assert isinstance(was, Package)
    marks = [
        word
        for word, is_changed in (
            ("automatic" if becomes.auto else "manual", was.auto != becomes.auto),
            ("held" if becomes.hold else "not held", was.hold != becomes.hold),
        )
        if is_changed
    ]
    return "mark" if marks else "keep", f" {new}{' as ' + ' and '.join(marks) if marks else ''}"


def _record(change: SetRecord, before: Object | None) -> str:
    what = f"{change.database} entry of {visible(change.name)}"
    old = before.line if isinstance(before, Record) else ""
    secret = change.secret or any(is_secret_record(change.database, line) for line in (old, change.line or ""))
    if change.line is None:
        return f"remove {what}" + ("" if secret or not old else f": {visible(old)}")
    if secret:
        return f"{'add' if isinstance(before, Absent) else 'set'} {what} (secret)"
    was = f" (was {visible(old)})" if old else ""
    return f"{'add' if isinstance(before, Absent) else 'set'} {what}: {visible(change.line)}{was}"
