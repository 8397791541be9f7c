"""The agent as a daemon: one loop over the machine, a thread that polls, a process that works.

Theory of operation

1. One queue of events; one loop that takes them, gives them to the machine and does what it says. Only polls are asked
   from a thread of their own, because a broker may keep them open; only waiting for work and for datagrams has one too.
2. SIGTERM ends the loop. Work that is under way goes on in its process, and the next agent takes it up.
3. One agent for a host: it holds ``STATE/agent/lock``.
4. Whatever goes wrong while it asks, works, reports or remembers is said, and becomes an event like "the broker was not
   asked", after which the machine waits longer each time. What ends the agent with an error is only what stands in the
   way from the first moment, and an error in the machine itself, of which nobody knows what it would do next.
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
from aquiline.agent.daemon.link import Link
from aquiline.agent.daemon.logging import ended, named, say, told
from aquiline.agent.daemon.machine import Effect, Event, Machine, Pacing
from aquiline.agent.daemon.moving import Surroundings
from aquiline.agent.daemon.workshop import Working, Workshop
from aquiline.agent.session import Session
from aquiline.errors import HostLocked
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
            for following in self._done(effect):
                self._events.put(following)

    def _note(self, event: Event) -> None:
        match event:
            case machine.Answered(answer):
                with _said():
                    self._desk.took(answer)
                self._list_reports()
            case machine.PollFailed(why):
                say(f"the broker was not asked: {why}")
                with _said():
                    self._desk.missed(why)
            case machine.WorkEnded(job, outcome):
                say(ended(job, outcome))
                with _said():
                    self._workshop.forget()
                self._list_reports()
            case machine.ReportFailed(report, why):
                say(f"report {report} was not sent: {why}")
            case machine.ReportRefused(report, why):
                say(f"error: report {report} was refused, and is kept: {why}")
            case machine.Stopped():
                self._is_stopping = True
            case _:
                pass

    def _list_reports(self) -> None:
        with _said():
            self._events.put(machine.Recorded(self._desk.waiting()))

    # ---- effects --------------------------------------------------------------------------------------------------

    def _done(self, effect: Effect) -> Iterator[Event]:
        """Do what the machine wants; return what came of it, also where something went wrong."""
        try:
            yield from self._do(effect)
        except Exception as error:  # noqa: BLE001  # whatever it is, the host must not go deaf
            yield from _failed(effect, error)

    def _do(self, effect: Effect) -> Iterator[Event]:
        match effect:
            case machine.SendPoll(wait):
                self._polls.put(self._desk.where(wait))
            case machine.SendSchemas():
                self._desk.send_schemas()
            case machine.StartWork(job):
                say(f"{named(job)}: begun")
                refused = self._desk.refused(job)
                if refused is None:
                    self._await(self._workshop.start(job))
                else:
                    yield machine.WorkEnded(job, refused)
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
        link: Link | None = None
        while True:
            poll = self._polls.get()
            try:
                link = link or self._new_link()
                came: Event = machine.Answered(link.poll(poll))
            except Exception as error:  # noqa: BLE001  # a thread that is gone would ask nobody any more
                came = machine.PollFailed(told(error))
            self._events.put(came)

    def _await(self, working: Working) -> None:
        def wait() -> None:
            outcome = None
            with _said():
                working.wait()
                outcome = self._workshop.outcome()
            self._events.put(machine.WorkEnded(working.job, outcome))

        threading.Thread(target=wait, name="work", daemon=True).start()


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say what went wrong, where nothing else has to be done about it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # as in `Daemon._done`
        say(told(error))


def _failed(effect: Effect, error: Exception) -> Iterator[Event]:
    """Return what the machine is to make of an effect that could not be had."""
    why = told(error)
    match effect:
        case machine.SendPoll():
            yield machine.PollFailed(why)
        case machine.StartWork(job):
            yield machine.WorkEnded(job, Outcome("locked", 10, why))
        case machine.SendReport(report) | machine.SendBody(report):
            # The disk or the network may do the next time; what this program cannot make holds up no other.
            is_later = isinstance(error, OSError)
            yield machine.ReportFailed(report, why) if is_later else machine.ReportRefused(report, why)
        case machine.SendSchemas() | machine.LetGo() | machine.SleepUntil():
            say(why)
        case _:
            assert_never(effect)


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
