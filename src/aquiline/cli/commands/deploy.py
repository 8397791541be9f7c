"""``aquiline deploy``, ``undeploy``, ``approve``: changes of the fleet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.fleet import FleetClient, add_broker_options, client, segment
from aquiline.cli.parsing import date, duration, positive

#: Exit status where something failed on a host.
_FAILED = 15


def _add_reasons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; it stands in the commit and in every report")
    parser.add_argument("--justification", default="", metavar="TEXT", help="the ticket that allows it")
    parser.add_argument(
        "--wait", type=duration, default=600.0, metavar="TIME", help="how long to wait for hosts (default 10m)"
    )
    parser.add_argument("--no-wait", action="store_true", help="print the change ID and leave")
    parser.add_argument("--show", default="", metavar="GROUP", help="show this group's diffs; `all` for every group")


def _deploy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sandbox", metavar="SANDBOX", help="the sandbox to deploy")
    parser.add_argument("--domain", required=True, metavar="DOMAIN", help="the domain to deploy it on")
    parser.add_argument("--test", action="store_true", help="only ask each host what it would do")
    parser.add_argument("--all", action="store_true", dest="every_host", help="with --test: ask every host")
    parser.add_argument("--approved", default="", metavar="DIGEST", help="exactly what this approved test showed")
    parser.add_argument("--include-untested", action="store_true", help="hosts that did not answer the test too")
    parser.add_argument(
        "--confirm-within", type=duration, default=0.0, metavar="TIME",
        help="a host that cannot reach its broker after TIME takes the run back",
    )  # fmt: skip
    parser.add_argument("--allow-irreversible", action="store_true", help="do steps that have no undo too")
    _add_reasons(parser)
    add_broker_options(parser)


def _deploy(invocation: Invocation) -> int:
    arguments, broker = invocation.arguments, client(invocation)
    body = {
        "sandbox": arguments.sandbox, "domain": arguments.domain, "test": arguments.test,
        "every_host": arguments.every_host, "seconds": arguments.wait, "approved": arguments.approved,
        "include_untested": arguments.include_untested, "confirm_within": arguments.confirm_within,
        "allow_irreversible": arguments.allow_irreversible, "reason": arguments.reason,
        "justification": arguments.justification,
    }  # fmt: skip
    return _follow(invocation, broker, broker.ask("POST", "/v1/deployments", body))


def _undeploy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("changes", nargs="*", metavar="CHANGE", help="the changes to take back")
    parser.add_argument("--domain", default="", metavar="DOMAIN", help="with --last or --to")
    parser.add_argument("--last", type=positive, default=0, metavar="N", help="the last N changes of the domain")
    parser.add_argument("--to", type=date, metavar="DATE", help="every change of the domain after DATE")
    parser.add_argument(
        "--host", action="append", default=[], metavar="HOST", help="only on this host, which is held; may be repeated"
    )
    parser.add_argument("--test", action="store_true", help="only ask every host what undoing would do")
    _add_reasons(parser)
    add_broker_options(parser)


def _undeploy(invocation: Invocation) -> int:
    arguments, broker = invocation.arguments, client(invocation)
    body = {
        "changes": arguments.changes, "domain": arguments.domain, "last": arguments.last,
        "to": arguments.to.timestamp() if arguments.to else None, "hosts": arguments.host, "test": arguments.test,
        "seconds": arguments.wait, "reason": arguments.reason, "justification": arguments.justification,
    }  # fmt: skip
    return _follow(invocation, broker, broker.ask("POST", "/v1/undeployments", body))


def _follow(invocation: Invocation, broker: FleetClient, change: Mapping[str, Any]) -> int:
    """Say the change's ID at once, wait for the hosts, and report."""
    terminal, name = invocation.terminal, change["id"]
    terminal.say(f"change {name}")
    if not invocation.arguments.no_wait:
        wait(invocation, broker, name, invocation.arguments.wait)
    return report(invocation, broker, name, invocation.arguments.show)


def wait(invocation: Invocation, broker: FleetClient, name: str, seconds: float) -> None:
    """Wait until every host of a change has answered, or `seconds` are over."""

    def on_look(totals: Mapping[str, int]) -> None:
        waits = totals.get("asked", 0)
        fleet = sum(totals.values())
        invocation.terminal.progress(fleet - waits, fleet, f"hosts of {name}")

    broker.wait_until_closed(name, on_look, seconds)


def report(invocation: Invocation, broker: FleetClient, name: str, show: str = "") -> int:
    """Print the report of a change; return the exit status that it deserves."""
    found = broker.ask("GET", f"/v1/changes/{segment(name)}/report")
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer(broker.ask("GET", f"/v1/changes/{segment(name)}/report.txt", show=show))
    return _FAILED if found["failed"] else 0


def _close_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("change", metavar="CHANGE", help="a test or verification")
    parser.add_argument("--show", default="", metavar="GROUP", help="show this group's diffs; `all` for every group")
    add_broker_options(parser)


def _close(invocation: Invocation) -> int:
    broker, name = client(invocation), invocation.arguments.change
    broker.ask("POST", f"/v1/changes/{segment(name)}/close")
    return report(invocation, broker, name, invocation.arguments.show)


def _approve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("change", metavar="CHANGE", help="a closed test")
    parser.add_argument("digest", metavar="DIGEST", help="the digest that its report shows: what you have read")
    parser.add_argument("--for", type=duration, default=86400.0, dest="seconds", metavar="TIME", help="default 1d")
    add_broker_options(parser)


def _approve(invocation: Invocation) -> int:
    arguments = invocation.arguments
    body = {"digest": arguments.digest, "seconds": arguments.seconds}
    found = client(invocation).ask("POST", f"/v1/changes/{segment(arguments.change)}/approve", body)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer(f"{arguments.change} approved by {found['by']}")
    return 0


COMMANDS = (
    Command(
        name="deploy",
        summary="Test a sandbox on a domain, or deploy it there",
        explanation="""
            With --test every host whose profile changes says what it would do, and nothing changes anywhere: the report
            shows hosts that do the same once. Without it the sandbox is merged, every profile compiled and every host
            told, all or nothing; the change ID that is printed takes it back with `aquiline undeploy`.
        """,
        examples=(
            Example("aquiline deploy alice-ntp --domain prod --test", "what would it do, on every host?"),
            Example("aquiline deploy alice-ntp --domain prod --reason 'new time servers'", "do it"),
        ),
        statuses=(14, 15, 21),
        add_arguments=_deploy_arguments,
        run=_deploy,
    ),
    Command(
        name="undeploy",
        summary="Take changes back on every host, and in git",
        explanation="""
            Every host takes its own run back by the undo that it recorded, then compares what is left with what the
            reverted branch compiles to. A host that is off does it when it returns. Later changes are listed and block.
        """,
        examples=(
            Example("aquiline undeploy prod-17 --test", "what would undoing do, on every host?"),
            Example("aquiline undeploy prod-17", "take it back"),
            Example("aquiline undeploy --domain prod --last 3", "take the last three back"),
        ),
        statuses=(15, 21),
        add_arguments=_undeploy_arguments,
        run=_undeploy,
    ),
    Command(
        name="close",
        summary="Close a test or verification before its deadline, and report",
        explanation="""
            It closes by itself once every host has answered and sent what its answer names, or at its deadline (--wait
            of the command that asked). What it says then, and its digest, never change: an answer that comes later is
            shown below the report, as an addendum. Closing what is closed is success.
        """,
        examples=(Example("aquiline close prod-16", "those who have not answered by now are silent"),),
        statuses=(15,),
        add_arguments=_close_arguments,
        run=_close,
    ),
    Command(
        name="approve",
        summary="Agree to a closed test, by the digest that its report shows",
        explanation="`aquiline deploy … --approved DIGEST` then does exactly that, or refuses on hosts that changed.",
        examples=(Example("aquiline approve prod-16 3f2a…", "what you have read may be deployed"),),
        add_arguments=_approve_arguments,
        run=_approve,
    ),
)
