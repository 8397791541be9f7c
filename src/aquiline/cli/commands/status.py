"""``aquiline status``: how this host stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.daemon.memory import Memory
    from aquiline.agent.inspecting import Standing, UndoReach


def _run(invocation: Invocation) -> int:
    import msgspec

    from aquiline.agent.inspecting import status

    invocation.session.refuse_lost_journal()
    found = status(invocation.session)
    memory = _memory(invocation)
    if invocation.terminal.is_json:
        answer = msgspec.to_builtins(found)
        invocation.terminal.answer_json(answer if memory is None else {**answer, "agent": _as_json(memory)})
    else:
        lines = [*_lines(found), *([] if memory is None else _fleet(memory))]
        invocation.terminal.answer("\n".join(lines))
    return 0


def _memory(invocation: Invocation) -> Memory | None:
    """Return what the host's agent remembers, None where it has none."""
    if not (invocation.session.state.path / "agent").is_dir():
        return None
    from aquiline.agent.daemon.memory import Memory

    return Memory(invocation.session.state)


def _as_json(memory: Memory) -> dict[str, object]:
    return {"attempt": memory.attempt(), "held": memory.held(), "last_poll": memory.last_poll()}


def _fleet(memory: Memory) -> Iterator[str]:
    from aquiline.changes.text import visible
    from aquiline.cli.changing import when

    attempt, held, last = memory.attempt(), memory.held(), memory.last_poll()
    if attempt.generation:
        because = f": {visible(attempt.because)}" if attempt.because else ""
        yield f"target:        generation {attempt.generation}, {attempt.result or 'under way'}{because}"
    if held is not None:
        yield f"held:          by generation {held.generation} since {when(held.since)}: {visible(held.because)}"
    if last is not None:
        seen = f"{when(last.when)}, generation {last.generation}" if last.when else "never answered"
        yield f"broker:        {seen}{f'; since then: {visible(last.error)}' if last.error else ''}"


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
            the host right now. Where the host belongs to a fleet: what became of the last target of its broker,
            whether the host is held, and when the broker last answered.
        """,
        examples=(Example("aquiline status --json | jq .live.profile", "the digest of the live profile"),),
        run=_run,
    ),
)
