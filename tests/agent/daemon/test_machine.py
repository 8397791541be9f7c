"""When an agent polls, works and reports: no clock, no network, and whatever order things come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aquiline.agent.daemon import machine
from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.agent.daemon.machine import (
    FIRST_PATIENCE,
    HINT_PACE,
    MOST_PATIENCE,
    Accepted,
    Answered,
    BodyAccepted,
    Effect,
    Hint,
    LetGo,
    Machine,
    Pacing,
    PollFailed,
    Recorded,
    ReportFailed,
    ReportRefused,
    SendBody,
    SendPoll,
    SendReport,
    SendSchemas,
    SleepUntil,
    Started,
    StartWork,
    Stopped,
    Tick,
    WorkEnded,
)
from aquiline.protocol.messages import Order, PollAnswer, Target

REACHED = Outcome("reached")
PACING = Pacing(wait=50.0, most=3600.0, start=0.0)


def target(generation: int, released: int = 0) -> Target:
    return Target(generation=generation, profile=f"p{generation}", released=released)


def order(name: str, time_to_live: float = 60.0) -> Order:
    return Order(id=name, change="c", kind="test", profile="p", time_to_live=time_to_live)


def answer(wanted: Target | None = None, *orders: Order, pace: float = 100.0, report_after: float = 0.0) -> Answered:
    return Answered(PollAnswer(target=wanted, orders=orders, pace=pace, report_after=report_after))


def started(*reports: str) -> Machine:
    """Return a machine whose first poll is under way."""
    found = Machine("h1", PACING)
    found.receive(Started(reports), 0.0)
    return found


def awake(effects: list[Effect]) -> list[Effect]:
    """Return the effects but those that say how long to sleep."""
    return [one for one in effects if not isinstance(one, SleepUntil)]


def test_it_begins_with_a_poll() -> None:
    """The first thing is to ask, and to wait for the answer as long as the broker likes."""
    assert [SendPoll(50.0)] == Machine("h1", PACING).receive(Started(), 0.0)


def test_hosts_that_start_together_are_spread() -> None:
    """Each host has a moment of its own, which is always the same."""

    def first_poll(name: str) -> float:
        (sleep,) = Machine(name, Pacing(start=10.0)).receive(Started(), 100.0)
        assert isinstance(sleep, SleepUntil)
        return sleep.when

    moments = [first_poll(f"h{number}") for number in range(50)]
    assert moments == [first_poll(f"h{number}") for number in range(50)]
    assert 50 == len(set(moments))
    assert 100 <= min(moments) < 102
    assert 108 < max(moments) <= 110


def test_the_pace_is_the_brokers() -> None:
    """It polls again after the pace that it was granted and a splay of its own, at most its own cap later."""
    for granted, least, most in ((100.0, 100.0, 120.0), (1e9, 3600.0, 4320.0), (-5.0, 0.0, 0.0)):
        (effect,) = started().receive(answer(pace=granted), 0.0)
        when = effect.when if isinstance(effect, SleepUntil) else 0.0
        assert least <= when <= most


def test_a_target_is_worked_at_once() -> None:
    """A target that comes again while it is worked at, or after it was reached, is no more work."""
    agent = started()
    job = Reach(target(1))

    assert [StartWork(job)] == awake(agent.receive(answer(target(1)), 1.0))
    assert [SendPoll(0.0)] == awake(agent.receive(Tick(), 200.0))
    assert [] == awake(agent.receive(answer(target(1)), 201.0))
    assert [SendPoll(50.0)] == awake(agent.receive(WorkEnded(job, REACHED), 202.0))
    assert [] == awake(agent.receive(answer(target(1)), 203.0))


def test_the_newest_target_counts() -> None:
    """What came while another was worked at is next; an older one that comes late is nothing."""
    agent = started()
    agent.receive(answer(target(1)), 1.0)
    agent.receive(Tick(), 200.0)
    agent.receive(answer(target(3)), 201.0)

    assert StartWork(Reach(target(3))) in agent.receive(WorkEnded(Reach(target(1)), REACHED), 202.0)
    assert [] == awake(agent.receive(answer(target(2)), 203.0))
    assert Reach(target(3)) == agent.work


def test_a_release_is_another_try() -> None:
    """What failed is not tried again until somebody releases the host."""
    agent = started()
    agent.receive(answer(target(1)), 1.0)
    agent.receive(WorkEnded(Reach(target(1)), Outcome("failed", 15)), 2.0)

    assert [] == awake(agent.receive(answer(target(1)), 3.0))
    agent.receive(Tick(), 500.0)
    assert [StartWork(Reach(target(1, 1)))] == awake(agent.receive(answer(target(1, 1)), 501.0))


def test_what_stands_in_the_way_for_now() -> None:
    """A target that could not be tried is tried with the next answer; one whose work died at once."""
    agent = started()
    agent.receive(answer(target(1)), 1.0)

    assert [] == awake(agent.receive(WorkEnded(Reach(target(1)), Outcome("frozen", 21)), 2.0))
    agent.receive(Tick(), 200.0)
    assert [StartWork(Reach(target(1)))] == awake(agent.receive(answer(target(1)), 201.0))
    assert [StartWork(Reach(target(1)))] == awake(agent.receive(WorkEnded(Reach(target(1)), None), 202.0))


def test_orders_are_answered_once() -> None:
    """Orders come after the target, one by one, however often they are sent."""
    agent = started()

    assert [StartWork(Reach(target(1)))] == awake(agent.receive(answer(target(1), order("a"), order("b")), 1.0))
    found = awake(agent.receive(WorkEnded(Reach(target(1)), REACHED), 2.0))
    assert [StartWork(Answer(order("a"))), SendPoll(0.0)] == found
    agent.receive(answer(target(1), order("a"), order("b")), 3.0)
    assert StartWork(Answer(order("b"))) in agent.receive(WorkEnded(Answer(order("a")), REACHED), 4.0)
    agent.receive(WorkEnded(Answer(order("b")), REACHED), 5.0)
    assert [SendPoll(PACING.wait)] == awake(agent.receive(answer(target(1), order("a"), order("b")), 6.0))


def test_an_order_that_outlived_its_time() -> None:
    """It is dropped: what it would say is no longer wanted."""
    agent = started()
    agent.receive(answer(target(1), order("a", 10.0), order("b", 0.0)), 1.0)

    assert [SendPoll(50.0)] == awake(agent.receive(WorkEnded(Reach(target(1)), REACHED), 11.0))


def test_a_broker_that_is_away() -> None:
    """It is asked less and less often, and at the granted pace when it is back."""
    agent = started()
    now, waits = 0.0, []
    for _ in range(12):
        (sleep,) = agent.receive(PollFailed("away"), now)
        assert isinstance(sleep, SleepUntil)
        waits.append(sleep.when - now)
        now = sleep.when
        agent.receive(Tick(), now)

    assert FIRST_PATIENCE / 2 <= waits[0] <= FIRST_PATIENCE
    assert waits == sorted(waits)
    assert MOST_PATIENCE / 2 <= waits[-1] <= MOST_PATIENCE
    agent.receive(answer(pace=100.0), now)
    agent.receive(Tick(), now + 130.0)
    (sleep,) = agent.receive(PollFailed("away"), now + 130.0)
    assert isinstance(sleep, SleepUntil)
    assert sleep.when <= now + 130.0 + FIRST_PATIENCE


def test_hints() -> None:
    """A hint is a reason to poll at once, but not one after the other."""
    agent = started()
    agent.receive(answer(pace=1000.0), 1.0)

    assert [SendPoll(50.0)] == awake(agent.receive(Hint(), 10.0))
    agent.receive(answer(pace=1000.0), 10.1)
    assert [SleepUntil(10.0 + HINT_PACE)] == agent.receive(Hint(), 10.2)
    assert [SleepUntil(10.0 + HINT_PACE)] == agent.receive(Hint(), 10.3)
    assert [SendPoll(50.0)] == awake(agent.receive(Tick(), 10.0 + HINT_PACE))


def test_a_hint_while_a_poll_is_under_way() -> None:
    """The answer may be older than what the hint is about: it asks again."""
    agent = started()

    assert [] == awake(agent.receive(Hint(), 1.0))
    assert [SendPoll(50.0)] == awake(agent.receive(answer(pace=1000.0), 2.0))
    assert [] == awake(agent.receive(answer(pace=1000.0), 3.0))


def test_reports_go_up_one_by_one() -> None:
    """The oldest first, each with the bodies that are wanted, and let go of when all of it is there."""
    agent = started("r1", "r2")

    assert [SendBody("r1", "d1")] == awake(agent.receive(Accepted("r1", ("d1", "d2")), 1.0))
    assert [SendBody("r1", "d2")] == awake(agent.receive(BodyAccepted("r1", "d1"), 2.0))
    assert [LetGo("r1"), SendReport("r2")] == awake(agent.receive(BodyAccepted("r1", "d2"), 3.0))
    assert [LetGo("r2")] == awake(agent.receive(Accepted("r2"), 4.0))
    assert [] == awake(agent.receive(Accepted("r2"), 5.0))
    assert [] == awake(agent.receive(Recorded(("r1", "r2")), 6.0))


def test_the_slot_for_reports() -> None:
    """Reports that come about later wait for the slot that the broker granted."""
    agent = started()
    agent.receive(answer(pace=100.0, report_after=30.0), 1.0)

    assert [SleepUntil(31.0)] == agent.receive(Recorded(("r1",)), 2.0)
    assert [SendReport("r1")] == awake(agent.receive(Tick(), 31.0))


def test_a_report_that_does_not_get_there() -> None:
    """It is sent again after a while; one that is refused holds up no other."""
    agent = started("r1", "r2")

    found = agent.receive(ReportFailed("r1", "away"), 1.0)
    (sleep,) = [one for one in found if isinstance(one, SleepUntil)]
    assert [SendReport("r1")] == awake(agent.receive(Tick(), sleep.when))
    assert [SendReport("r2")] == awake(agent.receive(ReportRefused("r1", "no"), sleep.when))


def test_an_order_that_is_worked_at_comes_again() -> None:
    """It has less time to live by then, and is the same order all the same: it is not answered twice."""
    agent = started()
    assert StartWork(Answer(order("a", 60.0))) in agent.receive(answer(None, order("a", 60.0), pace=1.0), 1.0)
    agent.receive(Tick(), 3.0)
    agent.receive(answer(None, order("a", 57.5), pace=1.0), 3.5)

    found = agent.receive(WorkEnded(Answer(order("a", 60.0)), REACHED), 4.0)

    assert [] == [one for one in found if isinstance(one, StartWork)]


def test_it_listens_again_when_all_was_told() -> None:
    """A poll with reports still to send is not held open, and its pace is long: it asks again once they are gone."""
    agent = started("r1")
    agent.receive(ReportFailed("r1", "away"), 1.0)
    (sleep,) = [one for one in agent.receive(answer(pace=0.0), 1.0) if isinstance(one, SleepUntil)]
    assert [] == [one for one in agent.receive(answer(pace=300.0), 1.0) if isinstance(one, SendPoll)]
    agent.receive(Tick(), FIRST_PATIENCE + 1.0)

    found = agent.receive(Accepted("r1"), FIRST_PATIENCE + 1.0)

    assert sleep.when <= FIRST_PATIENCE + 1.0
    assert [LetGo("r1"), SendPoll(PACING.wait)] == awake(found)


def test_schemas_where_they_are_wanted() -> None:
    """The broker says whether it wants the schemas."""
    wants = Answered(PollAnswer(pace=1.0, wants_schemas=True))

    assert [SendSchemas()] == awake(started().receive(wants, 1.0))


def test_nothing_is_begun_once_it_stops() -> None:
    """When it is told to end, nothing new is begun."""
    agent = started("r1")

    assert [] == agent.receive(Stopped(), 1.0)
    assert [] == agent.receive(answer(target(1), order("a")), 2.0)


def test_work_of_an_agent_before() -> None:
    """Work that goes on from before is not begun again; its end is taken note of."""
    agent = Machine("h1", PACING)
    job = Reach(target(1))
    agent.receive(Started((), (-1, -1), job), 0.0)

    assert [] == awake(agent.receive(answer(target(1)), 1.0))
    assert [SendPoll(50.0)] == awake(agent.receive(WorkEnded(job, REACHED), 2.0))
    assert [] == awake(agent.receive(answer(target(1)), 3.0))


# ---- whatever comes, in whatever order ------------------------------------------------------------------------------

TARGETS = st.builds(target, st.integers(1, 4), st.integers(0, 2))
ORDERS = st.lists(st.sampled_from("abc").map(order), max_size=3)


class World:
    """A broker, a network that loses, repeats and reorders, and a host: all at the mercy of `choose`."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.agent = Machine("h1", PACING)
        self.now = 0.0
        self.effects: list[Effect] = []
        self.under_way: list[SendPoll] = []
        self.old_answers: list[Answered] = []
        self.wanted = target(1)
        self.orders: dict[str, Order] = {}
        self.worked: list[Job] = []
        self.ended: dict[Job, int] = {}
        self.sent: list[str] = []
        self.gone: list[str] = []
        self.reports = 0

    def choose(self, *what: str) -> str:
        return self._data.draw(st.sampled_from(what))

    def tell(self, event: machine.Event) -> None:
        for effect in self.agent.receive(event, self.now):
            match effect:
                case StartWork(job):
                    assert len(self.worked) == sum(self.ended.values()), "two pieces of work at once"
                    self.worked.append(job)
                case SendPoll():
                    assert not self.under_way, "two polls at once"
                    self.under_way.append(effect)
                case SendReport(report):
                    assert report not in self.gone, "a report that the broker has"
                    self.sent.append(report)
                case LetGo(report):
                    assert report not in self.gone
                    self.gone.append(report)
                case SleepUntil(when):
                    assert when >= self.now
                case SendSchemas() | SendBody():
                    pass

    def step(self) -> None:
        self.now += self._data.draw(st.sampled_from([0.0, 1.0, 40.0, 400.0]))
        match self.choose("tick", "answer", "lose", "repeat", "end", "die", "record", "accept", "fail", "want", "hint"):
            case "answer" if self.under_way:
                self.under_way.pop()
                sent = answer(self.wanted, *self.orders.values())
                self.old_answers.append(sent)
                self.tell(sent)
            case "lose" if self.under_way:
                self.under_way.pop()
                self.tell(PollFailed("lost"))
            case "repeat" if self.under_way and self.old_answers:
                self.under_way.pop()
                self.tell(self._data.draw(st.sampled_from(self.old_answers)))
            case "end" if self.agent.work is not None:
                self._end(Outcome(self._data.draw(st.sampled_from(["reached", "failed", "frozen", "away"]))))
            case "die" if self.agent.work is not None:
                self._end(None)
            case "record":
                self.reports += 1
                self._record()
            case "accept" if self.sent:
                self.tell(Accepted(self._data.draw(st.sampled_from(self.sent))))
                self._record()
            case "fail" if self.sent:
                self.tell(ReportFailed(self._data.draw(st.sampled_from(self.sent)), "lost"))
            case "want":
                self.wanted = self._data.draw(TARGETS.filter(lambda one: key(one) >= key(self.wanted)))
                self.orders |= {one.id: one for one in self._data.draw(ORDERS)}
            case "hint":
                self.tell(Hint())
            case _:
                self.tell(Tick())

    def _end(self, outcome: Outcome | None) -> None:
        job = self.agent.work
        assert job is not None
        self.ended[job] = self.ended.get(job, 0) + 1
        self.tell(WorkEnded(job, outcome))
        if self._data.draw(st.booleans()):
            self.tell(WorkEnded(job, outcome) if self.agent.work != job else Tick())

    def _record(self) -> None:
        self.tell(Recorded(tuple(name for name in map(str, range(self.reports)) if name not in self.gone)))

    def settle(self) -> None:
        """Let everything go well for long enough."""
        for _ in range(60):
            self.now += 5000.0
            self.tell(Tick())
            if self.under_way:
                self.under_way.pop()
                self.tell(answer(self.wanted))
            if self.agent.work is not None:
                job = self.agent.work
                self.ended[job] = self.ended.get(job, 0) + 1
                self.tell(WorkEnded(job, REACHED))
            if self.sent and self.sent[-1] not in self.gone:
                self.tell(Accepted(self.sent[-1]))


def key(wanted: Target) -> tuple[int, int]:
    return wanted.generation, wanted.released


@given(st.data())
def test_whatever_comes(data: st.DataObject) -> None:
    """Lost, repeated, late: never two things at once, never a report twice; in the end the newest target was tried."""
    world = World(data)
    world.tell(Started())
    for _ in range(data.draw(st.integers(0, 40))):
        world.step()
    world.settle()

    assert world.agent.is_quiet or world.under_way
    assert Reach(world.wanted) in world.worked
    tried = [one.target for one in world.worked if isinstance(one, Reach)]
    assert key(tried[-1]) == key(world.wanted)
    assert sorted(world.gone, key=int) == [str(number) for number in range(world.reports)]
