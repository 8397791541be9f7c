"""``aquiline undo``: runs taken back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import date, positive

if TYPE_CHECKING:
    from aquiline.execution.undo import Choice, UndoPlan


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from aquiline.cli.choices import add_choices

    parser.add_argument("selector", nargs="?", metavar="RUN", help="the run to take back (default: last)")
    parser.add_argument(
        "--last", type=positive, default=0, metavar="N", help="take back the last N runs that still stand"
    )
    parser.add_argument("--to", type=date, metavar="DATE", help="take back every run that began after DATE (ISO 8601)")
    parser.add_argument(
        "--from", dest="export", metavar="FILE", help="take back the run that `aquiline show RUN --json` wrote to FILE"
    )
    parser.add_argument("--dry-run", action="store_true", help="show it and write nothing")
    add_choices(parser)


def _run(invocation: Invocation) -> int:
    from aquiline.agent.preloading import preload
    from aquiline.agent.undoing import preview, select, undo
    from aquiline.cli.changing import StepReporter, finish_undo, fire_deadlines, stand_alone
    from aquiline.cli.choices import choices_of
    from aquiline.cli.stopping import Stopping
    from aquiline.cli.undotext import UndoShown
    from aquiline.errors import UsageError

    arguments, terminal, session = invocation.arguments, invocation.terminal, invocation.session
    ways = (arguments.selector, arguments.last or None, arguments.to, arguments.export)
    if sum(way is not None for way in ways) > 1:
        raise UsageError("RUN, --last, --to and --from are four ways to say what goes: give one of them")
    choices = choices_of(arguments)
    if not arguments.dry_run:
        stand_alone(invocation)
        reverted = fire_deadlines(invocation)
        if any(arguments.selector and one.run.startswith(arguments.selector) for one in reverted):
            return 19
    if arguments.export is not None and arguments.dry_run:
        return _preview_export(invocation, choices)
    selector = _adopted(invocation) if arguments.export is not None else arguments.selector
    with session.reading() as journal:
        runs = select(session, journal, selector, last=arguments.last, to=arguments.to)
    if not runs:
        session.refuse_lost_journal()
        terminal.answer("nothing to take back") if not terminal.is_json else terminal.answer_json(
            {"exit_status": 0, "runs": []}
        )
        return 0
    shown = UndoShown(invocation, runs, choices, "takes back")
    if arguments.dry_run:
        found = preview(session, runs, choices)
        shown(found)
        return _previewed(found)
    report = StepReporter(terminal)
    with Stopping() as stopping:
        preload(later_stages=False)
        stopping.take()
        undone = undo(session, runs, choices=choices, on_plan=shown, on_step=report, is_stopped=stopping)
    return finish_undo(invocation, undone, "undo", redo=_redo(undone.runs))


def _redo(runs: tuple[str, ...]) -> str:
    commands = [f"`aquiline redo {run}`" for run in reversed(runs)]
    return f"{', then '.join(commands)} brings {'it' if len(runs) == 1 else 'them'} again"


def _previewed(found: UndoPlan) -> int:
    from aquiline.agent.undoing import conflict_error

    if found.conflicts:
        raise conflict_error(found)
    return 17 if any(not one.chosen for one in found.stays) else 0


def _adopted(invocation: Invocation) -> str:
    """Return the id of the run in a file, which this host's journal has from now on."""
    from aquiline.agent.adopting import adopt, load_export

    path = invocation.arguments.export
    return adopt(invocation.session, load_export(path), path).id


def _preview_export(invocation: Invocation, choices: Mapping[str, Choice]) -> int:
    from aquiline.agent.adopting import load_export, looking_at
    from aquiline.agent.undoing import preview_of
    from aquiline.cli.undotext import UndoShown

    with looking_at(invocation.session, load_export(invocation.arguments.export)) as (journal, run):
        found = preview_of(invocation.session, journal, [run], choices)
        UndoShown(invocation, [run], choices, "takes back").show(found, journal)
    return _previewed(found)


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
            Example("aquiline undo --from run.json", "take a run back when the journal is gone"),
            Example("aquiline undo 7f3a --merge /etc/hosts --skip /etc/motd", "decide conflicts, path by path"),
        ),
        statuses=(10, 11, 12, 17, 19, 21),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
