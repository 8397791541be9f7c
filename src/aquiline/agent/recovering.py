"""After a crash, and after a deadline: finish a run or take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from aquiline.agent.applying import now_live, stages_after
from aquiline.agent.session import Session
from aquiline.agent.undoing import OnStep, let_go, let_go_of_kept, preview_of, restore_directory_times, take_back
from aquiline.changes.kinds import SetPackages, SetUnit
from aquiline.errors import AquilineError, RunInterrupted, UsageError
from aquiline.execution import aftermath, deadline
from aquiline.execution.deadline import Now
from aquiline.execution.executor import Ended, Executor
from aquiline.execution.recovery import (
    Assumption,
    Settled,
    foresee,
    in_effect,
    outstanding,
    settle,
    write_verdicts,
)
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
            verdicts = {one.record.number: one for one in foresee(steps, session.host, session.preimages)}
            found.append(Interruption(run, tuple(steps), verdicts))
    return found


def recover(
    session: Session,
    direction: Direction,
    *,
    assumptions: Mapping[int, Assumption] | None = None,
    on_step: OnStep = lambda _step, _performed: None,
) -> Recovered:
    """Finish the interrupted run, or take it back.

    A crash inside an undo that was itself a recovery leaves two open runs; the older one is finished or taken back.

    Raises:
        RunInterrupted: a step is in doubt and nothing decides it; `assumptions` does, by step number.
    """
    with session.changing(f"recover --{direction}") as journal:
        open_runs = journal.open_runs()
        if not open_runs:
            return Recovered(0, "", "nothing to recover")
        base, *recoveries = open_runs
        settled = _settle_all(session, journal, open_runs, assumptions)
        if direction == "finish":
            for one in settled:
                if one.record.run != base.id and one.verdict in ("run-again", "half-way"):
                    # Only so is it known what of the base is to be done again.
                    _run_again(session, journal, one, on_step)
            for recovery in recoveries:
                journal.end_run(recovery.id, "interrupted")
            return _finish(session, journal, base, settled, on_step)
        return _undo(session, journal, base, recoveries, settled, on_step)


def _settle_all(
    session: Session, journal: Journal, open_runs: Sequence[RunRecord], assumptions: Mapping[int, Assumption] | None
) -> tuple[Settled, ...]:
    found: list[Settled] = []
    for run in open_runs:
        decided = settle(journal.steps(run.id), session.host, session.preimages, assumptions)
        settled = [_accounted(session, journal, one) for one in decided]
        write_verdicts(journal, run.id, settled)
        found += settled
    doubtful = [one for one in found if one.verdict == "in-doubt"]
    if doubtful:
        one = doubtful[0]
        flags = " ".join(f"--assume {each.record.number}=done|not-done" for each in doubtful)
        raise RunInterrupted(
            f"step {one.record.number} of run {one.record.run} is in doubt, {one.record.description}: {one.why}",
            hint=f"look at the host, then say so: {flags}",
        )
    return tuple(found)


def _executor(session: Session, journal: Journal, run: str, on_step: OnStep) -> Executor:
    return Executor(session.host, journal, session.state, session.preimages, run, on_step=on_step)


def _finish(
    session: Session, journal: Journal, base: RunRecord, settled: tuple[Settled, ...], on_step: OnStep
) -> Recovered:
    executor = _executor(session, journal, base.id, on_step)
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
        let_go(session, [one.known for one in journal.steps(base.id)])
    change_ids = base.header.change_ids
    live = (base.header.profile, now_live(journal, change_ids) if base.header.kind == "apply" else change_ids)
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
        failed = any(report.state == "failed" for stage in done for report in stage.components.values())
        return Ended("partial" if failed else "done")
    journal.add_stage(base.id, following)
    return executor.execute(following, next_stage)


def _undo(
    session: Session,
    journal: Journal,
    base: RunRecord,
    recoveries: Sequence[RunRecord],
    settled: tuple[Settled, ...],
    on_step: OnStep,
) -> Recovered:
    for one in settled:
        if one.verdict == "half-way" and isinstance(one.record.known.change, SetUnit):
            # A unit need not be able to start only to be stopped again: its undo does not ask how far it came.
            journal.conclude(one.record.run, [Outcome(step=one.record.number, what="done", observed=one.observed)])
        elif one.verdict == "half-way" and isinstance(one.record.known.change, SetPackages):
            _leave_half_way(journal, one)
        elif one.verdict in ("run-again", "half-way"):
            _run_again(session, journal, one, on_step)
    for recovery in recoveries:
        executor = _executor(session, journal, recovery.id, on_step)
        ended = executor.perform(outstanding(journal.steps(recovery.id)), half_way=_half_way(settled, recovery.id))
        if ended.status == "failed":
            return Recovered(17, base.id, "undo incomplete", settled, ended.error)
        let_go(session, [one.known for one in journal.steps(recovery.id)])
        journal.end_run(recovery.id, "done")
    if _has_something_to_undo(journal.steps(base.id)):
        undone = take_back(session, journal, [base], kind="recovery", recovers=base.id, on_step=on_step)
        if undone.exit_status:
            return Recovered(17, base.id, "undo incomplete", settled, undone.error)
    restore_directory_times(session, journal, [base])
    if journal.run(base.id).awaits_confirmation:
        journal.record(base.id, 0, "deadline-cancelled", {"run": base.id})
    let_go_of_kept(session, journal.steps(base.id))
    journal.end_run(base.id, "undone")
    return Recovered(0, base.id, "undone", settled)


def _has_something_to_undo(records: Sequence[StepRecord]) -> bool:
    """Whether anything of a run stands: also a transaction of packages that came to no end."""
    return bool(in_effect(records)) or any(
        one.status == "failed" and one.step is not None and isinstance(one.step.change, SetPackages) for one in records
    )


def _half_way(settled: Sequence[Settled], run: str) -> frozenset[int]:
    return frozenset(one.record.number for one in settled if one.record.run == run and one.verdict == "half-way")


def _accounted(session: Session, journal: Journal, settled: Settled) -> Settled:
    """Find out what packages' own scripts did in a transaction that a crash kept from saying so."""
    record = settled.record
    if not isinstance(record.known.change, SetPackages) or settled.verdict not in ("done", "half-way"):
        return settled
    surroundings = aftermath.captured(record.known, record.run, session.state)
    if surroundings is None:
        return settled
    found = aftermath.aftermath(surroundings, session.host)
    script = UndoScript(session.state, record.run, session.host.root, kept=session.host.kept_folder)
    is_half_way = settled.verdict == "half-way"
    aftermath.record(record.known, found, record.run, journal, script, is_half_way=is_half_way)
    return msgspec.structs.replace(settled, observed=aftermath.observed_with(record.known, found, session.host))


def _leave_half_way(journal: Journal, settled: Settled) -> None:
    """Call a transaction failed that a crash cut short: it may come to no end, and is taken back from where it is."""
    outcome = Outcome(step=settled.record.number, what="failed", observed=settled.observed, note=settled.why)
    journal.conclude(settled.record.run, [outcome])


def _run_again(session: Session, journal: Journal, settled: Settled, on_step: OnStep) -> None:
    """Bring what may be done again to its end, so that its undo finds what it expects (D12)."""
    record = settled.record
    executor = _executor(session, journal, record.run, on_step)
    ended = executor.perform([record.known], half_way=frozenset([record.number]))
    if ended.error is not None:
        raise ended.error


# ---- confirm or revert ----------------------------------------------------------------------------------------------


def confirm(session: Session, selector: str | None = None) -> str:
    """Keep a run that waits for confirmation; returns its id.

    Raises:
        UsageError: no run waits.
    """
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


def _revert(session: Session, journal: Journal, run: RunRecord, on_step: OnStep) -> Reverted:
    """Take one run back; a crash on the way leaves it waiting, so that whoever comes next goes on from there."""
    skipped: tuple[str, ...] = ()
    _end_interrupted(session, journal, run, on_step)
    if in_effect(journal.steps(run.id)):
        conflicts = preview_of(session, journal, [run]).conflicts
        skipped = tuple(sorted({one.path for one in conflicts}))
        undone = take_back(session, journal, [run], choices=dict.fromkeys(skipped, "skip"), on_step=on_step)
        if undone.error is not None:
            raise undone.error
    journal.record(run.id, 0, "elapsed", {"skipped": skipped})
    return Reverted(run.id, skipped)


def _end_interrupted(session: Session, journal: Journal, run: RunRecord, on_step: OnStep) -> None:
    """Bring what a crash left open to its end: the run itself is taken back, an undo of it is finished."""
    open_runs = journal.open_runs()
    if not open_runs:
        return
    settled = _settle_all(session, journal, open_runs, None)
    base, *recoveries = open_runs
    if base.id == run.id:
        recovered = _undo(session, journal, base, recoveries, settled, on_step)
    elif run.id in base.header.undoes:
        recovered = _finish(session, journal, base, settled, on_step)
    else:
        session.refuse_interrupted(journal)
        return
    if recovered.error is not None:
        raise recovered.error
