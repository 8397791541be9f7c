"""One host's agent: what the machine asks for, done one thing after the other.

`Agent.once` polls, does all there is to do, reports it, and returns: for ``aquiline agent --once``, and for whoever
wants an agent that acts when told to. A broker in the same process will do: it only has to be a `Link`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import assert_never

import msgspec

from aquiline import __version__
from aquiline.agent.daemon import machine
from aquiline.agent.daemon.answering import OrderWork
from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused, Link
from aquiline.agent.daemon.machine import Effect, Event, Machine, Pacing
from aquiline.agent.daemon.memory import FINAL, LastPoll, Memory
from aquiline.agent.daemon.moving import Surroundings, TargetWork
from aquiline.agent.daemon.outbox import Letter, Outbox
from aquiline.agent.daemon.refusing import refused
from aquiline.agent.daemon.reporting import report_of_run, unreported
from aquiline.agent.daemon.schemas import Schemas
from aquiline.agent.daemon.standpoint import changes_past_undo, standpoint
from aquiline.agent.session import Session
from aquiline.errors import AquilineError
from aquiline.journal.store import Journal
from aquiline.planning.facts import machine_id_of
from aquiline.protocol.messages import PROTOCOL, HostState, Poll, PollAnswer

#: Rounds of `once`: of a broker that always has something new the rest waits for the next time.
_MOST_EFFECTS = 10_000


class Once(msgspec.Struct, frozen=True):
    """What `Agent.once` did."""

    #: How the last work ended; 0 where there was none.
    exit_status: int = 0
    #: How each piece of work ended, in order.
    outcomes: tuple[Outcome, ...] = ()
    #: Why the broker could not be asked, or told everything; empty where it could.
    error: str = ""


def do_job(session: Session, link: Link, job: Job, around: Surroundings) -> Outcome:
    """Do a piece of work, here and now."""
    match job:
        case Reach(target):
            return TargetWork(session, link, target, around)()
        case Answer(order):
            return OrderWork(session, link, order, around.name)()
        case _:
            assert_never(job)


class Desk:
    """What an agent says to its broker about this host, and what it keeps of the answers."""

    def __init__(self, session: Session, link: Link, name: str) -> None:
        self._session = session
        self._link = link
        self._name = name
        self.memory = Memory(session.state)
        self._outbox = Outbox(session.state)
        self._schemas = Schemas()
        self._journal = ""
        #: The letter that is under way: its change-set may be asked for.
        self._letter: Letter | None = None
        #: Runs that the broker has, though not all before them.
        self._ahead: set[int] = set()

    def identity(self) -> str:
        """Return that of this host's journal, which is made where there is none yet."""
        if not self._journal:
            self._session.state.create()
            with Journal.open(self._session.state) as journal:
                self._journal = journal.identity()
        return self._journal

    # ---- polling --------------------------------------------------------------------------------------------------

    def poll(self, wait: float) -> PollAnswer:
        """Ask for work; raises what `Link.poll` does."""
        try:
            answer = self._link.poll(self.where(wait))
        except (BrokerAway, BrokerRefused) as error:
            self.missed(error.message)
            raise
        self.took(answer)
        return answer

    def took(self, answer: PollAnswer) -> None:
        """Remember what the broker said."""
        target = answer.target
        self.memory.keep_last_poll(
            LastPoll(
                when=time.time(),
                generation=target.generation if target is not None else 0,
                change_ids=target.change_ids if target is not None else (),
            )
        )

    def missed(self, why: str) -> None:
        """Remember that the broker did not answer."""
        last = self.memory.last_poll() or LastPoll(when=0.0)
        if last.error != why:
            self.memory.keep_last_poll(msgspec.structs.replace(last, error=why))

    def where(self, wait: float = 0.0) -> Poll:
        """Return where this host stands."""
        identity = self.identity()
        with self._session.reading() as journal:
            at = standpoint(journal)
            past_undo = changes_past_undo(journal)
        state, because = self._state()
        return Poll(
            protocol=PROTOCOL,
            tool=__version__,
            journal=identity,
            machine_id=machine_id_of(self._session.host),
            live=at.live,
            past_undo=past_undo,
            generation=self.memory.attempt().settled,
            state=state,
            because=because,
            wait=wait,
            schemas=self._schemas.digest,
        )

    def _state(self) -> tuple[HostState, str]:
        attempt, held = self.memory.attempt(), self.memory.held()
        try:
            frozen, policy = self._session.frozen(), self._session.policy().freeze
        except AquilineError as error:
            return "frozen", error.message  # nobody can say what it would forbid
        if frozen is not None or policy:
            return "frozen", frozen.reason if frozen is not None else policy
        if attempt.result == "in-doubt":
            return "in-doubt", attempt.because
        if held is not None:
            return "held", held.because
        if attempt.result == "failed":
            return "failed", attempt.because
        return "idle", ""

    def send_schemas(self) -> None:
        """Tell the broker the schemas of this host's components."""
        self._link.send_schemas(self._schemas.digest, self._schemas.body)

    def started(self, work: Job | None = None) -> machine.Started:
        """Return the event that an agent begins with; `work` is what one before it has begun."""
        attempt = self.memory.attempt()
        is_over = attempt.result in FINAL and attempt.unread_by in ("", __version__)
        tried = (attempt.generation, attempt.released) if is_over else (-1, -1)
        return machine.Started(self.waiting(), tried, work, attempt.generation)

    def refused(self, job: Job) -> Outcome | None:
        """Refuse work that this program cannot read, and keep why as a report; None where it can."""
        return refused(self._session, self.identity(), job)

    # ---- reporting ------------------------------------------------------------------------------------------------

    def waiting(self) -> tuple[str, ...]:
        """Return the ids of all reports that the broker has not accepted, the oldest first."""
        identity = self.identity()
        with self._session.reading() as journal:
            runs = unreported(journal, self.memory.reported(identity))
            return (
                *(f"{identity}/{run.id}" for run in runs if run.sequence not in self._ahead),
                *self._outbox.waiting(),
            )

    def letter(self, report: str) -> Letter | None:
        """Return a report with its change-set, None where it has gone."""
        if self._letter is None or self._letter.report.id != report:
            self._letter = self._outbox.get(report) or self._of_journal(report)
        return self._letter

    def _of_journal(self, report: str) -> Letter | None:
        with self._session.reading() as journal:
            for run in unreported(journal, self.memory.reported(self.identity())):
                if report == f"{self.identity()}/{run.id}":
                    return report_of_run(self._session, journal, run, self._name)
        return None

    def send(self, report: str) -> tuple[str, ...]:
        """Send a report; return what the broker wants besides. Raises what `Link.report` does."""
        letter = self.letter(report)
        return self._link.report(letter.report).wants if letter is not None else ()

    def send_body(self, report: str, digest: str) -> None:
        """Send the change-set that a report names."""
        letter = self.letter(report)
        if letter is None or letter.change_set is None or letter.report.change_set != digest:
            raise BrokerRefused(f"the broker wants {digest}, which report {report} does not name")
        self._link.send_change_set(digest, letter.change_set)

    def let_go(self, report: str) -> None:
        """Remember that the broker has a report; durable when it returns."""
        self._letter = None
        if self._outbox.get(report) is not None:
            self._outbox.remove(report)
            return
        identity = self.identity()
        reached = self.memory.reported(identity)
        with self._session.reading() as journal:
            runs = unreported(journal, reached)
        self._ahead.update(run.sequence for run in runs if report == f"{identity}/{run.id}")
        for run in runs:
            if run.sequence not in self._ahead:
                break
            reached = run.sequence
        self._ahead = {sequence for sequence in self._ahead if sequence > reached}
        if reached > self.memory.reported(identity):
            self.memory.keep_reported(identity, reached)


class Agent:
    """The agent of one host, driven by whoever calls it."""

    def __init__(
        self, session: Session, link: Link, *, name: str = "", around: Surroundings | None = None,
        perform: Callable[[Job], Outcome | None] | None = None,
    ) -> None:  # fmt: skip
        around = around if around is not None else Surroundings(name=name)
        self._perform = perform if perform is not None else lambda job: do_job(session, link, job, around)
        self._name = name
        self.desk = Desk(session, link, name)
        self._outcomes: list[Outcome] = []
        self._error = ""
        #: Something happened since the last poll that the broker, or this host, may go on from.
        self._has_news = True

    def once(self) -> Once:
        """Poll, do all there is to do, and tell the broker of it; wait for nothing."""
        self._outcomes, self._error, self._has_news = [], "", True
        state = Machine(self._name, Pacing(start=0.0, wait=0.0))
        now = 0.0
        effects = deque(state.receive(self.desk.started(), now))
        for _ in range(_MOST_EFFECTS):
            if not effects:
                break
            effect = effects.popleft()
            if isinstance(effect, machine.SleepUntil):
                if effects or state.is_quiet or self._error:
                    continue
                now = max(now, effect.when)  # a slot, a pace: whoever says once does not wait for them
                effects.extend(state.receive(machine.Tick(), now))
            elif isinstance(effect, machine.SendPoll) and not self._has_news:
                break  # nothing has happened since the last poll
            else:
                for event in self._do(effect):
                    effects.extend(state.receive(event, now))
        status = self._outcomes[-1].exit_status if self._outcomes else 0
        return Once(status or (1 if self._error else 0), tuple(self._outcomes), self._error)

    def _do(self, effect: Effect) -> Iterator[Event]:
        match effect:
            case machine.SendPoll(wait):
                yield self._poll(wait)
            case machine.SendSchemas():
                self._send_schemas()
            case machine.StartWork(job):
                outcome = self.desk.refused(job) or self._perform(job)
                self._outcomes += [outcome] if outcome is not None else []
                self._has_news |= outcome is None or outcome.is_final
                yield machine.Recorded(self.desk.waiting())
                yield machine.WorkEnded(job, outcome)
            case machine.SendReport(report):
                yield self._noted(report_event(self.desk, report))
            case machine.SendBody(report, digest):
                yield self._noted(body_event(self.desk, report, digest))
            case machine.LetGo(report):
                self.desk.let_go(report)
                self._has_news = True
            case machine.SleepUntil():
                pass
            case _:
                assert_never(effect)

    def _poll(self, wait: float) -> Event:
        self._has_news = False
        try:
            return machine.Answered(self.desk.poll(wait))
        except (BrokerAway, BrokerRefused) as error:
            self._error = error.message
            return machine.PollFailed(error.message)

    def _send_schemas(self) -> None:
        try:
            self.desk.send_schemas()
        except (BrokerAway, BrokerRefused) as error:
            self._error = error.message

    def _noted(self, event: Event) -> Event:
        if isinstance(event, machine.ReportFailed | machine.ReportRefused):
            self._error = event.why
        return event


def report_event(desk: Desk, report: str) -> Event:
    """Send a report; return what came of it."""
    try:
        return machine.Accepted(report, desk.send(report))
    except BrokerAway as error:
        return machine.ReportFailed(report, error.message)
    except AquilineError as error:
        return machine.ReportRefused(report, error.message)


def body_event(desk: Desk, report: str, digest: str) -> Event:
    """Send what a report names; return what came of it."""
    try:
        desk.send_body(report, digest)
    except BrokerAway as error:
        return machine.ReportFailed(report, error.message)
    except AquilineError as error:
        return machine.ReportRefused(report, error.message)
    return machine.BodyAccepted(report, digest)
