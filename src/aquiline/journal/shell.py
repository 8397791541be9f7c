"""Changes in POSIX shell: the words that the functions of ``undo.sh`` are called with.

Anything that came from outside (a path, an argument, a script's text) is written so that no line of it can be taken for
a line of ours: control characters are given as octal to printf, and text in here-documents has a mark before each line.
Bytes that are not UTF-8 stay as they are; the scripts run with ``LC_ALL=C``.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, assert_never

from aquiline.changes.canonical import encode
from aquiline.changes.kinds import (
    Change,
    Content,
    CopyOf,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Probe,
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
    Stored,
    Validate,
    WriteFile,
)
from aquiline.host.naming import is_path
from aquiline.host.objects import (
    Absent,
    Directory,
    Enablement,
    FileObject,
    Metadata,
    Object,
    Package,
    Record,
    RegularFile,
    Special,
    Symlink,
    Unit,
    file_object,
    sha256,
)
from aquiline.host.packages.apt import file_pattern as deb_pattern
from aquiline.host.packages.dnf import file_pattern as rpm_pattern
from aquiline.host.records import place_of

#: The search path of commands (as `aquiline.host` runs them).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SPECIAL_TYPES = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character-device": stat.S_IFCHR,
    "block-device": stat.S_IFBLK,
}
_MKNOD = {"fifo": "p", "character-device": "c", "block-device": "b"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Runs a Python script whose text and arguments come by standard input.
_PYTHON_RUNNER = (
    "import json, sys; given = json.load(sys.stdin); "
    "exec(compile(given['text'], '<script>', 'exec'), {'__name__': '__main__', 'arguments': given['arguments']})"
)
#: What a shell's printf takes in its stride at once.
_PIECE = 4096

Shells = Callable[[FileObject], str]
"""Makes the object that carries the extended attributes of another; returns its name, empty where there are none."""


class Text:
    """Shell text in the making."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._words = 0

    def call(self, function: str, *words: str | int, orelse: str = "") -> None:
        """Add a call with `words` quoted."""
        given = [self.word(word if isinstance(word, str) else str(word)) for word in words]
        self.lines.append(" ".join((function, *given)) + orelse)

    def word(self, text: str) -> str:
        """Return `text` as one shell word; a `Raw` one as it is."""
        if isinstance(text, Raw):
            return text
        if not _CONTROL.search(text):
            return quoted(text)
        # Command substitution drops newlines at the end: the x saves them.
        self._words += 1
        name = f"w{self._words}"
        self.lines.append(f"{name}=$(printf '{octal(os.fsencode(text))}x'); {name}=${{{name}%x}}")
        return f'"${name}"'

    def feed(self, data: bytes, command: str) -> None:
        """Add `command` with `data` as its standard input."""
        text = os.fsdecode(data)
        if not data:
            self.lines.append(f"{command} </dev/null")
        elif text.endswith("\n") and not _CONTROL.search(text.replace("\n", "").replace("\t", "")):
            self.lines.append(f"sed 's/^| //' <<'AQ_TEXT' | {command}")
            self.lines += [f"| {line}" for line in text[:-1].split("\n")]
            self.lines.append("AQ_TEXT")
        else:
            pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
            printing = "; ".join(f"printf '{octal(piece)}'" for piece in pieces)
            self.lines.append(f"{{ {printing}; }} | {command}")


class Raw(str):
    """A word that is shell text already."""

    __slots__ = ()


def quoted(text: str) -> str:
    """Return `text`, which holds no control character, as one shell word."""
    return "'" + text.replace("'", "'\\''") + "'"


def octal(data: bytes) -> str:
    """Return `data` as a format of printf, all but plain characters as octal escapes."""
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in data)


def shown(text: str) -> str:
    """Return `text` on one line."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


# ---- objects ------------------------------------------------------------------------------------------------------


def guard(found: FileObject | Package | None) -> str:
    """Return an object in the words of ``aq_look``: what conflicts compare but for attributes; ``-`` where unknown."""
    match found:
        case None:
            return "-"
        case Absent():
            return "absent"
        case Package():
            return f"{found.status} {found.version}".strip()
        case RegularFile():
            return f"file {_owned(stat.S_IFREG, found.metadata)} {found.sha256}"
        case Directory():
            return f"directory {_owned(stat.S_IFDIR, found.metadata)}"
        case Symlink():
            return f"symlink {found.metadata.uid} {found.metadata.gid} {sha256(os.fsencode(found.target))}"
        case Special():
            device = f"{os.major(found.device):x} {os.minor(found.device):x}"
            return f"special {_owned(_SPECIAL_TYPES[found.special], found.metadata)} {device}"
        case _:
            assert_never(found)


def _owned(type_bits: int, metadata: Metadata) -> str:
    return f"{type_bits | metadata.mode:x} {metadata.uid} {metadata.gid}"


def time_word(mtime_ns: int) -> str:
    """Return a time as ``touch -d`` takes it."""
    seconds, rest = divmod(abs(mtime_ns), 10**9)
    return f"@{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09d}"


def _dress(metadata: Metadata, shell: str, *, exact: bool) -> tuple[str, ...]:
    """Return MODE UID GID MTIME SHELL; unless `exact`, a time of 0 is now."""
    time = time_word(metadata.mtime_ns) if exact or metadata.mtime_ns else ""
    return (f"{metadata.mode:o}", str(metadata.uid), str(metadata.gid), time, shell)


def put_back(
    text: Text, path: str, found: FileObject, *, kept: str, same: Literal["", "1", "strip"], shells: Shells
) -> None:
    """Add what restores `found` at `path`."""
    match found:
        case RegularFile():
            dress = _dress(found.metadata, shells(found), exact=True)
            text.call("aq_file", path, found.sha256, Raw(kept), same, *dress)
        case _:
            make(text, path, found, shells=shells, exact=True)


def make(text: Text, path: str, wanted: FileObject, *, shells: Shells, exact: bool = False) -> None:
    """Add what makes `wanted` at `path`; of a regular file the content is staged already."""
    match wanted:
        case Absent():
            text.call("aq_absent", path)
        case RegularFile():
            text.call("aq_place", path, *_dress(wanted.metadata, shells(wanted), exact=exact))
        case Directory():
            text.call("aq_directory", path, *_dress(wanted.metadata, shells(wanted), exact=exact))
        case Symlink():
            _, uid, gid, time, shell = _dress(wanted.metadata, shells(wanted), exact=exact)
            text.call("aq_symlink", path, wanted.target, uid, gid, time, shell)
        case Special(special="socket"):
            text.call("aq_fail", f"{shown(path)}: only the program that listens can make a socket")
        case Special():
            device = (_MKNOD[wanted.special], os.major(wanted.device), os.minor(wanted.device))
            text.call("aq_special", path, *device, *_dress(wanted.metadata, shells(wanted), exact=exact))
        case _:
            assert_never(wanted)


def stage_content(text: Text, path: str, content: Content) -> None:
    """Add what puts `content` under the temporary name beside `path`."""
    text.call("aq_stage", path, orelse=" || return 0")
    match content:
        case Inline():
            text.feed(content.data, 'cat >"$aq_tmp"')
        case Stored():
            text.call("aq_stored", content.sha256, orelse=" || return 0")
            text.lines.append('cp -T -- "$aq_from" "$aq_tmp"')
        case CopyOf():
            word = text.word(content.path)
            text.lines.append(f'cp -T -- "$AQ_ROOT"{word} "$aq_tmp" || {{ aq_fail {word}; return 0; }}')
        case _:
            assert_never(content)


# ---- changes ------------------------------------------------------------------------------------------------------


def do(text: Text, change: Change, after: Mapping[str, FileObject], shells: Shells) -> None:
    """Add what does `change`; `after` says what it makes of each path, as far as that is known."""
    path = getattr(change, "path", "")
    match change:
        case Move():
            text.call("aq_move", change.source, change.destination)
        case MakeHardlink():
            text.call("aq_link", change.path, change.existing)
        case Remove():
            text.call("aq_absent", path)
        case WriteFile() | EditFile():
            stage_content(text, path, change.content)
            _make_or_guess(text, change, after, shells)
        case Restore():
            put_back(text, path, change.object, kept="''", same="", shells=shells)
        case MakeDirectory() | MakeSymlink() | MakeSpecial() | SetMetadata():
            _make_or_guess(text, change, after, shells)
        case SetRecord():
            set_record(text, change)
        case Validate():
            pass
        case _:
            _run(text, change, shells)


def look_at_record(text: Text, name: str, left: Object, was: Object) -> None:
    """Add what compares an entry of an account database with what the run left and with what was there before."""
    database, _, account = name.partition(":")
    lines = (one.line if isinstance(one, Record) else "" for one in (left, was))
    text.call("aq_record_guard", place_of(database), f"^{_pattern(account)}:", *lines)


def set_record(text: Text, change: SetRecord) -> None:
    """Add what sets or removes an entry of an account database."""
    after = "-" if change.after is None else f"^{_pattern(change.after)}:" if change.after else ""
    place = (after, change.below, "1" if change.unended else "")
    path, pattern = place_of(change.database), f"^{_pattern(change.name)}:"
    text.call("aq_record", path, pattern, change.line or "", *place)


def look_at_links(text: Text, was: Enablement) -> None:
    """Add what compares the links of a unit with those that there were before."""
    text.call("aq_unit_links", *was.units)
    for at in was.links:
        assert isinstance(at.object, Symlink)
        text.call("aq_unit_has", at.path, at.object.target, at.object.metadata.uid, at.object.metadata.gid)
    if was.absent_folders:
        text.call("aq_unit_absent", *was.absent_folders)


def _pattern(name: str) -> str:
    """Return a name as a basic regular expression."""
    return re.sub(r"[].*^$\\[]", r"\\\g<0>", name)


def _make_or_guess(
    text: Text,
    change: WriteFile | EditFile | MakeDirectory | MakeSymlink | MakeSpecial | SetMetadata,
    after: Mapping[str, FileObject],
    shells: Shells,
) -> None:
    known = after.get(change.path)
    if isinstance(change, SetMetadata):
        _set_metadata(text, change, known, shells)
    elif known is not None:
        make(text, change.path, known, shells=shells)
    else:
        _make_open(text, change)


def _set_metadata(text: Text, change: SetMetadata, known: FileObject | None, shells: Shells) -> None:
    text.call("aq_was", change.path, "644")
    if known is None or isinstance(known, Absent):
        text.call("aq_dress", Raw('"$aq_t"'), *_open_dress(change), orelse=f" || aq_fail {quoted(shown(change.path))}")
    else:
        dress = _dress(known.metadata, shells(known), exact=False)
        text.call("aq_dress", Raw('"$aq_t"'), *dress, orelse=f" || aq_fail {quoted(shown(change.path))}")


def _make_open(text: Text, change: WriteFile | EditFile | MakeDirectory | MakeSymlink | MakeSpecial) -> None:
    """Add what makes an object whose metadata is left open: what the one in its place has, else the kind's default."""
    match change:
        case WriteFile() | EditFile():
            text.call("aq_was", change.path, "644")
            text.call("aq_place", change.path, *_open_dress(change))
        case MakeDirectory():
            text.call("aq_was", change.path, "755")
            text.call("aq_directory", change.path, *_open_dress(change))
        case MakeSymlink():
            owner = ("0" if each is None else str(each) for each in (change.owner, change.group))
            text.call("aq_symlink", change.path, change.target, *owner, "", "")
        case MakeSpecial():
            text.call("aq_was", change.path, "600")
            device = (_MKNOD.get(change.special, "p"), os.major(change.device), os.minor(change.device))
            text.call("aq_special", change.path, *device, *_open_dress(change))
        case _:
            assert_never(change)


def _open_dress(change: WriteFile | EditFile | MakeDirectory | MakeSpecial | SetMetadata) -> tuple[str, ...]:
    mode, owner, group, time = (getattr(change, name, None) for name in ("mode", "owner", "group", "mtime_ns"))
    return (
        Raw('"$aq_mode"') if mode is None else f"{mode:o}",
        Raw('"$aq_uid"') if owner is None else str(owner),
        Raw('"$aq_gid"') if group is None else str(group),
        "" if time is None else time_word(time),
        "",
    )


def _run(
    text: Text,
    change: SetUnit | SetPackages | RunCommand | RunScript | ReactUnit | ReactSignal | ReactDaemonReload | ReactCommand,
    shells: Shells,
) -> None:
    match change:
        case RunCommand():
            command = text_of_command(text, change.argv, change.timeout, change.environment)
            text.feed(change.stdin, command)
            _check(text, change.description or change.argv[0], change.accepts)
        case RunScript():
            _run_script(text, change)
        case SetUnit():
            _set_unit(text, change)
        case SetPackages():
            _packages(text, change, shells)
        case ReactUnit() | ReactSignal() | ReactDaemonReload() | ReactCommand():
            _react(text, change)
        case _:
            assert_never(change)


def _packages(text: Text, change: SetPackages, shells: Shells) -> None:
    """Add a transaction from files that are kept, then what is to stand around the packages."""
    if not change.leaves:
        wanted = [f"install {name} {version}" for name, version in change.install]
        wanted += [f"remove {name}" for name in change.remove]
        text.call("aq_fail", "only the package manager can tell what this takes: " + shown(", ".join(wanted)))
        return
    text.lines.append("aq_packages_begin")
    for at in change.leaves:
        name = at.path.removeprefix("package:")
        if name != at.path:
            found = at.object
            assert isinstance(found, Package | Absent)
            version = found.version if isinstance(found, Package) else ""
            mark = "auto" if isinstance(found, Package) and found.auto else "manual"
            hold = "hold" if isinstance(found, Package) and found.hold else "unhold"
            files = (deb_pattern(name, version)[0], rpm_pattern(name, version)[0]) if version else ("", "")
            text.call("aq_package", name, guard(found), version, mark, hold, *files)
    text.lines.append("aq_packages || return 0")
    for at in change.leaves:
        if is_path(at.path):
            put_back(text, at.path, file_object(at), kept="''", same="", shells=shells)
    for at in change.leaves:
        if isinstance(at.object, Unit) and at.object.active in ("active", "inactive"):
            unit = at.path.removeprefix("unit:")
            text.lines.append("aq_running || return 0")
            text.call("aq_unit", "start" if at.object.active == "active" else "stop", unit, orelse=" || return 0")


def text_of_command(text: Text, argv: Sequence[str], timeout: float, environment: Mapping[str, str]) -> str:
    """Return the call that runs `argv`; what its words need before it is added to `text`."""
    settings = [text.word(f"{name}={value}") for name, value in sorted(environment.items())]
    words = [text.word(word) for word in argv]
    return " ".join(("aq_exec", f"{timeout:g}", *settings, *words))


def _check(text: Text, what: str, accepts: Sequence[int]) -> None:
    text.call("aq_check", Raw("$?"), shown(what), *accepts, orelse=" || return 0")


def _run_script(text: Text, change: RunScript) -> None:
    arguments = json.dumps(change.arguments)
    if change.language == "python":
        text.lines.append("aq_python || return 0")
        given = json.dumps({"arguments": change.arguments, "text": change.text}).encode() + b"\n"
        argv: tuple[str, ...] = ("python3", "-I", "-c", _PYTHON_RUNNER)
        text.feed(given, text_of_command(text, argv, change.timeout, change.environment))
    else:
        environment = {**change.environment, "AQUILINE_ARGUMENTS": arguments, "AQUILINE_TEXT": change.text}
        argv = ("sh", "-c", 'eval "$AQUILINE_TEXT"')
        text.feed(b"", text_of_command(text, argv, change.timeout, environment))
    _check(text, change.description or f"a {change.language} script", change.accepts)


def _set_unit(text: Text, change: SetUnit) -> None:
    verbs = {
        "enabled": (("unmask",), ("enable",)),
        "disabled": (("unmask",), ("disable",)),
        "masked": (("mask",),),
        None: (),
    }
    root: tuple[str, ...] = (Raw('${AQ_ROOT:+--root="$AQ_ROOT"}'),)
    for unit in (change.unit, *change.stops_too) if change.active is False else ():
        text.call("aq_unit_run", "stop", unit)
    for verb in verbs[change.enabled]:
        text.call("aq_unit", *root, *verb, change.unit, orelse=" || return 0")
    if change.restores is not None:
        _restore_links(text, change.restores)
    if change.active:
        for unit in (change.unit, *change.along):
            text.call("aq_unit_run", "start", unit)
    for unit in change.starts_again if change.active is False else ():
        text.call("aq_unit_run", "start", unit)


def _restore_links(text: Text, wanted: Enablement) -> None:
    text.call("aq_unit_unlink", *wanted.units)
    for at in wanted.links:
        assert isinstance(at.object, Symlink)
        metadata = at.object.metadata
        text.call("aq_unit_link", at.path, at.object.target, metadata.uid, metadata.gid, time_word(metadata.mtime_ns))
    if wanted.absent_folders:
        text.call("aq_unit_spare", *wanted.absent_folders)
    text.lines.append("aq_unit_read_again")


def _react(text: Text, change: ReactUnit | ReactSignal | ReactDaemonReload | ReactCommand) -> None:
    if not getattr(change, "offline_too", False):
        text.lines.append("aq_running || return 0")
    match change:
        case ReactUnit(action="stop-sleep-start"):
            text.call("aq_unit", "stop", change.unit, orelse=" || return 0")
            text.lines.append("sleep 1")
            text.call("aq_unit", "start", change.unit)
        case ReactUnit():
            text.call("aq_unit", change.action, change.unit)
        case ReactDaemonReload():
            text.call("aq_unit", "daemon-reload")
        case ReactSignal():
            text.call("aq_signal", change.signal, change.process)
        case ReactCommand():
            text.feed(b"", text_of_command(text, change.argv, change.timeout, {}))
            if not change.may_fail:
                _check(text, change.description or change.argv[0], change.accepts)
        case _:
            assert_never(change)


def probe(text: Text, asked: Probe) -> None:
    """Add what ends with status 0 if `asked` says yes."""
    command = text_of_command(text, asked.argv, asked.timeout, {})
    statuses = "|".join(map(str, asked.accepts))
    text.lines.append(f"{command} </dev/null >/dev/null 2>&1")
    text.lines.append(f"case $? in {statuses}) return 0 ;; *) return 1 ;; esac")


def key(change: Change) -> str:
    """Return what tells one reaction from another."""
    return sha256(encode(change).encode())[:16]
