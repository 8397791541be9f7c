"""All that can be asked of a journal, and how its rows become records.

What became of a step is computed from what happened to it: its status is that of its latest event, and it is taken
back as long as a step that undid it stands itself.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast, get_args

import msgspec

from aquiline.changes.canonical import decode
from aquiline.changes.kinds import Reaction
from aquiline.changes.steps import Plan, Step, Undo
from aquiline.errors import JournalError, UsageError
from aquiline.host.objects import At, Object
from aquiline.journal.database import FSCK, Database, Row
from aquiline.journal.records import (
    Debt,
    Event,
    LivePointer,
    PreimageReference,
    RunHeader,
    RunRecord,
    StageRecord,
    StepName,
    StepRecord,
    StepStatus,
)
from aquiline.journal.state import StateDirectory

_STATUSES = get_args(StepStatus)

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


class JournalReader:
    """What was done here, for whoever only asks; `aquiline.journal.store.Journal` is one that can be written to."""

    def __init__(self, state: StateDirectory, database: Database) -> None:
        self.state = state
        self._database = database
        self._sequences: dict[str, int] = {}

    # ---- runs ----------------------------------------------------------------------------------------------------

    def runs(self, *, newest_first: bool = True) -> list[RunRecord]:
        """Return every run, in the order in which they began or the other way round."""
        order = "DESC" if newest_first else "ASC"
        return [self._run_record(row) for row in self._database.rows(f"{_RUNS} ORDER BY seq {order}")]

    def has_runs(self) -> bool:
        """Return whether any run began."""
        return bool(self._database.rows("SELECT 1 FROM run LIMIT 1"))

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
        rows = self._database.rows("SELECT record FROM stage WHERE run = ? ORDER BY number", (self._sequence(run),))
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
                itself=stage.itself,
            )
            for stage in self.stages(run)
        ]

    def events(self, run: str, step: int | None = None) -> list[Event]:
        """Return all that happened to a run, or to one step of it (0: the run itself), in order."""
        query = "SELECT seq, step, what, data, wall FROM event WHERE run = ? AND (? IS NULL OR step = ?) ORDER BY seq"
        rows = self._database.rows(query, (self._sequence(run), step, step))
        return [
            Event(sequence=seq, run=run, step=number, what=what, data=_data(data), wall=wall)
            for seq, number, what, data, wall in rows
        ]

    def directories(self, run: str) -> dict[str, int]:
        """Return the modification times in nanoseconds of parent directories before `run` first touched them."""
        rows = self._database.rows("SELECT path, mtime_ns FROM directory WHERE run = ?", (self._sequence(run),))
        return {os.fsdecode(path): mtime_ns for path, mtime_ns in rows}

    # ---- steps ---------------------------------------------------------------------------------------------------

    def steps(self, run: str) -> list[StepRecord]:
        """Return the steps of a run in order, each with what became of it."""
        sequence = self._sequence(run)
        events = self._step_events(sequence)
        values = self._step_values(sequence)
        query = "SELECT number, stage, component, kind, kind_version, description, record FROM step WHERE run = ?"
        rows = self._database.rows(f"{query} ORDER BY number", (sequence,))
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

    def amendment_rule(self, run: str, step: int) -> str:
        """Return the rule that last amended a step; empty where a person did, or nobody."""
        amendments = [event for event in self.events(run, step) if event.what == "amended"]
        return str(amendments[-1].data.get("rule", "")) if amendments else ""

    def _step_events(self, sequence: int) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {}
        query = "SELECT step, what, data FROM event WHERE run = ? AND step > 0 ORDER BY seq"
        for step, what, data in self._database.rows(query, (sequence,)):
            found.setdefault(step, []).append((what, data))
        return found

    def _step_values(self, sequence: int) -> dict[int, tuple[At, ...]]:
        latest: dict[int, dict[str, Object]] = {}
        query = "SELECT step, path, object FROM value WHERE run = ? ORDER BY seq"
        for step, path, text in self._database.rows(query, (sequence,)):
            latest.setdefault(step, {})[os.fsdecode(path)] = self._decoded(text, Object)
        return {step: tuple(At(path, found) for path, found in paths.items()) for step, paths in latest.items()}

    def _step_record(self, run: str, row: Row, events: list[Row], observed: tuple[At, ...]) -> StepRecord:
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
        if name.run not in self._sequences and not self._database.rows("SELECT 1 FROM run WHERE id = ?", (name.run,)):
            return False  # of a journal that is gone: that it was undone is all that is known
        query = "SELECT data FROM event WHERE run = ? AND step = ? AND what = 'undone' ORDER BY seq DESC"
        rows = self._database.rows(query, (self._sequence(name.run), name.step))
        return any(not self._is_taken_back(decode(data, StepName)) for (data,) in rows)

    # ---- debts, live state, values -------------------------------------------------------------------------------

    def debts(self) -> list[Debt]:
        """Return what is owed, oldest first."""
        query = """SELECT debt.id, run.id, debt.step, debt.component, debt.reaction
                   FROM debt JOIN run ON run.seq = debt.run
                   WHERE debt.id NOT IN (SELECT debt FROM debt_end) ORDER BY debt.id"""
        return [
            Debt(id=number, run=run, step=step, component=component, reaction=self._decoded(reaction, Reaction))
            for number, run, step, component, reaction in self._database.rows(query)
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
            for profile, changes, run in self._database.rows(query)
        ]

    def last_value(self, path: str) -> At | None:
        """Return what a run last left at `path`, times included, None where none ever touched it."""
        query = "SELECT object FROM value WHERE path = ? ORDER BY seq DESC LIMIT 1"
        rows = self._database.rows(query, (os.fsencode(path),))
        return At(path, self._decoded(rows[0][0], Object)) if rows else None

    def last_values(self) -> dict[str, Object]:
        """Return what runs last left, at every path that any of them touched."""
        # SQLite takes the other columns from the row that has the maximum.
        rows = self._database.rows("SELECT path, object, max(seq) FROM value GROUP BY path ORDER BY path")
        return {os.fsdecode(path): self._decoded(text, Object) for path, text, _ in rows}

    def touching(self, path: str) -> list[StepName]:
        """Return the names of the steps that set out to change `path`, newest first."""
        query = """SELECT run.id, touched.step FROM touched JOIN run ON run.seq = touched.run
                   WHERE path = ? ORDER BY touched.run DESC, touched.step DESC"""
        return [StepName(run, step) for run, step in self._database.rows(query, (os.fsencode(path),))]

    def history(self, path: str) -> list[StepRecord]:
        """Return the steps that set out to change `path`, newest first."""
        return [self.step(name.run, name.step) for name in self.touching(path)]

    # ---- pre-images ----------------------------------------------------------------------------------------------

    def preimages(self, run: str) -> list[PreimageReference]:
        """Return the pre-images that a run needs to be undone."""
        query = "SELECT step, sha256, size, secret FROM preimage WHERE run = ? ORDER BY step, sha256"
        rows = self._database.rows(query, (self._sequence(run),))
        return [PreimageReference(step, digest, size, bool(secret)) for step, digest, size, secret in rows]

    def preimage_users(self) -> dict[str, set[str]]:
        """Return for every pre-image that a run ever needed the runs that do."""
        users: dict[str, set[str]] = {}
        query = "SELECT DISTINCT preimage.sha256, run.id FROM preimage JOIN run ON run.seq = preimage.run"
        for digest, run in self._database.rows(query):
            users.setdefault(digest, set()).add(run)
        return users

    def last_to_touch(self) -> set[str]:
        """Return the runs that were the last to touch some object: what stands there is theirs, or may be."""
        # Who set out last may not have got there, so who last left something counts as well.
        query = """SELECT id FROM run WHERE seq IN (SELECT max(run) FROM touched GROUP BY path)
                   OR seq IN (SELECT max(run) FROM value GROUP BY path)"""
        return {row[0] for row in self._database.rows(query)}

    def tombstones(self) -> dict[str, str]:
        """Return the digests of purged pre-images and why they were purged."""
        return dict(self._database.rows("SELECT sha256, reason FROM tombstone ORDER BY sha256"))

    # ---- the database --------------------------------------------------------------------------------------------

    def check_database(self) -> list[str]:
        """Return what SQLite finds wrong with its file; empty where it is sound."""
        rows = self._database.rows("PRAGMA integrity_check")
        return [row[0] for row in rows if row[0] != "ok"]

    def _sequence(self, run: str) -> int:
        if run not in self._sequences:
            rows = self._database.rows("SELECT seq FROM run WHERE id = ?", (run,))
            if not rows:
                raise UsageError(f"no run {run!r} in {self.state.path}", hint="`aquiline log` lists them")
            self._sequences[run] = rows[0][0]
        return self._sequences[run]

    def _run_record(self, row: Row) -> RunRecord:
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
            raise JournalError(f"a record of {self.state.database} cannot be read: {error}", hint=FSCK) from error


def _known_step(raw: Mapping[str, Any]) -> Step | None:
    try:
        step: Step = msgspec.convert(raw, Step)
    except msgspec.ValidationError:
        return None
    return step if step.change.version <= _known_version(type(step.change)) else None


@functools.cache
def _known_version(kind: type[msgspec.Struct]) -> int:
    return next(cast("int", field.default) for field in msgspec.structs.fields(kind) if field.name == "version")


def _summary(events: list[Row]) -> tuple[StepStatus, dict[str, str], list[StepName], Any]:
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
