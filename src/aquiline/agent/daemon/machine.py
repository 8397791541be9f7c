"""When an agent polls, works and reports: events in, effects out, no clock, no network, no disk.

Theory of operation

1. `Machine.receive` is told of everything that happens, each with the time by a clock that only goes forward, and
   returns what is to be done about it now. It never waits; the last effect says when it wants to hear a `Tick`.
2. One poll, one piece of work and one report are under way at a time. Work comes in the order: target, then orders.
3. A target is level (D17): the newest is the one that counts, and one that was tried to its end is not tried again.
   One that is older than what was begun here before is not tried either: the broker has forgotten something.
   Whatever else an answer brings twice, late or in another order is the same as if it had come once.
4. The pace is the broker's. A host adds a splay that is a function of its name, so that hosts which were told the same
   do not come all at once, and equal events give equal effects. A broker that is away is asked less and less often.
5. Reports go up one by one, the oldest first, not before the slot that the broker granted, which is counted from its
   answer and again from the end of work: hosts that finish together do not come together, neither with their reports
   nor with the poll that says that they have arrived. One that the broker refuses
   holds up no other, and is offered once more to a broker that comes back. A body goes up only where the broker asks
   for it. A report is let go of when all of it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import assert_never

import msgspec

from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.protocol.messages import Order, PollAnswer, Target

#: Seconds that a broker which is away is left alone: at first, and at most.
FIRST_PATIENCE = 2.0
MOST_PATIENCE = 300.0
#: Seconds between two hints that are followed.
HINT_PACE = 5.0
#: Share of the pace over which the hosts that were told it are spread.
_SPREAD = 0.2
#: Answered orders that are remembered: a poll that was under way may bring them again.
_REMEMBERED = 256


# ---- events ---------------------------------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True):
    """The agent begins, as it left off."""

    reports: tuple[str, ...] = ()
    #: Generation and release of the target that was last tried to its end.
    tried: tuple[int, int] = (-1, -1)
    #: Work that is under way, or whose end nobody has taken note of.
    work: Job | None = None
    #: The newest generation that was ever begun here: a broker that says an older one has forgotten something.
    begun: int = -1


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Hint(msgspec.Struct, frozen=True):
    """Somebody says that there is news. Nobody need believe it."""


class Answered(msgspec.Struct, frozen=True):
    """The broker answered a poll."""

    answer: PollAnswer


class PollFailed(msgspec.Struct, frozen=True):
    """A poll was not answered."""

    why: str


class WorkEnded(msgspec.Struct, frozen=True):
    """Work came to an end, or died (no outcome)."""

    job: Job
    outcome: Outcome | None


class Recorded(msgspec.Struct, frozen=True):
    """These reports wait: all there are, the oldest first."""

    reports: tuple[str, ...]


class Accepted(msgspec.Struct, frozen=True):
    """The broker has a report, and wants these bodies."""

    report: str
    wants: tuple[str, ...] = ()


class BodyAccepted(msgspec.Struct, frozen=True):
    """The broker has a body."""

    report: str
    digest: str


class ReportFailed(msgspec.Struct, frozen=True):
    """A report or body did not get there."""

    report: str
    why: str


class ReportRefused(msgspec.Struct, frozen=True):
    """The broker will not have a report, or its body."""

    report: str
    why: str


class Stopped(msgspec.Struct, frozen=True):
    """The agent is to end: nothing new is begun."""


Event = (
    Started | Tick | Hint | Answered | PollFailed | WorkEnded | Recorded | Accepted | BodyAccepted | ReportFailed
    | ReportRefused | Stopped
)  # fmt: skip


# ---- effects --------------------------------------------------------------------------------------------------------


class SendPoll(msgspec.Struct, frozen=True):
    """Ask for work; the broker may keep it open so many seconds."""

    wait: float


class SendSchemas(msgspec.Struct, frozen=True):
    """Tell the broker the schemas of this host's components."""


class StartWork(msgspec.Struct, frozen=True):
    """Do this."""

    job: Job


class SendReport(msgspec.Struct, frozen=True):
    """Send this report."""

    report: str


class SendBody(msgspec.Struct, frozen=True):
    """Send what a report names by digest."""

    report: str
    digest: str


class LetGo(msgspec.Struct, frozen=True):
    """The broker has all of this report."""

    report: str


class SleepUntil(msgspec.Struct, frozen=True):
    """Send a `Tick` at this time unless something else happens before."""

    when: float


Effect = SendPoll | SendSchemas | StartWork | SendReport | SendBody | LetGo | SleepUntil


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent spends its time; seconds."""

    #: How long a poll may be held open.
    wait: float = 50.0
    #: It polls at least this often, whatever pace it is granted.
    most: float = 3600.0
    #: Over which hosts that start together are spread.
    start: float = 5.0


class _Waiting(msgspec.Struct, frozen=True):
    order: Order
    expires: float


class Machine:
    """One agent's state. Give it every event, do every effect that it returns."""

    def __init__(self, name: str, pacing: Pacing = Pacing()) -> None:  # noqa: B008  # frozen
        self._splay = _splay(name)
        self._pacing = pacing
        self._is_stopping = False
        self._is_polling = False
        self._poll_at = 0.0
        self._poll_failures = 0
        #: The last poll was not to be held open, because something else was under way.
        self._polled_in_passing = False
        #: When a hint was last followed; whether one came while a poll was under way.
        self._hinted = float("-inf")
        self._is_hinted = False
        self._target: Target | None = None
        #: There is a target that was not tried to its end.
        self._wants_target = False
        #: The target that was.
        self._tried: tuple[int, int] = (-1, -1)
        #: No target before this generation is tried.
        self._begun = -1
        self._orders: dict[str, _Waiting] = {}
        self._answered: dict[str, None] = {}
        self._work: Job | None = None
        self._reports: dict[str, None] = {}
        #: Of which the broker has all, whatever a list that was made before says.
        self._gone: dict[str, None] = {}
        self._refused: set[str] = set()
        self._sending = ""
        #: Bodies of the report under way that have still to go up.
        self._bodies: dict[str, None] = {}
        self._report_at = 0.0
        #: Seconds that the broker granted last.
        self._slot = 0.0
        self._report_failures = 0

    @property
    def is_quiet(self) -> bool:
        """Return whether there is nothing to do but to poll again some time."""
        busy = self._is_polling or self._work is not None or self._sending
        return not (busy or self._wants_target or self._orders or self._to_send())

    @property
    def work(self) -> Job | None:
        """What is being worked at."""
        return self._work

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event in; return what is to be done, in order."""
        done = list(self._take(event, now))
        return [*done, *self._begin(now)]

    # ---- events ---------------------------------------------------------------------------------------------------

    def _take(self, event: Event, now: float) -> Iterator[Effect]:
        match event:
            case Started(reports, tried, work, begun):
                self._tried, self._work, self._begun = tried, work, begun
                self._poll_at = now + self._splay * self._pacing.start
                self._report_at = now
                self._list(reports)
            case Tick():
                pass
            case Hint():
                # The answer to a poll that is under way may have been given before there was what this is about.
                self._is_hinted = self._is_polling
                if not self._is_polling:
                    self._follow_hint(now)
            case Answered(answer):
                yield from self._take_answer(answer, now)
            case PollFailed():
                self._is_polling = self._polled_in_passing = False
                self._poll_failures += 1
                self._poll_at = now + self._patience(self._poll_failures)
            case WorkEnded(job, outcome):
                self._take_end(job, outcome, now)
            case Recorded(reports):
                self._list(reports)
            case Accepted(report, wants):
                if report == self._sending:
                    self._report_failures = 0
                    self._bodies = dict.fromkeys(wants)
                    yield from self._next_body()
            case BodyAccepted(report, digest):
                if report == self._sending and digest in self._bodies:
                    del self._bodies[digest]
                    yield from self._next_body()
            case ReportFailed(report):
                if report == self._sending:
                    self._sending = ""
                    self._report_failures += 1
                    self._report_at = now + self._patience(self._report_failures)
            case ReportRefused(report):
                if report == self._sending:
                    self._sending = ""
                    self._refused.add(report)
            case Stopped():
                self._is_stopping = True
            case _:
                assert_never(event)

    def _take_answer(self, answer: PollAnswer, now: float) -> Iterator[Effect]:
        self._is_polling = False
        if self._poll_failures:
            # Whoever put the broker right may have changed what it will not have.
            self._refused.clear()
        self._poll_failures = 0
        pace = min(max(answer.pace, 0.0), self._pacing.most)
        self._poll_at = now + pace * (1 + _SPREAD * self._splay)
        if self._is_hinted:
            self._follow_hint(now)
        self._slot = min(max(answer.report_after, 0.0), self._pacing.most)
        if not self._to_send():
            self._report_at = now + self._slot
        if answer.target is not None and self._is_newest(answer.target):
            self._target = answer.target
            self._wants_target = _name(answer.target) != self._tried and self._work != Reach(answer.target)
        for order in answer.orders:
            # By its id: what is left of its time is another number in each answer.
            is_worked_at = isinstance(self._work, Answer) and self._work.order.id == order.id
            is_known = order.id in self._orders or order.id in self._answered or is_worked_at
            if not is_known and order.time_to_live > 0:
                self._orders[order.id] = _Waiting(order, now + order.time_to_live)
        if answer.wants_schemas:
            yield SendSchemas()

    def _follow_hint(self, now: float) -> None:
        self._is_hinted = False
        self._poll_at = min(self._poll_at, max(now, self._hinted + HINT_PACE))
        if self._poll_at <= now:
            self._hinted = now

    def _is_newest(self, target: Target) -> bool:
        is_newer = self._target is None or _name(target) >= _name(self._target)
        return is_newer and target.generation >= self._begun

    def _take_end(self, job: Job, outcome: Outcome | None, now: float) -> None:
        if job != self._work:
            return  # told twice
        self._work = None
        match job:
            case Reach(target):
                is_newest = self._target is None or _name(target) == _name(self._target)
                if outcome is not None and outcome.is_final:
                    self._tried = max(self._tried, _name(target))
                # Work that died, or goes on, is begun again at once, which it counts; the rest waits for the next poll.
                self._wants_target = not is_newest or outcome is None or outcome.result == "again"
            case Answer(order):
                if outcome is not None and outcome.is_final:
                    self._answered[order.id] = None
                    while len(self._answered) > _REMEMBERED:
                        del self._answered[next(iter(self._answered))]
            case _:
                assert_never(job)
        if outcome is not None and outcome.is_final:
            self._report_at = max(self._report_at, now + self._slot)
            self._poll_at = min(self._poll_at, now + self._slot)

    def _list(self, reports: tuple[str, ...]) -> None:
        self._reports = {report: None for report in reports if report not in self._gone}

    def _next_body(self) -> Iterator[Effect]:
        if self._bodies:
            yield SendBody(self._sending, next(iter(self._bodies)))
            return
        yield LetGo(self._sending)
        self._reports.pop(self._sending, None)
        self._gone[self._sending] = None
        while len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._sending = ""

    # ---- effects --------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> Iterator[Effect]:
        """Return what can be begun now, and until when to sleep."""
        if self._is_stopping:
            return
        if self._work is None:
            yield from self._next_work(now)
        report = self._to_send()
        if report and not self._sending and now >= self._report_at:
            self._sending = report
            yield SendReport(report)
        is_busy = self._work is not None or bool(self._to_send())
        if self._polled_in_passing and now >= self._report_at and not (is_busy or self._is_polling):
            # The pace of such a poll is that of a host which hears of nothing meanwhile: from now on it can. Before its
            # slot a report may be to come that is not on the list yet: the answer would take the slot away.
            self._polled_in_passing, self._poll_at = False, min(self._poll_at, now)
        if not self._is_polling and now >= self._poll_at:
            self._is_polling = True
            self._polled_in_passing = is_busy and self._pacing.wait > 0
            yield SendPoll(0.0 if is_busy else self._pacing.wait)
        yield from self._sleep(now)

    def _next_work(self, now: float) -> Iterator[Effect]:
        if self._wants_target and self._target is not None:
            self._wants_target = False
            self._work = Reach(self._target)
            yield StartWork(self._work)
            return
        while self._orders:
            waiting = self._orders.pop(next(iter(self._orders)))
            if now < waiting.expires:
                self._work = Answer(waiting.order)
                yield StartWork(self._work)
                return

    def _to_send(self) -> str:
        return next((report for report in self._reports if report not in self._refused), "")

    def _sleep(self, now: float) -> Iterator[Effect]:
        times = [] if self._is_polling else [self._poll_at]
        if self._to_send() and not self._sending:
            times.append(self._report_at)
        if times:
            yield SleepUntil(max(now, min(times)))

    def _patience(self, failures: int) -> float:
        grown: float = FIRST_PATIENCE * 2.0 ** min(failures - 1, 16)
        return min(MOST_PATIENCE, grown) * (1 + self._splay) / 2


def _name(target: Target) -> tuple[int, int]:
    return target.generation, target.released


def _splay(name: str) -> float:
    """Return a number from 0 up to 1 that is this host's own and always the same."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:4], "big") / 2**32
