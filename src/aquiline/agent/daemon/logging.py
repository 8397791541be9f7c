"""What the agent says while it runs: lines on stderr, which systemd keeps and dates."""

from __future__ import annotations

import sys
import traceback

from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.changes.text import visible
from aquiline.errors import AquilineError


def say(text: str) -> None:
    """Say a line."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


def named(job: Job) -> str:
    """Return what a job is, with the change IDs that it is about."""
    match job:
        case Reach(target):
            return f"target {target.generation} ({', '.join(target.change_ids) or 'no changes'})"
        case Answer(order):
            return f"order {order.id} ({order.kind} of {order.change})"


def ended(job: Job, outcome: Outcome | None) -> str:
    """Return how a job ended."""
    if outcome is None:
        return f"{named(job)}: its work died"
    result = "answered" if isinstance(job, Answer) and outcome.result == "reached" else outcome.result
    because = f": {outcome.because}" if outcome.because else ""
    return f"{named(job)}: {result}, exit status {outcome.exit_status}{because}"


def told(error: Exception) -> str:
    """Return what went wrong in words. Of an error in the program itself, where it is is said at once."""
    if isinstance(error, AquilineError):
        return error.message
    if isinstance(error, OSError):
        return str(error)
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line)
    return f"an error in the program: {type(error).__name__}: {error}"
