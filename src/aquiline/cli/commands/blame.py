"""``aquiline blame``: who made this."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.inspecting import Blame, Deed


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", metavar="PATH", help="an absolute path, unit:NAME or package:NAME")


def _run(invocation: Invocation) -> int:
    from aquiline.agent.inspecting import blame

    invocation.session.refuse_lost_journal()
    found = blame(invocation.session, invocation.arguments.subject)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer("\n".join(_lines(found)))
    return 0


def _lines(found: Blame) -> Iterator[str]:
    from aquiline.changes.text import visible

    subject = visible(found.subject)
    if found.made_by is not None:
        yield f"{subject}: made by step {found.made_by.step} of run {found.made_by.run}"
        yield from _particulars(found.made_by)
    else:
        yield f"{subject} is not of this program's making, or no longer"
    if found.put_back_by is not None:
        yield f"put back by step {found.put_back_by.step} of run {found.put_back_by.run}"
    if found.differs:
        yield f"changed since by somebody else: {', '.join(found.differs)}"
    elif found.touched:
        yield "somebody touched it since: only its time differs"
    yield "history:"
    yield from (f"  {_row(deed)}" for deed in found.history)


def _particulars(deed: Deed) -> Iterator[str]:
    from aquiline.changes.text import visible
    from aquiline.cli.changing import when

    yield f"  step       {deed.description}"
    yield f"  component  {visible(deed.component)}"
    if deed.task:
        yield f"  task       {visible(deed.task)}"
    if deed.cause is not None:
        yield f"  cause      {deed.cause.type}" + (f", {visible(deed.cause.detail)}" if deed.cause.detail else "")
    if deed.change_ids:
        yield f"  changes    {', '.join(map(visible, deed.change_ids))}"
    yield f"  run        {deed.run_kind} of {when(deed.started)} by {visible(deed.user)}"


def _row(deed: Deed) -> str:
    from aquiline.changes.text import visible
    from aquiline.cli.changing import when

    fate = f", undone by {deed.undone_by}" if deed.undone_by is not None else ""
    fate += ", undo amended" if deed.amended else ""
    fate += f", declares that it touches {visible(deed.touches)}" if deed.touches else ""
    return f"{when(deed.started)} {deed.run}/{deed.step} {deed.run_kind}: {deed.description} ({deed.status}{fate})"


COMMANDS = (
    Command(
        name="blame",
        summary="Show which run, step, component and change made an object what it is",
        explanation="""
            The newest step that stands is named with its task, its cause and its change IDs; below it is the whole
            history, steps that were taken back and runs that took them back included. Where the object is not as the
            last run left it, what differs is named: somebody else changed it since.

            A command is in the history of what it declares that it touches, and of all that lies below that.
        """,
        examples=(
            Example("aquiline blame /etc/motd", "who wrote this file"),
            Example("aquiline blame unit:ntpd.service", "who enabled or stopped this unit"),
            Example("aquiline blame /etc/motd --json | jq .made_by.change_ids", "which change it came with"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
