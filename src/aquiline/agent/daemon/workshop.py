"""Work in a process of its own, so that restarting or upgrading the agent ends no run (D16).

Theory of operation

::

    STATE/agent/work/       0700
        lock                held by whoever does the work, from before it is begun until its process is gone
        job.json            what is to be done
        outcome.json        how it ended

1. The agent takes the lock, writes the job down, starts the process and hands it the lock. The process has a session of
   its own. It writes its outcome down and ends; whatever ends it lets go of the lock.
2. An agent that starts anew finds one of: a held lock, and waits for it; an outcome; or a job without either, whose
   work died. What work had done is in the journal, so that whatever is done next is decided on that.
3. The job is removed when the agent has taken note of its end. Taking note twice does no harm.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
from collections.abc import Callable

import msgspec

from aquiline.agent.daemon.jobs import Job, Outcome
from aquiline.agent.daemon.memory import read_record, remove_durably, write_durably
from aquiline.changes.canonical import encode
from aquiline.errors import HostLocked
from aquiline.journal.state import StateDirectory

_MODULE = "aquiline.agent.daemon.working"


class Ticket(msgspec.Struct, frozen=True):
    """A job with a number, so that an outcome is not taken for that of another one."""

    number: str
    job: Job


class Done(msgspec.Struct, frozen=True):
    """How the work of a ticket ended."""

    number: str
    outcome: Outcome


class Working(msgspec.Struct, frozen=True):
    """Work that was begun."""

    job: Job
    #: Returns once its process is gone.
    wait: Callable[[], None]


class Workshop:
    """The one place where work is done for the agent of a host."""

    def __init__(self, state: StateDirectory, *, arguments: tuple[str, ...] = ()) -> None:
        self._path = state.path / "agent" / "work"
        self._lock = self._path / "lock"
        self._arguments = arguments

    # ---- the agent's side -----------------------------------------------------------------------------------------

    def start(self, job: Job) -> Working:
        """Begin work; raises `HostLocked` where other work is under way."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_durably(self._path / "outcome.json")
            ticket = Ticket(secrets.token_hex(8), job)
            write_durably(self._path / "job.json", encode(ticket).encode("ascii"))
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, "--lock", str(descriptor), *self._arguments],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BlockingIOError:
            raise HostLocked("the agent is at work already") from None
        finally:
            os.close(descriptor)
        return Working(job, lambda: _ended(process))

    def found(self) -> Working | None:
        """Return the work that an agent before this one has begun and taken no note of; None where there is none."""
        ticket = self._ticket()
        return Working(ticket.job, self._wait) if ticket is not None else None

    def outcome(self) -> Outcome | None:
        """Return how the work ended, whose process is gone; None where it died."""
        ticket, done = self._ticket(), read_record(self._path / "outcome.json", Done)
        return done.outcome if ticket is not None and done is not None and done.number == ticket.number else None

    def forget(self) -> None:
        """Let go of work whose end has been taken note of."""
        remove_durably(self._path / "job.json")

    def _ticket(self) -> Ticket | None:
        return read_record(self._path / "job.json", Ticket)

    def _wait(self) -> None:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    # ---- the worker's side ----------------------------------------------------------------------------------------

    def taken(self) -> Ticket | None:
        """Return what is to be done."""
        return self._ticket()

    def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        """Write down how it ended; durable when it returns."""
        write_durably(self._path / "outcome.json", encode(Done(ticket.number, outcome)).encode("ascii"))


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.wait()
