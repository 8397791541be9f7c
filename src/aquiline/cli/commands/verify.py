"""``aquiline verify``: what drifted."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.inspecting import Drift, Verified


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exit-code", action="store_true", help="exit with 3 where something drifted")


def _run(invocation: Invocation) -> int:
    from aquiline.agent.inspecting import verify

    invocation.session.refuse_lost_journal()
    found = verify(invocation.session)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer("\n".join(_lines(found)))
    return 3 if found.drift and invocation.arguments.exit_code else 0


def _lines(found: Verified) -> Iterator[str]:
    from aquiline.changes.text import visible

    for title, state in (("drifted", "drifted"), ("gone", "gone"), ("cannot be looked at", "unreadable")):
        listed = [one for one in found.drift if one.state == state]
        if listed:
            yield f"{title}:"
            yield from (f"  {_row(one)}" for one in listed)
    if found.no_longer_ours:
        yield "changed since it was given back by undo:"
        yield from (f"  {_row(one)}" for one in found.no_longer_ours)
    if found.touched:
        yield "only its time differs:"
        yield from (f"  {visible(path)}" for path in found.touched)
    total = found.unchanged + len(found.drift) + len(found.no_longer_ours) + len(found.touched)
    yield f"{total} objects: {found.unchanged} as a run left them, {len(found.drift)} drifted"


def _row(one: Drift) -> str:
    from aquiline.changes.text import visible

    secret = " (secret)" if one.secret else ""
    return f"{visible(one.path)}{secret}: {'; '.join(map(visible, one.how))}; left by {one.run}/{one.step}"


COMMANDS = (
    Command(
        name="verify",
        summary="Show what is not as the last run left it",
        explanation="""
            Every object that a run left is compared with the host: type, content, link target, owner, mode, ACLs and
            attributes. Each is looked at once, nothing is written. A modification time that differs by itself is no
            drift and listed apart, and so is what somebody changed after undo had given it back.

            Of what holds a secret only sizes are told.
        """,
        examples=(
            Example("aquiline verify --exit-code", "for a cron job: 3 where something drifted"),
            Example("aquiline verify --json | jq -r '.drift[].path'", "the paths alone"),
        ),
        statuses=(3,),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
