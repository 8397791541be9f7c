"""``aquiline script``: a run as a POSIX shell script."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("selector", nargs="?", default="last", metavar="RUN", help="the run (default: last)")
    parser.add_argument("--undo", action="store_true", help="the script that takes it back")


def _run(invocation: Invocation) -> int:
    from aquiline.errors import UsageError
    from aquiline.journal.script import forward_script

    session, arguments = invocation.session, invocation.arguments
    with session.reading() as journal:
        run = journal.run(arguments.selector)
        if not arguments.undo:
            steps = [record.known for record in journal.steps(run.id)]
            text = forward_script(session.state, run.id, steps, session.root)
            invocation.terminal.answer_bytes(text.encode("utf-8", "surrogateescape"))
            return 0
    try:
        content = (session.state.undo / f"{run.id}.sh").read_bytes()
    except FileNotFoundError:
        hint = f"`aquiline show {run.id}` says what it did"
        raise UsageError(f"run {run.id} has no undo script: it did nothing", hint=hint) from None
    invocation.terminal.answer_bytes(content)
    return 0


COMMANDS = (
    Command(
        name="script",
        summary="Print a run as a shell script",
        explanation="""
            With --undo, these are the exact bytes of STATE/undo/RUN.sh, which was on disk before the first effect
            of the run: it needs a POSIX shell, the pre-images beside it, and neither this program nor Python. Every
            step in it first looks whether there is something to take back, so it is right after a crash at any
            point.
        """,
        examples=(
            Example("aquiline script last --undo | sh -n", "see that it parses"),
            Example("sh /var/lib/aquiline/undo/7f3a91bc.sh", "take a run back when nothing else works"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
