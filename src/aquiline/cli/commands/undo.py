"""``aquiline undo``: runs taken back."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import date, positive


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from aquiline.cli.choices import add_choices

    parser.add_argument("selector", nargs="?", metavar="RUN", help="the run to take back (default: last)")
    parser.add_argument(
        "--last", type=positive, default=0, metavar="N", help="take back the last N runs that still stand"
    )
    parser.add_argument("--to", type=date, metavar="DATE", help="take back every run that began after DATE (ISO 8601)")
    parser.add_argument("--dry-run", action="store_true", help="show it and write nothing")
    add_choices(parser)


def _run(invocation: Invocation) -> int:
    from aquiline.agent.preloading import preload
    from aquiline.agent.undoing import conflict_error, preview, select, undo
    from aquiline.cli.changing import StepReporter, finish_undo, fire_deadlines
    from aquiline.cli.choices import choices_of
    from aquiline.cli.stopping import Stopping
    from aquiline.cli.undotext import UndoShown
    from aquiline.errors import UsageError

    arguments, terminal, session = invocation.arguments, invocation.terminal, invocation.session
    if sum((arguments.selector is not None, bool(arguments.last), arguments.to is not None)) > 1:
        raise UsageError("RUN, --last and --to are three ways to say what goes: give one of them")
    choices = choices_of(arguments)
    if not arguments.dry_run:
        reverted = fire_deadlines(invocation)
        if any(arguments.selector and one.run.startswith(arguments.selector) for one in reverted):
            return 19
    with session.reading() as journal:
        runs = select(journal, arguments.selector, last=arguments.last, to=arguments.to)
    if not runs:
        terminal.answer("nothing to take back") if not terminal.is_json else terminal.answer_json(
            {"exit_status": 0, "runs": []}
        )
        return 0
    shown = UndoShown(invocation, runs, choices, "takes back")
    if arguments.dry_run:
        found = preview(session, runs, choices)
        shown(found)
        if found.conflicts:
            raise conflict_error(found)
        return 17 if any(not one.chosen for one in found.stays) else 0
    report = StepReporter(terminal)
    with Stopping() as stopping:
        preload(later_stages=False)
        stopping.take()
        undone = undo(session, runs, choices=choices, on_plan=shown, on_step=report, is_stopped=stopping)
    return finish_undo(invocation, undone, "undo", redo=f"`aquiline redo {undone.runs[-1]}` brings it again")


COMMANDS = (
    Command(
        name="undo",
        summary="Take runs back, exactly, by what the journal recorded",
        explanation="""
            Nothing of the components that made a run is needed, of any version, and no network. What will be done
            is shown first. An undo is a run of its own: it is in the log, and `aquiline redo` takes it back.

            An object that somebody changed since the run left it is a conflict: nothing is changed, both
            differences are shown, and each path is decided with --skip, --force or --merge. Only times differing is
            no conflict.

            A step that has no undo stays, is listed, and makes the exit status 17. --to DATE keeps what began at
            DATE or before; a date without a zone is local time, without a time of day it is midnight at its
            beginning.
        """,
        examples=(
            Example("aquiline undo", "take back the last run"),
            Example("aquiline undo 7f3a --dry-run", "show what taking back one run would do, also one in the middle"),
            Example("aquiline undo --last 3", "take back the last three runs that still stand"),
            Example("aquiline undo 7f3a --merge /etc/hosts --skip /etc/motd", "decide conflicts, path by path"),
        ),
        statuses=(10, 11, 12, 17, 19, 21),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
