"""Dry-run and live run of a profile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from aquiline.agent.executing import OnStep, executor_of
from aquiline.agent.itself import loaded_code
from aquiline.agent.session import Session, registry_for
from aquiline.agent.undoing import now_live, restore_directory_times, take_back
from aquiline.changes.canonical import encode
from aquiline.changes.kinds import CopyOf
from aquiline.changes.perform import OPAQUE_KINDS, copied_file
from aquiline.changes.steps import Plan, Step
from aquiline.errors import AquilineError, HostError, Interrupted, IrreversibleRefused, PlanStale
from aquiline.execution import deadline
from aquiline.execution.executor import Ended, Executor, IsStopped, NextStage
from aquiline.execution.recovery import in_effect
from aquiline.host.naming import observe
from aquiline.host.objects import RegularFile, same_but_times
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Reading
from aquiline.journal.store import Journal
from aquiline.planning.allowance import kept_files
from aquiline.planning.planner import plan as plan_stage
from aquiline.profile import Profile

OnFailure = Literal["stop", "undo"]

#: What a dry-run says of a host without a journal, new or removed with all its traces.
NO_RUNS = "no run is recorded on this host: what corrects drift and what is newly wanted cannot be told apart"


class RunEnded(msgspec.Struct, frozen=True):
    """How a command that changes the host ended."""

    exit_status: int
    #: Empty where there was nothing to do and so no run.
    run: str = ""
    status: str = "unchanged"
    plan: Plan | None = None
    failed: Step | None = None
    error: AquilineError | None = None
    #: The undo run that took a failed run back.
    undo_run: str = ""
    #: Components that the next run is to do, for this one changed aquiline itself.
    left: tuple[str, ...] = ()


class SavedPlan(msgspec.Struct, frozen=True):
    """A plan kept in a file, with the profile it was made from: later stages are planned from that."""

    plan: Plan
    profile: dict[str, object]
    #: The host's name, where the profile does not say it.
    name: str = ""
    #: The last run in the journal when it was made: a plan is good once, and for the host as that run left it (R12).
    after: str = ""


def dry_run(session: Session, profile: Profile, *, only: Iterable[str] = ()) -> Plan:
    """Return what `profile` would do to this host. Nothing is written anywhere."""
    with session.reading() as journal:
        return _plan(session, journal, profile, only)


def plan_to_save(session: Session, profile: Profile, *, only: Iterable[str] = ()) -> SavedPlan:
    """Return what `profile` would do to this host, with all that applying it later needs, for a person to read."""
    with session.reading() as journal:
        plan = _plan(session, journal, profile, only)
        if plan.steps and not journal.has_runs() and not session.lost_journal():
            plan = msgspec.structs.replace(plan, notes=(*plan.notes, NO_RUNS))
        return SavedPlan(plan, profile.tree, profile.given_name, _last_run(journal))


def _last_run(journal: Journal) -> str:
    return next((run.id for run in journal.runs()), "")


def _plan(session: Session, journal: Journal, profile: Profile, only: Iterable[str]) -> Plan:
    return plan_stage(profile, session.host, registry_for(profile), session.known(journal, profile), only=only)


def apply(
    session: Session,
    profile: Profile,
    *,
    saved: SavedPlan | None = None,
    only: Iterable[str] = (),
    on_failure: OnFailure = "stop",
    allow_irreversible: bool = False,
    confirm_within: float = 0.0,
    change_ids: tuple[str, ...] = (),
    on_step: OnStep = lambda _step, _performed: None,
    on_plan: Callable[[Plan], None] = lambda _plan: None,
    before_first_step: Callable[[str], None] = lambda _run: None,
    is_stopped: IsStopped = lambda: False,
) -> RunEnded:
    """Bring this host to `profile`; `saved` is applied exactly or refused as stale.

    Raises:
        HostLocked, RunInterrupted, HostFrozen, IrreversibleRefused, PlanStale: before anything was changed.
    """
    with session.changing("apply") as journal:
        session.refuse_interrupted(journal)
        session.refuse_frozen(journal)
        plan = saved.plan if saved is not None else _plan(session, journal, profile, only)
        if saved is not None:
            refuse_stale(session, journal, saved)
        on_plan(plan)
        allow_irreversible |= session.policy().irreversible == "allow"
        refuse_irreversible(plan, allow=allow_irreversible)
        live = journal.live()
        is_live = live is not None and live.profile == profile.digest and set(change_ids) <= set(live.change_ids)
        has_failed = any(report.state == "failed" for report in plan.components.values())
        if not plan.steps and not _deferred(plan) and (is_live or has_failed):
            return RunEnded(15 if has_failed else 0, plan=plan)
        session.archive.put(profile)
        run = journal.begin_run(
            session.header(
                "apply", profile=profile.digest, change_ids=tuple(sorted(change_ids)), confirm_within=confirm_within,
                allow_irreversible=allow_irreversible,
                components={name: report.version for name, report in plan.components.items() if report.version},
            ),
            plan,
        ).id  # fmt: skip
        if confirm_within:
            deadline.arm(journal, run, confirm_within)
        _prepare(journal, run, before_first_step)
        executor = executor_of(session, journal, run, on_step=on_step, is_stopped=is_stopped)
        live_run = _LiveRun(session, journal, run, plan, profile, on_step)
        return live_run.perform(
            executor, stages_after(session, journal, profile, allow_irreversible=allow_irreversible), on_failure
        )


def _prepare(journal: Journal, run: str, before_first_step: Callable[[str], None]) -> None:
    """Let the caller get ready; what it raises ends a run in which nothing was done."""
    try:
        before_first_step(run)
    except AquilineError:
        if journal.run(run).awaits_confirmation:
            journal.record(run, 0, "deadline-cancelled", {"run": run})
        journal.end_run(run, "failed")
        raise


def _deferred(plan: Plan) -> set[str]:
    return {name for name, report in plan.components.items() if report.state == "deferred"}


def stages_after(
    session: Session, journal: Journal, profile: Profile, *, allow_irreversible: bool, done: Sequence[Plan] = ()
) -> NextStage:
    """Return the planning function that an executor asks for what was deferred; `done` are stages before its first."""
    stages, code = {stage.stage: stage for stage in done}, loaded_code()

    def next_stage(stage: Plan, number: int) -> Plan | None:
        stages[stage.stage] = stage
        waiting = _deferred(stage)
        if not waiting or stage.itself or loaded_code() != code:
            return None
        known = msgspec.structs.replace(
            session.known(journal, profile),
            ran=frozenset(_commands_of(stages.values())),
            kept_bytes=sum(_kept_bytes(session, stage) for stage in stages.values()),
        )
        following = plan_stage(
            profile, session.host, registry_for(profile), known,
            remaining=waiting, stage=stage.stage + 1, first_number=number,
        )  # fmt: skip
        refuse_irreversible(following, allow=allow_irreversible)
        if _deferred(following) == waiting and not following.steps:
            raise AquilineError(f"{', '.join(sorted(waiting))} wait for something that no step of this plan does")
        return following

    return next_stage


def _commands_of(stages: Iterable[Plan]) -> Iterator[str]:
    for stage in stages:
        yield from (encode(step.change) for step in stage.steps if isinstance(step.change, OPAQUE_KINDS))


def _kept_bytes(session: Session, stage: Plan) -> int:
    """Return what the pre-images of a stage that ran take, holes left out."""
    kept = (one for step in stage.steps for _, one in kept_files(step.change, step.before, step.after, step.undo))
    preimages = session.preimages
    return sum(
        min(one.size, preimages.stored_bytes(one.sha256)) if preimages.has(one.sha256) else one.size for one in kept
    )


class _LiveRun:
    """A run that the journal has begun."""

    def __init__(
        self, session: Session, journal: Journal, run: str, plan: Plan, profile: Profile, on_step: OnStep
    ) -> None:
        self._session = session
        self._journal = journal
        self._run = run
        self._plan = plan
        self._profile = profile
        self._on_step = on_step

    def perform(self, executor: Executor, next_stage: NextStage, on_failure: OnFailure) -> RunEnded:
        """Perform the plan and the stages after it."""
        ended = executor.execute(self._plan, next_stage)
        if ended.status == "failed":
            return self._failed(ended, on_failure)
        header = self._journal.run(self._run).header
        brought = now_live(self._journal, header.change_ids)
        self._journal.end_run(self._run, ended.status, (self._profile.digest, brought))
        if ended.status == "partial":
            status = 15 if ended.has_failed_components else 3
            return RunEnded(status, self._run, "partial", self._plan, left=ended.left)
        return RunEnded(18 if header.confirm_within else 0, self._run, "done", self._plan)

    def _failed(self, ended: Ended, on_failure: OnFailure) -> RunEnded:
        if not in_effect(self._journal.steps(self._run)):
            with contextlib.suppress(HostError):  # what failed before is the news
                restore_directory_times(self._session, self._journal, [self._journal.run(self._run)])
        self._journal.end_run(self._run, "failed")
        if on_failure == "undo":
            return self._undo(ended)
        return RunEnded(_status_of(ended.error), self._run, "failed", self._plan, ended.failed, ended.error)

    def _undo(self, ended: Ended) -> RunEnded:
        def ended_as(status: int, words: str, error: AquilineError | None, undo_run: str = "") -> RunEnded:
            return RunEnded(status, self._run, words, self._plan, ended.failed, error, undo_run)

        try:
            undone = take_back(self._session, self._journal, [self._journal.run(self._run)], on_step=self._on_step)
        except AquilineError as error:
            return ended_as(20, "failed, undo failed", error)
        if undone.exit_status:
            return ended_as(20, "failed, undo failed", undone.error or ended.error, undone.run)
        return ended_as(16, "failed and undone", ended.error, undone.run)


def _status_of(error: AquilineError | None) -> int:
    """Return the exit status of a failed run: stale, interrupted and refused are their own, all else is 15."""
    return error.exit_status if isinstance(error, PlanStale | Interrupted | IrreversibleRefused) else 15


def refuse_irreversible(plan: Plan, *, allow: bool) -> None:
    """Refuse a plan with a step that has no undo, unless that is allowed (R16, R24)."""
    steps = [step for step in plan.steps if step.undo.class_ == "irreversible"]
    if steps and not allow:
        listed = "; ".join(f"step {step.number}, {step.description}: {step.undo.reason}" for step in steps)
        raise IrreversibleRefused(
            f"{len(steps)} of {len(plan.steps)} steps cannot be taken back: {listed}",
            hint="--allow-irreversible does it all the same",
        )


def _holds(host: Reading, source: CopyOf) -> bool:
    found = host.observe(source.path)
    return isinstance(found, RegularFile) and found.sha256 == source.sha256


def refuse_stale(session: Session, journal: Journal, saved: SavedPlan) -> None:
    """Refuse a saved plan where the host is not what it was made for; every step is looked at before the first runs."""
    plan, last = saved.plan, _last_run(journal)
    if last != saved.after:
        raise PlanStale(f"run {last} has changed this host since this was planned", hint="plan again")
    forbidden, host = session.forbidden(), Overlay(session.host)
    seen: set[str] = set()
    stale = []
    for step in plan.steps:
        forbidden.refuse(step.change, host)
        source = copied_file(step)
        if source is not None and source.path not in seen and not _holds(session.host, source):
            stale.append(source.path)
        for at in step.before:
            if at.path not in seen and not same_but_times(observe(session.host, at.path), at.object):
                stale.append(at.path)
            seen.add(at.path)
        seen.update(at.path for at in step.after)
    if stale:
        raise PlanStale(
            f"{len(stale)} of {len(seen)} objects are not what they were when this was planned: {', '.join(stale[:5])}",
            hint="plan again",
        )
