"""The rows that the journal's transactions write: what is said, in which table and with which key.

Every function works inside a transaction that its caller has begun. Runs are told by their sequence number.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from aquiline.changes.canonical import decode, encode
from aquiline.changes.kinds import Reaction
from aquiline.changes.steps import Plan, Step
from aquiline.errors import JournalError, UsageError
from aquiline.host.objects import At
from aquiline.journal.database import Row
from aquiline.journal.records import (
    AdoptedRun,
    Debt,
    Intent,
    Outcome,
    RunHeader,
    RunRecord,
    StageRecord,
    StepName,
    StepRecord,
    What,
    limited,
)


def add_run(write: sqlite3.Connection, header: RunHeader) -> RunRecord:
    """Put down a run and give it its id."""
    taken = {row[0] for row in write.execute("SELECT id FROM run")}
    name = next(name for name in iter(lambda: secrets.token_hex(4), "") if name not in taken)
    return RunRecord(id=name, sequence=_insert_run(write, name, header), header=header)


def add_adopted(write: sqlite3.Connection, adopted: AdoptedRun, *, source: str, user: str) -> None:
    """Put down a run as another journal had it; raise `UsageError` where there is one of that id."""
    name = adopted.run.id
    if write.execute("SELECT 1 FROM run WHERE id = ?", (name,)).fetchone():
        raise UsageError(f"the journal knows run {name} already")
    run = _insert_run(write, name, adopted.run.header)
    add_event(write, run, 0, "adopted", {"source": source, "user": user})
    write.executemany("INSERT INTO stage VALUES (?, ?, ?)", [(run, one.stage, encode(one)) for one in adopted.stages])
    for record in adopted.steps:
        _adopt_step(write, run, record)
    needs = Intent(steps=(), debts=adopted.debts, preimages=adopted.preimages, directories=adopted.directories)
    add_intent(write, name, run, needs)
    if adopted.run.status:
        add_event(write, run, 0, "run-ended", {"status": adopted.run.status})


def _insert_run(write: sqlite3.Connection, name: str, header: RunHeader) -> int:
    row = (name, encode(header))
    return cast("int", write.execute("INSERT INTO run (id, header) VALUES (?, ?)", row).lastrowid)


def _adopt_step(write: sqlite3.Connection, run: int, record: StepRecord) -> None:
    shown = record.description.encode("utf-8", "backslashreplace").decode()
    place = (run, record.number, record.stage, record.component)
    row = (*place, record.kind, record.kind_version, shown, encode(record.raw))
    write.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    if record.status == "planned":
        return
    # What was intended counts as touched, whatever came of it.
    add_intent(write, record.run, run, Intent(steps=(record.number,)))
    if record.status != "intended":
        add_event(write, run, record.number, record.status, _told(record.output, record.note))
    _add_values(write, _value_rows(run, record.number, record.observed))
    if record.undone_by is not None:
        add_event(write, run, record.number, "undone", record.undone_by)
    if record.amended is not None:
        amended = {"undo": record.amended, "reason": "as it was adopted", "user": "", "rule": ""}
        add_event(write, run, record.number, "amended", amended)


def _told(output: str, note: str) -> dict[str, str] | None:
    told = {"output": output, "note": note}
    return {key: text for key, text in told.items() if text} or None


def add_event(write: sqlite3.Connection, run: int, step: int, what: What, data: object = None) -> None:
    """Say that something happened to a run (`step` 0) or a step."""
    _add_events(write, [(run, step, what, data)])


def _add_events(write: sqlite3.Connection, events: Iterable[tuple[int, int, What, object]]) -> None:
    now = time.time()
    rows = [(run, step, what, None if data is None else encode(data), now) for run, step, what, data in events]
    write.executemany("INSERT INTO event (run, step, what, data, wall) VALUES (?, ?, ?, ?, ?)", rows)


def end_debts(write: sqlite3.Connection, run: int, what: str, debts: Iterable[int]) -> None:
    """Say that debts are over by run `run`; `what` is ``paid`` or ``cancelled``."""
    if not debts:
        return
    # A debt ends once; whoever comes second finds it settled.
    rows = [(debt, what, run, time.time()) for debt in debts]
    write.executemany("INSERT OR IGNORE INTO debt_end VALUES (?, ?, ?, ?)", rows)


def add_intent(write: sqlite3.Connection, name: str, run: int, intent: Intent) -> tuple[Debt, ...]:
    """Say what the run `name`, with the sequence number `run`, is about to do; return the debts with their numbers."""
    touched = []
    _add_events(write, [(run, step, "intended", None) for step in intent.steps])
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


def add_stage(write: sqlite3.Connection, run: int, plan: Plan) -> None:
    """Put down a stage and all its steps."""
    record = StageRecord(
        format=plan.format,
        tool=plan.tool,
        profile=plan.profile,
        stage=plan.stage,
        components=plan.components,
        coverage=plan.coverage,
        digests=plan.digests,
        notes=plan.notes,
        itself=plan.itself,
    )
    write.execute("INSERT INTO stage VALUES (?, ?, ?)", (run, plan.stage, encode(record)))
    rows = [_step_row(run, plan.stage, step) for step in plan.steps]
    write.executemany("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _step_row(run: int, stage: int, step: Step) -> Row:
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


def add_outcomes(
    write: sqlite3.Connection, name: str, sequence_of: Callable[[str], int], outcomes: Sequence[Outcome]
) -> None:
    """Say how steps of the run `name` ended, which debts they paid and which steps they took back."""
    run = sequence_of(name)
    events: list[tuple[int, int, What, object]] = []
    values: list[Row] = []
    for outcome in outcomes:
        events.append((run, outcome.step, outcome.what, _told(limited(outcome.output), outcome.note)))
        values += _value_rows(run, outcome.step, outcome.observed)
        end_debts(write, run, "paid", outcome.debts_paid)
        end_debts(write, run, "cancelled", outcome.debts_cancelled)
        if outcome.undoes is not None:
            original = sequence_of(outcome.undoes.run)
            events.append((original, outcome.undoes.step, "undone", StepName(name, outcome.step)))
    _add_events(write, events)
    _add_values(write, values)


def _value_rows(run: int, step: int, observed: Iterable[At]) -> list[Row]:
    return [(os.fsencode(at.path), run, step, encode(at.object)) for at in observed]


def _add_values(write: sqlite3.Connection, rows: Iterable[Row]) -> None:
    write.executemany("INSERT INTO value (path, run, step, object) VALUES (?, ?, ?, ?)", rows)
