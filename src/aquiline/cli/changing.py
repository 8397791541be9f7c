"""What the commands that change a host have in common: deadlines first, steps as they happen, ways back at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aquiline.agent.ownscope import leave_service
from aquiline.agent.recovering import Reverted, revert_expired
from aquiline.agent.undoing import Undone
from aquiline.changes.perform import Performed
from aquiline.changes.steps import Step
from aquiline.changes.text import visible
from aquiline.cli.command import Invocation
from aquiline.cli.terminal import Terminal
from aquiline.errors import HostLocked, RunInterrupted, UndoConflict


def fire_deadlines(invocation: Invocation) -> list[Reverted]:
    """Take back what nobody confirmed in time, before this command does its own work (D22)."""
    try:
        reverted = revert_expired(invocation.session)
    except (HostLocked, RunInterrupted, UndoConflict):
        return []  # the command itself meets the same and says so
    say_reverted(invocation, reverted)
    return reverted


def say_reverted(invocation: Invocation, reverted: Sequence[Reverted]) -> None:
    """Say which runs were taken back because nobody confirmed them, and what was left of them."""
    for one in reverted:
        left = f"; left as somebody changed them since: {', '.join(map(visible, one.skipped))}" if one.skipped else ""
        invocation.terminal.say(f"run {one.run} was not confirmed in time: it has been taken back{left}")


def stand_alone(invocation: Invocation) -> None:
    """Let whatever started this command be stopped without it, before it changes anything (D16)."""
    service = leave_service(invocation.arguments.root)
    if service:
        invocation.terminal.say(f"warning: whatever stops {service} stops this too: it cannot leave its cgroup")


class StepReporter:
    """Says of every step what became of it."""

    def __init__(self, terminal: Terminal, total: int = 0) -> None:
        self._terminal = terminal
        self._total = total
        self._done = 0

    def expect(self, steps: int) -> None:
        """There are so many steps, as far as can be foreseen."""
        self._total = max(self._total, steps)

    def __call__(self, step: Step, performed: Performed) -> None:
        """Report one step."""
        self._done += 1
        if self._terminal.is_json:
            return
        outcome = "failed" if performed.error is not None else performed.outcome.replace("-", " ")
        self._terminal.say(f"  {step.number:>3} {outcome:<7} {step.component}: {step.description}")
        if performed.outcome != "done" and performed.output and not step.secret:
            self._terminal.say("".join(f"        {visible(line)}\n" for line in performed.output.splitlines()).rstrip())
        self._terminal.progress(self._done, max(self._total, self._done), step.description)


def when(seconds: float) -> str:
    """Return a time of the journal for people: local, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(seconds))


def span(seconds: float) -> str:
    """Return a length of time for people."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {whole % 60}s" if minutes else f"{whole}s"


def finish_undo(invocation: Invocation, undone: Undone, verb: str, *, redo: str) -> int:
    """Say how an undo or redo ended, and by `redo` how to take that back; return its exit status."""
    terminal = invocation.terminal
    if not terminal.is_json:
        outcome = {0: "done", 17: "incomplete", 130: "interrupted"}[undone.exit_status]
        terminal.answer(f"run {undone.run}: {verb} {outcome}\n{redo}")
    if undone.error is not None:
        goes_on = f"`aquiline {verb} {undone.runs[-1]}` goes on; `aquiline show {undone.run}` says how far it came"
        terminal.say(f"error: {_stopped(undone, verb)}: {undone.error.message}\n\nhint: {goes_on}")
    if terminal.is_json:
        terminal.answer_json(
            {
                "exit_status": undone.exit_status,
                "run": undone.run,
                "runs": undone.runs,
                "steps": len(undone.undo.plan.steps) if undone.undo is not None else 0,
                "stays": undone.undo.stays if undone.undo is not None else (),
                "error": undone.error.message if undone.error is not None else "",
            }
        )
    return undone.exit_status


def _stopped(undone: Undone, verb: str) -> str:
    where = f" at step {undone.failed.number}, {undone.failed.description}" if undone.failed is not None else ""
    return f"{verb} run {undone.run} stopped{where}"
