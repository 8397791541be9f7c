"""Hosts that finish at once do not report at once; those of a small fleet do, since nobody should wait for nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.agent.daemon.jobs import Outcome, Reach
from aquiline.agent.daemon.machine import (
    Accepted,
    Answered,
    Effect,
    Machine,
    Pacing,
    Recorded,
    SendPoll,
    SendReport,
    SleepUntil,
    Started,
    Tick,
    WorkEnded,
)
from aquiline.broker import answering, verifying
from aquiline.broker.broker import Broker
from aquiline.broker.slots import crowd_of, slot
from aquiline.protocol.messages import PollAnswer, Target
from tests.broker.small import BOB, Fleet
from tests.fleet.histories import FilesCompiler

TARGET = Target(generation=1, profile="p")


class Simulated:
    """An agent by itself: what it sends, and when."""

    def __init__(self, name: str, granted: float, work: float) -> None:
        self.polls: list[float] = []
        self.reports: list[float] = []
        self._machine = Machine(name, Pacing(start=0.0))
        self._granted = granted
        self._ends = work
        self._wake = 0.0

    def live(self, until: float) -> None:
        """Let time pass: work ends when it does, ticks come when the machine wants them."""
        self._tell(Started(), 0.0)
        now = 0.0
        while now < until:
            now = min(self._wake, self._ends)
            if now == self._ends:
                self._ends = float("inf")
                self._tell(WorkEnded(Reach(TARGET), Outcome("reached")), now)
                self._tell(Recorded(("r",)), now)
            else:
                self._tell(Tick(), now)

    def _tell(self, event: object, now: float) -> None:
        self._wake = float("inf")
        for effect in self._machine.receive(event, now):  # type: ignore[arg-type]
            self._do(effect, now)

    def _do(self, effect: Effect, now: float) -> None:
        match effect:
            case SendPoll():
                if now:
                    self.polls.append(now)
                is_at_work = self._ends < float("inf")
                answer = (
                    PollAnswer(target=TARGET, pace=5.0 + self._granted, report_after=self._granted)
                    if is_at_work
                    else PollAnswer(target=TARGET, pace=300.0)
                )
                self._tell(Answered(answer), now)
            case SendReport(report):
                self.reports.append(now)
                self._tell(Accepted(report), now)
            case SleepUntil(when):
                self._wake = min(self._wake, when)
            case _:
                pass


def most_in_a_second(times: list[float]) -> int:
    """Return how many of these moments lie in one second, whichever."""
    ordered, first, most = sorted(times), 0, 0
    for last, when in enumerate(ordered):
        while when - ordered[first] >= 1 - 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


def fleet_of(size: int, *, rate: int, work: float) -> list[Simulated]:
    """Return agents that were told something at once, and have done what they do."""
    crowd = crowd_of(0.0, (f"node{number:05d}" for number in range(size)))
    agents = [Simulated(name, slot(crowd, name, 0.0, rate=rate), work) for name in crowd.ranks]
    for agent in agents:
        agent.live(work + 2 * size / rate)
    return agents


def test_a_large_fleet_that_finishes_at_once() -> None:
    """20,000 hosts report no faster than the broker is set to, each once, in the time that this takes and no more."""
    agents = fleet_of(20_000, rate=100, work=30.0)

    reports = [when for agent in agents for when in agent.reports]
    assert 20_000 == len(reports)
    assert 100 == most_in_a_second(reports)
    assert (30.0, True) == (min(reports), max(reports) < 30.0 + 200.0)
    # Nor do all say at once that they have arrived.
    arrived = [next(when for when in agent.polls if when >= 30.0) for agent in agents]
    assert most_in_a_second(arrived) <= 400


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 100), st.integers(1, 30), st.floats(0.5, 100.0))
def test_whatever_the_fleet(size: int, rate: int, work: float) -> None:
    """However many, however long they work: one report of each, never more in a second, and at once where they fit."""
    agents = fleet_of(size, rate=rate, work=work)

    reports = [when for agent in agents for when in agent.reports]
    assert size == len(reports)
    assert most_in_a_second(reports) <= rate
    assert {work} == set(reports) or size > rate


def test_who_comes_later_comes_at_once() -> None:
    """A host that was off is not made to wait for a crowd that has passed."""
    crowd = crowd_of(1000.0, map(str, range(500)))

    assert [4.99, 4.99, 0.0] == [slot(crowd, "99", now, rate=100) for now in (1000.0, 1010.0, 1010.1)]


def granted(fleet: Fleet, broker: Broker) -> dict[str, tuple[float, float]]:
    """Return for how long each host is to keep its report, and when it is to poll again."""
    found = {}
    for name, host in fleet.hosts.items():
        told = answering.answer(broker, host.record(), host.poll())
        found[name] = (told.report_after, told.pace)
    return found


def broker_of(fleet: Fleet, rate: int) -> Broker:
    """Return another broker of the same fleet that takes so many reports a second."""
    return Broker(fleet.store, fleet.repository, FilesCompiler(), now=lambda: fleet.now, reports_per_second=rate)


def test_what_a_broker_grants(fleet: Fleet) -> None:
    """Nothing to a small fleet; by rank where its rate is less, to those alone that are asked or told something."""
    fleet.add("web3")
    fleet.visit()
    fleet.deploy({"web1/motd": "x", "web2/motd": "x"})
    slow = broker_of(fleet, 1)

    assert {0.0} == {keeps for keeps, _ in granted(fleet, fleet.broker).values()}
    told = {"db1": (0.0, 300.0), "web1": (0.0, 5.0), "web2": (1.0, 6.0), "web3": (0.0, 300.0)}
    assert told == granted(fleet, slow)
    fleet.visit("web1")
    assert told | {"web1": (0.0, 300.0)} == granted(fleet, slow) == granted(fleet, broker_of(fleet, 1))
    fleet.visit()
    verifying.verify(fleet.broker, "prod", BOB)
    assert {"db1": 0.0, "web1": 1.0, "web2": 2.0, "web3": 3.0} == {
        name: keeps for name, (keeps, _) in granted(fleet, slow).items()
    }
    fleet.now += 9
    assert {0.0} == {keeps for keeps, _ in granted(fleet, slow).values()}
