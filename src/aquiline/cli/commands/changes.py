"""``aquiline changes``, ``report`` and ``watch``: what was changed in the fleet, and how it goes."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.commands.deploy import report, wait
from aquiline.cli.commands.members import change_table
from aquiline.cli.fleet import add_broker_options, client
from aquiline.cli.parsing import duration, positive


def _changes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", default="", metavar="DOMAIN", help="only changes of this domain")
    parser.add_argument("--last", type=positive, default=50, metavar="N", help="how many (default 50)")
    add_broker_options(parser)


def _changes(invocation: Invocation) -> int:
    arguments = invocation.arguments
    found = client(invocation).ask("GET", "/v1/changes", domain=arguments.domain, limit=arguments.last)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer(change_table(found) or "no changes")
    return 0


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("change", metavar="CHANGE")
    parser.add_argument("--show", default="", metavar="GROUP", help="show this group's diffs; `all` for every group")
    add_broker_options(parser)


def _report(invocation: Invocation) -> int:
    return report(invocation, client(invocation), invocation.arguments.change, invocation.arguments.show)


def _watch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("change", metavar="CHANGE")
    parser.add_argument("--for", type=duration, default=600.0, dest="seconds", metavar="TIME", help="default 10m")
    add_broker_options(parser)


def _watch(invocation: Invocation) -> int:
    broker, name = client(invocation), invocation.arguments.change
    wait(invocation, broker, name, invocation.arguments.seconds)
    return report(invocation, broker, name)


COMMANDS = (
    Command(
        name="changes",
        summary="List the changes of the fleet, newest first",
        examples=(Example("aquiline changes --domain prod", "what was done to production?"),),
        add_arguments=_changes_arguments,
        run=_changes,
    ),
    Command(
        name="report",
        summary="Report what a change would do, does or did, hosts that do the same shown once",
        explanation="""
            Every host is in the totals. The largest group that is well is the reference; the others are shown by what
            they do more or less than that. Equal answers give equal bytes, so that two reports can be compared.
        """,
        examples=(Example("aquiline report prod-17 --show G1", "with the diffs of the first group"),),
        statuses=(15,),
        add_arguments=_report_arguments,
        run=_report,
    ),
    Command(
        name="watch",
        summary="Follow a change until every host has answered, then report",
        examples=(Example("aquiline watch prod-17", "wait for the last host"),),
        statuses=(15,),
        add_arguments=_watch_arguments,
        run=_watch,
    ),
)
