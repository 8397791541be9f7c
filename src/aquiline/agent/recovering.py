"""After a crash, and after a deadline: finish a run or take it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from aquiline.agent.applying import stages_after
from aquiline.agent.executing import OnStep, executor_of
from aquiline.agent.session import Session
from aquiline.agent.undoing import (
    let_go,
    let_go_of_kept,
    now_live,
    preview_of,
    restore_directory_times,
    take_back,
    to_take_back,
)
from aquiline.changes.kinds import SetPackages, SetUnit
from aquiline.changes.text import visible
from aquiline.errors import AquilineError, RunInterrupted, UsageError
from aquiline.execution import aftermath, deadline
from aquiline.execution.aftermath import Aftermath
from aquiline.execution.deadline import Now
from aquiline.execution.executor import Ended, Executor, ended_after
from aquiline.execution.noting import completing, note_taken_back
from aquiline.execution.recovery import (
    Assumption,
    Settled,
    foresee,
    in_effect,
    outstanding,
    settle,
    write_verdicts,
)
from aquiline.execution.undo import CannotUndo, Choice
from aquiline.journal.records import Outcome, RunRecord, StepRecord
from aquiline.journal.script import UndoScript
from aquiline.journal.store import Journal

Direction = Literal["finish", "undo"]


class Recovered(msgspec.Struct, frozen=True):
    """How a recovery ended."""

    exit_status: int
    #: The run that was interrupted.
    run: str
    status: str
    settled: tuple[Settled, ...] = ()
    error: AquilineError | None = None
    #: What could not be taken back, or was not to be.
    stays: tuple[CannotUndo, ...] = ()


class Assumed(msgspec.Struct, frozen=True):
    """What a person says became of a step that nothing on the host decides."""

    step: int
    what: Assumption
    #: Id of the run, or the beginning of it; empty where only one open run can be meant.
    run: str = ""


class Interruption(msgspec.Struct, frozen=True):
    """A run that did not end, and what is known of its steps."""

    run: RunRecord
    steps: tuple[StepRecord, ...]
    #: What would be decided of the steps that the crash left open, by number.
    verdicts: dict[int, Settled]


def interruptions(session: Session) -> list[Interruption]:
    """Return the runs that did not end, oldest first. Nothing is written anywhere."""
    found = []
    with session.reading() as journal:
        for run in journal.open_runs():
            steps = journal.steps(run.id)
            foreseen = foresee(steps, session.host, session.preimages)
            verdicts = {one.record.number: _with_scripts(session, one)[0] for one in foreseen}
            found.append(Interruption(run, tuple(steps), verdicts))
    return found


def recover(
    session: Session,
    direction: Direction,
    *,
    assumptions: Iterable[Assumed] = (),
    choices: Mapping[str, Choice] | None = None,
    on_step: OnStep = lambda _step, _performed: None,
) -> Recovered:
    """Finish the interrupted run, or take it back; `choices` are for what somebody changed since, path by path.

    What cannot be taken back stays, and is in what is returned; the run has ended then all the same.

    A crash inside an undo that was itself a recovery leaves two open runs; the older one is finished or taken back.

    Raises:
        RunInterrupted: a step is in doubt and nothing decides it; `assumptions` does.
        UndoConflict: somebody changed what would be restored, and nobody chose what to do; nothing was changed there.
        UsageError: an assumption names no step of an open run, or does not say which of several it means.
    """
    nothing = Recovered(0, "", "nothing to recover")
    with session.reading() as journal:
        if not journal.open_runs():
            session.state.refuse_locked()
            return nothing  # and nothing to write, on a host that never had a run least of all
    with session.changing(f"recover --{direction}") as journal:
        open_runs = journal.open_runs()
        if not open_runs:
            return nothing
        base, *recoveries = open_runs
        settled = _settle_all(session, journal, open_runs, assumptions)
        if direction == "finish":
            for one in settled:
                if one.record.run != base.id and one.verdict in ("run-again", "half-way"):
                    # Only so is it known what of the base is to be done again.
                    error = _run_again(session, journal, one, on_step)
                    if error is not None:
                        raise error
            for recovery in recoveries:
                journal.end_run(recovery.id, "interrupted")
            return _finish(session, journal, base, settled, on_step)
        return _undo(session, journal, base, recoveries, settled, on_step=on_step, choices=choices)


def _settle_all(
    session: Session, journal: Journal, open_runs: Sequence[RunRecord], assumptions: Iterable[Assumed] = ()
) -> tuple[Settled, ...]:
    steps = {run.id: journal.steps(run.id) for run in open_runs}
    said = _by_run(steps, assumptions)
    found: list[Settled] = []
    for run, records in steps.items():
        decided = settle(records, session.host, session.preimages, said[run])
        settled = [_accounted(session, journal, one) for one in decided]
        _note_taken_back(session, journal, records, settled)
        write_verdicts(journal, run, settled)
        found += settled
    doubtful = [one.record for one in found if one.verdict == "in-doubt"]
    if doubtful:
        flags = " ".join(f"--assume {_name(one, open_runs)}=done|not-done" for one in doubtful)
        why = next(one.why for one in found if one.verdict == "in-doubt")
        raise RunInterrupted(
            f"step {doubtful[0].number} of run {doubtful[0].run} is in doubt, {doubtful[0].description}: {why}",
            hint=f"look at the host, then say so: {flags}",
        )
    return tuple(found)


def _note_taken_back(
    session: Session, journal: Journal, records: Sequence[StepRecord], settled: Iterable[Settled]
) -> None:
    """Let the undo scripts know of commands that had been taken back when the crash came."""
    taken_back = completing(record.step for record in records if record.step is not None)
    for one in settled:
        if one.verdict in ("done", "assumed-done") and one.record.number in taken_back:
            note_taken_back(journal, session.state, taken_back[one.record.number])


def _let_go(session: Session, journal: Journal, run: RunRecord) -> None:
    """Let go of what the steps of a run, which is complete now, took back; a crash may have kept it from saying so."""
    steps = [one.known for one in journal.steps(run.id)]
    for name in completing(steps).values():
        note_taken_back(journal, session.state, name)
    let_go(session, steps)


def _name(record: StepRecord, open_runs: Sequence[RunRecord]) -> str:
    """Return a step as `--assume` takes it."""
    return f"{record.run}/{record.number}" if len(open_runs) > 1 else str(record.number)


def _by_run(
    steps: Mapping[str, Sequence[StepRecord]], assumptions: Iterable[Assumed]
) -> dict[str, dict[int, Assumption]]:
    """Return what was said by run and step."""
    said: dict[str, dict[int, Assumption]] = {run: {} for run in steps}
    for one in assumptions:
        record = _meant(one, steps)
        if said[record.run].setdefault(record.number, one.what) != one.what:
            raise UsageError(f"step {record.number} of run {record.run} is said to be done and not to be done")
    return said


def _meant(assumed: Assumed, steps: Mapping[str, Sequence[StepRecord]]) -> StepRecord:
    """Return the one step that `assumed` means.

    Of two runs that have a step of that number none is guessed, though one of the steps may be decided by now: who says
    the same again after a second crash means the first run.
    """
    runs = [run for run in steps if run.startswith(assumed.run.lower())]
    named = [record for run in runs for record in steps[run] if record.number == assumed.step]
    if not named:
        of_run = f" of a run {assumed.run}" if assumed.run else ""
        raise UsageError(
            f"there is no step {assumed.step}{of_run}; open: {', '.join(steps)}",
            hint="`aquiline recover --dry-run` lists the steps",
        )
    if len(named) > 1:
        listed = "; ".join(f"{one.run}/{one.number}, {one.description} ({one.status})" for one in named)
        flags = " or ".join(f"--assume {one.run}/{one.number}={assumed.what}" for one in named)
        raise UsageError(f"{len(named)} open runs have a step {assumed.step}: {listed}", hint=f"say which: {flags}")
    return named[0]


def _finish(
    session: Session, journal: Journal, base: RunRecord, settled: tuple[Settled, ...], on_step: OnStep
) -> Recovered:
    executor = executor_of(session, journal, base.id, on_step=on_step)
    if base.header.confirm_within and not base.awaits_confirmation:
        deadline.arm(journal, base.id, base.header.confirm_within)  # the crash came before the first step
    ended = executor.perform(outstanding(journal.steps(base.id)), half_way=_half_way(settled, base.id))
    if ended.status != "failed" and base.header.kind == "apply":
        ended = _later_stages(session, journal, base, executor)
    if ended.status == "failed":
        journal.end_run(base.id, "failed")
        return Recovered(15, base.id, "failed", settled, ended.error)
    if base.header.kind != "apply":
        restore_directory_times(session, journal, [journal.run(name) for name in base.header.undoes])
        _let_go(session, journal, base)
    change_ids = base.header.change_ids
    live = (base.header.profile, now_live(journal, change_ids) if base.header.kind in ("apply", "redo") else change_ids)
    journal.end_run(base.id, ended.status, live)
    return Recovered(18 if base.header.confirm_within else 0, base.id, ended.status, settled)


def _later_stages(session: Session, journal: Journal, base: RunRecord, executor: Executor) -> Ended:
    """Plan and perform what had been deferred when the crash came; the profile is in the archive."""
    done = journal.plans(base.id)
    profile = session.archive.get(base.header.profile)
    allowed = base.header.allow_irreversible
    next_stage = stages_after(session, journal, profile, allow_irreversible=allowed, done=done)
    steps = journal.steps(base.id)
    following = next_stage(done[-1], steps[-1].number + 1 if steps else 1)
    if following is None:
        return ended_after(done)
    journal.add_stage(base.id, following)
    return executor.execute(following, next_stage)


def _undo(
    session: Session,
    journal: Journal,
    base: RunRecord,
    recoveries: Sequence[RunRecord],
    settled: tuple[Settled, ...],
    *,
    on_step: OnStep,
    choices: Mapping[str, Choice] | None = None,
) -> Recovered:
    _bring_to_an_end(session, journal, settled, on_step)
    for recovery in recoveries:
        executor = executor_of(session, journal, recovery.id, on_step=on_step)
        ended = executor.perform(outstanding(journal.steps(recovery.id)), half_way=_half_way(settled, recovery.id))
        if ended.status == "failed":
            return _stopped(base, settled, ended.error)
        _let_go(session, journal, recovery)
        journal.end_run(recovery.id, "done")
    stays: tuple[CannotUndo, ...] = ()
    if to_take_back(journal, [base]):
        undone = take_back(
            session, journal, [base], kind="recovery", recovers=base.id, choices=choices, on_step=on_step
        )
        if undone.error is not None:
            return _stopped(base, settled, undone.error)
        stays = undone.undo.stays if undone.undo is not None else ()
    else:
        restore_directory_times(session, journal, [base])
    if journal.run(base.id).awaits_confirmation:
        journal.record(base.id, 0, "deadline-cancelled", {"run": base.id})
    standing = {one.step for one in stays}
    let_go_of_kept(session, [one for one in journal.steps(base.id) if one.number not in standing])
    # Nothing more can be done about what stays: a run that is open for it would keep the host from any other.
    status = "partly undone" if standing else "undone"
    journal.end_run(base.id, status)
    return Recovered(17 if any(not one.chosen for one in stays) else 0, base.id, status, settled, stays=stays)


def _stopped(base: RunRecord, settled: tuple[Settled, ...], error: AquilineError | None) -> Recovered:
    """Return what became of a recovery that a step stopped: the run stays open, and recovering again goes on."""
    return Recovered(17, base.id, "undo incomplete", settled, error)


def _bring_to_an_end(session: Session, journal: Journal, settled: Sequence[Settled], on_step: OnStep) -> None:
    """Bring what a crash left half way to where its undo can take it up; what fails is taken back from where it is."""
    for one in settled:
        if one.verdict == "half-way" and isinstance(one.record.known.change, SetUnit):
            # A unit need not be able to start only to be stopped again: its undo does not ask how far it came.
            journal.conclude(one.record.run, [Outcome(step=one.record.number, what="done", observed=one.observed)])
        elif one.verdict == "half-way" and isinstance(one.record.known.change, SetPackages):
            _leave_half_way(journal, one)
        elif one.verdict in ("run-again", "half-way"):
            _run_again(session, journal, one, on_step)


def _half_way(settled: Sequence[Settled], run: str) -> frozenset[int]:
    return frozenset(one.record.number for one in settled if one.record.run == run and one.verdict == "half-way")


def _accounted(session: Session, journal: Journal, decided: Settled) -> Settled:
    """Make durable what packages' own scripts did in a transaction that a crash kept from saying so."""
    settled, found = _with_scripts(session, decided)
    if found is None:
        return settled
    record = settled.record
    script = UndoScript(session.state, record.run, session.host.root, kept=session.host.kept_folder)
    is_half_way = settled.verdict == "half-way"
    aftermath.record(record.known, found, record.run, journal, script, is_half_way=is_half_way)
    return msgspec.structs.replace(settled, observed=aftermath.observed_with(record.known, found, session.host))


def _with_scripts(session: Session, settled: Settled) -> tuple[Settled, Aftermath | None]:
    """Return what became of a transaction, and what scripts did in it; None where it did not happen.

    A script that runs before the package manager writes anything down (rpm's ``%pretrans`` and ``%pre``, hooks of apt)
    leaves the packages as they were: what is around them tells that it ran.
    """
    record = settled.record
    if not isinstance(record.known.change, SetPackages) or settled.verdict not in ("done", "half-way", "not-done"):
        return settled, None
    surroundings = aftermath.captured(record.known, record.run, session.state)
    if surroundings is None:
        return settled, None
    found = aftermath.aftermath(surroundings, session.host)
    if settled.verdict != "not-done":
        return settled, found
    if not found.written:
        return settled, None
    why = f"the packages are as before, but not what is around them: {visible(found.written[0])}"
    return msgspec.structs.replace(settled, verdict="half-way", why=why), found


def _leave_half_way(journal: Journal, settled: Settled) -> None:
    """Call a transaction failed that a crash cut short: it may come to no end, and is taken back from where it is."""
    outcome = Outcome(step=settled.record.number, what="failed", observed=settled.observed, note=settled.why)
    journal.conclude(settled.record.run, [outcome])


def _run_again(session: Session, journal: Journal, settled: Settled, on_step: OnStep) -> AquilineError | None:
    """Bring what may be done again to its end, so that its undo finds what it expects (D12); return why that failed."""
    record = settled.record
    executor = executor_of(session, journal, record.run, on_step=on_step)
    return executor.perform([record.known], half_way=frozenset([record.number])).error


# ---- confirm or revert ----------------------------------------------------------------------------------------------


def confirm(session: Session, selector: str | None = None) -> str:
    """Keep a run that waits for confirmation; returns its id.

    Raises:
        UsageError: no run waits.
    """
    with session.reading() as journal:
        _waiting(journal, selector)
    with session.changing("confirm") as journal:
        run = _waiting(journal, selector)
        journal.record(run.id, 0, "confirmed")
        return run.id


def _waiting(journal: Journal, selector: str | None) -> RunRecord:
    if selector is None:
        found = next((run for run in journal.runs() if run.awaits_confirmation), None)
        if found is None:
            raise UsageError("no run waits for confirmation", hint="`aquiline log` lists the runs")
        return found
    run = journal.run(selector)
    if not run.awaits_confirmation:
        raise UsageError(f"run {run.id} does not wait for confirmation")
    return run


class Reverted(msgspec.Struct, frozen=True):
    """A run that nobody confirmed in time."""

    run: str
    #: Objects that somebody changed since: they were left as they are.
    skipped: tuple[str, ...] = ()


def waiting(session: Session, *, now: Now = deadline.uptime) -> dict[str, float]:
    """Return the runs that wait for confirmation, newest first, with the seconds each has left."""
    with session.reading() as journal:
        return {
            run.id: deadline.remaining(journal, run.id, now=now) for run in journal.runs() if run.awaits_confirmation
        }


def revert_expired(
    session: Session, *, on_step: OnStep = lambda _step, _performed: None, now: Now = deadline.uptime
) -> list[Reverted]:
    """Take back every run whose deadline is over. Anybody may call it, any number of times.

    An object that somebody changed since is left as it is: at a deadline nobody is there to choose, and the rest must
    not wait for it.

    Raises:
        HostLocked: a command is at work; ask again when it has ended.
    """
    if all(left > 0 for left in waiting(session, now=now).values()):
        return []
    with session.changing("revert") as journal:
        expired = [
            run
            for run in journal.runs()
            if run.awaits_confirmation and deadline.remaining(journal, run.id, now=now) <= 0
        ]
        return [_revert(session, journal, run, on_step) for run in expired]


def reverted_already(session: Session, selector: str | None = None) -> list[Reverted]:
    """Return the run that somebody else took back because its deadline was over, where that is what is to be confirmed.

    Without `selector` that is the last run that was applied, as long as none waits.
    """
    with session.reading() as journal:
        if selector is not None:
            chosen = journal.run(selector)
        else:
            runs = journal.runs()
            newest = next((run for run in runs if run.header.kind == "apply"), None)
            if newest is None or any(run.awaits_confirmation for run in runs):
                return []
            chosen = newest
        elapsed = [event for event in journal.events(chosen.id, 0) if event.what == "elapsed"]
        return [Reverted(chosen.id, tuple(event.data.get("skipped", ()))) for event in elapsed]


def _revert(session: Session, journal: Journal, run: RunRecord, on_step: OnStep) -> Reverted:
    """Take one run back; a crash on the way leaves it waiting, so that whoever comes next goes on from there."""
    skipped: tuple[str, ...] = ()
    was_recovered = _end_interrupted(session, journal, run, on_step)
    if not was_recovered and in_effect(journal.steps(run.id)):
        conflicts = preview_of(session, journal, [run]).conflicts
        skipped = tuple(sorted({one.path for one in conflicts}))
        undone = take_back(session, journal, [run], choices=dict.fromkeys(skipped, "skip"), on_step=on_step)
        if undone.error is not None:
            raise undone.error
    journal.record(run.id, 0, "elapsed", {"skipped": skipped})
    return Reverted(run.id, skipped)


def _end_interrupted(session: Session, journal: Journal, run: RunRecord, on_step: OnStep) -> bool:
    """Bring what a crash left open to its end: the run itself is taken back, an undo of it is finished.

    Return whether `run` itself was open and has been taken back, as far as it can be.
    """
    open_runs = journal.open_runs()
    if not open_runs:
        return False
    settled = _settle_all(session, journal, open_runs)
    base, *recoveries = open_runs
    if base.id == run.id:
        recovered = _undo(session, journal, base, recoveries, settled, on_step=on_step)
    elif run.id in base.header.undoes:
        recovered = _finish(session, journal, base, settled, on_step)
    else:
        session.refuse_interrupted(journal)
        return False
    if recovered.error is not None:
        raise recovered.error
    return base.id == run.id
