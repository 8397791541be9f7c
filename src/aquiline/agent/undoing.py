"""Undo and redo: runs taken back by what their journal says, as new runs (P8)."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn

import msgspec

from aquiline.agent.executing import OnStep, executor_of
from aquiline.agent.session import Session
from aquiline.changes import perform
from aquiline.changes.kinds import EditFile, Inline, Restore, WriteFile
from aquiline.changes.steps import Step
from aquiline.errors import AquilineError, HostError, Interrupted, RunInterrupted, UndoConflict, UsageError
from aquiline.execution.executor import IsStopped
from aquiline.execution.recovery import in_effect, what_became_of
from aquiline.execution.undo import Choice, Choices, Conflict, UndoPlan, named, plan_undo
from aquiline.host.naming import path_of
from aquiline.host.objects import Directory, Object, Record, RegularFile, same_but_times
from aquiline.journal.records import RunKind, RunRecord, StepRecord
from aquiline.journal.store import Journal

OnUndo = Callable[[UndoPlan], None]


class Undone(msgspec.Struct, frozen=True):
    """How an undo ended."""

    exit_status: int
    run: str = ""
    undo: UndoPlan | None = None
    #: The runs that were taken back, newest first.
    runs: tuple[str, ...] = ()
    failed: Step | None = None
    error: AquilineError | None = None


def select(
    session: Session, journal: Journal, selector: str | None = None, *, last: int = 0, to: datetime | None = None
) -> list[RunRecord]:
    """Return the runs that a person means, newest first: those that brought something and still stand.

    A failed command stands where its own ``done_when`` probe says now that it happened.

    Raises:
        UsageError: there is no such run, it has been taken back already, or it is itself an undo.
    """
    if last or to is not None:
        standing = [run for run in journal.runs() if run.header.kind in ("apply", "redo")]
        standing = [run for run in standing if _stands(journal, run) or _happened_all_the_same(session, journal, run)]
        if to is not None:
            standing = [run for run in standing if run.header.started > to.timestamp()]
        return standing[:last] if last else standing
    run = journal.run(selector or "last")
    if run.header.kind in ("undo", "recovery"):
        _refuse_undo_of_undo(journal, run, is_last=selector in (None, "last"))
    if not _stands(journal, run) and not _happened_all_the_same(session, journal, run):
        _refuse_open(journal, run)
        raise UsageError(
            f"run {run.id} has nothing left to take back", hint=f"`aquiline show {run.id}` says by what it was undone"
        )
    return [run]


def _refuse_undo_of_undo(journal: Journal, run: RunRecord, *, is_last: bool) -> NoReturn:
    """Refuse an undo: it is redone, or, where it stopped on the way, done again."""
    _refuse_open(journal, run)
    undone = " ".join(run.header.undoes)
    said = f"the last run, {run.id}, is itself an undo" if is_last else f"run {run.id} is an undo"
    if run.status == "failed":
        goes_on = " then ".join(f"`aquiline undo {one}`" for one in run.header.undoes)
        raise UsageError(
            f"{said}, which stopped on the way", hint=f"{goes_on} goes on; `aquiline show {run.id}` says why"
        )
    raise UsageError(said, hint=f"`aquiline redo {undone}` takes it back")


def _refuse_open(journal: Journal, run: RunRecord) -> None:
    """Refuse a run that did nothing yet, because it is under way or did not end."""
    if not run.status:
        journal.state.refuse_locked()
        raise RunInterrupted(f"run {run.id} did not end", hint="`aquiline recover` takes it back")


def _stands(journal: Journal, run: RunRecord) -> bool:
    if run.steps:
        return journal.stands(run.id)
    return bool(run.status) and _last_to_take_back(journal, run) is None


def _happened_all_the_same(session: Session, journal: Journal, run: RunRecord) -> bool:
    """Whether something of `run` that failed stands, as far as the host tells now; where it cannot tell, too."""
    if run.status != "failed":
        return False
    return any(
        _stands_now(session, record) for record in _failed(journal, journal.steps(run.id)) if record.step is not None
    )


def _stands_now(session: Session, record: StepRecord) -> bool:
    """Whether a step that failed stands: by the probe of a command, by what is there where nobody could look then."""
    change = record.known.change
    try:
        if isinstance(change, perform.OPAQUE_KINDS):
            return change.done_when is not None and perform.probe_says_yes(change.done_when, session.host)
        if record.status == "in-doubt" and isinstance(change, perform.STATE_KINDS):
            return what_became_of(record.known, session.host, session.preimages)[0] != "not-done"
    except AquilineError:
        return True  # undo says why it cannot tell
    return False


def _failed(journal: Journal, records: Iterable[StepRecord]) -> list[StepRecord]:
    """Return what failed on the way, and was not taken back."""
    failed = [one for one in records if one.status in ("failed", "in-doubt") and one.undone_by is None]
    return [one for one in failed if _was_begun(journal, one)]


def _last_to_take_back(journal: Journal, run: RunRecord) -> RunRecord | None:
    """Return the run that took back `run` and still stands, None where none does."""
    for later in journal.runs():
        if run.id in later.header.undoes:
            return later if _stands(journal, later) else None
    return None


def preview(session: Session, runs: Sequence[RunRecord], choices: Mapping[str, Choice] | None = None) -> UndoPlan:
    """Return what taking `runs` back would do. Nothing is written anywhere."""
    with session.reading() as journal:
        return preview_of(session, journal, runs, choices)


def preview_of(
    session: Session, journal: Journal, runs: Sequence[RunRecord], choices: Mapping[str, Choice] | None = None
) -> UndoPlan:
    """Return what taking `runs` back would do, by a journal that is open."""
    return _plan(session, journal, to_take_back(journal, runs), choices or {})


def _refuse_strange(records: Sequence[StepRecord], choices: Mapping[str, Choice]) -> None:
    """Refuse a choice for a path that none of the steps touched: whoever made it meant something else."""
    touched = {
        at.path for record in records if record.step is not None for at in (*record.step.after, *record.observed)
    }
    strange = sorted(set(choices) - touched)
    if strange:
        raise UsageError(
            f"no step that would be taken back touched {', '.join(strange)}", hint="`aquiline show RUN` lists the steps"
        )


def to_take_back(journal: Journal, runs: Sequence[RunRecord]) -> list[StepRecord]:
    """Return what may be there to take back: what is in effect, and what failed on the way."""
    found: list[StepRecord] = []
    for run in sorted(runs, key=lambda one: -one.sequence):
        records = journal.steps(run.id)
        standing = [*in_effect(records), *_failed(journal, records)]
        found += [*standing, *_not_run_offline(records, {one.number for one in standing})]
    return found


def _not_run_offline(records: Iterable[StepRecord], standing: set[int]) -> Iterator[StepRecord]:
    """Yield the reactions to a step that is `standing` that had no running system then: undo may have one now."""
    offline = [one for one in records if one.status == "skipped" and one.output == perform.OFFLINE]
    return (one for one in offline if one.undone_by is None and standing.intersection(one.known.cause.steps))


def _plan(session: Session, journal: Journal, records: Sequence[StepRecord], choices: Mapping[str, Choice]) -> UndoPlan:
    _refuse_strange(records, choices)
    known = session.known(journal, None)
    planned = plan_undo(
        sorted_by_run(journal, records),
        session.host,
        session.preimages,
        choices=Choices(choices),
        never_undone=known.never_undone,
        refuse=session.forbidden().refuse,
        owed=[(one.reaction, one.component, one.run) for one in known.owed],
        purged=journal.tombstones(),
        changed_later=_later_changes(journal, {record.run for record in records}),
        secret_key=known.secret_key,
        itself=known.itself,
    )
    conflicts = tuple(_with_later_run(journal, conflict) for conflict in planned.conflicts)
    return msgspec.structs.replace(planned, conflicts=conflicts)


def _with_later_run(journal: Journal, conflict: Conflict) -> Conflict:
    """Name the run that is behind a conflict, where what stands there is what a later run left."""
    last = journal.last_value(conflict.path)
    if last is None or not same_but_times(last.object, conflict.found):
        return conflict
    for name in journal.touching(conflict.path):
        if journal.step(name.run, name.step).status in ("done", "assumed-done"):
            return msgspec.structs.replace(conflict, by_run="" if name.run == conflict.run else name.run)
    return conflict


def _later_changes(journal: Journal, undone: set[str]) -> Callable[[str, str], str]:
    """Return what says which later run, besides those `undone`, changed a path and stands; empty where none did."""
    runs = {run.id: run for run in journal.runs()}
    standing = {name: run.sequence for name, run in runs.items() if run.header.kind == "apply" and name not in undone}
    changed: dict[str, set[str]] = {}

    def paths_of(name: str) -> set[str]:
        if name not in changed:
            steps = [one.known for one in in_effect(journal.steps(name)) if one.step is not None]
            changed[name] = {at.path for step in steps for at in step.after if at not in step.before}
        return changed[name]

    def later(run: str, path: str) -> str:
        after = [name for name, sequence in standing.items() if sequence > runs[run].sequence]
        return next((name for name in after if path in paths_of(name)), "")

    return later


def sorted_by_run(journal: Journal, records: Sequence[StepRecord]) -> list[StepRecord]:
    """Return `records` newest run first, each run's in the order they were done."""
    sequence = {run.id: run.sequence for run in journal.runs()}
    return sorted(records, key=lambda one: (-sequence[one.run], one.number))


def undo(
    session: Session,
    runs: Sequence[RunRecord],
    *,
    choices: Mapping[str, Choice] | None = None,
    on_plan: OnUndo = lambda _undo: None,
    on_step: OnStep = lambda _step, _performed: None,
    is_stopped: IsStopped = lambda: False,
) -> Undone:
    """Take `runs` back; `on_plan` is shown what will be done before anything is.

    Raises:
        UndoConflict: somebody changed what would be restored, and nobody chose what to do; nothing was changed.
    """
    with session.changing("undo") as journal:
        session.refuse_interrupted(journal)
        session.refuse_held()
        return take_back(
            session, journal, runs, choices=choices, on_plan=on_plan, on_step=on_step, is_stopped=is_stopped
        )


def redo(
    session: Session,
    run: RunRecord,
    *,
    choices: Mapping[str, Choice] | None = None,
    on_plan: OnUndo = lambda _undo: None,
    on_step: OnStep = lambda _step, _performed: None,
    is_stopped: IsStopped = lambda: False,
) -> Undone:
    """Take back the undo of `run`, from the undo run's own pre-images.

    Raises:
        UsageError: it has not been undone.
    """
    with session.changing("redo") as journal:
        session.refuse_interrupted(journal)
        session.refuse_frozen(journal)
        undoer = _last_to_take_back(journal, run)
        if undoer is None:
            raise UsageError(f"run {run.id} has not been undone", hint="`aquiline log` lists what has")
        records = [
            one for one in to_take_back(journal, [undoer]) if one.step is None or one.known.cause.run in ("", run.id)
        ]
        return _execute(
            session, journal, "redo", [undoer], records, choices=choices or {},
            on_plan=on_plan, on_step=on_step, is_stopped=is_stopped, brings=run,
        )  # fmt: skip


def take_back(
    session: Session,
    journal: Journal,
    runs: Sequence[RunRecord],
    *,
    kind: RunKind = "undo",
    recovers: str = "",
    choices: Mapping[str, Choice] | None = None,
    on_plan: OnUndo = lambda _undo: None,
    on_step: OnStep = lambda _step, _performed: None,
    is_stopped: IsStopped = lambda: False,
) -> Undone:
    """Take `runs` back; the caller holds the lock."""
    records = to_take_back(journal, runs)
    return _execute(
        session, journal, kind, runs, records, choices=choices or {},
        on_plan=on_plan, on_step=on_step, is_stopped=is_stopped, recovers=recovers,
    )  # fmt: skip


def _execute(
    session: Session,
    journal: Journal,
    kind: RunKind,
    runs: Sequence[RunRecord],
    records: Sequence[StepRecord],
    *,
    choices: Mapping[str, Choice],
    on_plan: OnUndo,
    on_step: OnStep,
    is_stopped: IsStopped,
    recovers: str = "",
    brings: RunRecord | None = None,
) -> Undone:
    undo_plan = _plan(session, journal, records, choices)
    on_plan(undo_plan)
    names = tuple(run.id for run in runs)
    if undo_plan.conflicts:
        raise conflict_error(undo_plan)
    pointer = pointer_after(journal, set(names), brings)
    run = journal.begin_run(
        session.header(kind, undoes=names, recovers=recovers, profile=pointer[0], change_ids=pointer[1]),
        undo_plan.plan,
    ).id
    ended = executor_of(session, journal, run, on_step=on_step, is_stopped=is_stopped).execute(undo_plan.plan)
    if ended.status == "failed":
        journal.end_run(run, "failed")
        is_interrupted = isinstance(ended.error, Interrupted)
        return Undone(130 if is_interrupted else 17, run, undo_plan, names, ended.failed, ended.error)
    for one in runs:
        if one.awaits_confirmation:
            journal.record(one.id, 0, "deadline-cancelled", {"run": run})
    is_whole = not any(not one.chosen for one in undo_plan.stays)
    error = _restore_times(session, journal, runs, undo_plan)
    is_whole &= error is None
    live = pointer if brings is None else (pointer[0], now_live(journal, pointer[1]))
    journal.end_run(run, "done" if is_whole else "incomplete", live)
    let_go(session, undo_plan.plan.steps)
    return Undone(0 if is_whole else 17, run, undo_plan, names, error=error)


def _restore_times(
    session: Session, journal: Journal, runs: Sequence[RunRecord], undo_plan: UndoPlan
) -> AquilineError | None:
    """Put back the times of directories; return what went wrong: all else is back already, and that must be told."""
    try:
        restore_directory_times(session, journal, runs, but=directories_that_stay(journal, undo_plan))
    except AquilineError as error:
        return error
    return None


def let_go(session: Session, steps: Sequence[Step]) -> None:
    """Let go of inodes that `steps` gave their names back.

    What redoing needs is held by the run of `steps`.
    """
    for step in steps:
        if isinstance(step.change, Restore):
            with contextlib.suppress(HostError):  # it takes no space of its own, and `gc` drops it later
                perform.let_go_of_inode(step.change, session.host)


def let_go_of_kept(session: Session, records: Iterable[StepRecord]) -> None:
    """Let go of what these steps kept, which are taken back: also of those that a crash cut short."""
    for record in records:
        for change in record.known.undo.changes:
            if isinstance(change, Restore):
                perform.let_go_of_inode(named(record, change), session.host)


def sides(session: Session, journal: Journal, conflict: Conflict) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return the content that the run left, that is there now, that undo would put there; None where there is none."""

    def stored(found: Object) -> bytes | None:
        return session.preimage(found.sha256) if isinstance(found, RegularFile) else None

    objects = (conflict.left, conflict.found, conflict.wanted)
    if any(isinstance(one, Record) for one in objects):
        left, found, wanted = (os.fsencode(f"{one.line}\n") if isinstance(one, Record) else None for one in objects)
        return left, found, wanted
    change = journal.step(conflict.run, conflict.step).known.change
    left = stored(conflict.left)
    if isinstance(change, WriteFile | EditFile) and isinstance(change.content, Inline):
        left = change.content.data
    return left, session.content(conflict.path), stored(conflict.wanted)


def conflict_error(undo_plan: UndoPlan) -> UndoConflict:
    """Return the refusal that names every object and the flag that decides it (R19)."""
    lines = [
        f"{one.path}: {', '.join(one.differs)} changed{f' by run {one.by_run}' if one.by_run else ''}"
        f" since run {one.run} left it"
        for one in undo_plan.conflicts
    ]
    later = list(dict.fromkeys(one.by_run for one in undo_plan.conflicts))
    if all(later):
        return UndoConflict("\n".join(lines), hint=f"nothing was changed; undo {' and '.join(later)} first, or choose")
    flags = " ".join(f"--{'merge' if not one.no_merge else 'skip'} {one.path}" for one in undo_plan.conflicts[:3])
    return UndoConflict(
        "\n".join(lines), hint=f"nothing was changed; decide each with --skip, --force or --merge: {flags}"
    )


def pointer_after(journal: Journal, undone: set[str], brings: RunRecord | None) -> tuple[str, tuple[str, ...]]:
    """Return the profile and change IDs that are live once `undone` are taken back (D19)."""
    if brings is not None and brings.header.profile:
        return brings.header.profile, brings.header.change_ids
    gone = set(undone)
    for run in journal.runs():
        # One that failed, or was itself taken back, left what it was to take back standing.
        if run.header.kind == "undo" and run.id not in undone and run.status in ("done", "incomplete"):
            gone.update(run.header.undoes)
    history = journal.live_history()
    for pointer in history:
        if pointer.run not in gone and journal.run(pointer.run).header.kind in ("apply", "redo"):
            brought = {one for name in undone for one in journal.run(name).header.change_ids}
            # What was live then may have been taken back since.
            left = set(pointer.change_ids).intersection(history[0].change_ids).difference(brought)
            return pointer.profile, tuple(sorted(left))
    return "", ()


def now_live(journal: Journal, brought: tuple[str, ...]) -> tuple[str, ...]:
    """Return the change IDs that are live once a run has brought these."""
    live = journal.live()
    return tuple(sorted({*brought, *(live.change_ids if live is not None else ())}))


def _was_begun(journal: Journal, record: StepRecord) -> bool:
    """Whether a step that failed may have done something to take back: not a reaction, nor what was refused."""
    if record.step is not None and isinstance(record.step.change, perform.REACTION_KINDS):
        return False
    return any(event.what == "intended" for event in journal.events(record.run, record.number))


def directories_that_stay(journal: Journal, undo_plan: UndoPlan) -> set[str]:
    """Return the directories in which something stays that undo does not take back."""
    stays = [journal.step(one.run, one.step) for one in undo_plan.stays]
    return {posixpath.dirname(path_of(at.path)) for one in stays if one.step is not None for at in one.step.after}


def _made_directories(records: Iterable[StepRecord]) -> Iterator[str]:
    """Return the directories that were not there before these steps."""
    for record in records:
        if record.step is None:
            continue
        was = {at.path for at in record.step.before if isinstance(at.object, Directory)}
        yield from (at.path for at in record.step.after if isinstance(at.object, Directory) and at.path not in was)


def restore_directory_times(
    session: Session, journal: Journal, runs: Iterable[RunRecord], *, but: Container[str] = ()
) -> None:
    """Put back the modification times of the directories that these runs changed entries in, as well as can be (P4)."""
    times: dict[str, int] = {}
    for run in sorted(runs, key=lambda one: -one.sequence):
        for path in _made_directories(journal.steps(run.id)):
            # What stands at its path now was not there when a later run took its time.
            times.pop(path, None)
        times |= {path: time for path, time in journal.directories(run.id).items() if path not in but}
    perform.restore_directory_times(times, session.host)
