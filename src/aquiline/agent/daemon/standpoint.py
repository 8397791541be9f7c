"""Where a host stands, by its journal alone: what next_move is decided on."""

from __future__ import annotations

from collections.abc import Mapping

from aquiline.agent.reconciling import Standing, Standpoint
from aquiline.journal.records import RunRecord
from aquiline.journal.store import Journal
from aquiline.protocol.messages import Live

_BRINGING = ("apply", "redo")


def standpoint(journal: Journal) -> Standpoint:
    """Return what is live, which runs stand, and which did not end."""
    runs = journal.runs()
    pointer = journal.live()
    live = Live(pointer.profile, pointer.change_ids) if pointer is not None else Live()
    standing = tuple(Standing(run.id, run.header.change_ids) for run in runs if _stands(journal, runs, run))
    return Standpoint(live, standing, _interrupted(journal))


def changes_past_undo(journal: Journal) -> tuple[str, ...]:
    """Return the changes that are live and whose run can be taken back no more, sorted."""
    runs = journal.runs()
    gone = {name for run in runs if run.past_undo and _stands(journal, runs, run) for name in run.header.change_ids}
    return tuple(sorted(gone))


def _interrupted(journal: Journal) -> Standing | None:
    opened = journal.open_runs()
    if not opened:
        return None
    base = opened[0]
    # What takes something back brings nothing, so there is never a reason not to finish it.
    return Standing(base.id, base.header.change_ids if base.header.kind in _BRINGING else ())


def _stands(journal: Journal, runs: list[RunRecord], run: RunRecord) -> bool:
    """Whether `run` has brought something and no later run took it back, or brought it again."""
    if run.header.kind not in _BRINGING or run.open:
        return False
    if run.status not in ("done", "partial") and not (run.status == "failed" and journal.stands(run.id)):
        return False
    names = {run.id, *_brought_again(run, {one.id: one for one in runs})}
    return not any(
        one.header.kind == "undo" and one.status in ("done", "incomplete") and names.intersection(one.header.undoes)
        for one in runs
        if one.sequence > run.sequence
    )


def _brought_again(redo: RunRecord, runs: Mapping[str, RunRecord]) -> set[str]:
    """Return the runs that `redo` laid again: they are taken back, it stands in their place."""
    undone = {name for undo in redo.header.undoes if undo in runs for name in runs[undo].header.undoes}
    brings = (redo.header.profile, redo.header.change_ids)
    return {
        name for name in undone if name in runs and (runs[name].header.profile, runs[name].header.change_ids) == brings
    }
