"""``aquiline freeze`` and ``aquiline thaw``: no run starts on this host, or nothing is deployed on a domain."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.fleet import add_broker_options, client, refuse_broker_options, segment

_HINT = "give --domain DOMAIN with it"


def _add_freeze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever meets it")
    _add_domain(parser)


def _add_domain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", default="", metavar="DOMAIN", help="a domain of the fleet instead of this host")
    add_broker_options(parser)


def _freeze(invocation: Invocation) -> int:
    arguments = invocation.arguments
    if arguments.domain:
        client(invocation).ask("POST", f"/v1/domains/{segment(arguments.domain)}/freeze", {"reason": arguments.reason})
        _answer(invocation, f"frozen: nothing is deployed on {arguments.domain}", is_frozen=True)
        return 0
    refuse_broker_options(arguments, _HINT)
    invocation.session.freeze(invocation.arguments.reason)
    _answer(invocation, "frozen: no run starts here\n`aquiline thaw` lifts it", is_frozen=True)
    return 0


def _thaw(invocation: Invocation) -> int:
    if invocation.arguments.domain:
        client(invocation).ask("POST", f"/v1/domains/{segment(invocation.arguments.domain)}/thaw")
        _answer(invocation, f"{invocation.arguments.domain} is not frozen", is_frozen=False)
        return 0
    refuse_broker_options(invocation.arguments, _HINT)
    invocation.session.thaw()
    _answer(invocation, "not frozen", is_frozen=False)
    return 0


def _answer(invocation: Invocation, text: str, *, is_frozen: bool) -> None:
    if invocation.terminal.is_json:
        invocation.terminal.answer_json({"frozen": is_frozen})
    else:
        invocation.terminal.answer(text)


COMMANDS = (
    Command(
        name="freeze",
        summary="Let no run start on this host, or nothing be deployed on a domain",
        explanation="""
            apply, undo and redo are refused with exit status 21 until `aquiline thaw`, and say who froze the host,
            since when and why. A run that is under way goes on. A run that nobody confirms in time is taken back
            all the same, and recovery after a crash works.

            With --domain it is the broker that is asked: deploy and undeploy on that domain are refused with 21, tests
            are not.
        """,
        examples=(
            Example('aquiline freeze --reason "disk being replaced, ask Ada"', "keep the host as it is"),
            Example("aquiline freeze --domain prod --reason 'the shop is on sale'", "stop deployments"),
        ),
        add_arguments=_add_freeze,
        run=_freeze,
    ),
    Command(
        name="thaw",
        summary="Lift a freeze",
        explanation="Not being frozen is success. A freeze in the host's policy file is lifted there.",
        examples=(Example("aquiline thaw", "let runs start again"),),
        add_arguments=_add_domain,
        run=_thaw,
    ),
)
