"""When two hosts that a kill left cannot be told apart: what holds for one then holds for the other.

A kill before an fsync, at the start of a transaction or at its end leaves what the kill before it left. Judging each
such host once keeps the exhaustive proofs exhaustive, and halves them.
"""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from tests.engine.site import tree

from .everything import Host

#: Moments since 2001 in seconds, as the journal, the lock and SQLite's dump have them, or in nanoseconds.
_MOMENT = re.compile(rb"1(?:\d{9}(?:\.\d+|\d{9})|\.\d+e\+09)")
#: A digest in the undo script, of what holds such moments; as much of it as was written.
_DIGEST = re.compile(rb"#end (\d+ )([0-9a-f]+)")
#: Where the number of a process is: in the journal, in the name of a file to be.
_PROCESSES = (re.compile(rb'"pid":\d+'), re.compile(rb"\.new-\d+"))
_PROGRAMS = tuple(f"/root{path}" for path in ("/bin", "/lib", "/lib64"))
_JOURNAL = ("journal.db", "journal.db-wal", "journal.db-shm")


class Judged:
    """Remembers which states were seen."""

    def __init__(self, place: Path, since_ns: int = 0) -> None:
        self._place = place
        self._since_ns = since_ns or time.time_ns()
        self._seen: set[bytes] = set()

    def is_new(self, host: Host) -> bool:
        """Whether no host like this one was asked about before."""
        # A copy: who reads a database of SQLite changes its files.
        state = fingerprint(host.copied(self._place), self._since_ns)
        is_new = state not in self._seen
        self._seen.add(state)
        return is_new


def fingerprint(host: Host, since_ns: int) -> bytes:
    """Return a digest of everything but what differs each time the same is done.

    These are the names of runs, the process, moments, and times of files after `since_ns`.
    """
    dump, names = _journal(host.state / "journal.db")
    found = [
        repr((path, *values[:3], min(values[3], since_ns), *values[4:])).encode()
        for path, values in tree(host.place).items()
        if Path(path).name not in _JOURNAL and not path.startswith(_PROGRAMS)
    ]
    return sha256(b"\n".join(sorted(_alike(one, names, since_ns) for one in (*found, dump)))).digest()


def _alike(text: bytes, names: list[str], since_ns: int) -> bytes:
    """Return a text as it is each time the same is done."""
    for number, name in enumerate(names):
        text = text.replace(name.encode(), b"name %d" % number)
    for pattern in _PROCESSES:
        text = pattern.sub(b"process", text)
    text = _MOMENT.sub(lambda moment: _old(moment[0], since_ns), text)
    return _DIGEST.sub(lambda end: b"#end %s digest of %d" % (end[1], len(end[2])), text)


def _old(moment: bytes, since_ns: int) -> bytes:
    """Return a moment as it is where it is old."""
    nanoseconds = int(moment) if moment.isdigit() else float(moment) * 1e9
    return moment if nanoseconds < since_ns else b"moment"


def _journal(database: Path) -> tuple[bytes, list[str]]:
    """Return the journal as text, and the names that were drawn for it."""
    if not database.exists():
        return b"no journal", []
    with closing(sqlite3.connect(database)) as journal:
        dump = "\n".join(journal.iterdump())
    # Those of runs, in their order, and of the journal itself.
    names = re.findall(r"""INTO "run" VALUES\(\d+,'(\w+)'""", dump)
    return dump.encode(), [*names, *re.findall(r"""INTO "meta" VALUES\('identity','(\w+)'""", dump)]
