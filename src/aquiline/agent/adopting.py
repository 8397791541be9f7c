"""Undo where the journal is gone: from what `aquiline show RUN --json` printed, and the pre-images (DESIGN D10).

The run is *adopted*: recorded in the journal that is there now, new and empty as it may be, as the export has it. From
then on it is a run like any other: undone, redone, shown and checked by the same code. Where the journal knows the run,
the journal counts and the export is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aquiline.agent.exporting import RunExport, read_export
from aquiline.agent.session import Session, person
from aquiline.errors import JournalError, UsageError
from aquiline.journal.records import AdoptedRun, NewDebt, RunRecord
from aquiline.journal.store import Journal


def load_export(path: str | Path) -> RunExport:
    """Return the run in a file that `aquiline show RUN --json` wrote.

    Raises:
        UsageError: it cannot be read.
        JournalError: it is no such file, or of a newer version.
    """
    try:
        return read_export(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def adopt(session: Session, export: RunExport, source: str) -> RunRecord:
    """Return the run as this host's journal has it; recorded there first where it is not.

    Raises:
        JournalError: the journal is not gone, but damaged.
    """
    try:
        with session.changing("undo --from") as journal:
            return _known(journal, export) or journal.adopt(_as_adopted(export), source=source, user=person())
    except JournalError as error:
        place = session.state.database
        hint = (
            f"move {place}* away and do this again: a new journal is begun, and other runs are in undo/*.sh beside it"
        )
        raise JournalError(error.message, hint=hint) from error


@contextmanager
def looking_at(session: Session, export: RunExport) -> Iterator[tuple[Journal, RunRecord]]:
    """Give a journal that has the run, for previews: the one on disk, or one in memory. Nothing is written."""
    with session.reading() as journal:
        run = _known(journal, export)
        if run is not None:
            yield journal, run
            return
    with Journal.in_memory(session.state) as journal:
        yield journal, journal.adopt(_as_adopted(export), source="", user="")


def _known(journal: Journal, export: RunExport) -> RunRecord | None:
    return next((run for run in journal.runs() if run.id == export.run.id), None)


def _as_adopted(export: RunExport) -> AdoptedRun:
    return AdoptedRun(
        run=export.run,
        stages=export.stages,
        steps=export.steps,
        directories=export.directories,
        preimages=export.preimages,
        debts=tuple(NewDebt(debt.step, debt.reaction, debt.component) for debt in export.debts),
    )
