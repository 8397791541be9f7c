"""What of the journal can still be relied upon: per run, whether it can be undone.

Nothing is repaired here and nothing raised for damage: whatever is found is a line of the result. Where the database
is gone or cannot be read, the undo scripts say which runs there were.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from aquiline.errors import JournalError
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import PreimageReference, StepRecord
from aquiline.journal.script import whole_chunks
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal

#: Statuses of steps that did, or may have done, something.
_EFFECTIVE = frozenset(("intended", "done", "failed", "in-doubt", "assumed-done"))


class RunHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether one run can be undone."""

    run: str
    #: ``undoable``; ``undoable-but-for`` and ``lost`` with reasons; ``past-undo``: dropped by retention.
    verdict: Literal["undoable", "undoable-but-for", "lost", "past-undo"]
    #: One line for each step that cannot be undone, or one for the whole run.
    reasons: tuple[str, ...] = ()
    #: Its undo script: whole, its end torn off, or missing. ``none``: it changed nothing and needs none.
    script: Literal["whole", "torn", "missing", "none"] = "whole"


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the journal is sound."""

    #: In the order in which they began; those known by their script only come last.
    runs: tuple[RunHealth, ...]
    #: What is wrong with the database itself, or with content that no run needs.
    faults: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Return whether nothing was lost and nothing damaged."""
        return not self.faults and all(run.verdict in ("undoable", "past-undo") for run in self.runs)


def check(state: StateDirectory) -> Health:
    """Look at every record and every pre-image; raises `HostError` where the state directory cannot be read at all."""
    checker = _Checker(state)
    try:
        with Journal.open(state, read_only=True) as journal:
            checker.look(journal)
    except JournalError as error:
        checker.faults.append(error.message)
    checker.look_at_scripts()
    return Health(runs=tuple(checker.runs), faults=tuple(checker.faults))


class _Checker:
    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._preimages = PreimageStore(state)
        self._sound: dict[str, bool] = {}
        self.runs: list[RunHealth] = []
        self.faults: list[str] = []

    def look(self, journal: Journal) -> None:
        """Look at the database, then at each run by itself, so that one damaged record costs one run."""
        try:
            self.faults += journal.check_database()
        except JournalError as error:
            self.faults.append(error.message)
        tombstones = journal.tombstones()
        for run in journal.runs(newest_first=False):
            if run.past_undo:
                self.runs.append(RunHealth(run.id, "past-undo", script="none"))
            else:
                self.runs.append(self._run(journal, run.id, tombstones))

    def look_at_scripts(self) -> None:
        """Add the runs that the database does not know and that left an undo script."""
        known = {run.run for run in self.runs}
        for path in sorted(self._state.undo.glob("*.sh")):
            if path.stem not in known:
                reason = f"the journal does not know it any more; `sh {path}` takes it back"
                self.runs.append(RunHealth(path.stem, "lost", (reason,), self._script(path.stem)))

    def _run(self, journal: Journal, run: str, tombstones: dict[str, str]) -> RunHealth:
        try:
            steps = [step for step in journal.steps(run) if step.status in _EFFECTIVE and step.undone_by is None]
            references = journal.preimages(run)
        except JournalError as error:
            return RunHealth(run, "lost", (error.message,), self._script(run))
        reasons = [reason for step in steps if (reason := self._reason(step, references, tombstones))]
        script = self._script(run) if any(step.step is None or step.undo.changes for step in steps) else "none"
        if not reasons:
            return RunHealth(run, "undoable", script=script)
        return RunHealth(run, "lost" if len(reasons) == len(steps) else "undoable-but-for", tuple(reasons), script)

    def _reason(self, step: StepRecord, references: list[PreimageReference], tombstones: dict[str, str]) -> str:
        """Return why a step cannot be undone, empty where it can."""
        where = f"step {step.number}, {step.description}"
        if step.step is None:
            return f"{where}: this version does not know {step.kind} version {step.kind_version}"
        if step.undo.class_ == "irreversible":
            return f"{where}: irreversible: {step.undo.reason}"
        for reference in references:
            if reference.step == step.number and not self._is_sound(reference.sha256):
                purged = tombstones.get(reference.sha256)
                state = "was purged" if purged is not None else "is lost or damaged"
                return f"{where}: its pre-image {reference.sha256} {state}"
        return ""

    def _is_sound(self, digest: str) -> bool:
        if digest not in self._sound:
            self._sound[digest] = self._preimages.verify(digest)
        return self._sound[digest]

    def _script(self, run: str) -> Literal["whole", "torn", "missing"]:
        try:
            content = (self._state.undo / f"{run}.sh").read_bytes()
        except OSError:
            return "missing"
        chunks, end = whole_chunks(content)
        return "whole" if chunks and end == len(content) else "torn"
