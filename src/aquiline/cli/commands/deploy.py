"""``aquiline deploy``, ``undeploy``, ``approve``: changes of the fleet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.fleet import FleetClient, add_broker_options, client, segment
from aquiline.cli.parsing import date, duration, positive, refuse_unfit
from aquiline.errors import UsageError

#: Exit statuses where something failed on a host, and where something drifted and that was asked for.
_FAILED, _DRIFTED = 15, 3
#: Seconds for which hosts are waited for.
_PATIENCE = 600.0


def add_following(parser: argparse.ArgumentParser) -> None:
    """Add why, how long to wait, and what to show: what the broker is told, and what `follow` goes by."""
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; it stands in the commit and in every report")
    parser.add_argument("--justification", default="", metavar="TEXT", help="the ticket that allows it")
    parser.add_argument(
        "--wait",
        type=duration,
        metavar="TIME",
        help="how long to wait for hosts, and to take their answers (default 10m)",
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
    add_following(parser)
    add_broker_options(parser)


def _deploy(invocation: Invocation) -> int:
    arguments = invocation.arguments
    _refuse_unfit_deploy(arguments)
    broker = client(invocation)
    body = {
        "sandbox": arguments.sandbox, "domain": arguments.domain, "test": arguments.test,
        "every_host": arguments.every_host, "seconds": patience(arguments), "approved": arguments.approved,
        "include_untested": arguments.include_untested, "confirm_within": arguments.confirm_within,
        "allow_irreversible": arguments.allow_irreversible, "reason": arguments.reason,
        "justification": arguments.justification,
    }  # fmt: skip
    return follow(invocation, broker, broker.ask("POST", "/v1/deployments", body))


def _refuse_unfit_deploy(arguments: argparse.Namespace) -> None:
    """Refuse options that would be passed over."""
    if arguments.test:
        refuse_unfit(
            {
                "--approved": arguments.approved,
                "--include-untested": arguments.include_untested,
                "--confirm-within": arguments.confirm_within,
                "--allow-irreversible": arguments.allow_irreversible,
            },
            because="a test changes nothing on any host",
            hint="leave it out, or deploy without --test",
        )
        return
    refuse_unfit({"--all": arguments.every_host}, because="it says which hosts a test asks", hint="give --test with it")
    if not arguments.approved:
        refuse_unfit(
            {"--include-untested": arguments.include_untested},
            because="there is no test that hosts could have left unanswered",
            hint="give --approved DIGEST with it",
        )
    _refuse_waiting_for_nothing(arguments)


def _refuse_waiting_for_nothing(arguments: argparse.Namespace) -> None:
    if arguments.no_wait:
        refuse_unfit({"--wait": arguments.wait}, because="--no-wait waits for nobody", hint="give one of the two")


def patience(arguments: argparse.Namespace) -> float:
    """Return for how many seconds hosts are waited for, and a question takes answers."""
    return float(arguments.wait or _PATIENCE)


def _undeploy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("changes", nargs="*", metavar="CHANGE", help="the changes to take back")
    parser.add_argument("--domain", default="", metavar="DOMAIN", help="with --last or --to")
    parser.add_argument("--last", type=positive, default=0, metavar="N", help="the last N changes of the domain")
    parser.add_argument("--to", type=date, metavar="DATE", help="every change of the domain after DATE")
    parser.add_argument(
        "--host", action="append", default=[], metavar="HOST", help="only on this host, which is held; may be repeated"
    )
    parser.add_argument("--redeploy", action="store_true", help="take later changes back too, and lay them again")
    parser.add_argument("--test", action="store_true", help="only ask every host what undoing would do")
    add_following(parser)
    add_broker_options(parser)


def _undeploy(invocation: Invocation) -> int:
    arguments = invocation.arguments
    _refuse_unfit_undeploy(arguments)
    broker = client(invocation)
    body = {
        "changes": arguments.changes, "domain": arguments.domain, "last": arguments.last,
        "to": arguments.to.timestamp() if arguments.to else None, "hosts": arguments.host,
        "redeploy": arguments.redeploy, "test": arguments.test,
        "seconds": patience(arguments), "reason": arguments.reason, "justification": arguments.justification,
    }  # fmt: skip
    return follow(invocation, broker, broker.ask("POST", "/v1/undeployments", body))


def _refuse_unfit_undeploy(arguments: argparse.Namespace) -> None:
    """Refuse options that would be passed over, and a command line that does not say what is to be taken back."""
    if arguments.redeploy:
        refuse_unfit(
            {"--last": arguments.last, "--to": arguments.to},
            because="after the last changes there are none to lay again",
            hint="name the change that is to go from below others",
        )
        refuse_unfit(
            {"--host": arguments.host},
            because="what is laid again is laid on the whole domain",
            hint="name the change that is to go, and no host",
        )
    if arguments.changes:
        refuse_unfit(
            {"--domain": arguments.domain, "--last": arguments.last, "--to": arguments.to},
            because="the changes are named already",
            hint="name CHANGE, or say --domain D with --last N or --to DATE",
        )
    elif not arguments.domain or (arguments.last > 0) == (arguments.to is not None):
        raise UsageError("what is to be taken back?", hint="name CHANGE, or say --domain D with --last N or --to DATE")
    if not arguments.test:
        _refuse_waiting_for_nothing(arguments)


def follow(invocation: Invocation, broker: FleetClient, change: Mapping[str, Any], *, exit_code: bool = False) -> int:
    """Say the change's ID at once, wait for the hosts, and report; with `exit_code` drift is an exit status."""
    terminal, name = invocation.terminal, change["id"]
    laid = change.get("lays", ())
    terminal.say(f"change {name}")
    for new, old in zip(laid, change["relays"] if laid else (), strict=True):
        terminal.say(f"change {new} lays {old} again: `aquiline report {new}`")
    if not invocation.arguments.no_wait:
        for each in (name, *laid):
            wait(invocation, broker, each, patience(invocation.arguments))
    status = report(invocation, broker, name, invocation.arguments.show, exit_code=exit_code)
    return status or _status(broker, laid)


def _status(broker: FleetClient, names: Sequence[str]) -> int:
    """Return the exit status that the hosts of these changes deserve."""
    found = (broker.ask("GET", f"/v1/changes/{segment(name)}/report") for name in names)
    return _FAILED if any(one["failed"] for one in found) else 0


def wait(invocation: Invocation, broker: FleetClient, name: str, seconds: float) -> None:
    """Wait until every host of a change has answered, or `seconds` are over."""

    def on_look(totals: Mapping[str, int]) -> None:
        waits = totals.get("asked", 0)
        fleet = sum(totals.values())
        invocation.terminal.progress(fleet - waits, fleet, f"hosts of {name}")

    broker.wait_until_closed(name, on_look, seconds)


def report(invocation: Invocation, broker: FleetClient, name: str, show: str = "", *, exit_code: bool = False) -> int:
    """Print the report of a change; return the exit status that it deserves."""
    found = broker.ask("GET", f"/v1/changes/{segment(name)}/report")
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer(broker.ask("GET", f"/v1/changes/{segment(name)}/report.txt", show=show))
    if found["failed"]:
        return _FAILED
    return _DRIFTED if exit_code and found["totals"].get("drifted") else 0


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
            With --redeploy they are taken back too and laid again, each as a change of its own, all or nothing: where
            one of them conflicts without what is taken back, or a host does not compile, nothing moves. That goes with
            neither --last, --to nor --host.
        """,
        examples=(
            Example("aquiline undeploy prod-17 --test", "what would undoing do, on every host?"),
            Example("aquiline undeploy prod-17", "take it back"),
            Example("aquiline undeploy --domain prod --last 3", "take the last three back"),
            Example("aquiline undeploy prod-17 --redeploy", "take it back from below what came after it"),
        ),
        statuses=(12, 14, 15, 21),
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
