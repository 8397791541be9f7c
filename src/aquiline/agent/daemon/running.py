"""The agent as a daemon: one loop over the machine, a thread that polls, a process that works.

Theory of operation

1. One queue of events; one loop that takes them, gives them to the machine and does what it says. Only polls are asked
   from a thread of their own, because a broker may keep them open; only waiting for work and for datagrams has one too.
2. SIGTERM ends the loop. Work that is under way goes on in its process, and the next agent takes it up.
3. One agent for a host: it holds ``STATE/agent/lock``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import assert_never

from aquiline.agent.daemon import hints, machine
from aquiline.agent.daemon.agent import Agent, Desk, Once, body_event, report_event
from aquiline.agent.daemon.answering import sweep
from aquiline.agent.daemon.configuration import Configuration
from aquiline.agent.daemon.jobs import Job, Outcome
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused, Link
from aquiline.agent.daemon.logging import ended, named, say
from aquiline.agent.daemon.machine import Effect, Event, Machine, Pacing
from aquiline.agent.daemon.moving import Surroundings
from aquiline.agent.daemon.workshop import Working, Workshop
from aquiline.agent.session import Session
from aquiline.errors import AquilineError, HostLocked
from aquiline.journal.state import StateDirectory
from aquiline.protocol.messages import Poll

NewLink = Callable[[], Link]


@contextlib.contextmanager
def only_agent(state: StateDirectory) -> Iterator[None]:
    """Be the only agent of a host; raises `HostLocked` where there is one."""
    state.create()
    (state.path / "agent").mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(state.path / "agent" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise HostLocked(f"an agent runs on this host: {state.path}/agent/lock") from None
    try:
        yield
    finally:
        os.close(descriptor)


class Daemon:
    """An agent that goes on until it is told to stop."""

    def __init__(
        self, session: Session, new_link: NewLink, configuration: Configuration, workshop: Workshop, *,
        pacing: Pacing | None = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._configuration = configuration
        self._workshop = workshop
        self._new_link = new_link
        self._desk = Desk(session, new_link(), configuration.name)
        self._machine = Machine(configuration.name, pacing or Pacing(most=configuration.pace))
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._polls: queue.SimpleQueue[Poll] = queue.SimpleQueue()
        self._is_stopping = False
        #: When the machine wants a tick; None: it waits for something else to happen.
        self._wake: float | None = None

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Be the agent until somebody stops it."""
        with only_agent(self._session.state):
            sweep(self._session)
            threading.Thread(target=self._poll_forever, name="polls", daemon=True).start()
            listener = (
                hints.listen(self._configuration.cdp_port, lambda: self._events.put(machine.Hint()))
                if self._configuration.cdp_port
                else contextlib.nullcontext()
            )
            with listener:
                self._begin()
                while not self._is_stopping:
                    self._handle(self._next_event())
            say("stopped")

    def stop(self) -> None:
        """End the loop soon; may be called from a signal handler or another thread."""
        self._events.put(machine.Stopped())

    def stop_on_signals(self) -> None:
        """End the loop on SIGTERM and SIGINT."""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

    def _begin(self) -> None:
        """Start the machine as things stand: with the work that an agent before this one has begun."""
        found = self._workshop.found()
        self._handle(self._desk.started(found.job if found is not None else None))
        if found is not None:
            say(f"{named(found.job)}: taken up")
            self._await(found)

    def _next_event(self) -> Event:
        left = None if self._wake is None else max(0.0, self._wake - time.monotonic())
        try:
            return self._events.get(timeout=left)
        except queue.Empty:
            return machine.Tick()

    def _handle(self, event: Event) -> None:
        self._note(event)
        self._wake = None
        for effect in self._machine.receive(event, time.monotonic()):
            for following in self._do(effect):
                self._events.put(following)

    def _note(self, event: Event) -> None:
        match event:
            case machine.Answered(answer):
                self._desk.took(answer)
                self._events.put(machine.Recorded(self._desk.waiting()))
            case machine.PollFailed(why):
                self._desk.missed(why)
                say(f"the broker was not asked: {why}")
            case machine.WorkEnded(job, outcome):
                say(ended(job, outcome))
                self._workshop.forget()
                self._events.put(machine.Recorded(self._desk.waiting()))
            case machine.ReportFailed(report, why):
                say(f"report {report} was not sent: {why}")
            case machine.ReportRefused(report, why):
                say(f"error: report {report} was refused, and is kept: {why}")
            case machine.Stopped():
                self._is_stopping = True
            case _:
                pass

    # ---- effects --------------------------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> Iterator[Event]:
        match effect:
            case machine.SendPoll(wait):
                self._polls.put(self._desk.where(wait))
            case machine.SendSchemas():
                with _said():
                    self._desk.send_schemas()
            case machine.StartWork(job):
                yield from self._start(job)
            case machine.SendReport(report):
                yield report_event(self._desk, report)
            case machine.SendBody(report, digest):
                yield body_event(self._desk, report, digest)
            case machine.LetGo(report):
                self._desk.let_go(report)
            case machine.SleepUntil(when):
                self._wake = when
            case _:
                assert_never(effect)

    def _poll_forever(self) -> None:
        link = self._new_link()
        while True:
            poll = self._polls.get()
            try:
                self._events.put(machine.Answered(link.poll(poll)))
            except (BrokerAway, BrokerRefused) as error:
                self._events.put(machine.PollFailed(error.message))

    def _start(self, job: Job) -> Iterator[Event]:
        say(f"{named(job)}: begun")
        try:
            self._await(self._workshop.start(job))
        except (AquilineError, OSError) as error:
            said = error.message if isinstance(error, AquilineError) else str(error)
            yield machine.WorkEnded(job, Outcome("locked", 10, said))

    def _await(self, working: Working) -> None:
        def wait() -> None:
            working.wait()
            self._events.put(machine.WorkEnded(working.job, self._workshop.outcome()))

        threading.Thread(target=wait, name="work", daemon=True).start()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say what went wrong, where nothing has to be done about it."""
    try:
        yield
    except (BrokerAway, BrokerRefused) as error:
        say(error.message)


def once(session: Session, link: Link, configuration: Configuration, workshop: Workshop) -> Once:
    """Poll, do all there is, report it, with work in processes of their own; then return."""
    with only_agent(session.state):
        found = workshop.found()
        if found is not None:
            found.wait()  # what an agent before us has begun
            workshop.forget()
        sweep(session)

        def perform(job: Job) -> Outcome | None:
            say(f"{named(job)}: begun")
            workshop.start(job).wait()
            outcome = workshop.outcome()
            workshop.forget()
            say(ended(job, outcome))
            return outcome

        around = Surroundings(name=configuration.name)
        return Agent(session, link, name=configuration.name, around=around, perform=perform).once()
