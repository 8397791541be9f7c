"""The work for an order: a dry-run, the dry-run of an undo, or a verification. Nothing of it changes the host."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator

import msgspec

from aquiline import __version__
from aquiline.agent.daemon.fetching import fetched, parsed
from aquiline.agent.daemon.jobs import Outcome
from aquiline.agent.daemon.link import BrokerAway, Link
from aquiline.agent.daemon.memory import write_durably
from aquiline.agent.daemon.moving import is_empty
from aquiline.agent.daemon.outbox import Letter, Outbox
from aquiline.agent.daemon.reporting import (
    Foreseen,
    facts_of_undo,
    facts_with_runs,
    failed_report,
    letter_of_drift,
    letter_of_plans,
)
from aquiline.agent.daemon.standpoint import standpoint
from aquiline.agent.inspecting import verify
from aquiline.agent.reconciling import Recover, TakeBack, next_move
from aquiline.agent.session import Session, registry_for
from aquiline.agent.undoing import conflict_error, preview_of
from aquiline.changes.steps import Coverage, Plan
from aquiline.errors import AquilineError, RunInterrupted
from aquiline.execution.undo import UndoPlan
from aquiline.journal.store import Journal
from aquiline.planning.facts import facts_of
from aquiline.planning.planner import plan as plan_stage
from aquiline.profile import Profile
from aquiline.protocol.messages import PROTOCOL, Order, Report, Target, refuse_unread

#: Exit status of a verification that found something.
_DRIFTED = 3


class OrderWork:
    """Answers one order."""

    def __init__(self, session: Session, link: Link, order: Order, name: str = "") -> None:
        self._session = session
        self._link = link
        self._order = order
        self._name = name

    def __call__(self) -> Outcome:
        """Do it; the answer is in the outbox when it returns, unless the profile was not to be had now."""
        try:
            letter = self._answer()
        except BrokerAway as error:
            return Outcome("away", error.exit_status, error.message)
        except AquilineError as error:
            letter = Letter(failed_report(self._report(), error))
        Outbox(self._session.state).put(letter)
        # That something drifted is an answer like any other: for the agent all went well.
        status = 0 if letter.report.exit_status == _DRIFTED else letter.report.exit_status
        return Outcome("reached", status, letter.report.error)

    def _answer(self) -> Letter:
        refuse_unread(self._order)
        match self._order.kind:
            case "verify":
                return self._verified()
            case "test":
                return self._with_test_profile(self._tested)
            case _:
                return self._with_test_profile(self._undone) if self._order.profile else self._undone(None)

    def _report(self) -> Report:
        with self._session.reading() as journal:
            identity = journal.identity()
        return Report(
            id=f"{identity}/{self._order.id}",
            protocol=PROTOCOL,
            tool=__version__,
            journal=identity,
            kind="verify" if self._order.kind == "verify" else "test",
            order=self._order.id,
            when=time.time(),
        )

    # ---- what a profile would do ----------------------------------------------------------------------------------

    def _with_test_profile(self, make: Callable[[Profile], Letter]) -> Letter:
        """Make a letter of a profile that has a place of its own, is never live, and is gone afterwards."""
        name = hashlib.sha256(os.fsencode(self._order.id)).hexdigest()[:32]
        place = self._session.state.spool / "test" / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_durably(place / "profile.json", self._link.profile(self._order.profile))
            return make(parsed((place / "profile.json").read_bytes(), self._order.profile, self._name))
        finally:
            shutil.rmtree(place)

    def _tested(self, profile: Profile) -> Letter:
        with self._session.reading() as journal:
            known = self._session.known(journal, profile)
            plan = plan_stage(profile, self._session.host, registry_for(profile), known)
            facts = facts_with_runs(facts_of(profile, self._session.host), (), [plan])
            failed = any(one.state == "failed" for one in plan.components.values())
            report = msgspec.structs.replace(
                self._report(),
                exit_status=15 if failed else 0,
                notes=_reservations(journal, "this was planned on what it left"),
            )
            return letter_of_plans(self._session, journal, report, Foreseen((plan,), facts))

    # ---- what undoing would do ------------------------------------------------------------------------------------

    def _undone(self, profile: Profile | None) -> Letter:
        order = self._order
        reverted = fetched(self._link, order.reverted, self._name) if order.again and order.reverted else None
        with self._session.reading() as journal:
            move = next_move(
                standpoint(journal), Target(generation=0, profile=order.profile, change_ids=order.change_ids)
            )
            if isinstance(move, Recover):
                raise RunInterrupted(
                    f"run {move.run} did not end: what undoing would do is known once that is settled",
                    hint="`aquiline recover`",
                )
            if not isinstance(move, TakeBack):
                return Letter(msgspec.structs.replace(self._report(), notes=("nothing to take back",)))
            runs = [journal.run(run) for run in move.runs]
            found = preview_of(self._session, journal, runs)
            facts = facts_with_runs(
                facts_of_undo(self._session, journal, move.runs, self._name), move.runs, [found.plan]
            )
            following = self._following(journal, found, move, profile, reverted)
            report = self._report()
            if found.conflicts:
                report = failed_report(report, conflict_error(found))
            foreseen = Foreseen(following.plans, facts, (*_stays(found), *following.notes))
            return letter_of_plans(self._session, journal, report, foreseen)

    def _following(
        self, journal: Journal, found: UndoPlan, move: TakeBack, profile: Profile | None, reverted: Profile | None
    ) -> _Following:
        """Plan what comes after the undo, on the host as the undo would leave it.

        That is what proves that undo and revert agree, what is brought again by re-planning, and what is laid again.
        """
        if profile is None or found.conflicts:
            return _Following((found.plan,), ())
        again = self._order.again
        try:
            second = self._second_plan(journal, found, profile)
            proof = second if not again else self._second_plan(journal, found, reverted) if reverted else None
        except AquilineError as error:
            why = f"what comes after the undo cannot be foreseen: {error.message}"
            return _Following((_less_covered(found.plan, why),), (why,))
        lays = (f"lays again: {', '.join(again)}",) if again else ()
        if move.by_replanning:
            return _Following((found.plan, second), (f"by re-planning: {', '.join(move.by_replanning)}", *lays))
        if proof is not None and not is_empty(proof):
            count = len(proof.steps)
            steps = f"{count} {'step' if count == 1 else 'steps'}" if count else "what cannot be foreseen"
            return _Following((found.plan,), (f"undo and revert would differ by {steps}: the host would be held",))
        agree = ("undo and revert agree",) if proof is not None else ()
        return _Following((found.plan, second) if again else (found.plan,), (*agree, *lays))

    def _second_plan(self, journal: Journal, found: UndoPlan, profile: Profile) -> Plan:
        assert found.after is not None  # a plan that was just made
        known = self._session.known(journal, profile)
        return plan_stage(
            profile, found.after, registry_for(profile), known, stage=2, first_number=len(found.plan.steps) + 1
        )

    # ---- what drifted ---------------------------------------------------------------------------------------------

    def _verified(self) -> Letter:
        found = verify(self._session)
        with self._session.reading() as journal:
            report = msgspec.structs.replace(
                self._report(), notes=_reservations(journal, "it was compared with what that left")
            )
            return letter_of_drift(self._session, journal, report, found, name=self._name)


class _Following(msgspec.Struct, frozen=True):
    """The plans of an undo and of what follows it, and what is to be said of them."""

    plans: tuple[Plan, ...]
    notes: tuple[str, ...]


def _less_covered(plan: Plan, why: str) -> Plan:
    coverage = Coverage(plan.coverage.steps, plan.coverage.predicted, (*plan.coverage.reduced_by, why))
    return msgspec.structs.replace(plan, coverage=coverage)


def _stays(found: UndoPlan) -> Iterator[str]:
    return (f"stays: {one.description}: {one.reason}" for one in found.stays)


def _reservations(journal: Journal, what: str) -> tuple[str, ...]:
    return tuple(f"run {run.id} did not end: {what}" for run in journal.open_runs())


def sweep(session: Session) -> None:
    """Remove test profiles of work that was killed."""
    shutil.rmtree(session.state.spool / "test", ignore_errors=True)
