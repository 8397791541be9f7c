"""``aquiline log``: the journal, one line for each run."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import positive

if TYPE_CHECKING:
    from aquiline.journal.records import RunRecord
    from aquiline.journal.store import Journal


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", type=positive, default=0, metavar="N", help="only the last N runs")


def _run(invocation: Invocation) -> int:
    from aquiline.journal.render import LEGEND, render_log

    terminal = invocation.terminal
    invocation.session.refuse_lost_journal()
    with invocation.session.reading() as journal:
        runs = journal.runs()
        shown = runs[: invocation.arguments.last or None]
        taken_back = {name for run in runs for name in run.header.undoes}
        rows = [_row(journal, run, is_taken_back=run.id in taken_back) for run in shown]
    if terminal.is_json:
        terminal.answer_json(rows)
    elif not rows:
        terminal.answer("no runs")
    else:
        terminal.answer(render_log(shown, {row["id"]: ", ".join(row["undone_by"]) for row in rows if row["undone"]}))
        if sys.stdout.isatty():
            terminal.say(LEGEND)
    return 0


def _row(journal: Journal, run: RunRecord, *, is_taken_back: bool) -> dict[str, Any]:
    # Of a run that was done and stands, the steps need not be read.
    is_simple = run.status == "done" and not is_taken_back
    steps = [] if is_simple else journal.steps(run.id)
    undone = [one for one in steps if one.undone_by is not None]
    return {
        "id": run.id,
        "sequence": run.sequence,
        "kind": run.header.kind,
        "started": run.header.started,
        "ended": run.ended,
        "status": run.status or "open",
        "awaits_confirmation": run.awaits_confirmation,
        "past_undo": run.past_undo,
        "user": run.header.user,
        "change_ids": run.header.change_ids,
        "undoes": run.header.undoes,
        "steps": run.steps,
        "done": run.steps if is_simple else sum(1 for one in steps if one.status in ("done", "assumed-done")),
        "undone": len(undone),
        "undone_by": sorted({one.undone_by.run for one in undone if one.undone_by is not None}),
        "profile": run.header.profile,
    }


COMMANDS = (
    Command(
        name="log",
        summary="List the runs of this host, newest first",
        explanation="""
            One line for each run: its id, when it began (UTC), what kind of run it was, how many steps it has, how
            it ended, whether it still stands, its change IDs or the beginning of its profile's digest. The flags: *
            has not ended, # did not end as done, ? waits for confirmation, < is past undo. Nothing is ever erased:
            an undo is a run of its own.
        """,
        examples=(
            Example("aquiline log --last 10", "the last ten"),
            Example("aquiline log --json", "all, for a program"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
