"""Runs for people: ``aquiline log`` and ``aquiline show``.

Text is a function of the records: times are those recorded, in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from aquiline.changes.render import render_steps
from aquiline.changes.text import command_line, visible
from aquiline.journal.records import RunHeader, RunRecord, StageRecord, StepRecord

#: What the column of flags of `render_log` says.
LEGEND = "* has not ended   # did not end as done   ? waits for confirmation   < past undo"


def render_log(runs: Sequence[RunRecord], undone: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return one line a run, in the order given, under a line of titles; empty where there is no run.

    `undone` names the runs by which a run was taken back, whole or in part.
    """
    if not runs:
        return ""
    table = [
        ("run", "began", "kind", "flags", "steps", "status", "what"),
        *(_log_row(run, undone.get(run.id, "")) for run in runs),
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "".join(f"{line}\n" for line in lines)


def render_run(
    run: RunRecord,
    stages: Sequence[StageRecord],
    steps: Sequence[StepRecord],
    *,
    show_diff: bool = False,
    stored: Callable[[str], bytes | None] = lambda _: None,
) -> str:
    """Return a run as text: what it was, then its stages with every step and what became of it.

    `stored` gives pre-images by digest, for the diffs of `show_diff`.
    """
    sections = ["".join(f"{line}\n" for line in _about(run))]
    texts = _step_texts(steps, show_diff, stored)
    for stage in stages:
        sections.append("".join(f"{line}\n" for line in _about_stage(stage)))
        sections += [text for step, text in zip(steps, texts, strict=True) if step.stage == stage.stage]
    return "\n".join(sections)


# ---- log -----------------------------------------------------------------------------------------------------------


def _log_row(run: RunRecord, undone: str) -> tuple[str, ...]:
    flags = [
        ("*", run.open),
        ("#", not run.open and run.status != "done"),
        ("?", run.awaits_confirmation),
        ("<", run.past_undo),
    ]
    return (
        run.id,
        _time(run.header.started),
        run.header.kind,
        "".join(flag for flag, is_set in flags if is_set) or "-",
        str(run.steps),
        _status(run),
        "; ".join(filter(None, (_what(run.header), undone and f"taken back by {undone}"))),
    )


def _what(header: RunHeader) -> str:
    parts = []
    if header.undoes:
        parts.append(f"takes back {', '.join(header.undoes)}")
    if header.recovers:
        parts.append(f"settles {header.recovers}")
    if header.change_ids:
        parts.append(f"brings {', '.join(map(visible, header.change_ids))}")
    return "; ".join(parts) or (f"profile {header.profile[:12]}" if header.profile else "")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(run: RunRecord) -> str:
    return "not ended" if run.open else run.status


# ---- one run -------------------------------------------------------------------------------------------------------


def _about(run: RunRecord) -> Iterator[str]:
    header = run.header
    yield f"run {run.id}: {header.kind}, {_status(run)}"
    yield f"began {_time(header.started)}" + (f", ended {_time(run.ended)}" if run.ended else "")
    if header.user or header.argv:
        yield f"by {visible(header.user) or 'nobody known'}: {command_line(header.argv)}"
    if header.profile:
        yield f"profile {header.profile}"
    if header.change_ids:
        yield f"brings {', '.join(map(visible, header.change_ids))}"
    if header.undoes:
        yield f"takes back {', '.join(header.undoes)}"
    if header.recovers:
        yield f"settles {header.recovers}"
    if run.awaits_confirmation:
        yield f"waits for confirmation, within {header.confirm_within:g} seconds"
    if run.past_undo:
        yield "past undo: its pre-images were dropped by retention"


def _about_stage(stage: StageRecord) -> Iterator[str]:
    yield f"stage {stage.stage}: {stage.coverage.predicted} of {stage.coverage.steps} steps predicted"
    yield f"plan digest    {stage.digests.plan}"
    yield f"effect digest  {stage.digests.effect}"
    yield from (f"note: {visible(note)}" for note in stage.notes)


def _step_texts(steps: Sequence[StepRecord], show_diff: bool, stored: Callable[[str], bytes | None]) -> list[str]:
    known = [record.step for record in steps if record.step is not None]
    texts = iter(render_steps(known, stored=stored, show_diff=show_diff))
    return [_with_fate(next(texts) if step.step is not None else _unknown(step), step) for step in steps]


def _unknown(step: StepRecord) -> str:
    """Return what can be said of a step whose kind this version does not know."""
    kind = f"{visible(step.kind)} version {step.kind_version}"
    return (
        f"{step.number}. {visible(step.component)}: {visible(step.description)}\n"
        f"   this version does not know {kind}: it cannot take the step back\n"
    )


def _with_fate(text: str, step: StepRecord) -> str:
    """Return the text of a step with what became of it below its first line."""
    first, rest = text.split("\n", 1)
    return "".join(f"{line}\n" for line in (first, *(f"   {line}" for line in _fate(step)))) + rest


#: What `aquiline apply` says when it happens.
_STATUS_WORDS = {"skipped": "not run"}


def _fate(step: StepRecord) -> Iterator[str]:
    taken_back = f", taken back by step {step.undone_by.step} of run {step.undone_by.run}" if step.undone_by else ""
    yield f"{_STATUS_WORDS.get(step.status, step.status.replace('-', ' '))}{taken_back}"
    if step.note:
        yield f"note: {visible(step.note)}"
    if step.amended is not None:
        yield f"undo amended: {visible(step.amended.description or step.amended.reason)}"
    if step.step is None or step.output not in step.step.because:  # which is told with the step
        yield from (f"> {visible(line)}" for line in step.output.splitlines())
