"""Journal in, plan out: the steps that take runs back, as data and without any component (P3).

Undo is a new run (P8). Its steps are planned on an overlay, like any others, and performed by the same executor. Where
the host is not as the run left it there is a conflict (D13), and nothing is planned until somebody chose, path by path:
skip it, force it, or merge the two.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from aquiline import __version__
from aquiline.changes.compare import differences
from aquiline.changes.describe import describe, describe_step, describe_undo
from aquiline.changes.digests import digests
from aquiline.changes.itself import Itself, changes_itself
from aquiline.changes.kinds import (
    Change,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    Move,
    ReactDaemonReload,
    Reaction,
    Restore,
    SetMetadata,
    SetPackages,
    SetRecord,
    SetUnit,
    Stored,
    WriteFile,
)
from aquiline.changes.merge import merge
from aquiline.changes.perform import (
    OFFLINE,
    OPAQUE_KINDS,
    REACTION_KINDS,
    STATE_KINDS,
    Preimages,
    entry_of,
    foresee_unit,
    is_run_here,
    package_targets,
    probe_says_yes,
)
from aquiline.changes.resolve import KEPT_INODE, KeptInodes, resolve
from aquiline.changes.steps import Cause, Coverage, Plan, Step, Undo, UndoClass
from aquiline.changes.text import text_of
from aquiline.errors import AquilineError, HostError
from aquiline.execution.recovery import what_became_of
from aquiline.host.naming import is_path, observe, path_of
from aquiline.host.objects import (
    ABSENT,
    Absent,
    At,
    Directory,
    Object,
    RegularFile,
    System,
    file_object,
    has_died,
    same_but_times,
)
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Reading
from aquiline.host.unitfiles import are_unit_files
from aquiline.journal.records import StepRecord

Choice = Literal["skip", "force", "merge"]


class Conflict(msgspec.Struct, frozen=True):
    """An object that is not as the run left it."""

    path: str
    run: str
    step: int
    description: str
    #: What the run left, what stands there now, what undo would put there.
    left: Object
    found: Object
    wanted: Object
    #: In words: which of type, content, owner, group, mode, attributes, target differ.
    differs: tuple[str, ...]
    secret: bool = False
    #: Why `merge` is not possible; empty where it is.
    no_merge: str = ""
    #: The later run that left what stands there now; empty where somebody else did.
    by_run: str = ""


class CannotUndo(msgspec.Struct, frozen=True):
    """A step that stays."""

    run: str
    step: int
    description: str
    reason: str
    #: Somebody asked for this, or nothing better can be known: it makes nothing incomplete.
    chosen: bool = False


class UndoPlan(msgspec.Struct, frozen=True):
    """What undoing would do."""

    plan: Plan
    conflicts: tuple[Conflict, ...]
    stays: tuple[CannotUndo, ...]
    #: Differences that undo overwrites without asking: only times differ (D13), in words.
    notes: tuple[str, ...]
    #: The host as it will be: what is planned next can be planned on it.
    after: Overlay | None = None


class Choices(msgspec.Struct, frozen=True):
    """What a person decided, path by path."""

    by_path: Mapping[str, Choice] = {}

    def of(self, path: str) -> Choice | None:
        """Return the choice for `path`, None where there is none."""
        return self.by_path.get(path)

    def skipped(self) -> Iterator[str]:
        """Return the paths that are to stay as they are."""
        return (path for path, choice in self.by_path.items() if choice == "skip")


def plan_undo(
    records: Sequence[StepRecord],
    host: Reading,
    preimages: Preimages,
    *,
    choices: Choices = Choices(),  # noqa: B008 - frozen
    never_undone: Callable[[str], bool] = lambda _path: False,
    refuse: Callable[[Change, Overlay], None] = lambda _change, _host: None,
    owed: Iterable[tuple[Reaction, str, str]] = (),
    purged: Mapping[str, str] | None = None,
    changed_later: Callable[[str, str], str] = lambda _run, _path: "",
    profile: str = "",
    secret_key: bytes = b"",
    facts: Mapping[str, str] | None = None,
    itself: Itself = Itself(),  # noqa: B008 - frozen
) -> UndoPlan:
    """Return the plan that takes `records` back.

    Args:
        records: The steps to take back, newest run first, each run's in the order they were done; only those in effect.
        host: Only read.
        preimages: For merging.
        choices: What to do about conflicts.
        never_undone: Whether policy says that a path is never taken back (R29).
        refuse: Raises `HostError` where policy forbids a change: the step stays.
        owed: Reactions that are still owed, with their component and the run that owes them (D2).
        purged: Why pre-images were removed for good, by digest.
        changed_later: Given a run and a path, the later run that changed the path too and is not taken back with it.
        profile: Digest of the profile that will be live afterwards.
        secret_key: Keys the digests of secrets.
        facts: The host's own facts.
        itself: The program that plans and will run this.
    """
    planner = _UndoPlanner(
        host, preimages, choices,
        never_undone=never_undone, refuse=refuse, purged=purged or {}, changed_later=changed_later,
    )  # fmt: skip
    planner.leave_homes(records)
    planner.note_before(records)
    for record in _in_undo_order(records):
        planner.take_back(record)
    planner.react(records, owed)
    return planner.finished(profile, facts or {}, secret_key, itself)


def _in_undo_order(records: Sequence[StepRecord]) -> Iterable[StepRecord]:
    """Return reversed state-changing steps first, newest first, then those marked ``after`` in forward order (D4)."""
    by_run = [list(group) for _, group in itertools.groupby(records, key=lambda record: record.run)]
    for run in by_run:
        yield from (one for one in reversed(run) if one.known.undo_order == "reversed")
    for run in reversed(by_run):
        yield from (one for one in run if one.known.undo_order == "after" and not _is_reaction(one))


def _is_reaction(record: StepRecord) -> bool:
    return isinstance(record.known.change, REACTION_KINDS)


class _UndoPlanner:
    def __init__(
        self,
        host: Reading,
        preimages: Preimages,
        choices: Choices,
        *,
        never_undone: Callable[[str], bool],
        refuse: Callable[[Change, Overlay], None],
        purged: Mapping[str, str],
        changed_later: Callable[[str, str], str],
    ) -> None:
        self._changed_later = changed_later
        self._overlay = Overlay(host)
        self._purged = purged
        self._preimages = preimages
        self._choices = choices
        self._never_undone = never_undone
        self._refuse = refuse
        self._steps: list[Step] = []
        self._kept_inodes = KeptInodes()
        self._conflicts: list[Conflict] = []
        self._stays: list[CannotUndo] = []
        self._notes: list[str] = []
        #: What stood at a path before the first step of a run that touched it.
        self._before: dict[tuple[str, str], Object] = {}
        #: Paths that stay as the run left them.
        self._left: set[str] = set()
        #: Numbers of the steps that put unit files back since the service manager was last told to read them.
        self._unread: list[int] = []
        #: Paths of directories made for others to use, and in them, that somebody has used since.
        self._in_use: set[str] = set()
        #: New step numbers by the step they take back.
        self._taken_back: dict[tuple[str, int], list[int]] = {}

    # ---- homes ----------------------------------------------------------------------------------------------------

    def leave_homes(self, records: Sequence[StepRecord]) -> None:
        """Find the directories made for others to use that are no longer as they were made: all in them stays."""
        for record in records:
            change = record.known.change
            if not isinstance(change, MakeDirectory) or not change.seed or change.path in self._in_use:
                continue
            made = _left_below(change.path, records)
            choices = {self._choices.of(path) for path in made}
            if "force" not in choices and not self._is_as_made(change.path, made):
                self._in_use.update(made)

    def _is_as_made(self, top: str, made: Mapping[str, Object]) -> bool:
        """Whether all of `made` is as it was left and nothing else is in it; stops at the first that is not."""
        if self._overlay.status(top) is None:
            return True
        for path, was_left in made.items():
            found = self._overlay.observe(path)
            if not same_but_times(found, was_left):
                return False
            if isinstance(found, Directory) and any(
                posixpath.join(path, name) not in made for name in self._overlay.names(path)
            ):
                return False
        return True

    def note_before(self, records: Iterable[StepRecord]) -> None:
        """Know what stood there before each run: what one step of it left for the next was nobody's state."""
        for record in records:
            if record.step is not None:
                for at in record.step.before:
                    self._before.setdefault((record.run, at.path), at.object)

    def _before_run(self, record: StepRecord, path: str) -> Object:
        return self._before.get((record.run, path), ABSENT)

    # ---- state steps ----------------------------------------------------------------------------------------------

    def take_back(self, record: StepRecord) -> None:
        """Plan the undo of one step."""
        step, undo = record.known, record.undo
        if undo.class_ == "irreversible":
            self._stay(record, undo.reason)
            return
        if isinstance(step.change, OPAQUE_KINDS) and record.status == "failed" and not self._happened(record):
            return
        if any(at.path in self._in_use for at in step.after):
            self._stay(record, "others have used it, or what is in it, since it was made", chosen=True)
            return
        if any(self._never_undone(path_of(at.path) or at.path) for at in step.after):
            self._stay(record, "this host's policy says that it is never taken back", chosen=True)
            return
        forbidden = self._why_forbidden(record)
        if forbidden:
            self._stay(record, forbidden)
            return
        if isinstance(step.change, STATE_KINDS) and not self._is_to_be_taken_back(record):
            return
        for change in undo.changes:
            self._add(record, named(record, change) if isinstance(change, Restore) else change)

    def _is_to_be_taken_back(self, record: StepRecord) -> bool:
        """Whether a step that changes objects happened, in part at least, and nobody has changed them since."""
        if record.status not in ("failed", "in-doubt"):
            return self._may_touch(record)
        if record.amended is not None:
            # what a transaction of packages left that failed may be somebody else's by now
            has_looked = isinstance(record.known.change, SetPackages) and bool(record.observed)
            return not has_looked or self._may_touch(record)
        try:
            verdict, why = what_became_of(record.known, self._overlay, self._preimages)
        except AquilineError as error:
            verdict, why = "in-doubt", error.message
        if verdict == "done" and record.status == "failed" and isinstance(record.known.change, SetUnit):
            return True  # it came up after all, once the run had given up
        if verdict == "done" and record.status == "in-doubt":
            return self._may_touch(record)  # when it failed nobody could look
        if verdict not in ("half-way", "not-done"):
            self._stay(record, f"it failed, and {why}")
        return verdict == "half-way"

    def _why_forbidden(self, record: StepRecord) -> str:
        """Return why policy forbids what taking `record` back would change; empty where nothing is to be changed."""
        if any(self._choices.of(at.path) == "skip" for at in record.known.after):
            return ""
        for change in record.undo.changes:
            try:
                self._refuse(change, self._overlay)
            except HostError as error:
                wanted = named(record, change) if isinstance(change, Restore) else change
                with contextlib.suppress(HostError):  # `_add` says so
                    if resolve(wanted, self._overlay) is not None:
                        return error.message
        return ""

    def _happened(self, record: StepRecord) -> bool:
        """Whether a command that failed is to be taken back: only its own probe can tell.

        Without one its undo might take back what was there before; that nobody knows is said, and is no failure of
        undo: everything that is known to have happened is taken back.
        """
        change = record.known.change
        assert isinstance(change, OPAQUE_KINDS)
        if change.done_when is None:
            self._stay(record, "it failed, and nothing tells how much of it happened", chosen=True)
            return False
        try:
            return probe_says_yes(change.done_when, self._overlay.base)
        except AquilineError as error:
            self._stay(record, f"it failed, and its done_when probe says nothing: {error.message}")
            return False

    def _stay(self, record: StepRecord, reason: str, *, chosen: bool = False) -> None:
        self._stays.append(CannotUndo(record.run, record.number, record.description, reason, chosen))
        self._left.update(at.path for at in record.known.after if not isinstance(at.object, Absent))

    def _add(self, record: StepRecord, change: Change) -> None:
        try:
            change = self._as_far_as_kept(record, change)
            effect = resolve(change, self._overlay)
        except HostError as error:
            self._stay(record, error.message)
            return
        if effect is None or not self._has_place(record, effect.after):
            return
        effect = self._kept_inodes.complete(effect, self._overlay)
        lost = self._lost_content(change)
        if lost:
            self._stay(record, lost)
            return
        if isinstance(change, SetUnit):
            self._reload_units(record.component)
        number = len(self._steps) + 1
        again = effect.undo
        if isinstance(change, OPAQUE_KINDS) or isinstance(record.known.change, MakeHardlink):
            # A command is redone by running it again, a link by making it again: the change is its undo's undo.
            class_: UndoClass = "command" if isinstance(change, OPAQUE_KINDS) else "exact"
            again = Undo(class_, f"again: {record.description}", (record.known.change,))
        self._steps.append(
            Step(
                number=number,
                component=record.component,
                task=record.known.task,
                change=change,
                description=describe_step(change, effect.before, effect.after),
                cause=Cause("undo", record.description, (), record.run, record.number),
                before=effect.before,
                after=effect.after,
                undo=again,
                undo_order=effect.undo_order,
                certain="unknown" if isinstance(change, OPAQUE_KINDS) else "certain",
                because=("a command's effect is known only once it ran",) if isinstance(change, OPAQUE_KINDS) else (),
                secret=record.known.secret,
            )
        )
        self._taken_back.setdefault((record.run, record.number), []).append(number)
        if not isinstance(change, SetUnit) and are_unit_files((*effect.before, *effect.after)):
            self._unread.append(number)
        self._remember(change, effect.after)

    def _reload_units(self, component: str) -> None:
        """Let the service manager read the unit files that were put back, before it is told anything about a unit."""
        if self._unread and not self._overlay.offline:
            self._append_reaction(ReactDaemonReload(), component, Cause("reaction", "", tuple(sorted(self._unread))))
        self._unread = []

    def _has_place(self, record: StepRecord, after: Sequence[At]) -> bool:
        """Whether there is a directory for each object to be put back; where something else stays, so does the step."""
        for at in after:
            if isinstance(at.object, Absent) or not is_path(at.path) or self._overlay.place(at.path):
                continue
            above = posixpath.dirname(at.path)
            is_chosen = any(_lies_in(at.path, path) for path in self._choices.skipped())
            if is_chosen or self._choices.of(at.path) == "force":
                self._stay(record, f"there is no directory {above} to put it back to", chosen=is_chosen)
            else:
                self._conflicts.append(
                    Conflict(
                        at.path, record.run, record.number, record.description, ABSENT, ABSENT, at.object,
                        (f"the directory that it stood in ({above})",), record.known.secret, "it has no place",
                    )
                )  # fmt: skip
            return False
        return True

    def _as_far_as_kept(self, record: StepRecord, change: Change) -> Change:
        """Return what puts back the metadata alone, of a file whose content the run left alone and others changed.

        That content was never kept, as the run had no need of it; what is there now is nobody's to lose.
        """
        if not isinstance(change, Restore) or not isinstance(change.object, RegularFile) or change.kept:
            return change
        found = self._overlay.observe(change.path)
        left = {at.path: at.object for at in record.known.after}.get(change.path)
        is_left_alone = isinstance(left, RegularFile) and left.sha256 == change.object.sha256
        if not (is_left_alone and isinstance(found, RegularFile) and self._lost_content(change)):
            return change
        self._notes.append(f"{change.path}: only its metadata is taken back; the run had not changed its content")
        metadata = change.object.metadata
        return SetMetadata(
            path=change.path, mode=metadata.mode, owner=metadata.uid, group=metadata.gid, xattrs=metadata.xattrs
        )

    def _lost_content(self, change: Change) -> str:
        """Return why the content that `change` puts back cannot be had; empty where it can, or none is needed."""
        if isinstance(change, SetPackages):
            restores = (Restore(path=at.path, object=file_object(at)) for at in change.leaves if is_path(at.path))
            return next(filter(None, map(self._lost_content, restores)), "")
        if not isinstance(change, Restore) or change.kept or not isinstance(change.object, RegularFile):
            return ""
        digest = change.object.sha256
        found = self._overlay.observe(change.path)
        if isinstance(found, RegularFile) and found.sha256 == digest:
            return ""
        # Its bytes are looked at: a damaged one found out half way would leave the rest of the run undone.
        if self._preimages.verify(digest):
            return ""
        why = self._purged.get(digest)
        if why:
            return f"the pre-image of {change.path} was purged: {why}"
        return f"the pre-image of {change.path} is {'damaged' if self._preimages.has(digest) else 'lost'}"

    def _remember(self, change: Change, after: Sequence[At]) -> None:
        if isinstance(change, Move):
            self._overlay.move(change.source, change.destination)
            return
        if isinstance(change, SetUnit):
            foresee_unit(change, after, self._overlay)
            return
        if isinstance(change, SetRecord):
            self._overlay.accounts.set_entries(change.database, [entry_of(change)])
            return
        if isinstance(change, SetPackages):
            self._overlay.packages.transact(package_targets(after))
            # as they are performed: what goes from below, where a directory that holds anything stays; then what comes
            by_path = sorted(after, key=lambda at: at.path)
            gone = [at for at in by_path if isinstance(at.object, Absent)]
            after = [*reversed(gone), *(at for at in by_path if not isinstance(at.object, Absent))]
        for at in after:
            if not is_path(at.path) or (isinstance(change, SetPackages) and self._stays_in_use(at)):
                continue
            self._overlay.remember(at.path, file_object(at), self._source(change, at.object))

    def _stays_in_use(self, at: At) -> bool:
        """Whether `at` is a directory that is to go and holds something."""
        is_directory = isinstance(at.object, Absent) and isinstance(self._overlay.observe(at.path), Directory)
        return is_directory and bool(self._overlay.names(at.path))

    def _source(self, change: Change, wanted: Object) -> bytes | Callable[[], Iterator[bytes]] | None:
        if isinstance(change, WriteFile) and isinstance(change.content, Inline):
            return change.content.data
        if isinstance(wanted, RegularFile):
            return lambda: self._preimages.chunks(wanted.sha256)
        return None

    # ---- conflicts ------------------------------------------------------------------------------------------------

    def _may_touch(self, record: StepRecord) -> bool:
        """Whether everything the step left is still so, or somebody said what to do about it."""
        unchanged = {at.path for at in record.known.before if at in record.known.after}
        left = {at.path: at.object for at in (*record.known.after, *record.observed) if at.path not in unchanged}
        restores = {at.path: at.object for at in record.known.before} | {
            at.path: at.object
            for change in record.undo.changes
            if isinstance(change, SetPackages)
            for at in change.leaves
        }
        skipped = [path for path in left if self._choices.of(path) == "skip"]
        if skipped:
            self._stay(record, f"skipped: {', '.join(skipped)}", chosen=True)
            return False
        found_conflicts = False
        for path, was_left in left.items():
            try:
                found = observe(self._overlay, path)
            except HostError as error:
                self._unreachable(record, path, was_left, restores.get(path, ABSENT), error)
                found_conflicts = True
                continue
            if same_but_times(found, was_left):
                if not self._is_last_word(record, path, found, restores.get(path, ABSENT)):
                    found_conflicts = True
                    continue
                if not self._may_remove(record, path, found, restores.get(path, ABSENT)):
                    found_conflicts = True
                elif _time_of(found) != _time_of(was_left) and not isinstance(found, Directory):
                    self._notes.append(f"{path}: somebody touched it since run {record.run}; only its time differs")
                continue
            if has_died(was_left, found):
                self._notes.append(f"{path}: it ended by itself since run {record.run}")
                continue
            if same_but_times(found, restores.get(path, ABSENT)) and same_but_times(
                found, self._before_run(record, path)
            ):
                # Already as it was before the run: the goal is reached, unless a later run would take that back.
                found_conflicts |= not self._is_last_word(record, path, found, restores.get(path, ABSENT))
                continue
            found_conflicts |= not self._decide(record, path, was_left, found, restores.get(path, ABSENT))
        return not found_conflicts

    def _unreachable(self, record: StepRecord, path: str, left: Object, wanted: Object, error: HostError) -> None:
        """Add what cannot be looked at any more: a parent is a link in a loop now, or one that nobody may trust."""
        if self._choices.of(path) == "force":
            raise error
        self._conflicts.append(
            Conflict(
                path, record.run, record.number, record.description, left, ABSENT, wanted,
                (f"how it is reached ({error.message})",), record.known.secret, "it cannot be reached",
            )
        )  # fmt: skip

    def _is_last_word(self, record: StepRecord, path: str, found: Object, wanted: Object) -> bool:
        """Whether no later run, which stays, changed the object too and brought it back to what this one left."""
        later = self._changed_later(record.run, path)
        if not later or self._choices.of(path) == "force":
            return True
        self._conflicts.append(
            Conflict(
                path, record.run, record.number, record.description, found, found, wanted,
                (f"what is in the later run {later}",), record.known.secret, "a later run left it so",
            )
        )  # fmt: skip
        return False

    def _may_remove(self, record: StepRecord, path: str, found: Object, wanted: Object) -> bool:
        """Whether a directory that the run made holds nothing that somebody else put there since."""
        if not isinstance(found, Directory) or not isinstance(wanted, Absent) or isinstance(record.known.change, Move):
            return True  # what was moved there goes back with all that is in it
        inside = self._overlay.names(path)
        if not inside:
            return True
        if all(posixpath.join(path, name) in self._left for name in inside):
            self._stay(record, f"it holds what is left: {', '.join(inside)}", chosen=True)
            return False
        listed = ", ".join(inside[:5]) + (", …" if len(inside) > 5 else "")
        self._conflicts.append(
            Conflict(
                path, record.run, record.number, record.description, found, found, wanted,
                (f"it is not empty: {listed}",), no_merge="it is a directory",
            )
        )  # fmt: skip
        return False

    def _decide(self, record: StepRecord, path: str, left: Object, found: Object, wanted: Object) -> bool:
        """Return whether the step's own undo is to go on at `path`."""
        change = record.known.change
        if isinstance(change, WriteFile) and change.seed and isinstance(found, RegularFile):
            self._stay(record, "others have written to it since", chosen=True)
            return False
        choice = self._choices.of(path)
        no_merge = self._why_no_merge(record, left, found, wanted)
        if choice == "force":
            return True
        if choice == "merge" and not no_merge:
            self._merge(record, path, left, found, wanted)
            return False
        self._conflicts.append(
            Conflict(
                path, record.run, record.number, record.description, left, found, wanted,
                tuple(one.what for one in differences(left, found)), record.known.secret, no_merge,
            )
        )  # fmt: skip
        return False

    def _why_no_merge(self, record: StepRecord, left: Object, found: Object, wanted: Object) -> str:
        if not (isinstance(left, RegularFile) and isinstance(found, RegularFile) and isinstance(wanted, RegularFile)):
            return "only a file that is there before, after and now can be merged"
        try:
            texts = self._three_texts(record, left, wanted)
        except AquilineError as error:
            return f"its content cannot be had: {error.message}"
        if any(text_of(text) is None for text in texts):
            return "it is not text"
        if merge(*texts) is None:
            return "both sides changed the same lines"
        return ""

    def _three_texts(self, record: StepRecord, left: RegularFile, wanted: RegularFile) -> tuple[bytes, bytes, bytes]:
        """Return what the run left, what undo would put there, and what is there now."""
        path = next(at.path for at in record.known.after if isinstance(at.object, RegularFile))
        return (
            self._content_left(record, left),
            b"".join(self._preimages.chunks(wanted.sha256)),
            self._overlay.read(path),
        )

    def _content_left(self, record: StepRecord, left: RegularFile) -> bytes:
        change = record.known.change
        if isinstance(change, WriteFile | EditFile) and isinstance(change.content, Inline):
            return change.content.data
        if isinstance(change, WriteFile | EditFile) and isinstance(change.content, Stored):
            return b"".join(self._preimages.chunks(change.content.sha256))
        return b"".join(self._preimages.chunks(left.sha256))

    def _merge(self, record: StepRecord, path: str, left: Object, found: Object, wanted: Object) -> None:
        assert isinstance(left, RegularFile)
        assert isinstance(found, RegularFile)
        assert isinstance(wanted, RegularFile)
        merged = merge(*self._three_texts(record, left, wanted))
        assert merged is not None
        metadata = wanted.metadata if found.metadata == left.metadata else found.metadata
        self._add(
            record,
            WriteFile(
                path=path, content=Inline(merged), mode=metadata.mode, owner=metadata.uid, group=metadata.gid,
                xattrs=metadata.xattrs, secret=record.known.secret, in_place=_is_in_place(record.known.change),
            ),
        )  # fmt: skip
        self._notes.append(f"{path}: merged: the run's changes taken out, later edits kept")

    # ---- reactions ------------------------------------------------------------------------------------------------

    def react(self, records: Sequence[StepRecord], owed: Iterable[tuple[Reaction, str, str]]) -> None:
        """Plan reactions once each, in forward order, after the objects are back; only where something was put back.

        What was owed before is paid whatever is put back.
        """
        by_reaction: dict[Reaction, tuple[str, list[int], str, int]] = {}
        for record in sorted(records, key=lambda one: one.number):
            if not _is_reaction(record):
                continue
            causes = [
                new for cause in record.known.cause.steps for new in self._taken_back.get((record.run, cause), ())
            ]
            self._collect(by_reaction, record, causes)
        debts: dict[Reaction, tuple[str, str]] = {}
        undone = {record.run for record in records}
        for reaction, component, run in owed:
            numbers = [number for numbers in self._taken_back.values() for number in numbers]
            if run in undone and numbers and reaction not in by_reaction:
                by_reaction[reaction] = (component, numbers, "", 0)
            debts.setdefault(reaction, (component, run))
        if self._unread:
            self._reload_units(self._steps[self._unread[0] - 1].component)
        # a service manager reads its files before it is told anything about a unit
        ordered = sorted(by_reaction.items(), key=lambda one: not isinstance(one[0], ReactDaemonReload))
        for reaction, (component, causes, run, number) in ordered:
            if causes and not self._is_reloaded(reaction, causes):
                self._append_reaction(
                    reaction, component, Cause("reaction", "", tuple(sorted(set(causes))), run, number)
                )
        planned = [step.change for step in self._steps]
        for reaction, (component, run) in debts.items():
            if reaction not in planned:
                self._append_reaction(reaction, component, Cause("owed", f"owed since run {run}", (), run))

    def _is_reloaded(self, reaction: Reaction, causes: Sequence[int]) -> bool:
        """Whether `reaction` is to read unit files that are read already, after the steps numbered `causes`."""
        return isinstance(reaction, ReactDaemonReload) and any(
            step.number > max(causes) for step in self._steps if isinstance(step.change, ReactDaemonReload)
        )

    def _collect(
        self,
        by_reaction: dict[Reaction, tuple[str, list[int], str, int]],
        record: StepRecord,
        causes: list[int],
    ) -> None:
        for change in record.undo.changes:
            assert isinstance(change, REACTION_KINDS)
            entry = by_reaction.setdefault(change, (record.component, [], record.run, record.number))
            entry[1].extend(causes)

    def _append_reaction(self, reaction: Reaction, component: str, cause: Cause) -> None:
        self._steps.append(
            Step(
                number=len(self._steps) + 1,
                component=component,
                task="",
                change=reaction,
                description=describe(reaction),
                cause=cause,
                before=(),
                after=(),
                undo=Undo("command", describe_undo((reaction,)), (reaction,)),
                undo_order="after",
                because=() if is_run_here(reaction, self._overlay) else (OFFLINE,),
            )
        )

    def finished(self, profile: str, facts: Mapping[str, str], secret_key: bytes, itself: Itself) -> UndoPlan:
        """Return all that was planned."""
        steps = tuple(self._steps)
        changed = itself.changed_by(steps, self._overlay.base, self._overlay.where)
        if changed:
            self._notes.append(changes_itself(changed))
        unknown = [step for step in steps if step.certain == "unknown"]
        reduced = [f"step {step.number}, {step.description}: {OFFLINE}" for step in steps if OFFLINE in step.because]
        reduced += [f"step {step.number} is unknown until run: {step.because[0]}" for step in unknown]
        plan = Plan(
            format=1,
            tool=__version__,
            profile=profile,
            stage=1,
            steps=steps,
            components={},
            coverage=Coverage(len(steps), len(steps) - len(unknown), tuple(reduced)),
            digests=digests(steps, facts, secret_key),
            notes=tuple(self._notes),
            itself=changed,
        )
        return UndoPlan(plan, tuple(self._conflicts), tuple(self._stays), tuple(self._notes), self._overlay)


def _left_below(path: str, records: Sequence[StepRecord]) -> dict[str, Object]:
    """Return what `records`, newest run first, left at and below `path`."""
    by_run = [list(group) for _, group in itertools.groupby(records, key=lambda record: record.run)]
    left = {at.path: at.object for run in reversed(by_run) for record in run for at in record.known.after}
    return {
        one: found
        for one, found in left.items()
        if (one == path or one.startswith(f"{path.rstrip('/')}/")) and not isinstance(found, Absent)
    }


def named(record: StepRecord, change: Restore) -> Restore:
    """Return `change` with the name of the inode that was kept, now that run and step are known."""
    if change.kept == KEPT_INODE:
        return msgspec.structs.replace(change, kept=f"{record.run}-{record.number}")
    return change


def _lies_in(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _is_in_place(change: Change) -> bool:
    return isinstance(change, WriteFile | Restore) and change.in_place


def _time_of(found: Object) -> int:
    return 0 if isinstance(found, Absent | System) else found.metadata.mtime_ns
