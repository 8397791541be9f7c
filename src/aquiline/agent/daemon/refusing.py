"""Work that this program cannot read: it alone is refused, and the rest of what the broker answered is done.

That happens in the agent's own process, which took the answer: a process that works may be of another version already,
and would take what was read of a target for all of it. A target counts as given up on, so that the broker does not wait
for it, until a program of another version comes upon it, and tries it. An order the broker gives to that one again.
"""

from __future__ import annotations

import time

import msgspec

from aquiline import __version__
from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.agent.daemon.memory import Attempt, Memory
from aquiline.agent.daemon.outbox import Letter, Outbox
from aquiline.agent.daemon.reporting import failed_report
from aquiline.agent.session import Session
from aquiline.protocol.messages import PROTOCOL, NotSpoken, Report, Target, refuse_unread


def refused(session: Session, identity: str, job: Job) -> Outcome | None:
    """Return how a job ended that this program cannot read, with its report in the outbox; None where it can.

    `identity` is that of the host's journal. What it returns is durable, and refusing again makes the same report.
    """
    try:
        refuse_unread(job.target if isinstance(job, Reach) else job.order)
    except NotSpoken as error:
        Outbox(session.state).put(Letter(failed_report(_report(identity, job), error)))
        if isinstance(job, Reach):
            _give_up(Memory(session.state), job.target, error)
            return Outcome("failed", error.exit_status, error.message)
        return Outcome("reached", error.exit_status, error.message)
    return None


def _report(identity: str, job: Job) -> Report:
    """Return the report of a refusal: another one from another version of the program."""
    report = Report(id="", protocol=PROTOCOL, tool=__version__, journal=identity, kind="refusal", when=time.time())
    match job:
        case Reach(target):
            about = f"refusal-{target.generation}-{target.released}"
            report = msgspec.structs.replace(report, generation=target.generation)
        case Answer(order):
            about = order.id
            report = msgspec.structs.replace(report, order=order.id)
    return msgspec.structs.replace(report, id=f"{identity}/{about}-unread-{__version__}")


def _give_up(memory: Memory, target: Target, error: NotSpoken) -> None:
    memory.keep_attempt(
        Attempt(
            generation=target.generation,
            released=target.released,
            result="failed",
            exit_status=error.exit_status,
            because=error.message,
            settled=target.generation,
            unread_by=__version__,
        )
    )
