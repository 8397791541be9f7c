"""The work for a target: one move after the other until the host is there, or something stands in the way.

Theory of operation

1. That a target is being tried is durable before the first move. Who finds that it was, and that no end was recorded,
   looks into the journal: a run that failed for it is a failure, anything else goes on (`Attempt`).
2. Each move is decided anew on what the journal says (`aquiline.agent.reconciling`), and made by what a person at this
   host would use: apply, undo, recover. They refuse before they change anything; their refusals are reported, because
   no run tells of them.
3. A failure is final for this target (D17). What a person at the host holds up (a freeze, a lock, a step in doubt) is
   not: it is asked again with the next poll.
4. Undo and revert are proved to agree by planning the profile that undo should have left: nothing may be left to do
   (D19). Otherwise the host is held, and only a target that a person released is tried.
5. A run with a deadline begins only if a confirmer can be reached, and is confirmed over a connection of its own once
   it is over (D22). Whatever becomes of this process, the deadline is on disk before the first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from aquiline import __version__
from aquiline.agent.applying import RunEnded, apply, dry_run
from aquiline.agent.daemon.fetching import at_hand
from aquiline.agent.daemon.jobs import Outcome
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused, Link
from aquiline.agent.daemon.memory import FINAL, Attempt, Held, Memory, Result
from aquiline.agent.daemon.outbox import Letter, Outbox
from aquiline.agent.daemon.reporting import Foreseen, facts_with_runs, failed_report, letter_of_plans
from aquiline.agent.daemon.standpoint import standpoint
from aquiline.agent.reconciling import Arrived, Bring, Move, Prove, Recover, TakeBack, next_move
from aquiline.agent.recovering import confirm, recover, revert_expired, waiting
from aquiline.agent.session import Session
from aquiline.agent.undoing import undo
from aquiline.changes.steps import Plan
from aquiline.errors import (
    AquilineError,
    HostFrozen,
    HostLocked,
    IrreversibleRefused,
    PlanStale,
    RunInterrupted,
)
from aquiline.execution.executor import IsStopped
from aquiline.journal.records import RunRecord
from aquiline.journal.store import Journal
from aquiline.planning.facts import facts_of
from aquiline.profile import Profile
from aquiline.protocol.messages import PROTOCOL, Report, Target

#: Moves for one target: taking back, bringing, proving, and a crash at each.
_MOST_MOVES = 12
#: How often a target is begun whose work dies, or changes the program that does it.
_MOST_BEGINNINGS = 4
#: Exit status of a run that leaves something to the next one.
_LEFT = 3
#: Seconds between two tries to reach a confirmer.
_PATIENCE = 2.0
#: What may be tried again without anybody asking, by what stands in the way.
_LATER: dict[type[AquilineError], Result] = {
    HostLocked: "locked",
    HostFrozen: "frozen",
    RunInterrupted: "in-doubt",
    BrokerAway: "away",
}


class _Refused(Exception):
    """The plan is not one to be carried out: this takes it out of `apply`, before anything is changed."""

    def __init__(self, error: AquilineError, plan: Plan, *, holds: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.plan = plan
        self.holds = holds


class Surroundings(msgspec.Struct, frozen=True):
    """What a run needs besides the host."""

    #: The host's name, where no profile says it.
    name: str = ""
    #: Called with the plan before the first step: all code that the run needs is to be imported then.
    on_plan: Callable[[Plan], None] = lambda _plan: None
    #: Called with a run that has a deadline, before its first step: something is to watch it from then on.
    watch: Callable[[str], None] = lambda _run: None
    is_stopped: IsStopped = lambda: False
    sleep: Callable[[float], None] = time.sleep


class TargetWork:
    """Brings one host to one target."""

    def __init__(self, session: Session, link: Link, target: Target, around: Surroundings) -> None:
        self._session = session
        self._link = link
        self._target = target
        self._around = around
        self._memory = Memory(session.state)
        self._outbox = Outbox(session.state)
        self._before = self._memory.attempt()

    def __call__(self) -> Outcome:
        """Do it; return how it ended."""
        self._session.generation = self._target.generation
        try:
            return self._end(self._begin() or self._moves())
        finally:
            self._session.generation = 0

    # ---- beginning and end ----------------------------------------------------------------------------------------

    def _begin(self) -> Outcome | None:
        """Make the attempt durable; return its end where it was begun before and turns out to be over."""
        before = self._before
        goes_on = before.is_about(self._target)
        if goes_on and before.result in FINAL and not before.unread_by:
            return Outcome(before.result, before.exit_status, before.because)
        continues = goes_on and before.result in ("", "again")
        if continues:
            failed = self._failed_since(before.after)
            if failed is not None:
                return failed
            if before.begun >= _MOST_BEGINNINGS:
                return self._refuse(AquilineError(f"the work for this target came to no end {before.begun} times"))
        self._memory.keep_attempt(
            Attempt(
                generation=self._target.generation,
                released=self._target.released,
                after=before.after if continues else self._last_sequence(),
                begun=before.begun + 1 if continues else 1,
                settled=before.settled,
            )
        )
        return None

    def _last_sequence(self) -> int:
        with self._session.reading() as journal:
            return next((run.sequence for run in journal.runs()), 0)

    def _failed_since(self, after: int) -> Outcome | None:
        """Return the failure of a run that was begun for this target and of which nobody was told."""
        with self._session.reading() as journal:
            for run in journal.runs():
                if run.sequence <= after or run.header.generation != self._target.generation:
                    continue
                if run.status in ("failed", "partial", "incomplete") and not is_left_to_the_next(journal, run):
                    return Outcome("failed", 15 if run.header.kind == "apply" else 17, f"run {run.id}: {run.status}")
        return None

    def _end(self, outcome: Outcome) -> Outcome:
        attempt = self._memory.attempt()
        if outcome.result == "reached":
            self._memory.let_go()
        if not attempt.is_about(self._target) or attempt.result != outcome.result:
            self._memory.keep_attempt(
                msgspec.structs.replace(
                    attempt,
                    generation=self._target.generation,
                    released=self._target.released,
                    result=outcome.result,
                    exit_status=outcome.exit_status,
                    because=outcome.because,
                    settled=self._target.generation if outcome.is_final else attempt.settled,
                )
            )
        return outcome

    # ---- moves ----------------------------------------------------------------------------------------------------

    def _moves(self) -> Outcome:
        for _ in range(_MOST_MOVES):
            try:
                ended = self._confirmed_first() or self._make(self._next())
            except AquilineError as error:
                return self._refuse(error)
            if ended is not None:
                return ended
        return self._refuse(AquilineError(f"the target was not reached in {_MOST_MOVES} moves"))

    def _next(self) -> Move:
        revert_expired(self._session)
        with self._session.reading() as journal:
            return next_move(standpoint(journal), self._target)

    def _make(self, move: Move) -> Outcome | None:
        """Make one move; return an end where it is the last one."""
        held = self._memory.held()
        is_released = held is None or self._target.released >= held.generation
        if held is not None and not is_released and isinstance(move, TakeBack | Bring):
            return self._refuse(HostFrozen(f"held since generation {held.generation}: {held.because}"), "held")
        match move:
            case Arrived():
                return self._rest() or self._agree(may_differ=held is not None and is_released) or Outcome("reached")
            case Recover():
                return self._recover(move)
            case TakeBack():
                return self._take_back(move)
            case Bring():
                return self._apply(move.change_ids)
            case Prove():
                return self._prove(may_differ=held is not None and is_released)

    def _rest(self) -> Outcome | None:
        """Bring what the last run did not: what failed, or what it left as it changed the program itself (D16)."""
        with self._session.reading() as journal:
            last = next(iter(journal.runs()), None)
        is_partial = last is not None and (last.header.kind, last.status) == ("apply", "partial")
        return self._apply(last.header.change_ids) if last is not None and is_partial else None

    def _agree(self, *, may_differ: bool) -> Outcome | None:
        """Hold the host where undo has made the target's profile live and it is not what the host is (D19).

        A command that is to run always says nothing about that.
        """
        if not self._target.profile or not (self._memory.held() is not None or self._has_taken_back()):
            return None
        if may_differ:
            return self._apply(())
        profile = at_hand(self._session, self._link, self._target.profile, self._around.name)
        plan = dry_run(self._session, profile)
        lasting = tuple(step for step in plan.steps if not getattr(step.change, "always", False))
        if is_empty(msgspec.structs.replace(plan, steps=lasting)):
            return None
        return self._refuse_plan(_Refused(HostFrozen("undo and revert differ: held"), plan, holds=True), profile)

    def _has_taken_back(self) -> bool:
        """Return whether the last that was done here is an undo for this target."""
        with self._session.reading() as journal:
            last = next(iter(journal.runs()), None)
        return last is not None and (last.header.kind, last.header.generation) == ("undo", self._target.generation)

    def _recover(self, move: Recover) -> Outcome | None:
        recovered = recover(self._session, "finish" if move.finish else "undo")
        if recovered.exit_status == 18:
            self._memory.keep_waiting(recovered.run)
        elif recovered.exit_status == _LEFT:
            return Outcome("again", _LEFT)
        elif recovered.exit_status:
            because = recovered.error.message if recovered.error is not None else recovered.status
            return Outcome("failed", recovered.exit_status, f"run {recovered.run}: {because}")
        return None

    def _take_back(self, move: TakeBack) -> Outcome | None:
        with self._session.reading() as journal:
            runs = [journal.run(run) for run in move.runs]
        undone = undo(self._session, runs, is_stopped=self._around.is_stopped)
        if undone.exit_status:
            because = undone.error.message if undone.error is not None else "something stays"
            return Outcome("failed", undone.exit_status, f"run {undone.run}: {because}")
        return None

    def _prove(self, *, may_differ: bool) -> Outcome | None:
        """Make the target's profile live where that changes nothing, or where a person has released the host."""
        if not self._target.profile:
            return Outcome("reached")  # nothing was ever compiled for this host: what undo left is all there is
        return self._apply((), must_be_empty=not may_differ)

    def _apply(self, change_ids: tuple[str, ...], *, must_be_empty: bool = False) -> Outcome | None:
        profile = at_hand(self._session, self._link, self._target.profile, self._around.name)

        plans: list[Plan] = []

        def on_plan(plan: Plan) -> None:
            plans.append(plan)
            self._examine(plan, must_be_empty=must_be_empty)
            if self._target.confirm_within:
                self._link.reach()
            self._around.on_plan(plan)

        try:
            ended = apply(
                self._session, profile,
                allow_irreversible=self._target.allow_irreversible,
                confirm_within=self._target.confirm_within,
                change_ids=change_ids,
                on_plan=on_plan, before_first_step=self._before_first_step, is_stopped=self._around.is_stopped,
            )  # fmt: skip
        except _Refused as refused:
            return self._refuse_plan(refused, profile)
        except IrreversibleRefused as error:
            return self._refuse_plan(_Refused(error, plans[0]), profile)
        return self._applied(ended, profile)

    def _examine(self, plan: Plan, *, must_be_empty: bool) -> None:
        if must_be_empty:
            if not is_empty(plan):
                raise _Refused(HostFrozen("undo and revert differ: held"), plan, holds=True)
        elif self._target.effect and plan.digests.effect != self._target.effect:
            raise _Refused(
                PlanStale(
                    "this host would do something else than was approved for it",
                    hint=f"test again, and have that approved: it would do {plan.digests.effect[:12]}, "
                    f"approved is {self._target.effect[:12]}",
                ),
                plan,
            )

    def _before_first_step(self, run: str) -> None:
        if self._target.confirm_within:
            self._around.watch(run)
            self._memory.keep_waiting(run)

    def _applied(self, ended: RunEnded, profile: Profile) -> Outcome | None:
        if ended.exit_status in (0, 18):
            return None
        if ended.exit_status == _LEFT:
            return Outcome(
                "again", _LEFT, f"run {ended.run} changed the program itself: {', '.join(ended.left)} follow"
            )
        because = ended.error.message if ended.error is not None else f"run {ended.run}: {ended.status}"
        if not ended.run and ended.plan is not None:
            failed = "; ".join(
                f"{name}: {one.detail}" for name, one in sorted(ended.plan.components.items()) if one.state == "failed"
            )
            # Nothing could be planned that is to be done, so there is no run that tells of it.
            return self._refuse_plan(_Refused(_Failed(failed), ended.plan), profile)
        return Outcome("failed", ended.exit_status, because)

    # ---- confirming -----------------------------------------------------------------------------------------------

    def _confirmed_first(self) -> Outcome | None:
        """Confirm the run that waits for it, as soon as a confirmer is reached; return an end where it was too late."""
        run = self._memory.waiting()
        if not run:
            return None
        status = self._reached_in_time(run)
        self._memory.end_waiting()
        return Outcome("failed", status, f"run {run} was taken back: no confirmer was reached") if status else None

    def _reached_in_time(self, run: str) -> int:
        while True:
            left = waiting(self._session).get(run)
            if left is None:
                return 0 if self._is_confirmed(run) else 19
            with self._session.reading() as journal:
                found = journal.run(run)
                if found.status != "done" and not is_left_to_the_next(journal, found):
                    # It did not end well, or not at all: what has a deadline is taken back then.
                    return 0
            if left <= 0:
                revert_expired(self._session)
                continue
            try:
                self._link.reach()
            except (BrokerAway, BrokerRefused):
                self._around.sleep(min(left, _PATIENCE))
            else:
                confirm(self._session, run)

    def _is_confirmed(self, run: str) -> bool:
        with self._session.reading() as journal:
            return any(event.what == "confirmed" for event in journal.events(run, 0)) or journal.run(run).open

    # ---- refusals -------------------------------------------------------------------------------------------------

    def _refuse(self, error: AquilineError, result: Result = "failed") -> Outcome:
        """Say that nothing came of it, and why."""
        later = next((after for kind, after in _LATER.items() if isinstance(error, kind)), None)
        outcome = Outcome(
            later if later is not None and result == "failed" else result, error.exit_status, error.message
        )
        if self._is_news(outcome):
            self._outbox.put(Letter(failed_report(self._report(outcome), error)))
        return outcome

    def _refuse_plan(self, refused: _Refused, profile: Profile) -> Outcome:
        if refused.holds:
            held = Held(generation=self._target.generation, because="undo and revert differ", since=time.time())
            if self._memory.held() is None:
                self._memory.hold(held)
        outcome = Outcome("held" if refused.holds else "failed", refused.error.exit_status, refused.error.message)
        facts = facts_with_runs(facts_of(profile, self._session.host), (), [refused.plan])
        report = failed_report(self._report(outcome), refused.error)
        notes = ("undo and revert differ: held",) if refused.holds else ()
        with self._session.reading() as journal:
            letter = letter_of_plans(self._session, journal, report, Foreseen((refused.plan,), facts, notes))
        self._outbox.put(letter)
        return outcome

    def _is_news(self, outcome: Outcome) -> bool:
        """Whether the broker should be told: not of what passes by itself, and of the rest once."""
        told = self._before.is_about(self._target) and (self._before.result, self._before.because) == (
            outcome.result,
            outcome.because,
        )
        return outcome.result not in ("locked", "away") and not told

    def _report(self, outcome: Outcome) -> Report:
        with self._session.reading() as journal:
            identity = journal.identity()
        return Report(
            id=f"{identity}/refusal-{self._target.generation}-{self._target.released}-{outcome.result}",
            protocol=PROTOCOL,
            tool=__version__,
            journal=identity,
            kind="refusal",
            generation=self._target.generation,
            when=time.time(),
        )


class _Failed(AquilineError):
    """A component failed while it was planned."""

    exit_status = 15


def is_left_to_the_next(journal: Journal, run: RunRecord) -> bool:
    """Return whether a run ended before its last stage because it changed the program itself, and nothing failed."""
    stages = journal.stages(run.id)
    states = {one.state for one in stages[-1].components.values()} if stages else set()
    return run.status == "partial" and "deferred" in states and "failed" not in states


def is_empty(plan: Plan) -> bool:
    """Return whether a plan proves that there is nothing to do: nothing planned, put off, or failed."""
    return not plan.steps and not any(one.state in ("deferred", "failed") for one in plan.components.values())
