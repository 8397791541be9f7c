"""``aquiline show``: one run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.exporting import Effects
    from aquiline.agent.session import Session


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("selector", nargs="?", default="last", metavar="RUN", help="the run (default: last)")
    parser.add_argument("--diff", action="store_true", help="with what each file was and became")
    parser.add_argument("--with-secrets", action="store_true", help="with --json: leave no secret out")


def _run(invocation: Invocation) -> int:
    from aquiline.agent.exporting import export
    from aquiline.errors import UsageError

    arguments, terminal, session = invocation.arguments, invocation.terminal, invocation.session
    if arguments.with_secrets and not terminal.is_json:
        raise UsageError("--with-secrets goes with --json: text never shows a secret")
    if terminal.is_json:
        terminal.answer_json(export(session, arguments.selector, with_secrets=arguments.with_secrets))
    else:
        terminal.answer(_text(session, arguments.selector, show_diff=arguments.diff))
    return 0


def _text(session: Session, selector: str, *, show_diff: bool) -> str:
    from aquiline.agent.exporting import effects
    from aquiline.changes.describe import describe
    from aquiline.journal.render import render_run

    with session.reading() as journal:
        run = journal.run(selector)
        steps = journal.steps(run.id)
        text = render_run(run, journal.stages(run.id), steps, show_diff=show_diff, stored=session.preimage)
        lines = [f"owed since step {d.step}: {describe(d.reaction)}" for d in journal.debts() if d.run == run.id]
        lines += [_compared(one) for one in effects(session, journal, run, steps)]
    return "\n".join([text, *lines])


def _compared(found: Effects) -> str:
    if not found.differ:
        return f"stage {found.stage}: the actual effect is the predicted one"
    steps = ", ".join(map(str, found.differ))
    digests = f"actual effect {found.actual[:12]}, predicted {found.predicted[:12]}"
    return f"stage {found.stage}: {digests}; not as predicted: step {steps}"


COMMANDS = (
    Command(
        name="show",
        summary="Show one run: its steps, what became of each, how each is taken back",
        explanation="""
            The last lines compare the effect that was predicted with the one that came about, and name the steps
            where they differ.

            With --json it is the complete record, enough to take the run back when the journal is gone: keep it as
            private as the journal. Pre-images are in it by digest. What holds a secret has its content by digest,
            and a command that holds one loses its arguments and its undo, unless --with-secrets is given; the steps
            this is true of are listed under "redacted".
        """,
        examples=(
            Example("aquiline show", "the last run"),
            Example("aquiline show 7f3a --diff", "with what each file was and became"),
            Example("aquiline show last --json > run.json", "keep the record elsewhere"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
