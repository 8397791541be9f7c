"""Turns what a component yields into the steps that are needed, and into none where the state is already right."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

import msgspec

from aquiline.changes.canonical import encode
from aquiline.changes.describe import describe
from aquiline.changes.kinds import (
    Change,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    ReactDaemonReload,
    RunCommand,
    RunScript,
    SetPackages,
    SetUnit,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.changes.perform import (
    FILE_KINDS,
    OPAQUE_KINDS,
    REACTION_KINDS,
    not_run,
    perform_validation,
    probe_says_yes,
)
from aquiline.changes.resolve import Effect, resolve
from aquiline.changes.steps import Cause, Step
from aquiline.errors import HostError, StepFailed
from aquiline.host.naming import is_plain
from aquiline.host.objects import Symlink, same_but_times
from aquiline.host.unitfiles import are_unit_files
from aquiline.planning.allowance import allowed_undo
from aquiline.planning.component import Note, Task, Yielded
from aquiline.planning.draft import Draft
from aquiline.planning.forbidden import changed_files
from aquiline.planning.foresight import foresee, foresee_nothing
from aquiline.planning.obstacles import obstacle
from aquiline.planning.reactions import collect, place_before, reload_units


class Tasks:
    """What one component yields, on its way into the draft."""

    def __init__(self, draft: Draft, component: str) -> None:
        self._draft = draft
        self._overlay = draft.overlay
        self._component = component

    def add(self, yielded: Yielded) -> bool:
        """Return whether anything of `yielded` is needed; raise `HostError` or `StepFailed` where it cannot be done."""
        match yielded:
            case Note():
                self._add_note(yielded)
                return False
            case Task():
                return self._add_task(yielded)
            case _:
                return self._add_task(Task(description="", changes=(yielded,)))

    def _add_note(self, note: Note) -> None:
        line = f"{self._component}: {note.text}"
        self._draft.notes.append(line)
        if note.lowers_coverage:
            self._draft.reduced_by.append(line)

    def _add_task(self, task: Task) -> bool:
        independent = tuple(_independent(task))
        if len(independent) < len(task.changes) and not self._would_change(task):
            task = msgspec.structs.replace(task, changes=independent)
        causes: list[int] = []
        for change in task.changes:
            if isinstance(change, REACTION_KINDS):
                if causes:
                    collect(self._draft, self._component, (change,), causes)
            elif isinstance(change, Validate):
                self._add_validation(task, change)
            else:
                step = self._add_change(task, change)
                causes += [step.number] if step is not None else []
        if causes:
            collect(self._draft, self._component, task.reactions, causes)
        return bool(causes)

    def _would_change(self, task: Task) -> bool:
        """Return whether a state step of `task` is needed."""
        savepoint = self._overlay.savepoint()
        try:
            for change in task.changes:
                if isinstance(change, (*OPAQUE_KINDS, *REACTION_KINDS, Validate)):
                    continue
                if resolve(change, self._overlay) is not None:
                    return True
            return False
        finally:
            self._overlay.rollback(savepoint)

    # ---- changes of state -----------------------------------------------------------------------------------------

    def _add_change(self, task: Task, change: Change) -> Step | None:
        """Return the step that `change` needs, None where its state is already right."""
        _refuse_no_path(change)
        if isinstance(change, OPAQUE_KINDS):
            return self._add_opaque(task, change)
        if isinstance(change, WriteFile | MakeSymlink | MakeHardlink | MakeSpecial | MakeDirectory | Move):
            self._add_parents(task, change.destination if isinstance(change, Move) else change.path)
        self._draft.known.forbidden.refuse(change, self._overlay)
        effect = resolve(change, self._overlay)
        if isinstance(change, SetUnit) and change.active is not None:
            self._note_not_run(change)
        if effect is None:
            return None
        self._refuse_cut_off(change, effect)
        effect = self._draft.kept_inodes.complete(effect, self._overlay)
        if isinstance(change, SetUnit | SetPackages):
            place_before(self._draft, self._component)
            reload_units(self._draft)
        step = self._append(task, change, effect, self._cause(task, effect))
        if self._changes_units(change, effect):
            collect(self._draft, self._component, (ReactDaemonReload(),), [step.number])
        foresee(self._draft, self._component, change, effect)
        return step

    def _add_parents(self, task: Task, path: str) -> None:
        """Add a step for each missing parent directory: 0755, root's (CAF::FileWriter, REFERENCE 2.1)."""
        parent = posixpath.dirname(path)
        if parent in self._draft.parents or parent == "/":
            return
        if self._overlay.status(parent) is None:
            self._add_parents(task, parent)
            self._add_change(task, MakeDirectory(path=parent, mode=0o755))
        self._draft.parents.add(parent)

    def _note_not_run(self, change: SetUnit) -> None:
        if not self._overlay.units.state(change.unit).active:
            self._draft.reduced_by.append(f"{self._component}: {not_run(change)}")

    def _refuse_cut_off(self, change: Change, effect: Effect) -> None:
        """Refuse to replace what the object's own path leads through: by that path nobody could find or undo it."""
        replaces_link = isinstance(change, Move) or any(isinstance(at.object, Symlink) for at in effect.before)
        if not isinstance(change, FILE_KINDS) or not replaces_link:
            return
        places = [self._overlay.place(at.path) for at in effect.before]
        savepoint = self._overlay.savepoint()
        foresee(self._draft, self._component, change, effect)
        try:
            moved = [self._place_now(at.path) != place for at, place in zip(effect.before, places, strict=True)]
        finally:
            self._overlay.rollback(savepoint)
        if any(moved):
            raise HostError(
                "its path leads through what would be replaced", path=effect.before[moved.index(True)].path,
                hint="name it by a path without links",
            )  # fmt: skip

    def _place_now(self, path: str) -> str | None:
        try:
            return self._overlay.place(path)
        except HostError:
            return None

    def _changes_units(self, change: Change, effect: Effect) -> bool:
        """Whether the service manager must read its unit files again; where none runs, none must."""
        if not isinstance(change, FILE_KINDS) or self._overlay.offline:
            return False
        return are_unit_files((*effect.before, *effect.after))

    def _cause(self, task: Task, effect: Effect) -> Cause:
        """Tell drift that is put right from what is newly wanted (R32)."""
        drifted = False
        for before, after in zip(effect.before, effect.after, strict=True):
            last = self._draft.known.last_value(before.path)
            if last is None or not same_but_times(last.object, after.object):
                return Cause("intentional", task.cause)
            drifted = drifted or not same_but_times(last.object, before.object)
        return Cause("corrective" if drifted else "intentional", task.cause)

    # ---- commands and validations ---------------------------------------------------------------------------------

    def _add_opaque(self, task: Task, change: RunCommand | RunScript) -> Step | None:
        if not (change.guard or change.done_when or change.with_task or change.always):
            raise HostError(
                f"refused: {describe(change)} has neither guard nor done_when",
                hint="say always=True if it is to run every time",
            )
        if encode(change) in self._draft.known.ran:
            return None
        unknown = [] if change.touches == Touches() else [f"what it does to {_touched(change)} is known once it ran"]
        for probe, needless_if in ((change.guard, False), (change.done_when, True)):
            if probe is None:
                continue
            altered_by = self._draft.what_alters(self._component, probe)
            if altered_by is not None:
                unknown.append(f"whether it runs: {altered_by} comes first")
            elif probe_says_yes(probe, self._overlay.base) == needless_if:
                return None
        if change.always:
            unknown.append("runs every time: this never converges")
        place_before(self._draft, self._component)
        effect = resolve(change, self._overlay)
        assert effect is not None
        step = self._append(task, change, effect, Cause("intentional", task.cause), unknown)
        foresee_nothing(self._draft, self._component, change, step.description)
        return step

    def _add_validation(self, task: Task, change: Validate) -> None:
        """Check would-be content now; a live run checks it again before it writes."""
        performed = perform_validation(change, self._overlay.base)
        if performed.error is not None:
            raise StepFailed(f"{change.path} is not valid: {performed.error.message}")
        because = [performed.output] if performed.outcome == "not-run" else []
        if because:
            self._draft.reduced_by.append(f"{change.path}: {performed.output}")
        effect = resolve(change, self._overlay)
        assert effect is not None
        self._append(task, change, effect, Cause("intentional", task.cause), because)

    def _append(self, task: Task, change: Change, effect: Effect, cause: Cause, because: Iterable[str] = ()) -> Step:
        undo = allowed_undo(self._draft, change, effect)
        return self._draft.append(
            self._component, task.description, change, effect,
            undo=undo, cause=cause, because=tuple(because), would_fail=obstacle(self._draft, change, effect),
        )  # fmt: skip


def _refuse_no_path(change: Change) -> None:
    """Refuse what is no plain path: nobody could say which object is meant."""
    for path in changed_files(change):
        if not is_plain(path):
            shown = repr(path) if len(path) < 200 else f"a path of {len(path)} characters"
            raise HostError(f"found {shown}, expected a plain absolute path of at most 4095 bytes")


def _independent(task: Task) -> Iterable[Change]:
    """Return the changes of a task that are made even if its state steps are all right already."""
    return (
        change
        for change in task.changes
        if not isinstance(change, Validate) and not getattr(change, "with_task", False)
    )


def _touched(change: RunCommand | RunScript) -> str:
    touches = change.touches
    if touches is None:
        return "anything (it declares nothing)"
    return ", ".join((*touches.paths, *touches.units, *touches.packages)) or "nothing that any component reads"
