"""``aquiline fsck`` and ``aquiline gc``: how sound the journal is, and how far back it reaches."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import positive

if TYPE_CHECKING:
    from aquiline.agent.keeping import Collected
    from aquiline.journal.check import Health
    from aquiline.journal.retention import Purged

_KEEP_DAYS = 90.0
_VERDICTS = {
    "undoable": "undoable",
    "undoable-but-for": "undoable but for",
    "lost": "lost",
    "past-undo": "past undo: dropped by gc",
}


def _fsck(invocation: Invocation) -> int:
    from aquiline.journal.check import check

    found = check(invocation.session.state)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json({"sound": found.is_sound, "runs": found.runs, "faults": found.faults})
    else:
        invocation.terminal.answer("\n".join(_health(found)))
    return 0 if found.is_sound else 1


def _health(found: Health) -> Iterator[str]:
    from aquiline.changes.text import visible

    yield from (f"fault: {visible(fault)}" for fault in found.faults)
    for run in found.runs:
        script = "" if run.script in ("whole", "none") else f"; its undo script is {run.script}"
        yield f"run {run.run}: {_VERDICTS[run.verdict]}{script}"
        yield from (f"  {visible(reason)}" for reason in run.reasons)
    count = sum(run.verdict == "undoable" for run in found.runs)
    yield f"{len(found.runs)} runs, {count} undoable; {'sound' if found.is_sound else 'not sound'}"


def _add_gc_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-days", type=_days, metavar="N", help=f"drop runs older than N days (default {_KEEP_DAYS:g})"
    )
    parser.add_argument("--keep-runs", type=positive, metavar="N", help="drop runs with N newer ones, however young")
    parser.add_argument("--purge-secrets", action="store_true", help="remove secrets from pre-images instead")
    parser.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="with --purge-secrets: only of runs older than that"
    )
    parser.add_argument("--dry-run", action="store_true", help="show it and write nothing")


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _gc(invocation: Invocation) -> int:
    from aquiline.agent.keeping import collect, purge
    from aquiline.errors import UsageError
    from aquiline.journal.retention import Policy

    arguments, terminal, session = invocation.arguments, invocation.terminal, invocation.session
    if arguments.older_than is not None and not arguments.purge_secrets:
        raise UsageError("--older-than goes with --purge-secrets; --keep-days is for everything else")
    if arguments.purge_secrets:
        kept = arguments.keep_days is not None or arguments.keep_runs is not None
        if kept:
            raise UsageError(
                "--purge-secrets drops no runs: --keep-days and --keep-runs have no say in it", hint="--older-than DAYS"
            )
        purged = purge(session, arguments.older_than or 0.0, is_dry_run=arguments.dry_run)
        answer: dict[str, object] = {"purged": purged}
        lines = list(_purged(purged, is_dry_run=arguments.dry_run))
    else:
        policy = Policy(
            days=_KEEP_DAYS if arguments.keep_days is None else arguments.keep_days, runs=arguments.keep_runs
        )
        collected = collect(session, policy, is_dry_run=arguments.dry_run)
        answer = {"runs": collected.runs, "dropped": collected.dropped}
        lines = list(_collected(collected))
    if terminal.is_json:
        terminal.answer_json({"dry_run": arguments.dry_run, **answer})
    else:
        terminal.answer("\n".join(lines))
    return 0


def _collected(found: Collected) -> Iterator[str]:
    verb = "would drop" if found.dropped is None else "dropped"
    for one in found.runs:
        yield f"run {one.run}: {verb if one.drop else 'kept'}: {one.reason}"
    if found.dropped is None:
        yield f"{sum(one.drop for one in found.runs)} of {len(found.runs)} runs would be past undo"
    else:
        freed = f"{found.dropped.preimages} pre-images, {found.dropped.bytes} bytes freed"
        yield f"{len(found.dropped.runs)} of {len(found.runs)} runs are past undo now; {freed}"


def _purged(found: Purged, *, is_dry_run: bool) -> Iterator[str]:
    verb = "would be purged" if is_dry_run else "purged"
    yield from (f"run {run}: its secrets {verb}: it cannot be undone whole" for run in found.runs)
    yield from (f"run {run}: its secrets stay: {why}" for run, why in found.spared)
    yield f"{found.preimages} pre-images {verb}, {found.bytes} bytes"


COMMANDS = (
    Command(
        name="fsck",
        summary="Check the journal and all pre-images: what can still be undone",
        explanation="""
            Every record is read and every pre-image is hashed. Each run is undoable, undoable but for the steps listed,
            lost, or past undo. A run whose records are lost and whose undo script is there is listed with the script.
            Nothing is repaired and nothing written. The exit status is 1 unless all is sound.
        """,
        examples=(Example("aquiline fsck --json | jq '.runs[] | select(.verdict != \"undoable\")'", "what is not"),),
        run=_fsck,
    ),
    Command(
        name="gc",
        summary="Drop what undoing old runs needs; the record of them stays",
        explanation="""
            A run is dropped for its age or for the number of newer ones, unless it waits for confirmation, did not end,
            has a step in doubt, or was the last to touch some object. Its pre-images go where no other run needs them,
            and so do its undo script and the inodes it kept. It stays in the log, past undo.

            --purge-secrets removes secrets from pre-images of runs that stay otherwise undoable, the last ones to touch
            something included; fsck and undo then say of which step the secret was purged. The contents that runs wrote
            new are in their records, and no part of the journal is ever taken out.
        """,
        examples=(
            Example("aquiline gc --keep-days 30 --dry-run", "what would go"),
            Example("aquiline gc --purge-secrets --older-than 7", "passwords that were replaced a week ago"),
        ),
        statuses=(10,),
        add_arguments=_add_gc_arguments,
        run=_gc,
    ),
)
