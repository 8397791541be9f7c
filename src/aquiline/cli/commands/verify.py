"""``aquiline verify``: what drifted, here or on the hosts of a domain."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.commands.deploy import add_following, follow, patience
from aquiline.cli.fleet import add_broker_options, client, refuse_broker_options
from aquiline.cli.parsing import refuse_unfit

if TYPE_CHECKING:
    from aquiline.agent.inspecting import Drift, Verified

_HINT = "give --domain DOMAIN with it"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exit-code", action="store_true", help="exit with 3 where something drifted")
    parser.add_argument(
        "--domain", default="", metavar="DOMAIN", help="ask the hosts of a domain or sandbox instead of this one"
    )
    parser.add_argument(
        "--host", action="append", default=[], metavar="NODESET",
        help="with --domain: only these, as web001 or web[001-412]; may be repeated",
    )  # fmt: skip
    add_following(parser)
    add_broker_options(parser)


def _run(invocation: Invocation) -> int:
    if invocation.arguments.domain:
        return _ask_fleet(invocation)
    _refuse_unfit_here(invocation.arguments)
    return _look_here(invocation)


def _refuse_unfit_here(arguments: argparse.Namespace) -> None:
    fleet = ("host", "wait", "no_wait", "show", "reason", "justification")
    refuse_unfit(
        {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in fleet},
        because="this host alone is looked at",
        hint=_HINT,
    )
    refuse_broker_options(arguments, _HINT)


def _ask_fleet(invocation: Invocation) -> int:
    arguments, broker = invocation.arguments, client(invocation)
    body = {
        "domain": arguments.domain, "hosts": arguments.host, "seconds": patience(arguments), "reason": arguments.reason,
        "justification": arguments.justification,
    }  # fmt: skip
    asked = broker.ask("POST", "/v1/verifications", body)
    return follow(invocation, broker, asked, exit_code=arguments.exit_code)


def _look_here(invocation: Invocation) -> int:
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

            With --domain every host of it is asked, by the broker, and the answers are reported as those of a test:
            hosts on which the same drifted are shown once, those that say nothing with the reason. Nothing changes
            anywhere. It has an ID, with which `aquiline report` shows it again.
        """,
        examples=(
            Example("aquiline verify --exit-code", "for a cron job: 3 where something drifted"),
            Example("aquiline verify --domain prod --host 'web[001-412]'", "what drifted on these hosts?"),
            Example("aquiline verify --json | jq -r '.drift[].path'", "the paths alone"),
        ),
        statuses=(3, 15),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
