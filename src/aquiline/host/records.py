"""Entries of the account databases: passwd(5), shadow(5), group(5), gshadow(5), subuid(5), subgid(5).

A database is a file in ``/etc`` with one entry on each line. An *entry* is a line whose first field, up to a colon,
names an account; blank lines, comments and the lines of NIS (``+`` and ``-``) are none, and stay where they are. Of
several entries of one name the first counts, as for the C library.

An account may have several ranges of sub-ids. Each is an entry of its own, named by the account and the first number:
``alice:165536``. So may be named one that is the account's only one.

`Database` is the text and nothing else; `edit` gives a host, real or pretended, a database with some entries set;
`system_lock` is what useradd, passwd and vipw wait for.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import msgspec

from aquiline.errors import HostError
from aquiline.host.objects import RegularFile, Status, sha256
from aquiline.host.protocol import Entry, Host, Reading

DatabaseName = Literal["passwd", "shadow", "group", "gshadow", "subuid", "subgid"]
DATABASES: tuple[str, ...] = get_args(DatabaseName)
#: Those of which an account may have several entries: ranges of sub-ids.
RANGES = ("subuid", "subgid")

#: A range of sub-ids. Of other entries the second field names nothing; in shadow it is a hash, which stays there.
_RANGE = re.compile(r"[^:]+:[0-9]+:[0-9]+")

#: Of what is half-built: found and removed again after a crash.
LABEL = "accounts"
#: As long as lckpwdf(3) waits, in seconds.
_PATIENCE = 15.0
_PAUSE = 0.05
LOCK = "/etc/.pwd.lock"
#: struct flock of 64-bit Linux: type, whence, start, length, process; padded.
_FLOCK = struct.Struct("hhqqi4x")
#: A file changed this lately, in nanoseconds, may change again without another time or size.
_RACY = 10**8


def place_of(database: str) -> str:
    """Return the path of a database; raise `ValueError` where there is none of that name."""
    if database not in DATABASES:
        raise ValueError(f"there is no account database {database!r}")
    return f"/etc/{database}"


class Database:
    """The text of one database."""

    def __init__(self, lines: list[str]) -> None:
        #: The last one is what follows the last line end: mostly nothing.
        self._lines = lines
        #: Where the last entry was found that anybody asked for: the next is mostly below it.
        self._near = 0
        self._index()

    def _index(self) -> None:
        self._entries: dict[str, str] = {}
        #: Names that have further entries.
        self._repeated: set[str] = set()
        #: Whether there are lines of NIS, or were.
        self._has_nis = False
        for line in self._lines:
            name = _name(line)
            if name and self._entries.setdefault(name, line) is not line:
                self._repeated.add(name)
            self._has_nis = self._has_nis or line.startswith(("+", "-"))

    @classmethod
    def parsed(cls, content: bytes) -> Database:
        """Return the database of a file's content."""
        return cls(os.fsdecode(content).split("\n"))

    @property
    def content(self) -> bytes:
        """The file's content."""
        return os.fsencode("\n".join(self._lines))

    def names(self) -> Iterator[str]:
        """Return the name of every entry, in order, each once."""
        return filter(None, map(_name, dict.fromkeys(self._lines)))

    def entry(self, name: str) -> Entry:
        """Return the entry of this name and where it stands; its line is None where there is none.

        Raises:
            HostError: there are several.
        """
        is_unended = bool(self._lines[-1])
        if name in self._repeated or len(self._of_range(name)) > 1:
            hint = "of a range of sub-ids, name the first number too; else let a person remove all but one"
            raise HostError(f"there are several entries of {name}", hint=hint)
        line = self._found(name)
        if line is None:
            return Entry(name, None, unended=is_unended)
        at = self._at(line)
        above = at - 1
        while above >= 0 and not _name(self._lines[above]):
            above -= 1
        after = _name(self._lines[above]) if above >= 0 else ""
        if after in self._repeated and _RANGE.fullmatch(self._lines[above]):
            after = range_name(self._lines[above])
        return Entry(name, line, after, at - 1 - above, is_unended)

    def _at(self, line: str) -> int:
        """Return where a line stands that is there once; thousands are not searched from the top each time."""
        try:
            self._near = self._lines.index(line, self._near)
        except ValueError:
            self._near = self._lines.index(line)
        return self._near

    def _of_range(self, name: str) -> list[str]:
        """Return the lines of a range of sub-ids, by the name of an account and its first number."""
        return [line for line in self._lines if line.startswith(f"{name}:")] if ":" in name else []

    def _found(self, name: str) -> str | None:
        return next(iter(self._of_range(name)), None) if ":" in name else self._entries.get(name)

    def line(self, name: str) -> str | None:
        """Return the entry of this name, None where there is none."""
        return self._entries.get(name)

    def with_entries(self, entries: Sequence[Entry]) -> Database:
        """Return the database with `entries` set, added or removed, one after the other."""
        changed = copy.copy(self)
        changed._lines, changed._entries = self._lines.copy(), self._entries.copy()  # noqa: SLF001 - its own class
        for entry in entries:
            changed._set(entry)  # noqa: SLF001 - its own class
            if ":" in entry.name:
                changed._index()  # noqa: SLF001 - its own class
        return changed

    def _set(self, entry: Entry) -> None:
        old = self._found(entry.name)
        if old is not None and entry.line is not None:
            self._lines[self._lines.index(old)] = entry.line
            self._entries[entry.name] = entry.line
            return
        is_last = False
        if old is not None:
            at = self._lines.index(old)
            del self._lines[at]
            self._entries.pop(entry.name, None)
            if at == len(self._lines):
                # It had no end, the line above has one.
                self._lines.append("")
            is_last = at == len(self._lines) - 1 and not self._lines[-1]
        elif entry.line is not None:
            at = self._place(entry)
            if at == len(self._lines):
                self._end_last_line()
            self._lines.insert(at, entry.line)
            self._entries[entry.name] = entry.line
            is_last = at >= len(self._lines) - 2 and not self._lines[-1]
        if is_last and entry.unended and len(self._lines) > 1:
            self._lines.pop()

    def _end_last_line(self) -> None:
        if not self._lines or self._lines[-1]:
            self._lines.append("")

    def _place(self, entry: Entry) -> int:
        """Return before which line a new entry goes: where it is said to stand, else below all others."""
        anchor = self._found(entry.after) if entry.after else None
        if anchor is None and entry.after != "":
            return self._end()
        at = 0 if anchor is None else self._lines.index(anchor) + 1
        for line in self._lines[at : at + entry.below]:
            if _name(line) or (not line and at == len(self._lines) - 1):
                break
            at += 1
        return at

    def _end(self) -> int:
        """Return the place of a new entry: before the lines of NIS, as useradd has it, else below all others."""
        for at, line in enumerate(self._lines if self._has_nis else ()):
            if line.startswith(("+", "-")):
                return at
        self._end_last_line()
        return len(self._lines) - 1


def _name(line: str) -> str:
    """Return the name of the entry on a line, empty where it holds none."""
    name, colon, _ = line.partition(":")
    return name if colon and not name.startswith(("+", "-", "#")) else ""


def range_name(line: str) -> str:
    """Return the name of a range of sub-ids: its account and its first number."""
    return ":".join(line.split(":")[:2])


# ---- hosts --------------------------------------------------------------------------------------------------------


class Databases:
    """The databases of a host, each parsed once for as long as its file stays as it is."""

    def __init__(self, host: Reading) -> None:
        self._host = host
        self._parsed: dict[str, tuple[Status, Database]] = {}

    def of(self, database: str) -> Database:
        """Return a database; one whose file is not there is empty."""
        path = place_of(database)
        status = self._host.status(path)
        if status is None or status.type != "file":
            return Database([""])
        known = self._parsed.get(database)
        if known is not None and known[0] == status:
            return known[1]
        parsed = Database.parsed(self._host.read(path))
        if abs(time.time_ns() - status.mtime_ns) > _RACY:
            self._parsed[database] = (status, parsed)
        return parsed

    def is_now(self, database: str, parsed: Database) -> None:
        """Take `parsed` for what the file holds that stands there now."""
        status = self._host.status(place_of(database))
        assert status is not None
        self._parsed[database] = (status, parsed)


def edit(host: Host, database: str, entries: Sequence[Entry]) -> None:
    """Give a host a database with `entries` set: one atomic, durable effect; metadata and other lines stay.

    The caller holds the system's lock. What a crash leaves is removed by ``host.discard(place_of(database), LABEL)``.

    Raises:
        HostError: the database is not there, or is no regular file.
    """
    path = place_of(database)
    found = host.observe(path)
    if not isinstance(found, RegularFile):
        raise HostError("there is no such account database, or it is no regular file", path=path)
    content = Database.parsed(host.read(path)).with_entries(entries).content
    metadata = msgspec.structs.replace(found.metadata, mtime_ns=0)
    staged = host.stage(path, RegularFile(metadata, len(content), sha256(content)), [content], LABEL)
    host.sync([staged])
    host.publish(staged)
    host.sync_directories(["/etc"])


@contextmanager
def system_lock(directory: int, name: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock of the account databases, the file `name` in the open `directory`, as lckpwdf(3) does.

    It is that of processes, not of threads, and is let go where the process ends.

    Raises:
        HostError: somebody has it for longer than `patience` seconds; it says who.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        _wait_for(descriptor, patience)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        else:
            return
        if time.monotonic() > until:
            raise HostError(
                f"the account databases are locked by {_holder(descriptor)}, for longer than {patience:g} s",
                path=LOCK,
                hint="wait until it is done, or end it, and run this again",
            )
        time.sleep(_PAUSE)


def _holder(descriptor: int) -> str:
    """Return in words who has the lock."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    process = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[4]
    if process <= 0:
        return "a process of another namespace"
    try:
        return f"process {process} ({Path(f'/proc/{process}/comm').read_text().strip()})"
    except OSError:
        return f"process {process}"
