"""The durable record of runs, steps and what became of them: an append-only SQLite database.

Theory of operation:

1. Every write is one transaction with ``synchronous=FULL`` in WAL mode: when a method returns, it survives a power cut;
   when the process dies inside it, nothing of it happened.
2. Before the effects of a batch, `Journal.intend` records the batch, its debts, its pre-images and the times of the
   parent directories; after them, `Journal.conclude` records what came out. So at any instant a step is planned (no
   intent), done or not (concluded), or open to question (intent only: recovery compares the host with the step).
3. Nothing is updated. The status of a step is that of its latest event; a step taken back has an event that names the
   step which did it, written in the same transaction as that one's conclusion (a compensation record).
4. Reading writes nothing, not even beside the database, so that a dry-run leaves the journal's folder byte-identical:
   a database that was closed cleanly is opened as immutable, and opened again where a writer came in between; one
   with a write-ahead log is read through a private index of that log.

It promises nothing about who writes: writers hold the host's lock (`StateDirectory.lock`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar, cast, get_args

import msgspec

from aquiline.changes.canonical import decode, encode
from aquiline.changes.kinds import Reaction
from aquiline.changes.steps import Plan, Step, Undo
from aquiline.errors import HostError, HostLocked, JournalError, UsageError
from aquiline.host.objects import At, Object
from aquiline.journal.records import (
    AdoptedRun,
    Debt,
    Event,
    Intent,
    LivePointer,
    Outcome,
    PreimageReference,
    RunHeader,
    RunRecord,
    StageRecord,
    StepName,
    StepRecord,
    StepStatus,
    What,
    limited,
)
from aquiline.journal.schema import FORMAT, SCHEMA
from aquiline.journal.state import StateDirectory, make_durable

_FSCK = "`aquiline fsck` says what can still be undone"
_STATUSES = get_args(StepStatus)
_NOTHING = Intent(steps=())
_Result = TypeVar("_Result")
_Row = tuple[Any, ...]


class Journal:
    """What was done here, and how to take it back. Open it with `Journal.open`, close it or use it as a context."""

    def __init__(
        self, state: StateDirectory, connection: sqlite3.Connection, *, read_only: bool, seen: tuple[int, ...]
    ) -> None:
        self.state = state
        self.read_only = read_only
        self._connection = connection
        #: The file as it was just before it was opened.
        self._seen = seen
        self._sequences: dict[str, int] = {}

    @staticmethod
    def open(state: StateDirectory, *, read_only: bool = False) -> Journal:
        """Open the journal in `state`; made on demand unless `read_only`, where an absent one is an empty one.

        Raises `JournalError` where it is damaged or of a newer major version, `HostError` where its place is unfit.
        """
        with _readable_errors(state):
            if not read_only:
                state.create()
            seen = _identity(state.database)
            connection = _connect_to_read(state) if read_only else _connect_to_write(state)
            return Journal(state, connection, read_only=read_only, seen=seen)

    @staticmethod
    def in_memory(state: StateDirectory) -> Journal:
        """Return an empty journal that nothing of stays, for looking at runs of which no journal is left."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _install(connection)
        return Journal(state, connection, read_only=False, seen=())

    def close(self) -> None:
        """Close the database; the last one to do so folds the write-ahead log into it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writing: each method is one durable transaction -------------------------------------------------------

    def begin_run(self, header: RunHeader, stage: Plan | None = None) -> RunRecord:
        """Record that a run begins, with its first stage, and give it its id.

        Both are one transaction: a run without a plan could be taken for one that had nothing to do.
        """
        insert = "INSERT INTO run (id, header) VALUES (?, ?)"

        def begin(write: sqlite3.Connection) -> RunRecord:
            taken = {row[0] for row in write.execute("SELECT id FROM run")}
            name = next(name for name in iter(lambda: secrets.token_hex(4), "") if name not in taken)
            sequence = cast("int", write.execute(insert, (name, encode(header))).lastrowid)
            if stage is not None:
                _add_stage(write, sequence, stage)
            return RunRecord(id=name, sequence=sequence, header=header)

        return self._write(begin)

    def adopt(self, adopted: AdoptedRun, *, source: str, user: str) -> RunRecord:
        """Record a run as another journal, which is gone, had it; `source` says where that is known from.

        Raises `UsageError` where this journal has a run of that id.
        """

        def add(write: sqlite3.Connection) -> None:
            if write.execute("SELECT 1 FROM run WHERE id = ?", (adopted.run.id,)).fetchone():
                raise UsageError(f"the journal knows run {adopted.run.id} already")
            row = (adopted.run.id, encode(adopted.run.header))
            sequence = cast("int", write.execute("INSERT INTO run (id, header) VALUES (?, ?)", row).lastrowid)
            _event(write, sequence, 0, "adopted", {"source": source, "user": user})
            stages = [(sequence, stage.stage, encode(stage)) for stage in adopted.stages]
            write.executemany("INSERT INTO stage VALUES (?, ?, ?)", stages)
            for record in adopted.steps:
                self._adopt_step(write, sequence, record)
            needs = Intent(steps=(), debts=adopted.debts, preimages=adopted.preimages, directories=adopted.directories)
            _intend(write, adopted.run.id, sequence, needs)
            if adopted.run.status:
                _event(write, sequence, 0, "run-ended", {"status": adopted.run.status})

        self._write(add)
        return self.run(adopted.run.id)

    def _adopt_step(self, write: sqlite3.Connection, sequence: int, record: StepRecord) -> None:
        shown = record.description.encode("utf-8", "backslashreplace").decode()
        place = (sequence, record.number, record.stage, record.component)
        row = (*place, record.kind, record.kind_version, shown, encode(record.raw))
        write.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if record.status == "planned":
            return
        # What was intended counts as touched, whatever came of it.
        _intend(write, record.run, sequence, Intent(steps=(record.number,)))
        if record.status != "intended":
            told = {"output": record.output, "note": record.note}
            data = {key: text for key, text in told.items() if text} or None
            _event(write, sequence, record.number, record.status, data)
        left = [(os.fsencode(at.path), sequence, record.number, encode(at.object)) for at in record.observed]
        write.executemany("INSERT INTO value (path, run, step, object) VALUES (?, ?, ?, ?)", left)
        if record.undone_by is not None:
            _event(write, sequence, record.number, "undone", record.undone_by)
        if record.amended is not None:
            amended = {"undo": record.amended, "reason": "as it was adopted", "user": "", "rule": ""}
            _event(write, sequence, record.number, "amended", amended)

    def add_stage(self, run: str, plan: Plan) -> None:
        """Record a stage of `run` and all its steps."""
        sequence = self._sequence(run)
        self._write(lambda write: _add_stage(write, sequence, plan))

    def intend(self, run: str, intent: Intent) -> tuple[Debt, ...]:
        """Record what is about to be done; return the debts with their numbers."""
        return self.conclude_and_intend(run, (), intent)

    def conclude(self, run: str, outcomes: Sequence[Outcome]) -> None:
        """Record how steps ended, the debts they paid and the steps they took back."""
        self.conclude_and_intend(run, outcomes, Intent(steps=()))

    def conclude_and_intend(self, run: str, outcomes: Sequence[Outcome], intent: Intent) -> tuple[Debt, ...]:
        """Conclude one batch and intend the next in the same transaction."""
        sequence = self._sequence(run)

        def both(write: sqlite3.Connection) -> tuple[Debt, ...]:
            self._conclude(write, run, outcomes)
            return _intend(write, run, sequence, intent)

        return self._write(both)

    def end_run(self, run: str, status: str, live: tuple[str, Sequence[str]] | None = None) -> None:
        """Record that `run` ended as `status`, and what is live now (profile digest, change IDs) if that changed."""
        sequence = self._sequence(run)

        def end(write: sqlite3.Connection) -> None:
            _event(write, sequence, 0, "run-ended", {"status": status})
            if live is not None:
                row = (live[0], encode(sorted(live[1])), sequence)
                write.execute("INSERT INTO live (profile, change_ids, run) VALUES (?, ?, ?)", row)

        self._write(end)

    def record(self, run: str, step: int, what: What, data: object = None) -> None:
        """Record anything else that happened to a run (`step` 0) or step."""
        sequence = self._sequence(run)
        self._write(lambda write: _event(write, sequence, step, what, data))

    def amend(
        self, run: str, step: int, undo: Undo, *, reason: str, user: str, rule: str = "", intent: Intent = _NOTHING
    ) -> None:
        """Record a corrected undo for a step, and the pre-images that it needs; what was recorded first stays.

        `rule` says which rule of which file gave it; empty where a person did.
        """
        sequence = self._sequence(run)
        data = {"undo": undo, "reason": reason, "user": user, "rule": rule}

        def both(write: sqlite3.Connection) -> None:
            _event(write, sequence, step, "amended", data)
            _intend(write, run, sequence, intent)

        self._write(both)

    def amendment_rule(self, run: str, step: int) -> str:
        """Return the rule that last amended a step; empty where a person did, or nobody."""
        amendments = [event for event in self.events(run, step) if event.what == "amended"]
        return str(amendments[-1].data.get("rule", "")) if amendments else ""

    def cancel_debts(self, run: str, debts: Iterable[int]) -> None:
        """Strike debts off that nobody has to pay any more; `run` is the one that found so."""
        sequence = self._sequence(run)
        self._write(lambda write: _end_debts(write, sequence, "cancelled", debts))

    def purge_preimage(self, digest: str, reason: str) -> None:
        """Record that a pre-image was removed for good; the caller removes the content (`PreimageStore.purge`)."""
        row = (digest, reason, time.time())
        self._write(lambda write: write.execute("INSERT OR IGNORE INTO tombstone VALUES (?, ?, ?)", row))

    # ---- runs ----------------------------------------------------------------------------------------------------

    def runs(self, *, newest_first: bool = True) -> list[RunRecord]:
        """Return every run, in the order in which they began or the other way round."""
        order = "DESC" if newest_first else "ASC"
        return [self._run_record(row) for row in self._rows(f"{_RUNS} ORDER BY seq {order}")]

    def run(self, selector: str) -> RunRecord:
        """Return the run that `selector` names: its id, a unique prefix of it, ``last`` or ``last~N``.

        Raises `UsageError` where there is no such run or where there are several, and then lists them.
        """
        if selector == "last" or selector.startswith("last~"):
            return self._run_from_the_end(selector)
        found = [run for run in self.runs(newest_first=False) if selector and run.id.startswith(selector.lower())]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UsageError(f"no run {selector!r} in {self.state.path}", hint="`aquiline log` lists them")
        names = ", ".join(run.id for run in found)
        raise UsageError(f"{selector!r} is the beginning of {len(found)} runs: {names}", hint="give more of the id")

    def open_runs(self) -> list[RunRecord]:
        """Return the runs that began and did not end, oldest first."""
        return [run for run in self.runs(newest_first=False) if run.open]

    def runs_since(self, date: datetime) -> list[RunRecord]:
        """Return the runs that began at `date` or later by the wall clock, newest first."""
        return [run for run in self.runs() if run.header.started >= date.timestamp()]

    def stages(self, run: str) -> list[StageRecord]:
        """Return the stages of a run in order."""
        rows = self._rows("SELECT record FROM stage WHERE run = ? ORDER BY number", (self._sequence(run),))
        return [self._decoded(row[0], StageRecord) for row in rows]

    def plans(self, run: str) -> list[Plan]:
        """Return the stages of a run as the plans they were; raises `JournalError` where a kind is unknown here."""
        steps = self.steps(run)
        return [
            Plan(
                format=stage.format,
                tool=stage.tool,
                profile=stage.profile,
                stage=stage.stage,
                steps=tuple(record.known for record in steps if record.stage == stage.stage),
                components=stage.components,
                coverage=stage.coverage,
                digests=stage.digests,
                notes=stage.notes,
            )
            for stage in self.stages(run)
        ]

    def events(self, run: str, step: int | None = None) -> list[Event]:
        """Return all that happened to a run, or to one step of it (0: the run itself), in order."""
        query = "SELECT seq, step, what, data, wall FROM event WHERE run = ? AND (? IS NULL OR step = ?) ORDER BY seq"
        rows = self._rows(query, (self._sequence(run), step, step))
        return [
            Event(sequence=seq, run=run, step=number, what=what, data=_data(data), wall=wall)
            for seq, number, what, data, wall in rows
        ]

    def directories(self, run: str) -> dict[str, int]:
        """Return the modification times in nanoseconds of parent directories before `run` first touched them."""
        rows = self._rows("SELECT path, mtime_ns FROM directory WHERE run = ?", (self._sequence(run),))
        return {os.fsdecode(path): mtime_ns for path, mtime_ns in rows}

    # ---- steps ---------------------------------------------------------------------------------------------------

    def steps(self, run: str) -> list[StepRecord]:
        """Return the steps of a run in order, each with what became of it."""
        sequence = self._sequence(run)
        events = self._step_events(sequence)
        values = self._step_values(sequence)
        query = "SELECT number, stage, component, kind, kind_version, description, record FROM step WHERE run = ?"
        rows = self._rows(f"{query} ORDER BY number", (sequence,))
        return [self._step_record(run, row, events.get(row[0], []), values.get(row[0], ())) for row in rows]

    def stands(self, run: str) -> bool:
        """Return whether any step of `run` was done, or left something when it failed, and has not been taken back."""
        sequence = self._sequence(run)
        left_something = self._step_values(sequence).keys()
        for number, events in self._step_events(sequence).items():
            status, _, taken_back, _ = _summary(events)
            has_effect = status in ("done", "assumed-done") or (status == "failed" and number in left_something)
            if has_effect and all(map(self._is_taken_back, taken_back)):
                return True
        return False

    def step(self, run: str, number: int) -> StepRecord:
        """Return one step; raises `UsageError` where the run has none of that number."""
        found = next((step for step in self.steps(run) if step.number == number), None)
        if found is None:
            raise UsageError(f"run {run} has no step {number}", hint=f"`aquiline show {run}` lists them")
        return found

    def _step_events(self, sequence: int) -> dict[int, list[_Row]]:
        found: dict[int, list[_Row]] = {}
        query = "SELECT step, what, data FROM event WHERE run = ? AND step > 0 ORDER BY seq"
        for step, what, data in self._rows(query, (sequence,)):
            found.setdefault(step, []).append((what, data))
        return found

    def _step_values(self, sequence: int) -> dict[int, tuple[At, ...]]:
        latest: dict[int, dict[str, Object]] = {}
        query = "SELECT step, path, object FROM value WHERE run = ? ORDER BY seq"
        for step, path, text in self._rows(query, (sequence,)):
            latest.setdefault(step, {})[os.fsdecode(path)] = self._decoded(text, Object)
        return {step: tuple(At(path, found) for path, found in paths.items()) for step, paths in latest.items()}

    def _step_record(self, run: str, row: _Row, events: list[_Row], observed: tuple[At, ...]) -> StepRecord:
        number, stage, component, kind, kind_version, description, record = row
        raw = self._decoded(record, dict[str, Any])
        status, conclusion, taken_back, amended = _summary(events)
        return StepRecord(
            run=run,
            number=number,
            stage=stage,
            component=component,
            kind=kind,
            kind_version=kind_version,
            description=raw.get("description", description),
            raw=raw,
            step=_known_step(raw),
            status=status,
            observed=observed,
            output=conclusion.get("output", ""),
            note=conclusion.get("note", ""),
            undone_by=next((name for name in reversed(taken_back) if not self._is_taken_back(name)), None),
            amended=msgspec.convert(amended, Undo) if amended is not None else None,
        )

    def _is_taken_back(self, name: StepName) -> bool:
        """Return whether a step was undone by one that still stands (an undo that was redone does not count)."""
        if name.run not in self._sequences and not self._rows("SELECT 1 FROM run WHERE id = ?", (name.run,)):
            return False  # of a journal that is gone: that it was undone is all that is known
        query = "SELECT data FROM event WHERE run = ? AND step = ? AND what = 'undone' ORDER BY seq DESC"
        rows = self._rows(query, (self._sequence(name.run), name.step))
        return any(not self._is_taken_back(decode(data, StepName)) for (data,) in rows)

    # ---- debts, live state, values -------------------------------------------------------------------------------

    def debts(self) -> list[Debt]:
        """Return what is owed, oldest first."""
        query = """SELECT debt.id, run.id, debt.step, debt.component, debt.reaction
                   FROM debt JOIN run ON run.seq = debt.run
                   WHERE debt.id NOT IN (SELECT debt FROM debt_end) ORDER BY debt.id"""
        return [
            Debt(id=number, run=run, step=step, component=component, reaction=self._decoded(reaction, Reaction))
            for number, run, step, component, reaction in self._rows(query)
        ]

    def live(self) -> LivePointer | None:
        """Return what is live, None where nothing ever was."""
        return next(iter(self.live_history()), None)

    def live_history(self) -> list[LivePointer]:
        """Return what was live, newest first."""
        query = """SELECT live.profile, live.change_ids, run.id FROM live JOIN run ON run.seq = live.run
                   ORDER BY live.seq DESC"""
        return [
            LivePointer(profile=profile, change_ids=tuple(json.loads(changes)), run=run)
            for profile, changes, run in self._rows(query)
        ]

    def last_value(self, path: str) -> At | None:
        """Return what a run last left at `path`, times included, None where none ever touched it."""
        query = "SELECT object FROM value WHERE path = ? ORDER BY seq DESC LIMIT 1"
        rows = self._rows(query, (os.fsencode(path),))
        return At(path, self._decoded(rows[0][0], Object)) if rows else None

    def last_values(self) -> dict[str, Object]:
        """Return what runs last left, at every path that any of them touched."""
        # SQLite takes the other columns from the row that has the maximum.
        rows = self._rows("SELECT path, object, max(seq) FROM value GROUP BY path ORDER BY path")
        return {os.fsdecode(path): self._decoded(text, Object) for path, text, _ in rows}

    def touching(self, path: str) -> list[StepName]:
        """Return the names of the steps that set out to change `path`, newest first."""
        query = """SELECT run.id, touched.step FROM touched JOIN run ON run.seq = touched.run
                   WHERE path = ? ORDER BY touched.run DESC, touched.step DESC"""
        return [StepName(run, step) for run, step in self._rows(query, (os.fsencode(path),))]

    def history(self, path: str) -> list[StepRecord]:
        """Return the steps that set out to change `path`, newest first."""
        return [self.step(name.run, name.step) for name in self.touching(path)]

    # ---- pre-images ----------------------------------------------------------------------------------------------

    def preimages(self, run: str) -> list[PreimageReference]:
        """Return the pre-images that a run needs to be undone."""
        query = "SELECT step, sha256, size, secret FROM preimage WHERE run = ? ORDER BY step, sha256"
        rows = self._rows(query, (self._sequence(run),))
        return [PreimageReference(step, digest, size, bool(secret)) for step, digest, size, secret in rows]

    def preimage_users(self) -> dict[str, set[str]]:
        """Return for every pre-image that a run ever needed the runs that do."""
        users: dict[str, set[str]] = {}
        query = "SELECT DISTINCT preimage.sha256, run.id FROM preimage JOIN run ON run.seq = preimage.run"
        for digest, run in self._rows(query):
            users.setdefault(digest, set()).add(run)
        return users

    def last_to_touch(self) -> set[str]:
        """Return the runs that were the last to touch some object: what stands there is theirs, or may be."""
        # Who set out last may not have got there, so who last left something counts as well.
        query = """SELECT id FROM run WHERE seq IN (SELECT max(run) FROM touched GROUP BY path)
                   OR seq IN (SELECT max(run) FROM value GROUP BY path)"""
        return {row[0] for row in self._rows(query)}

    def tombstones(self) -> dict[str, str]:
        """Return the digests of purged pre-images and why they were purged."""
        return dict(self._rows("SELECT sha256, reason FROM tombstone ORDER BY sha256"))

    # ---- the database --------------------------------------------------------------------------------------------

    def check_database(self) -> list[str]:
        """Return what SQLite finds wrong with its file; empty where it is sound."""
        rows = self._rows("PRAGMA integrity_check")
        return [row[0] for row in rows if row[0] != "ok"]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[_Row]:
        with _readable_errors(self.state):
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

    def _is_outdated(self) -> bool:
        """Return whether a writer folded its log into the file under this reader, who may take it as immutable."""
        return self.read_only and _identity(self.state.database) != self._seen

    def _read_again(self) -> None:
        self._connection.close()
        self._seen = _identity(self.state.database)
        self._connection = _connect_to_read(self.state)

    def _write(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if self.read_only:
            raise JournalError("the journal was opened to be read only")
        with _readable_errors(self.state):
            try:
                return self._transaction(work)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self.state.release_ballast():
                    raise
                # The disk is full: this is what the ballast is for.
                return self._transaction(work)

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

    def _conclude(self, write: sqlite3.Connection, run: str, outcomes: Sequence[Outcome]) -> None:
        sequence = self._sequence(run)
        events: list[tuple[int, int, What, object]] = []
        values: list[_Row] = []
        for outcome in outcomes:
            told = {"output": limited(outcome.output), "note": outcome.note}
            told = {key: text for key, text in told.items() if text}
            events.append((sequence, outcome.step, outcome.what, told or None))
            values += [(os.fsencode(at.path), sequence, outcome.step, encode(at.object)) for at in outcome.observed]
            _end_debts(write, sequence, "paid", outcome.debts_paid)
            _end_debts(write, sequence, "cancelled", outcome.debts_cancelled)
            if outcome.undoes is not None:
                original = self._sequence(outcome.undoes.run)
                events.append((original, outcome.undoes.step, "undone", StepName(run, outcome.step)))
        _events(write, events)
        write.executemany("INSERT INTO value (path, run, step, object) VALUES (?, ?, ?, ?)", values)

    def _sequence(self, run: str) -> int:
        if run not in self._sequences:
            rows = self._rows("SELECT seq FROM run WHERE id = ?", (run,))
            if not rows:
                raise UsageError(f"no run {run!r} in {self.state.path}", hint="`aquiline log` lists them")
            self._sequences[run] = rows[0][0]
        return self._sequences[run]

    def _run_record(self, row: _Row) -> RunRecord:
        sequence, name, header, stages, steps, ended, wall, armed, settled, past = row
        return RunRecord(
            id=name,
            sequence=sequence,
            header=self._decoded(header, RunHeader),
            status=json.loads(ended)["status"] if ended else "",
            ended=wall or 0.0,
            stages=stages,
            steps=steps,
            awaits_confirmation=bool(armed) and not settled,
            past_undo=bool(past),
        )

    def _run_from_the_end(self, selector: str) -> RunRecord:
        _, _, distance = selector.partition("~")
        if distance and not distance.isdecimal():
            raise UsageError(f"{selector!r} names no run: expected last or last~N", hint="`aquiline log` lists them")
        runs, back = self.runs(), int(distance or 0)
        if back >= len(runs):
            raise UsageError(f"{selector!r}: the journal has {len(runs)} runs", hint="`aquiline log` lists them")
        return runs[back]

    def _decoded(self, text: str, kind: Any) -> Any:
        try:
            return decode(text, kind)
        except (ValueError, TypeError) as error:
            raise JournalError(f"a record of {self.state.database} cannot be read: {error}", hint=_FSCK) from error


_RUNS = """
SELECT seq, id, header,
    (SELECT count(*) FROM stage WHERE run = seq),
    (SELECT count(*) FROM step WHERE run = seq),
    (SELECT data FROM event WHERE run = run.seq AND step = 0 AND what = 'run-ended' ORDER BY event.seq DESC LIMIT 1),
    (SELECT wall FROM event WHERE run = run.seq AND step = 0 AND what = 'run-ended' ORDER BY event.seq DESC LIMIT 1),
    EXISTS (SELECT 1 FROM event WHERE run = run.seq AND step = 0 AND what = 'deadline-armed'),
    EXISTS (SELECT 1 FROM event WHERE run = run.seq AND step = 0
            AND what IN ('confirmed', 'elapsed', 'deadline-cancelled')),
    EXISTS (SELECT 1 FROM event WHERE run = run.seq AND step = 0 AND what = 'past-undo')
FROM run
"""


# ---- rows ---------------------------------------------------------------------------------------------------------


def _event(write: sqlite3.Connection, run: int, step: int, what: What, data: object = None) -> None:
    _events(write, [(run, step, what, data)])


def _events(write: sqlite3.Connection, events: Iterable[tuple[int, int, What, object]]) -> None:
    now = time.time()
    rows = [(run, step, what, None if data is None else encode(data), now) for run, step, what, data in events]
    write.executemany("INSERT INTO event (run, step, what, data, wall) VALUES (?, ?, ?, ?, ?)", rows)


def _end_debts(write: sqlite3.Connection, run: int, what: str, debts: Iterable[int]) -> None:
    if not debts:
        return
    # A debt ends once; whoever comes second finds it settled.
    rows = [(debt, what, run, time.time()) for debt in debts]
    write.executemany("INSERT OR IGNORE INTO debt_end VALUES (?, ?, ?, ?)", rows)


def _intend(write: sqlite3.Connection, name: str, run: int, intent: Intent) -> tuple[Debt, ...]:
    touched = []
    _events(write, [(run, step, "intended", None) for step in intent.steps])
    for step in intent.steps:
        touched += [(os.fsencode(path), run, step) for path in _step_paths(write, run, step)]
    write.executemany("INSERT OR IGNORE INTO touched VALUES (?, ?, ?)", touched)
    preimages = [(run, kept.step, kept.sha256, kept.size, kept.secret) for kept in intent.preimages]
    write.executemany("INSERT OR IGNORE INTO preimage VALUES (?, ?, ?, ?, ?)", preimages)
    # The first time counts: later ones would record what this run itself did to the directory.
    times = [(run, os.fsencode(path), mtime_ns) for path, mtime_ns in intent.directories.items()]
    write.executemany("INSERT OR IGNORE INTO directory VALUES (?, ?, ?)", times)
    return tuple(_owe(write, name, run, debt.step, debt.component, debt.reaction) for debt in intent.debts)


def _owe(write: sqlite3.Connection, name: str, run: int, step: int, component: str, reaction: Reaction) -> Debt:
    query = "INSERT INTO debt (run, step, component, reaction) VALUES (?, ?, ?, ?)"
    number = write.execute(query, (run, step, component, encode(reaction))).lastrowid
    return Debt(id=cast("int", number), run=name, step=step, component=component, reaction=reaction)


def _add_stage(write: sqlite3.Connection, run: int, plan: Plan) -> None:
    record = StageRecord(
        format=plan.format,
        tool=plan.tool,
        profile=plan.profile,
        stage=plan.stage,
        components=plan.components,
        coverage=plan.coverage,
        digests=plan.digests,
        notes=plan.notes,
    )
    write.execute("INSERT INTO stage VALUES (?, ?, ?)", (run, plan.stage, encode(record)))
    rows = [_step_row(run, plan.stage, step) for step in plan.steps]
    write.executemany("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _step_row(run: int, stage: int, step: Step) -> _Row:
    kind = str(step.change.__struct_config__.tag)
    # For whoever looks with sqlite3: the record has the description byte for byte.
    shown = step.description.encode("utf-8", "backslashreplace").decode()
    return (run, step.number, stage, step.component, kind, step.change.version, shown, encode(step))


def _step_paths(write: sqlite3.Connection, run: int, number: int) -> set[str]:
    row = write.execute("SELECT record FROM step WHERE run = ? AND number = ?", (run, number)).fetchone()
    if row is None:
        raise JournalError(f"step {number} was never planned")
    raw = decode(row[0], dict[str, Any])
    before = {at["path"]: at["object"] for at in raw.get("before", ())}
    changed = {at["path"] for at in raw.get("after", ()) if before.get(at["path"]) != at["object"]}
    declared = raw["change"].get("touches") or {}
    return changed.union(declared.get("paths", ()))


def _known_step(raw: Mapping[str, Any]) -> Step | None:
    try:
        step: Step = msgspec.convert(raw, Step)
    except msgspec.ValidationError:
        return None
    return step if step.change.version <= _known_version(type(step.change)) else None


@functools.cache
def _known_version(kind: type[msgspec.Struct]) -> int:
    return next(cast("int", field.default) for field in msgspec.structs.fields(kind) if field.name == "version")


def _summary(events: list[_Row]) -> tuple[StepStatus, dict[str, str], list[StepName], Any]:
    """Return status, what its conclusion says, the steps that took it back, the amended undo."""
    status: StepStatus = "planned"
    conclusion: dict[str, str] = {}
    taken_back: list[StepName] = []
    amended = None
    for what, data in events:
        if what in _STATUSES:
            status, conclusion = what, _data(data) or {}
            if what in ("done", "assumed-done"):
                taken_back = []  # finished after all: recovery did again what an interrupted undo had taken back
        elif what == "undone":
            taken_back.append(decode(data, StepName))
        elif what == "amended":
            amended = json.loads(data)["undo"]
    return status, conclusion, taken_back, amended


def _data(text: str | None) -> Any:
    return None if text is None else json.loads(text)


_VERSION = f"VALUES ('format', '{FORMAT[0]}.{FORMAT[1]}')"


# ---- files --------------------------------------------------------------------------------------------------------


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
    connection = _open_to_read(state.database)
    with _closed_on_error(connection):
        is_empty = _format(connection, state) == (0, 0)
    if is_empty:
        connection.close()
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _install(connection)
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
        raise JournalError(f"{state.database} does not say its format version", hint=_FSCK) from None
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
            return JournalError(f"{place} is damaged: {error}", hint=_FSCK)
