"""What the journal says happened, as the messages that a broker keeps.

Theory of operation

1. Every run that has ended and waits for no confirmation is reported once, whoever began it: the journal is asked, not
   the memory of a process. The id of a report is that of the journal and that of the run.
2. The change-set of a run has the digest of its dry-run's: both are made of the plan, of the contents it was made on
   (of a run, its pre-images), and of the host's facts. The runs that steps speak of are facts too (``run``, ``run-2``),
   so that hosts which take back the same thing are shown as one.
3. Nothing here holds a secret: what is sent was made for people to read (P10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aquiline import __version__
from aquiline.agent.daemon.outbox import Letter
from aquiline.agent.exporting import Effects, effects
from aquiline.agent.inspecting import Verified
from aquiline.agent.session import Session
from aquiline.agent.undoing import pointer_after
from aquiline.changes.describe import describe
from aquiline.changes.digests import Contents
from aquiline.changes.placeholders import Facts, Placeholders
from aquiline.changes.redact import holds_secret
from aquiline.changes.render import kind_of
from aquiline.changes.steps import Plan, Step, Undo
from aquiline.errors import AquilineError, JournalError, ProfileError
from aquiline.host.objects import RegularFile, sha256
from aquiline.journal.records import RunRecord, StepRecord
from aquiline.journal.store import Journal
from aquiline.planning.facts import facts_of
from aquiline.profile import Profile
from aquiline.protocol.changesets import ChangeSet, DriftedObject, change_set_digest, change_set_of
from aquiline.protocol.messages import PROTOCOL, Live, Report, ReportedStep, UndoneBy

_HAPPENED = ("done", "assumed-done")
#: Objects that one report names.
_MOST_DRIFT = 1000
_STATUS = {
    "done": 0, "partial": 15, "failed": 15, "undone": 16, "incomplete": 17, "interrupted": 11,
}  # fmt: skip


# ---- what was done --------------------------------------------------------------------------------------------------


def unreported(journal: Journal, after: int) -> list[RunRecord]:
    """Return the runs after that sequence which have come to their end, oldest first, up to the first that has not."""
    found = []
    for run in journal.runs(newest_first=False):
        if run.sequence > after:
            if run.open or run.awaits_confirmation:
                break
            found.append(run)
    return found


def report_of_run(session: Session, journal: Journal, run: RunRecord, name: str = "") -> Letter:
    """Return what the journal says of a run that has ended; `name` is the host's where no profile says it."""
    steps = journal.steps(run.id)
    identity = journal.identity()
    change_set, facts = _change_set_of_run(session, journal, run, name)
    predicted, actual = _effects(effects(session, journal, run, steps))
    failed = next((one for one in steps if one.status == "failed"), None)
    report = Report(
        id=f"{identity}/{run.id}",
        protocol=PROTOCOL,
        tool=__version__,
        journal=identity,
        kind="run",
        generation=run.header.generation,
        when=run.ended,
        run=run.id,
        run_kind=run.header.kind,
        sequence=run.sequence,
        status=run.status,
        brought=run.header.change_ids if _has_brought(run) else (),
        took_away=_took_away(journal, run),
        live=_live_after(journal, run),
        steps=tuple(map(_done, steps)),
        change_set=change_set_digest(change_set) if change_set is not None else "",
        effect=predicted,
        actual=actual,
        facts=dict(facts),
        exit_status=_exit_status(journal, run),
        error=f"step {failed.number}, {failed.description}: {_note(failed)}" if failed is not None else "",
        notes=_notes(journal, run),
    )
    return Letter(report, change_set)


def _change_set_of_run(
    session: Session, journal: Journal, run: RunRecord, name: str
) -> tuple[ChangeSet | None, Mapping[str, str]]:
    try:
        plans = journal.plans(run.id)
    except JournalError:
        return None, {}  # it has kinds of another version: its steps are reported as they were described
    facts = facts_with_runs(
        _archived_facts(session, _profiles(journal, run.header.profile, run.header.undoes), name),
        run.header.undoes,
        plans,
    )
    if not plans:
        return None, facts
    key = session.known(journal, None).secret_key
    contents = _contents_before(session, plans)
    return change_set_of(plans, facts, key, contents=contents, stored=session.preimage), facts


def facts_of_undo(session: Session, journal: Journal, runs: Sequence[str], name: str = "") -> Facts:
    """Return the host's facts as a run that takes `runs` back will be reported with."""
    profile, _ = pointer_after(journal, set(runs), None)
    return _archived_facts(session, _profiles(journal, profile, runs), name)


def _profiles(journal: Journal, profile: str, undone: Iterable[str]) -> list[str]:
    """Return the profiles that may say what a host's facts are: the one of the run, those of the runs it undoes."""
    known = {run.id: run.header.profile for run in journal.runs()}
    return [profile, *(known[run] for run in undone if run in known)]


def _archived_facts(session: Session, digests: Iterable[str], name: str) -> Facts:
    for digest in digests:
        if digest:
            try:
                return facts_of(session.archive.get(digest, name), session.host)
            except ProfileError:
                continue
    return facts_of(Profile({}, name), session.host)


def facts_with_runs(facts: Facts, undoes: Sequence[str], plans: Sequence[Plan]) -> dict[str, str]:
    """Return `facts` and the runs that the steps speak of: those that are taken back first, newest first."""
    spoken_of = [step.cause.run for plan in plans for step in plan.steps if step.cause.run]
    runs = {f"run-{number}" if number > 1 else "run": run for number, run in enumerate(_once(undoes, spoken_of), 1)}
    return {**facts, **runs}


def _once(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))


def _contents_before(session: Session, plans: Sequence[Plan]) -> Contents:
    """Return what gives the content that stood at a path before these plans: a pre-image, or what is still there."""
    before: dict[str, str] = {}
    now: dict[str, str] = {}
    for step in (step for plan in plans for step in plan.steps):
        for at in step.before:
            before.setdefault(at.path, at.object.sha256 if isinstance(at.object, RegularFile) else "")
        now |= {at.object.sha256: at.path for at in step.after if isinstance(at.object, RegularFile)}

    def content(path: str) -> bytes | None:
        digest = before.get(path, "")
        if not digest:
            return None
        found = session.preimage(digest) or session.content(path)
        if found is None or sha256(found) != digest:
            found = session.content(now.get(digest, path))  # it was only moved
        return found if found is not None and sha256(found) == digest else None

    return content


def _effects(stages: Sequence[Effects]) -> tuple[str, str]:
    """Return the effect that was planned first, and what tells whether all of the run came about as planned.

    Later stages are planned while the run goes on: what was foreseen, tested and approved is the first.
    """
    if not stages:
        return "", ""
    if all(one.predicted == one.actual for one in stages[1:]):
        return stages[0].predicted, stages[0].actual
    joined = "\n".join(one.actual for one in stages).encode("ascii")
    return stages[0].predicted, hashlib.sha256(b"aquiline effects of stages\n" + joined).hexdigest()


def _has_brought(run: RunRecord) -> bool:
    return run.header.kind in ("apply", "redo") and run.status in ("done", "partial", "failed")


def _took_away(journal: Journal, run: RunRecord) -> tuple[str, ...]:
    if run.header.kind != "undo" or run.status not in ("done", "incomplete"):
        return ()
    undone = {one.id: one for one in journal.runs() if one.id in run.header.undoes}
    gone = {change for one in undone.values() for change in one.header.change_ids}
    return tuple(sorted(gone.difference(run.header.change_ids)))


def _live_after(journal: Journal, run: RunRecord) -> Live:
    sequences = {one.id: one.sequence for one in journal.runs()}
    history = journal.live_history()
    pointer = next((one for one in history if sequences.get(one.run, 0) <= run.sequence), None)
    return Live(pointer.profile, pointer.change_ids) if pointer is not None else Live()


def _exit_status(journal: Journal, run: RunRecord) -> int:
    if any(event.what == "elapsed" for event in journal.events(run.id, 0)):
        return 19
    if run.status == "partial" and not any(
        one.state == "failed" for stage in journal.stages(run.id) for one in stage.components.values()
    ):
        return 3  # it changed the program itself, and the next run does the rest
    if run.status == "failed" and run.header.kind != "apply":
        return 17
    return _STATUS.get(run.status, 1)


def _notes(journal: Journal, run: RunRecord) -> tuple[str, ...]:
    said = {"confirmed": "confirmed", "elapsed": "nobody confirmed it in time", "adopted": "of a journal that is gone"}
    notes = [said[event.what] for event in journal.events(run.id, 0) if event.what in said]
    if run.header.kind == "apply" and run.header.generation and not run.steps and not run.header.change_ids:
        notes.append("undo and revert agree")
    return tuple(notes)


def _done(record: StepRecord) -> ReportedStep:
    try:
        undo = record.undo
    except JournalError as error:
        undo = Undo("irreversible", "", reason=error.message)
    return ReportedStep(
        number=record.number,
        stage=record.stage,
        component=record.component,
        kind=record.kind,
        kind_version=record.kind_version,
        description=record.description,
        status=record.status,
        undo=_undone_by(undo, is_secret=record.step is None or holds_secret(record.step)),
        note=_note(record),
    )


def _note(record: StepRecord) -> str:
    return "" if record.step is not None and holds_secret(record.step) else record.note


def _undone_by(undo: Undo, *, is_secret: bool) -> UndoneBy:
    commands = () if is_secret else tuple(map(describe, undo.changes))
    return UndoneBy(undo.class_, undo.description, commands, undo.reason)


# ---- what would be done ---------------------------------------------------------------------------------------------


class Foreseen(msgspec.Struct, frozen=True):
    """What would be done to the host, as it is reported."""

    plans: tuple[Plan, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()


def letter_of_plans(session: Session, journal: Journal, report: Report, foreseen: Foreseen) -> Letter:
    """Return `report` with what `foreseen` says filled in."""
    key = session.known(journal, None).secret_key
    plans = foreseen.plans
    change_set = change_set_of(plans, foreseen.facts, key, contents=session.content, stored=session.preimage)
    filled = msgspec.structs.replace(
        report,
        steps=tuple(_planned(step) for plan in plans for step in plan.steps),
        change_set=change_set_digest(change_set),
        effect=plans[0].digests.effect if plans else "",
        facts=dict(foreseen.facts),
        notes=(*report.notes, *foreseen.notes),
    )
    return Letter(filled, change_set)


def letter_of_drift(session: Session, journal: Journal, report: Report, found: Verified, *, name: str = "") -> Letter:
    """Return `report` with what a verification found; `name` is the host's where no profile says it."""
    pointer = journal.live()
    facts = _archived_facts(session, [pointer.profile] if pointer is not None else [], name)
    shape = Placeholders(facts).shape
    left_out = len(found.drift) - _MOST_DRIFT
    change_set = ChangeSet(
        notes=(f"and {left_out} more",) if left_out > 0 else (),
        drift=tuple(
            DriftedObject(
                object=shape(one.path), state=one.state, how=tuple(map(shape, one.how)), content=one.content,
                component=one.component,
            )
            for one in sorted(found.drift, key=lambda one: one.path)[:_MOST_DRIFT]
        ),
    )  # fmt: skip
    total = found.unchanged + len(found.drift) + len(found.no_longer_ours) + len(found.touched)
    said = f"{total} objects: {found.unchanged} as a run left them, {len(found.drift)} drifted"
    filled = msgspec.structs.replace(
        report,
        exit_status=3 if found.drift else 0,
        change_set=change_set_digest(change_set),
        facts=dict(facts),
        notes=(said, *report.notes),
    )
    return Letter(filled, change_set)


def _planned(step: Step) -> ReportedStep:
    return ReportedStep(
        number=step.number,
        stage=step.stage,
        component=step.component,
        kind=kind_of(step.change),
        kind_version=step.change.version,
        description=step.description,
        status="planned",
        undo=_undone_by(step.undo, is_secret=holds_secret(step)),
        note="; ".join(step.because),
    )


def failed_report(report: Report, error: AquilineError) -> Report:
    """Return `report`, saying that nothing came of it."""
    return msgspec.structs.replace(report, exit_status=error.exit_status, error=error.message, hint=error.hint)
