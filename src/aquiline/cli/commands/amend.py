"""``aquiline amend``: a wrong undo corrected."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import positive

if TYPE_CHECKING:
    from aquiline.agent.amending import Amended
    from aquiline.changes.steps import Undo


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("selector", nargs="?", metavar="RUN", help="the run")
    parser.add_argument("step", nargs="?", type=positive, metavar="STEP", help="the number of the step")
    parser.add_argument("--undo", metavar="FILE", help="the right undo, as JSON")
    parser.add_argument("--reason", metavar="TEXT", help="why; it is recorded")
    parser.add_argument("--rules", metavar="FILE", help="amend every step that a rule of FILE matches")
    parser.add_argument("--dry-run", action="store_true", help="show it and write nothing")


def _run(invocation: Invocation) -> int:
    from aquiline.errors import UsageError

    arguments = invocation.arguments
    by_hand = (arguments.selector, arguments.step, arguments.undo, arguments.reason)
    if arguments.rules is not None:
        if any(given is not None for given in by_hand):
            raise UsageError("--rules says which steps, which undo and why: give nothing else with it")
        return _by_rules(invocation)
    if not all(given is not None for given in by_hand):
        raise UsageError("amend needs RUN, STEP, --undo FILE and --reason TEXT, or --rules FILE")
    return _by_hand(invocation)


def _by_hand(invocation: Invocation) -> int:
    from aquiline.agent.amending import amend, load_undo

    arguments, terminal = invocation.arguments, invocation.terminal
    amended = amend(
        invocation.session, arguments.selector, arguments.step, load_undo(arguments.undo), reason=arguments.reason,
        is_dry_run=arguments.dry_run,
    )  # fmt: skip
    if terminal.is_json:
        terminal.answer_json(_as_json(amended))
    else:
        terminal.answer("\n".join(_lines(amended)))
    if not arguments.dry_run:
        terminal.say(f"what was recorded first stays: `aquiline show {amended.run} --json`")
    return 0


def _by_rules(invocation: Invocation) -> int:
    from aquiline.agent.amending import amend_by_rules, load_rules

    arguments, terminal = invocation.arguments, invocation.terminal
    found = amend_by_rules(invocation.session, load_rules(arguments.rules), is_dry_run=arguments.dry_run)
    if terminal.is_json:
        terminal.answer_json(
            {
                "amended": [_as_json(one) for one in found.amended],
                "right_already": found.right_already,
                "by_hand": [_as_json(one) for one in found.by_hand],
            }
        )
        return 0
    lines = [line for one in found.amended for line in (*_lines(one), f"  by     {one.rule}")]
    lines += [f"step {one.step} of run {one.run} was amended by hand and stays so" for one in found.by_hand]
    verb = "would be amended" if arguments.dry_run else "amended"
    lines.append(f"{len(found.amended)} steps {verb}, {found.right_already} are right already")
    terminal.answer("\n".join(lines))
    return 0


def _lines(amended: Amended) -> Iterator[str]:
    from aquiline.changes.text import visible

    yield f"step {amended.step} of run {amended.run}: {amended.description}"
    yield from (f"  before {line}" for line in _undo_lines(amended.before))
    yield from (f"  after  {line}" for line in _undo_lines(amended.after))
    yield f"  reason {visible(amended.reason)}"


def _undo_lines(undo: Undo) -> Iterable[str]:
    from aquiline.changes.describe import describe
    from aquiline.changes.text import visible

    yield f"{undo.class_}: {visible(undo.description)}" + (f" ({visible(undo.reason)})" if undo.reason else "")
    yield from (f"  {describe(change)}" for change in undo.changes)


def _as_json(amended: Amended) -> dict[str, object]:
    from aquiline.changes.describe import describe

    def words(undo: Undo) -> dict[str, object]:
        changes = [describe(change) for change in undo.changes]
        return {"class": undo.class_, "description": undo.description, "reason": undo.reason, "changes": changes}

    return {
        "run": amended.run,
        "step": amended.step,
        "description": amended.description,
        "before": words(amended.before),
        "after": words(amended.after),
        "reason": amended.reason,
        "rule": amended.rule,
    }


COMMANDS = (
    Command(
        name="amend",
        summary="Correct an undo that was recorded wrong; the old one stays in the journal",
        explanation="""
            FILE of --undo holds what `aquiline show RUN --json` has as an undo. It is checked against the step and
            shown beside the one it replaces. From then on undo, redo and the undo script of the run go by it.

            FILE of --rules is TOML or JSON, root's and writable by nobody else; a component's package runs it when it
            is upgraded. It shows what it matched, amends nothing the second time, and leaves alone what a person
            amended.
        """,
        examples=(
            Example('aquiline amend 7f3a 4 --undo undo.json --reason "1.2 forgot to unmask" --dry-run', "look first"),
            Example("aquiline amend --rules /usr/share/aquiline-ntpd/amend.toml", "every step that a rule matches"),
        ),
        statuses=(10,),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
