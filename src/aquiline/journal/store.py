"""The durable record of runs, steps and what became of them: append-only.

Theory of operation:

1. Every method that writes is one durable transaction (`aquiline.journal.database`).
2. Before the effects of a batch, `Journal.intend` records the batch, its debts, its pre-images and the times of the
   parent directories; after them, `Journal.conclude` records what came out. So at any instant a step is planned (no
   intent), done or not (concluded), or open to question (intent only: recovery compares the host with the step).
3. Nothing is updated. The status of a step is that of its latest event; a step taken back has an event that names the
   step which did it, written in the same transaction as that one's conclusion (a compensation record).

It promises nothing about who writes: writers hold the host's lock (`StateDirectory.lock`).
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Self

from aquiline.changes.canonical import encode
from aquiline.changes.steps import Plan, Undo
from aquiline.journal.database import Database
from aquiline.journal.reading import JournalReader
from aquiline.journal.records import AdoptedRun, Debt, Intent, Outcome, RunHeader, RunRecord, What
from aquiline.journal.state import StateDirectory
from aquiline.journal.writing import (
    add_adopted,
    add_event,
    add_intent,
    add_outcomes,
    add_run,
    add_stage,
    end_debts,
)

_NOTHING = Intent(steps=())


class Journal(JournalReader):
    """What was done here, and how to take it back. Open it with `Journal.open`, close it or use it as a context."""

    @staticmethod
    def open(state: StateDirectory, *, read_only: bool = False) -> Journal:
        """Open the journal in `state`; made on demand unless `read_only`, where an absent one is an empty one.

        Raises `JournalError` where it is damaged or of a newer major version, `HostError` where its place is unfit.
        """
        return Journal(state, Database.open(state, read_only=read_only))

    @staticmethod
    def in_memory(state: StateDirectory) -> Journal:
        """Return an empty journal that nothing of stays, for looking at runs of which no journal is left."""
        return Journal(state, Database.in_memory(state))

    def close(self) -> None:
        """Close the database; the last one to do so folds the write-ahead log into it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- runs ----------------------------------------------------------------------------------------------------

    def begin_run(self, header: RunHeader, stage: Plan | None = None) -> RunRecord:
        """Record that a run begins, with its first stage, and give it its id.

        Both are one transaction: a run without a plan could be taken for one that had nothing to do.
        """

        def begin(write: sqlite3.Connection) -> RunRecord:
            run = add_run(write, header)
            if stage is not None:
                add_stage(write, run.sequence, stage)
            return run

        return self._database.write(begin)

    def adopt(self, adopted: AdoptedRun, *, source: str, user: str) -> RunRecord:
        """Record a run as another journal, which is gone, had it; `source` says where that is known from.

        Raises `UsageError` where this journal has a run of that id.
        """
        self._database.write(lambda write: add_adopted(write, adopted, source=source, user=user))
        return self.run(adopted.run.id)

    def add_stage(self, run: str, plan: Plan) -> None:
        """Record a stage of `run` and all its steps."""
        sequence = self._sequence(run)
        self._database.write(lambda write: add_stage(write, sequence, plan))

    def end_run(self, run: str, status: str, live: tuple[str, Sequence[str]] | None = None) -> None:
        """Record that `run` ended as `status`, and what is live now (profile digest, change IDs) if that changed."""
        sequence = self._sequence(run)

        def end(write: sqlite3.Connection) -> None:
            add_event(write, sequence, 0, "run-ended", {"status": status})
            if live is not None:
                row = (live[0], encode(sorted(live[1])), sequence)
                write.execute("INSERT INTO live (profile, change_ids, run) VALUES (?, ?, ?)", row)

        self._database.write(end)

    def record(self, run: str, step: int, what: What, data: object = None) -> None:
        """Record anything else that happened to a run (`step` 0) or step."""
        sequence = self._sequence(run)
        self._database.write(lambda write: add_event(write, sequence, step, what, data))

    # ---- batches -------------------------------------------------------------------------------------------------

    def intend(self, run: str, intent: Intent) -> tuple[Debt, ...]:
        """Record what is about to be done; return the debts with their numbers."""
        return self.conclude_and_intend(run, (), intent)

    def conclude(self, run: str, outcomes: Sequence[Outcome]) -> None:
        """Record how steps ended, the debts they paid and the steps they took back."""
        self.conclude_and_intend(run, outcomes, _NOTHING)

    def conclude_and_intend(self, run: str, outcomes: Sequence[Outcome], intent: Intent) -> tuple[Debt, ...]:
        """Conclude one batch and intend the next in the same transaction."""
        sequence = self._sequence(run)

        def both(write: sqlite3.Connection) -> tuple[Debt, ...]:
            add_outcomes(write, run, self._sequence, outcomes)
            return add_intent(write, run, sequence, intent)

        return self._database.write(both)

    # ---- what is decided later -----------------------------------------------------------------------------------

    def amend(
        self, run: str, step: int, undo: Undo, *, reason: str, user: str, rule: str = "", intent: Intent = _NOTHING
    ) -> None:
        """Record a corrected undo for a step, and the pre-images that it needs; what was recorded first stays.

        `rule` says which rule of which file gave it; empty where a person did.
        """
        sequence = self._sequence(run)
        data = {"undo": undo, "reason": reason, "user": user, "rule": rule}

        def both(write: sqlite3.Connection) -> None:
            add_event(write, sequence, step, "amended", data)
            add_intent(write, run, sequence, intent)

        self._database.write(both)

    def cancel_debts(self, run: str, debts: Iterable[int]) -> None:
        """Strike debts off that nobody has to pay any more; `run` is the one that found so."""
        sequence = self._sequence(run)
        self._database.write(lambda write: end_debts(write, sequence, "cancelled", debts))

    def purge_preimage(self, digest: str, reason: str) -> None:
        """Record that a pre-image was removed for good; the caller removes the content (`PreimageStore.purge`)."""
        row = (digest, reason, time.time())
        self._database.write(lambda write: write.execute("INSERT OR IGNORE INTO tombstone VALUES (?, ?, ?)", row))

    def identity(self) -> str:
        """Return the random id that no other journal has but a copy of this one, made where there is none yet.

        Raises `JournalError` where there is none and the journal was opened to be read only.
        """
        rows = self._database.rows("SELECT value FROM meta WHERE key = 'identity'")
        if not rows:
            row = ("identity", secrets.token_hex(16))
            self._database.write(lambda write: write.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", row))
            return self.identity()
        return str(rows[0][0])
