"""Reports that no journal has, until the broker has them: what dry-runs found, and why a target was not tried.

One file for each in ``STATE/spool/outbox``, named by a hash of the report's id, so that the same one written again is
the same file. There is an end to what is kept: of too many, the oldest go.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aquiline.agent.daemon.memory import read_record, remove_durably, write_durably
from aquiline.changes.canonical import encode
from aquiline.errors import JournalError
from aquiline.journal.state import StateDirectory
from aquiline.protocol.changesets import ChangeSet
from aquiline.protocol.messages import Report

#: Reports that are kept.
ROOM = 256


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A report, with the change-set that it names."""

    report: Report
    change_set: ChangeSet | None = None


class Outbox:
    """The reports that wait."""

    def __init__(self, state: StateDirectory) -> None:
        self._path = state.spool / "outbox"

    def put(self, letter: Letter) -> None:
        """Keep a report; durable when it returns."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _, path in self._oldest_first()[: -(ROOM - 1) or None]:
            remove_durably(path)
        write_durably(self._place(letter.report.id), encode(letter).encode("ascii"))

    def waiting(self) -> tuple[str, ...]:
        """Return the ids of the reports that wait, the oldest first."""
        return tuple(letter.report.id for letter in self._letters())

    def get(self, report: str) -> Letter | None:
        """Return a report, None where it does not wait (any more)."""
        return read_record(self._place(report), Letter)

    def remove(self, report: str) -> None:
        """Let go of a report that the broker has."""
        remove_durably(self._place(report))

    def _place(self, report: str) -> Path:
        return self._path / f"{hashlib.sha256(os.fsencode(report)).hexdigest()[:32]}.json"

    def _letters(self) -> Iterator[Letter]:
        for _, path in self._oldest_first():
            try:
                letter = read_record(path, Letter)
            except JournalError:
                # Of another version, or damaged: a report that nobody can send is of no use.
                remove_durably(path)
                continue
            if letter is not None:
                yield letter

    def _oldest_first(self) -> list[tuple[int, Path]]:
        return sorted((path.stat().st_mtime_ns, path) for path in self._path.glob("*.json"))
