"""What nobody foresaw does not end an agent: it says what it was, waits longer each time, and goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from aquiline.agent.daemon import machine, running
from aquiline.agent.daemon.configuration import Configuration
from aquiline.agent.daemon.jobs import Outcome
from aquiline.agent.daemon.link import BrokerRefused
from aquiline.agent.daemon.machine import Pacing
from aquiline.agent.daemon.memory import Memory
from aquiline.agent.daemon.outbox import Letter, Outbox
from aquiline.agent.daemon.workshop import Working, Workshop
from aquiline.errors import HostError, JournalError
from aquiline.protocol.messages import Poll, PollAnswer, Report, ReportAnswer, Target
from tests.agent.daemon.broker import Broker
from tests.agent.making import Site
from tests.cli.conftest import until

NAME = "h1.example.org"
REPORT = Report(id="j/one", tool="test", journal="j", kind="test")


class Troubled(Broker):
    """A broker at which something goes wrong as often as a test says."""

    def __init__(self) -> None:
        super().__init__()
        #: What the next polls and reports end with.
        self.polls_end_with: list[Exception] = []
        self.reports_end_with: list[Exception] = []
        self.pace = 0.05

    def poll(self, poll: Poll) -> PollAnswer:
        if self.polls_end_with:
            raise self.polls_end_with.pop(0)
        return super().poll(poll)

    def report(self, report: Report) -> ReportAnswer:
        if self.reports_end_with:
            raise self.reports_end_with.pop(0)
        return super().report(report)


@pytest.fixture
def broker() -> Troubled:
    """A broker at which nothing has gone wrong yet."""
    return Troubled()


@pytest.fixture
def start(site: Site, broker: Troubled, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], threading.Thread]]:
    """Starts an agent in a thread, and stops it when the test is over."""
    monkeypatch.setattr(machine, "FIRST_PATIENCE", 0.02)
    started: list[tuple[running.Daemon, threading.Thread]] = []
    with site.session() as session:

        def start() -> threading.Thread:
            configuration = Configuration(broker=("http://127.0.0.1:1",), name=NAME)
            pacing = Pacing(start=0.0, wait=0.0)
            daemon = running.Daemon(session, lambda: broker, configuration, Workshop(session.state), pacing=pacing)
            thread = threading.Thread(target=daemon.run)
            thread.start()
            started.append((daemon, thread))
            return thread

        yield start
        for daemon, thread in started:
            daemon.stop()
            thread.join(timeout=20)


def test_polls_that_end_with_what_nobody_foresaw(
    start: Callable[[], threading.Thread], broker: Troubled, capfd: pytest.CaptureFixture[str]
) -> None:
    """The broker is asked again; what was wrong is said, and of an error in the program where it is."""
    broker.polls_end_with += [ValueError("of the program"), OSError(24, "Too many open files"), HostError("no room")]

    thread = start()

    until(lambda: len(broker.polls) >= 3, 20)
    assert thread.is_alive()
    said = capfd.readouterr().err
    assert ("Traceback" in said, said.count("Traceback")) == (True, 1)
    assert "ValueError: of the program" in said
    assert "the broker was not asked: [Errno 24] Too many open files" in said
    assert "the broker was not asked: no room" in said


def test_a_way_to_the_broker_that_cannot_be_made(
    start: Callable[[], threading.Thread], broker: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of authorities that is away for a moment makes no agent deaf for good."""
    made: list[int] = []
    real = running.Daemon.__init__

    def fails_second(self: running.Daemon, session: object, new_link: object, *rest: object, **more: object) -> None:
        def link() -> Broker:
            made.append(1)
            if len(made) == 2:
                raise HostError("it is not there", path="/etc/ca.pem")
            return broker

        real(self, session, link, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(running.Daemon, "__init__", fails_second)

    start()

    until(lambda: bool(broker.polls), 20)


def test_a_disk_that_is_full_for_a_while(
    site: Site, start: Callable[[], threading.Thread], broker: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be remembered just now is said; the agent polls on, and remembers when there is room."""
    room: list[bool] = []
    real = Memory.keep_last_poll

    def keep(self: Memory, *what: object) -> None:
        if not room:
            raise HostError("it cannot be written: No space left on device", path="poll.json")
        real(self, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(Memory, "keep_last_poll", keep)
    thread = start()
    until(lambda: len(broker.polls) >= 3, 20)
    assert thread.is_alive()

    room.append(True)

    until((site.state / "agent/poll.json").exists, 20)


def test_work_that_cannot_be_looked_after(
    start: Callable[[], threading.Thread], broker: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the end of work cannot be read it counts as work that died: it is begun again, and the rest goes on."""
    begun: list[str] = []

    def begin(self: Workshop, job: object) -> object:
        begun.append("begun")
        return Working(job, _fails if len(begun) < 3 else lambda: None)  # type: ignore[arg-type]

    monkeypatch.setattr(Workshop, "start", begin)
    monkeypatch.setattr(Workshop, "outcome", lambda _self: Outcome("reached"))
    broker.target = Target(generation=1, profile="")

    start()

    until(lambda: len(begun) == 3, 20)
    polls = len(broker.polls)
    until(lambda: len(broker.polls) > polls, 20)


def _fails() -> None:
    raise JournalError("outcome.json cannot be read")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("of the program")])
def test_reports_that_cannot_be_made_just_now(
    site: Site, start: Callable[[], threading.Thread], broker: Troubled, error: Exception
) -> None:
    """They hold up nothing for good, are not lost, and get there."""
    with site.session() as session:
        outbox = Outbox(session.state)
        outbox.put(Letter(REPORT))
        outbox.put(Letter(Report(id="j/two", tool="test", journal="j", kind="test")))
    broker.reports_end_with.append(error)
    start()
    until(lambda: "j/two" in broker.reports, 20)

    broker.polls_end_with.append(OSError(104, "Connection reset by peer"))

    until(lambda: "j/one" in broker.reports, 20)
    until(lambda: not list((site.state / "spool/outbox").glob("*.json")), 20)
    assert ["j/one", "j/two"] == sorted(broker.came)


def test_what_was_refused_is_told_to_a_broker_that_comes_back(
    site: Site, start: Callable[[], threading.Thread], broker: Troubled
) -> None:
    """A broker that was away may have been put right: what it would not have before, it is offered once more."""
    with site.session() as session:
        Outbox(session.state).put(Letter(REPORT))
    broker.reports_end_with.append(BrokerRefused("who are you?"))
    start()
    until(lambda: len(broker.polls) > 2 and not broker.reports_end_with, 20)
    time.sleep(0.1)
    assert [] == broker.came

    broker.polls_end_with.append(BrokerRefused("who are you?"))

    until(lambda: broker.came == ["j/one"], 20)
