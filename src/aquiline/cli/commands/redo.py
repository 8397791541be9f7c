"""``aquiline redo``: an undo taken back."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from aquiline.cli.choices import add_choices

    parser.add_argument("selector", metavar="RUN", help="the run that was undone")
    add_choices(parser)


def _run(invocation: Invocation) -> int:
    from aquiline.agent.preloading import preload
    from aquiline.agent.undoing import redo
    from aquiline.cli.changing import StepReporter, finish_undo, fire_deadlines, stand_alone
    from aquiline.cli.choices import choices_of
    from aquiline.cli.stopping import Stopping
    from aquiline.cli.undotext import UndoShown

    session = invocation.session
    choices = choices_of(invocation.arguments)
    stand_alone(invocation)
    fire_deadlines(invocation)
    with session.reading() as journal:
        run = journal.run(invocation.arguments.selector)
    shown = UndoShown(invocation, [run], choices, "brings again")
    with Stopping() as stopping:
        preload(later_stages=False)
        stopping.take()
        report = StepReporter(invocation.terminal)
        undone = redo(session, run, choices=choices, on_plan=shown, on_step=report, is_stopped=stopping)
    return finish_undo(invocation, undone, "redo", redo=f"`aquiline undo {undone.run}` takes it back")


COMMANDS = (
    Command(
        name="redo",
        summary="Bring a run again that was undone",
        explanation="""
            It takes the undo run back by that run's own pre-images, so it needs no profile and no component. Steps
            run again where only running them does it (a command). Conflicts are met and decided as by undo.
        """,
        examples=(Example("aquiline redo 7f3a", "bring run 7f3a again"),),
        statuses=(10, 11, 12, 17, 21),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
