"""The journal's file: opened for its one writer, or for readers who leave no trace of having looked.

Theory of operation:

1. Every write is one transaction with ``synchronous=FULL`` in WAL mode: when `Database.write` returns, it survives a
   power cut; when the process dies inside it, nothing of it happened.
2. Reading writes nothing, not even beside the database, so that a dry-run leaves the journal's folder byte-identical:
   a database that was closed cleanly is opened as immutable, and opened again where a writer came in between; one
   with a write-ahead log is read through a private index of that log.
3. A file of a newer major version is refused; one of a newer minor version has more than we know, and nothing that
   means something else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aquiline.errors import HostError, HostLocked, JournalError
from aquiline.journal.schema import FORMAT, SCHEMA
from aquiline.journal.state import StateDirectory, make_durable

#: What to do about a journal that cannot be read.
FSCK = "`aquiline fsck` says what can still be undone"
Row = tuple[Any, ...]
_Result = TypeVar("_Result")
#: How often a reader looks again for what writers remove under its hands.
_LOOKS = 100
#: What SQLite says where its log or index went, or was to be made anew, between two of its looks.
_LOOK_AGAIN = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_VERSION = f"VALUES ('format', '{FORMAT[0]}.{FORMAT[1]}')"


class Database:
    """An open journal file, in the format that this version knows; raises errors that name it and what to do."""

    def __init__(
        self, state: StateDirectory, connection: sqlite3.Connection, *, read_only: bool, seen: tuple[int, ...]
    ) -> None:
        self.read_only = read_only
        self._state = state
        self._connection = connection
        #: The file as it was just before it was opened.
        self._seen = seen

    @staticmethod
    def open(state: StateDirectory, *, read_only: bool) -> Database:
        """Open the file in `state`; made on demand unless `read_only`, where an absent one is an empty one.

        Raises `JournalError` where it is damaged or of a newer major version, `HostError` where its place is unfit.
        """
        with _readable_errors(state):
            if not read_only:
                state.create()
            seen = _identity(state.database)
            connection = _connect_to_read(state) if read_only else _connect_to_write(state)
            return Database(state, connection, read_only=read_only, seen=seen)

    @staticmethod
    def in_memory(state: StateDirectory) -> Database:
        """Return an empty database that nothing of stays."""
        return Database(state, _empty(), read_only=False, seen=())

    def close(self) -> None:
        """Close the file; the last one to do so folds the write-ahead log into it."""
        self._connection.close()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of one query."""
        with _readable_errors(self._state):
            while True:
                try:
                    rows = self._connection.execute(query, values).fetchall()
                except sqlite3.DatabaseError:
                    if not self._is_outdated():
                        raise
                else:
                    if not self._is_outdated():
                        return rows
                self._read_again()

    def write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Do `work` in one transaction: all of it is durable when this returns, or nothing of it happened."""
        if self.read_only:
            raise JournalError("the journal was opened to be read only")
        with _readable_errors(self._state):
            try:
                return self._transaction(work)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._state.release_ballast():
                    raise
                # The disk is full: this is what the ballast is for.
                return self._transaction(work)

    def _is_outdated(self) -> bool:
        """Return whether a writer folded its log into the file under this reader, who may take it as immutable."""
        return self.read_only and _identity(self._state.database) != self._seen

    def _read_again(self) -> None:
        self._connection.close()
        self._seen = _identity(self._state.database)
        self._connection = _connect_to_read(self._state)

    def _transaction(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back where the disk was full.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result


def _connect_to_write(state: StateDirectory) -> sqlite3.Connection:
    is_new = not state.database.exists()
    # Made here, so that it is private from the first byte; SQLite gives its log the same mode.
    os.close(os.open(state.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(state.database, isolation_level=None, timeout=10)
    with _closed_on_error(connection):
        # A newer minor version has more than we know, and nothing that means something else.
        if _format(connection, state) < FORMAT:
            connection.execute("PRAGMA journal_mode = WAL")
            _install(connection)
        connection.execute("PRAGMA synchronous = FULL")
    if is_new:
        make_durable(state.path)
    return connection


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Leave nothing beside a database that is not used after all."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _connect_to_read(state: StateDirectory) -> sqlite3.Connection:
    """Return a connection that has read already: until then SQLite has not opened what lies beside the database.

    The last writer to close removes that: whoever looked for it just before has to look again.
    """
    for left in reversed(range(_LOOKS)):
        try:
            return _connected_to_read(state)
        except FileNotFoundError:
            if not left:
                raise
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode & 0xFF not in _LOOK_AGAIN:
                raise
    raise AssertionError  # the last look returns or raises


def _connected_to_read(state: StateDirectory) -> sqlite3.Connection:
    connection = _open_to_read(state.database)
    with _closed_on_error(connection):
        is_empty = _format(connection, state) == (0, 0)
    if is_empty:
        connection.close()
        return _empty()
    return connection


def _open_to_read(database: Path) -> sqlite3.Connection:
    log, index = Path(f"{database}-wal"), Path(f"{database}-shm")
    if not database.exists():
        return sqlite3.connect(":memory:", isolation_level=None)
    if not log.exists() or not log.stat().st_size:
        return _connect(database, "immutable=1")
    if index.exists():
        # SQLite keeps an index of the log in memory of its own where nobody else maintains this one.
        return _connect(database, "mode=ro&readonly_shm=1")
    return _copy_in_memory(database, log)


def _copy_in_memory(database: Path, log: Path) -> sqlite3.Connection:
    """Return a copy of a database whose log has lost its index, which SQLite would make beside the log."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with tempfile.TemporaryDirectory() as folder:
        for path in (database, log):
            shutil.copy(path, folder)
        with contextlib.closing(_connect(Path(folder, database.name), "mode=ro")) as copy:
            copy.backup(memory)
    return memory


def _connect(database: Path, options: str) -> sqlite3.Connection:
    place = urllib.parse.quote(os.fsencode(database))
    return sqlite3.connect(f"file:{place}?{options}", uri=True, isolation_level=None)


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _install(connection)
    return connection


def _install(connection: sqlite3.Connection) -> None:
    # One script, because Python would commit before each.
    connection.executescript(f"BEGIN; {SCHEMA} INSERT OR REPLACE INTO meta {_VERSION}; COMMIT;")


def _format(connection: sqlite3.Connection, state: StateDirectory) -> tuple[int, int]:
    """Return the format version, (0, 0) for an empty database; raises `JournalError` for a newer major version."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return (0, 0)
    row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    try:
        major, minor = map(int, row[0].split("."))
    except (TypeError, ValueError):
        raise JournalError(f"{state.database} does not say its format version", hint=FSCK) from None
    if major > FORMAT[0]:
        message = f"{state.database} has format {major}.{minor}; this version knows {FORMAT[0]}.{FORMAT[1]}"
        hint = f"upgrade aquiline; meanwhile {state.undo}/*.sh take runs back without it"
        raise JournalError(message, hint=hint)
    return major, minor


def _identity(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@contextlib.contextmanager
def _readable_errors(state: StateDirectory) -> Iterator[None]:
    """Turn what SQLite says into errors that name the journal and what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _readable(error, state) from error


def _readable(error: sqlite3.DatabaseError, state: StateDirectory) -> Exception:
    place = str(state.database)
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return HostError("the disk is full: the journal cannot be written", path=place, hint="make room")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return HostLocked(f"{place} is being written by another process", hint="try again when it has ended")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PERM:
            return HostError(f"the journal cannot be used: {error}", path=place)
        case _:
            return JournalError(f"{place} is damaged: {error}", hint=FSCK)
