"""``aquiline status``: how this host stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.inspecting import Standing, UndoReach


def _run(invocation: Invocation) -> int:
    from aquiline.agent.inspecting import status

    invocation.session.refuse_lost_journal()
    found = status(invocation.session)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json(found)
    else:
        invocation.terminal.answer("\n".join(_lines(found)))
    return 0


def _lines(found: Standing) -> Iterator[str]:
    from aquiline.changes.text import visible
    from aquiline.cli.changing import span, when

    if found.live is None or not found.live.profile:
        yield "live:          nothing"
    else:
        yield f"live:          profile {found.live.profile[:12]} by run {found.live.run}"
        if found.live.change_ids:
            yield f"changes:       {', '.join(map(visible, found.live.change_ids))}"
    if found.frozen is not None:
        who = f"{visible(found.frozen.by)} since {when(found.frozen.since)}"
        yield f"frozen:        by {who}: {visible(found.frozen.reason)}"
    if found.policy_freeze:
        yield f"frozen:        by this host's policy: {visible(found.policy_freeze)}"
    for debt in found.owed:
        yield f"owed:          {debt.description}, since run {debt.run}"
    for run in found.open_runs:
        how = "under way:  " if found.locked_by is not None else "interrupted:"
        yield f"{how}   run {run.run} ({run.kind}), {run.done} of {run.steps} steps done"
        for number, description in run.in_doubt.items():
            yield f"  in doubt:    step {number}, {description}"
    for one in found.waiting:
        in_time = f"{span(one.remaining)} left" if one.remaining > 0 else "its time is over"
        yield f"waits:         run {one.run}, {in_time}: `aquiline confirm {one.run}` keeps it"
    yield f"undo reaches:  {_reach(found.undo)}"
    if found.locked_by is not None:
        who = f"pid {found.locked_by.pid}, user {visible(found.locked_by.user)}, since {when(found.locked_by.since)}"
        yield f"locked:        by {visible(found.locked_by.purpose)}, {who}"


def _reach(undo: UndoReach) -> str:
    from aquiline.cli.changing import when

    runs = "run" if undo.runs == 1 else "runs"
    place = f"{undo.runs} {runs}, to {undo.oldest} of {when(undo.started)}" if undo.runs else "nowhere"
    return f"{place}; {undo.ends_because}" if undo.ends_because else place


COMMANDS = (
    Command(
        name="status",
        summary="Show how this host stands",
        explanation="""
            What is live, whether the host is frozen, which reactions are owed, which runs are under way,
            interrupted or wait for confirmation and how long they may, how far back undo reaches, and who changes
            the host right now.
        """,
        examples=(Example("aquiline status --json | jq .live.profile", "the digest of the live profile"),),
        run=_run,
    ),
)
