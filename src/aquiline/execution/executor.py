"""Plan in, journal and host out: performs steps so that at any instant the way back is already on disk.

Theory of operation, for each batch (D2, D10, D11):

1. Every precondition is looked at again, and policy is asked; a step that may not be done stops the run before the
   batch.
2. Pre-images go into the store and are made durable.
3. The undo of the batch is appended to ``STATE/undo/RUN.sh`` and made durable.
4. One durable transaction says that these steps are intended, and which reactions they will owe.
5. The effects, durable on the host before
6. the undo scripts are told of commands that were taken back, and
7. a second transaction says what became of each.

A crash between 4 and 7 leaves steps that are intended and nothing else: `aquiline.execution.recovery` decides them by
comparing the host with what the step found and what it leaves.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from aquiline.changes.canonical import encode
from aquiline.changes.kinds import (
    Change,
    CopyOf,
    MakeDirectory,
    Reaction,
    Restore,
    SetPackages,
    SetRecord,
    SetUnit,
)
from aquiline.changes.perform import (
    FILE_KINDS,
    OPAQUE_KINDS,
    REACTION_KINDS,
    STATE_KINDS,
    Performed,
    keep_inode,
    keeps_inode,
    label_of,
    let_go_of_inode,
    package_targets,
    perform_alone,
    perform_files,
    perform_records,
)
from aquiline.changes.resolve import KEPT_INODE
from aquiline.changes.steps import Plan, Step
from aquiline.errors import AquilineError, HostError, Interrupted, PlanStale
from aquiline.execution import aftermath
from aquiline.execution.noting import completing, note_taken_back
from aquiline.execution.recovery import observed_after, taken_back_by, what_became_of
from aquiline.execution.space import refuse_without_room, restored_files
from aquiline.host import unitfiles
from aquiline.host.naming import observe, path_of
from aquiline.host.objects import Absent, At, Directory, Object, Package, RegularFile, Symlink, Unit, same_but_times
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Host
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import Conclusion, Intent, NewDebt, Outcome, PreimageReference, StepName
from aquiline.journal.script import UndoScript
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal
from aquiline.journal.takenback import TakenBack

#: Steps of one batch: enough to share the cost of making it durable (each of the pre-images' 256 folders at most once),
#: few enough that whoever asks a run to stop does not wait for long.
BATCH_STEPS = 1024
#: Bytes of new and replaced content of one batch.
BATCH_BYTES = 64 * 2**20

#: Links followed before it is called a loop, as Linux does.
_MOST_LINKS = 40

NextStage = Callable[[Plan, int], Plan | None]
"""Given the stage that ran and the next step number, plans what was deferred, None where nothing was."""
IsStopped = Callable[[], bool]
"""Whether somebody asked to stop: looked at between batches."""
Refuse = Callable[[Change, Overlay], None]
"""Raises `HostError` where the host's policy forbids a change, by whichever links it is reached."""


class Ended(msgspec.Struct, frozen=True):
    """How executing ended."""

    status: Literal["done", "partial", "failed"]
    #: The step that failed and why; None where none did.
    failed: Step | None = None
    error: AquilineError | None = None
    #: Components that are left to the next run, for this one changed the program itself (D16).
    left: tuple[str, ...] = ()
    #: Some components failed: the others are done.
    has_failed_components: bool = False


def ended_after(stages: Sequence[Plan]) -> Ended:
    """Return how a run ended whose `stages` are all done, and that has no further one."""
    left = tuple(name for name, report in sorted(stages[-1].components.items()) if report.state == "deferred")
    has_failed = any(report.state == "failed" for stage in stages for report in stage.components.values())
    return Ended("partial" if has_failed or left else "done", left=left, has_failed_components=has_failed)


class Executor:
    """Performs the steps of one run. The caller holds the host's lock."""

    def __init__(
        self,
        host: Host,
        journal: Journal,
        state: StateDirectory,
        preimages: PreimageStore,
        run: str,
        *,
        refuse: Refuse = lambda _change, _host: None,
        on_step: Callable[[Step, Performed], None] = lambda _step, _performed: None,
        is_stopped: IsStopped = lambda: False,
    ) -> None:
        self._refuse_forbidden = refuse
        self._host = host
        self._journal = journal
        self._preimages = preimages
        self._state = state
        self._run = run
        self._script = UndoScript(state, run, host.root, kept=host.kept_folder)
        self._on_step = on_step
        self._is_stopped = is_stopped
        self._directories: set[str] = set()
        self._half_way: frozenset[int] = frozenset()
        #: The commands that each step of the stage is the last to take back.
        self._completing: dict[int, StepName] = {}
        #: The reactions that each step of the stage will owe.
        self._reactions: dict[int, list[tuple[Reaction, str]]] = {}
        #: Ids of the debts that each intended step owes.
        self._owed: dict[int, list[int]] = {}

    def execute(self, plan: Plan, next_stage: NextStage = lambda _plan, _number: None) -> Ended:
        """Perform `plan`, which the journal holds already, and the stages after it; stops at the first failure."""
        stages = [plan]
        while True:
            stage = stages[-1]
            ended = self.perform(stage.steps)
            if ended.status == "failed":
                return ended
            try:
                following = next_stage(stage, stage.steps[-1].number + 1 if stage.steps else 1)
            except AquilineError as error:
                return Ended("failed", None, error)
            if following is None:
                return ended_after(stages)
            self._journal.add_stage(self._run, following)
            stages.append(following)

    def perform(self, steps: Sequence[Step], *, half_way: frozenset[int] = frozenset()) -> Ended:
        """Perform steps that the journal already holds.

        Those whose numbers are in `half_way` were begun and not finished: what they replaced is in the store already,
        and what stands there now is not looked at.
        """
        self._half_way = half_way
        self._completing = completing(steps)
        try:
            refuse_without_room(list(batches(steps)), self._host, self._state.path, self._preimages)
            self._fetch(steps)
        except AquilineError as error:
            return Ended("failed", None, error)
        for step in steps:
            if isinstance(step.change, REACTION_KINDS):
                for cause in step.cause.steps:
                    self._reactions.setdefault(cause, []).append((step.change, step.component))
        for batch in batches(steps):
            ended = self._perform_checked(batch)
            if ended is not None:
                self._script.close([ended.failed.number] if ended.failed is not None else ())
                return ended
        self._script.close()
        return Ended("done")

    # ---- one batch ------------------------------------------------------------------------------------------------

    def _perform_checked(self, batch: Sequence[Step]) -> Ended | None:
        """Perform the steps of a batch whose preconditions hold; the first that does not starts a batch of its own.

        That one may build on a step before it under another name: a parent directory may be a link.
        """
        while batch:
            if self._is_stopped():
                return Ended("failed", batch[0], Interrupted("interrupted before this step"))
            ready, stale = self._ready(batch)
            if not ready:
                assert stale is not None
                return self._refuse(batch[0], stale)
            ended = self._perform_batch(ready)
            if ended is not None:
                return ended
            batch = batch[len(ready) :]
        return None

    def _ready(self, batch: Sequence[Step]) -> tuple[Sequence[Step], AquilineError | None]:
        """Return the steps up to the first that is forbidden or whose precondition does not hold, and why."""
        overlay = Overlay(self._host)  # walks each directory once, however many steps are in it
        for position, step in enumerate(batch):
            try:
                self._refuse_forbidden(step.change, overlay)
                self._check(step)
            except AquilineError as error:
                return batch[:position], error
        return batch, None

    def _refuse(self, step: Step, error: AquilineError) -> Ended:
        """Journal that a step failed before anything of its batch was done."""
        self._journal.record(self._run, step.number, "failed", {"note": error.message})
        self._on_step(step, Performed("failed", error=error))
        return Ended("failed", step, error)

    def _perform_batch(self, batch: Sequence[Step]) -> Ended | None:
        failed = batch[0]
        try:
            for failed in batch:
                self._capture(failed)
            failed = batch[0]
            self._preimages.sync()
            directories = dict(self._new_directories(batch))
            self._script.append(batch, directories)
            self._note_done_again(batch)
        except AquilineError as error:
            self._forget(batch)
            return self._refuse(failed, error)
        self._intend(batch, directories)
        results = self._note_taken_back(self._perform(batch))
        self._conclude(batch, results)
        for step, performed in results:
            self._on_step(step, performed)
            if performed.error is not None:
                return Ended("failed", step, performed.error)
        return None

    def _check(self, step: Step) -> None:
        """Refuse to go on where the host is not what the step was planned for (R11)."""
        for at in step.before if step.number not in self._half_way else ():
            found = observe(self._host, at.path)
            if not same_but_times(found, at.object) and not _fails_by_itself(found, at.object):
                raise PlanStale(
                    f"step {step.number}, {step.description}: {at.path} is not what it was when this was planned",
                    hint="plan again",
                )

    def _capture(self, step: Step) -> None:
        """Keep what the undo of `step` will need; not durable yet."""
        if isinstance(step.change, SetPackages):
            self._surroundings(step)
        if step.undo.class_ != "exact" or step.number in self._half_way:
            return
        for change in step.undo.changes:
            if isinstance(change, Restore) and isinstance(change.object, RegularFile) and not keeps_inode(step):
                self._keep(step, change.path, change)

    def _forget(self, batch: Sequence[Step]) -> None:
        """Let go of what was kept for steps that are not done after all."""
        self._preimages.forget()
        for step in batch:
            for change in step.undo.changes if step.number not in self._half_way else ():
                if isinstance(change, Restore) and change.kept == KEPT_INODE:
                    kept = msgspec.structs.replace(change, kept=label_of(self._run, step))
                    let_go_of_inode(kept, self._host)

    def _keep(self, step: Step, path: str, restore: Restore) -> None:
        if restore.kept == KEPT_INODE:
            keep_inode(path, self._host, label_of(self._run, step))
        kept = self._preimages.keep(self._host.chunks(path))
        assert isinstance(restore.object, RegularFile)
        if kept.sha256 != restore.object.sha256:
            raise PlanStale(f"step {step.number}: {path} was changed while it was being read", hint="plan again")

    def _intend(self, batch: Sequence[Step], directories: dict[str, int]) -> None:
        debts = self._journal.intend(
            self._run,
            Intent(
                steps=tuple(step.number for step in batch),
                debts=tuple(
                    NewDebt(step.number, reaction, component)
                    for step in batch
                    for reaction, component in self._reactions.get(step.number, ())
                ),
                preimages=tuple(
                    PreimageReference(step.number, restored.sha256, restored.size, step.secret)
                    for step in batch
                    for _, restored in restored_files(step)
                ),
                directories=directories,
            ),
        )
        for debt in debts:
            self._owed.setdefault(debt.step, []).append(debt.id)

    def _new_directories(self, batch: Sequence[Step]) -> Iterator[tuple[str, int]]:
        """Return the directories that this batch is the first to change, or changes entries in, with their times."""
        for step in batch:
            if isinstance(step.change, SetPackages):
                yield from aftermath.directories(step, self._host)
            own = [at.path for at in step.before if isinstance(at.object, Directory)]
            for path in (*own, *self._parents(step)):
                if path in self._directories:
                    continue
                self._directories.add(path)
                place = self._followed(path)
                status = self._host.status(place)
                if status is not None:
                    yield place, status.mtime_ns
            # A directory that the run makes itself has no time to go back to.
            self._directories.update(at.path for at in step.after if isinstance(at.object, Directory))

    def _followed(self, path: str) -> str:
        """Return the directory that the links at `path` lead to: the one whose entries change."""
        for _ in range(_MOST_LINKS):
            status = self._host.status(path)
            if status is None or status.type != "symlink":
                break
            link = self._host.observe(path)
            assert isinstance(link, Symlink)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), link.target))
        return path

    def _parents(self, step: Step) -> Sequence[str]:
        """Return the directories whose entries a step changes."""
        if isinstance(step.change, SetUnit):
            return unitfiles.folders(self._host)
        return [posixpath.dirname(path) for at in step.after if (path := path_of(at.path))]

    def _perform(self, batch: Sequence[Step]) -> list[tuple[Step, Performed]]:
        if isinstance(batch[0].change, FILE_KINDS):
            return perform_files(batch, self._host, self._preimages, lambda step: label_of(self._run, step))
        if isinstance(batch[0].change, SetRecord):
            return perform_records(batch, self._host)
        (step,) = batch
        if isinstance(step.change, SetPackages):
            return [(step, self._perform_packages(step))]
        return [(step, perform_alone(step, self._host, self._preimages))]

    def _note_done_again(self, batch: Sequence[Step]) -> None:
        """Let the run's own script know of commands that it took back and that are about to be done again."""
        for step in batch:
            if isinstance(step.change, OPAQUE_KINDS):
                TakenBack(self._state, self._run).drop(step.number)

    def _note_taken_back(self, results: Sequence[tuple[Step, Performed]]) -> list[tuple[Step, Performed]]:
        """Let the scripts of other runs know which commands were taken back; a step of which they cannot, failed."""
        noted = []
        for step, performed in results:
            taken_back = self._completing.get(step.number) if performed.error is None else None
            try:
                if taken_back is not None:
                    note_taken_back(self._journal, self._state, taken_back)
            except HostError as error:
                noted.append((step, msgspec.structs.replace(performed, outcome="failed", error=error)))
            else:
                noted.append((step, performed))
        return noted

    def _conclude(self, batch: Sequence[Step], results: Sequence[tuple[Step, Performed]]) -> None:
        known = {step.number for step, _ in results}
        outcomes = [self._outcome(step, performed) for step, performed in results]
        outcomes += [
            Outcome(step=step.number, what="not-done", debts_cancelled=self._debts_of(step))
            for step in batch
            if step.number not in known
        ]
        self._journal.conclude(self._run, outcomes)

    def _outcome(self, step: Step, performed: Performed) -> Outcome:
        if performed.error is None:
            what: Conclusion = "done" if performed.outcome == "done" else "skipped"
            observed = performed.observed
        else:
            what, observed = self._what_failed(step, performed)
        return Outcome(
            step=step.number,
            what=what,
            observed=observed,
            output="" if step.secret else performed.output,
            note=performed.error.message if performed.error is not None else "",
            debts_paid=self._debts_paid_by(step) if performed.error is None else (),
            debts_cancelled=() if what in ("done", "in-doubt") else self._debts_of(step),
            undoes=taken_back_by(step) if what == "done" else None,
        )

    def _what_failed(self, step: Step, performed: Performed) -> tuple[Conclusion, tuple[At, ...]]:
        """Return what became of a step that failed, and what stands there if anything of it does.

        It may be there all the same. On a host that cannot even be looked at any more that is in doubt, and undo looks.
        """
        if not isinstance(step.change, STATE_KINDS):
            return "failed", performed.observed
        try:
            verdict, _ = what_became_of(step, self._host, self._preimages)
            if verdict not in ("done", "half-way"):
                return "failed", performed.observed
            # a transaction of packages has looked by itself, at more than the packages
            found = performed.observed if isinstance(step.change, SetPackages) else observed_after(step, self._host)
        except AquilineError:
            return "in-doubt", performed.observed
        return "done" if verdict == "done" else "failed", found

    def _debts_of(self, step: Step) -> tuple[int, ...]:
        """Return the debts of a step that did not happen: nobody owes them any more."""
        return tuple(self._owed.get(step.number, ()))

    def _debts_paid_by(self, step: Step) -> tuple[int, ...]:
        """Return every debt, of this run or an earlier one, that running this reaction strikes off (D2)."""
        if not isinstance(step.change, REACTION_KINDS):
            return ()
        wanted = encode(step.change)
        return tuple(debt.id for debt in self._journal.debts() if encode(debt.reaction) == wanted)

    # ---- packages -------------------------------------------------------------------------------------------------

    def _fetch(self, steps: Sequence[Step]) -> None:
        """Keep the files of all package versions that these steps, their undo and its undo need."""
        wanted: set[tuple[str, str]] = set()
        for step in steps:
            if isinstance(step.change, SetPackages):
                needed = step.before if step.undo.class_ == "exact" else ()
                wanted |= {
                    (name, one.version)
                    for each in (needed, step.after)
                    for name, one in package_targets(each).items()
                    if isinstance(one, Package) and one.version
                }
        if wanted:
            self._host.packages.fetch(sorted(wanted))

    def _surroundings(self, step: Step) -> aftermath.Surroundings:
        found = aftermath.captured(step, self._run, self._state) if step.number in self._half_way else None
        return found or aftermath.capture(step, self._run, self._host, self._preimages, self._state)

    def _perform_packages(self, step: Step) -> Performed:
        """Run a transaction; what it did besides is in the undo and the journal before it is called done."""
        performed = perform_alone(step, self._host, self._preimages)
        surroundings = aftermath.captured(step, self._run, self._state)
        if surroundings is None:
            return performed
        found = aftermath.aftermath(surroundings, self._host)
        is_half_way = performed.error is not None and (bool(found.written) or self._is_half_way(step))
        aftermath.record(step, found, self._run, self._journal, self._script, is_half_way=is_half_way)
        aftermath.forget(step, self._run, self._state)
        lines = "".join(f"{line}\n" for line in found.lines)
        is_there = performed.error is None or is_half_way
        observed = aftermath.observed_with(step, found, self._host) if is_there else ()
        return msgspec.structs.replace(performed, observed=observed, output=lines + performed.output)

    def _is_half_way(self, step: Step) -> bool:
        return what_became_of(step, self._host, self._preimages)[0] != "not-done"


def _fails_by_itself(found: Object, expected: Object) -> bool:
    """Whether a unit is another than it was only because it fails, or did: it does so at any moment, and nobody did it.

    The step does the same to it, and so does its undo.
    """
    if not isinstance(found, Unit) or not isinstance(expected, Unit) or "failed" not in (found.active, expected.active):
        return False
    return same_but_times(Unit(found.enabled), Unit(expected.enabled))


def batches(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Split steps into batches, in order (D11).

    A batch holds at most one step for each object, nothing but file steps or nothing but entries of account databases,
    and no step that builds on another's effect, except that a directory may be followed by what goes into it. Any other
    step is a batch of its own.
    """
    batch: list[Step] = []
    touched: set[str] = set()
    unsafe_parents: set[str] = set()
    size = 0
    for step in steps:
        sort = FILE_KINDS if isinstance(step.change, FILE_KINDS) else _records(step)
        paths = {at.path for at in (*step.before, *step.after)} | _copied(step)
        weight = sum(_size(at.object) for at in (*step.before, *step.after))
        clashes = bool(paths & touched) or any(_has_parent_in(path, unsafe_parents) for path in paths)
        clashes |= _removes_directory(step) and any(_is_below(one, path) for one in touched for path in paths)
        clashes |= bool(batch) and not isinstance(batch[0].change, sort)
        if batch and (clashes or len(batch) >= BATCH_STEPS or size + weight > BATCH_BYTES):
            yield batch
            batch, touched, unsafe_parents, size = [], set(), set(), 0
        if not sort:
            yield [step]
            continue
        batch.append(step)
        touched |= paths
        size += weight
        if not _makes_directory(step):
            unsafe_parents |= {at.path for at in step.after}
    if batch:
        yield batch


def _copied(step: Step) -> set[str]:
    """Return the file whose content the step copies: it has to be in its place before the step is built."""
    content = getattr(step.change, "content", None)
    return {content.path} if isinstance(content, CopyOf) else set()


def _records(step: Step) -> tuple[type[Change], ...]:
    """Return the kind of the entries that may share a batch, nothing for a step that stands alone."""
    return (SetRecord,) if isinstance(step.change, SetRecord) else ()


def _makes_directory(step: Step) -> bool:
    return isinstance(step.change, MakeDirectory | Restore) and isinstance(step.after[0].object, Directory)


def _removes_directory(step: Step) -> bool:
    """Whether a directory goes, or a link that may lead to one: what is in it is made durable before that."""
    return any(
        (isinstance(before.object, Directory) and isinstance(after.object, Absent))
        or isinstance(before.object, Symlink)
        for before, after in zip(step.before, step.after, strict=False)
    )


def _is_below(path: str, parent: str) -> bool:
    return path.startswith(parent.rstrip("/") + "/")


def _has_parent_in(path: str, parents: set[str]) -> bool:
    if not parents:
        return False
    parent = posixpath.dirname(path)
    while parent not in ("", "/"):
        if parent in parents:
            return True
        parent = posixpath.dirname(parent)
    return False


def _size(found: Object) -> int:
    return found.size if isinstance(found, RegularFile) else 0
