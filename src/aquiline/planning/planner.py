"""Profile in, plan out: the steps of one stage, for one host.

Theory of operation

1. Components run in dependency order. Each runs as a generator against a `PlannedView` of one overlay, so that it sees
   what all before it will have done. What it yields is resolved to a step, or to nothing where the state is right, and
   remembered by the overlay.
2. A component that fails, or must wait, is taken back whole: overlay savepoint, steps and reactions (REFERENCE 1.2 G).
3. A component that reads what a pending opaque command may change is *deferred*, and with it whatever depends on it:
   the plan ends before it and the next stage begins with it, planned when the command has run (D6).
4. Reactions are collected, once each, and placed: before the first opaque step, unit start or probe of a component that
   depends on one that raised them, else at the end (D3). Debts of earlier runs are placed the same way.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aquiline import __version__
from aquiline.changes.canonical import encode
from aquiline.changes.describe import describe, describe_packages, describe_step
from aquiline.changes.digests import digests
from aquiline.changes.kinds import (
    Change,
    CopyOf,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Probe,
    ReactDaemonReload,
    Reaction,
    ReactUnit,
    Restore,
    RunCommand,
    RunScript,
    SetPackages,
    SetRecord,
    SetUnit,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.changes.perform import (
    FILE_KINDS,
    OFFLINE,
    OPAQUE_KINDS,
    REACTION_KINDS,
    entry_of,
    foresee_unit,
    is_run_here,
    not_run,
    package_targets,
    perform_validation,
    probe_says_yes,
)
from aquiline.changes.redact import is_secret
from aquiline.changes.resolve import Effect, KeptInodes, resolve
from aquiline.changes.scratch import Scratch
from aquiline.changes.steps import Cause, ComponentReport, ComponentState, Coverage, Plan, Probed, Step, Undo
from aquiline.errors import AquilineError, HostError, NotPossibleHere, ProfileError, StepFailed, UnknownUntilRun
from aquiline.host.naming import is_plain, path_of
from aquiline.host.objects import (
    ABSENT,
    At,
    Directory,
    Metadata,
    Package,
    RegularFile,
    Symlink,
    file_object,
    same_but_times,
    sha256,
)
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Completed, Reading
from aquiline.host.unitfiles import are_unit_files
from aquiline.planning.component import Component, Note, Task, Yielded
from aquiline.planning.forbidden import Forbidden, changed_files
from aquiline.planning.guard import trusted, watching
from aquiline.planning.order import ancestors, order
from aquiline.planning.view import PlannedView, Templates
from aquiline.profile import ComponentSection, Profile, convert, unknown_keys

PLAN_FORMAT = 1
_UNKNOWN_KEY = ": unknown key, nothing reads it"

#: D15: what a single undo may need of the pre-image store.
MEBIBYTE = 2**20


class Owed(msgspec.Struct, frozen=True):
    """A reaction that an earlier run left undone."""

    reaction: Reaction
    component: str
    run: str


class Budget(msgspec.Struct, frozen=True):
    """How much may be kept for undo, in bytes (D15)."""

    step: int = 2048 * MEBIBYTE
    run: int = 8192 * MEBIBYTE


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What planning is told besides profile and host."""

    #: What the journal last left at a path, None where it has no word of it.
    last_value: Callable[[str], At | None] = lambda _path: None
    owed: Sequence[Owed] = ()
    templates: Templates = lambda _relative: None
    #: What no component may change.
    forbidden: Forbidden = Forbidden()
    #: Whether policy says that this path is never taken back.
    never_undone: Callable[[str], bool] = lambda _path: False
    #: Whether policy says that a package is never downgraded.
    never_downgraded: Callable[[str], bool] = lambda _package: False
    #: Why undo must not downgrade a package; empty where it may.
    why_not_downgraded: Callable[[str], str] = lambda _package: ""
    budget: Budget = Budget()
    #: Placeholder name to value: the host's own facts (D8).
    facts: Mapping[str, str] = {}
    #: Keys the digests of secret values (D9).
    secret_key: bytes = b""
    #: Commands, encoded, that earlier stages of this run have run: each runs once in a run.
    ran: frozenset[str] = frozenset()
    #: Where the journal is on the host, empty where it is outside of it: a live run makes it before it plans.
    state: str = ""


_RELOAD_UNITS = encode(ReactDaemonReload())


class _Pending(msgspec.Struct):
    """A reaction that waits for its place."""

    reaction: Reaction
    raised_by: set[str]
    causes: list[int]
    #: The earlier run that owes it; empty for this plan's own.
    run: str = ""


def plan(
    profile: Profile,
    host: Reading,
    registry: Mapping[str, type[Component[Any]]],
    known: Known = Known(),  # noqa: B008 - frozen
    *,
    only: Iterable[str] = (),
    remaining: Iterable[str] | None = None,
    stage: int = 1,
    first_number: int = 1,
) -> Plan:
    """Return the next stage of what `profile` wants of `host`.

    Args:
        profile: What the host should be.
        host: Only read.
        registry: Component classes by name.
        known: What the journal, the policy and the site say.
        only: Names of components; given, no others are planned, and those with ``dispatch: false`` are.
        remaining: For a later stage: the components that the stages before left to do.
        stage: Which stage this is, from 1.
        first_number: Number of its first step.

    Raises:
        ProfileError: the dependencies of the components make a loop, or `only` names one that is not there.
    """
    return _Planner(profile, host, registry, known, stage, first_number).plan(tuple(only), remaining)


class _Planner:
    def __init__(
        self,
        profile: Profile,
        host: Reading,
        registry: Mapping[str, type[Component[Any]]],
        known: Known,
        stage: int,
        first_number: int,
    ) -> None:
        self._profile = profile
        self._registry = registry
        self._known = known
        self._stage = stage
        self._first_number = first_number
        self._overlay = Overlay(host)
        self._sections = profile.components()
        self._steps: list[Step] = []
        self._kept_inodes = KeptInodes()
        self._reports: dict[str, ComponentReport] = {}
        self._notes: list[str] = []
        self._reduced_by: list[str] = []
        self._probes: list[Probed] = []
        self._pending: dict[str, _Pending] = {}
        #: Descriptions of pending commands that declare nothing, with their component (D6).
        self._undeclared: list[tuple[str, str]] = []
        #: Transactions of packages that bring nobody knows what, each with its component.
        self._unlisted: list[tuple[str, str]] = []
        self._ancestors: dict[str, frozenset[str]] = {}
        self._kept_bytes = 0
        self._parents: set[str] = set()
        self._remember_state(known.state)
        for owed in known.owed if stage == 1 else ():
            key = encode(owed.reaction)
            self._pending[key] = _Pending(owed.reaction, {owed.component}, [], owed.run)

    def _remember_state(self, state: str) -> None:
        """Let a first dry-run find the state directory, as the live run after it will (P1)."""
        if not state or self._overlay.status(state) is not None:
            return
        self._remember_state(posixpath.dirname(state))
        self._overlay.remember(state, Directory(Metadata(0o755, 0, 0)), None)

    # ---- components -----------------------------------------------------------------------------------------------

    def plan(self, only: tuple[str, ...], remaining: Iterable[str] | None) -> Plan:
        for name in only:
            if name not in self._sections:
                raise ProfileError(f"there is no component {name}", path="/software/components")
        ordered = order(self._sections)
        self._notes += ordered.notes
        self._ancestors = ancestors(self._sections)
        wanted = None if remaining is None else set(remaining)
        for name in (*ordered.names, *(name for name in self._sections if name not in ordered.names)):
            if wanted is None or name in wanted:
                self._reports[name] = self._plan_component(self._sections[name], only, is_named=wanted is not None)
        self._flush(None)
        return self._finished()

    def _plan_component(self, section: ComponentSection, only: tuple[str, ...], *, is_named: bool) -> ComponentReport:
        if not section.active:
            return ComponentReport("inactive")
        if only and section.name not in only:
            return ComponentReport("inactive", "not named")
        if not section.dispatch and section.name not in only and not is_named:
            return ComponentReport("inactive", "dispatch is false: planned only when named")
        if section.name not in self._registry:
            self._reduced_by.append(f"component {section.name} is missing here")
            return ComponentReport("missing", "no such component is installed here")
        blocked = self._blocked_by(section)
        if blocked is not None:
            return blocked
        return self._attempt(section)

    def _blocked_by(self, section: ComponentSection) -> ComponentReport | None:
        """Return the report of a component that cannot be planned because of one before it (D7)."""
        direct = [name for name in sorted(self._ancestors[section.name]) if name in self._reports]
        failed = [name for name in direct if self._reports[name].state == "failed"]
        if failed:
            return self._failed(section.name, f"not planned, because {', '.join(failed)} failed")
        waiting = [name for name in direct if self._reports[name].state == "deferred"]
        if waiting:
            return self._deferred(section.name, f"waits for {', '.join(waiting)}")
        for component, because in self._unlisted:
            if component in direct:
                return self._deferred(section.name, f"what these packages bring is known once they are here: {because}")
        return None

    def _failed(self, name: str, why: str) -> ComponentReport:
        self._reduced_by.append(f"component {name} would fail: {why}")
        return ComponentReport("failed", why, self._version(name))

    def _deferred(self, name: str, why: str) -> ComponentReport:
        self._reduced_by.append(f"component {name} is deferred: {why}")
        return ComponentReport("deferred", why, self._version(name))

    def _version(self, name: str) -> str:
        return self._registry[name].version if name in self._registry else ""

    def _attempt(self, section: ComponentSection) -> ComponentReport:
        """Plan one component whole, or not at all."""
        savepoint = self._overlay.savepoint()
        steps, notes, reduced = len(self._steps), len(self._notes), len(self._reduced_by)
        pending = {key: _Pending(one.reaction, set(one.raised_by), list(one.causes), one.run)
                   for key, one in self._pending.items()}  # fmt: skip
        undeclared, kept_bytes, parents = len(self._undeclared), self._kept_bytes, set(self._parents)
        unlisted = len(self._unlisted)
        version = self._version(section.name)
        try:
            self._run(section)
        except UnknownUntilRun as error:
            report = self._deferred(section.name, error.message)
            own = (step for step in self._steps[steps:] if isinstance(step.change, (*OPAQUE_KINDS, SetPackages)))
            if any(step.description == error.because for step in own):
                return report  # it waits for a command of its own: what comes before that is done now
        except AquilineError as error:
            report = self._report_of(section.name, error)
        except Exception as error:  # noqa: BLE001 - component code may raise anything; it fails that component alone
            report = self._failed(section.name, _where(error))
        else:
            state: ComponentState = "planned" if len(self._steps) > steps else "unchanged"
            return ComponentReport(state, "", version)
        self._overlay.rollback(savepoint)
        del self._steps[steps:], self._undeclared[undeclared:], self._unlisted[unlisted:]
        kept_reduction = self._reduced_by[-1:]
        # A key that was mistyped is often why it failed.
        kept_notes = [note for note in self._notes[notes:] if note.endswith(_UNKNOWN_KEY)]
        del self._notes[notes:], self._reduced_by[reduced:]
        self._notes += kept_notes
        self._reduced_by += kept_reduction
        self._pending, self._kept_bytes, self._parents = pending, kept_bytes, parents
        return report

    def _report_of(self, name: str, error: AquilineError) -> ComponentReport:
        match error:
            case NotPossibleHere():
                self._reduced_by.append(f"component {name} is not possible here: {error.message}")
                return ComponentReport("not-possible-here", error.message, self._version(name))
            case _:
                return self._failed(name, error.message)

    def _run(self, section: ComponentSection) -> None:
        component = self._registry[section.name]()
        path = f"/software/components/{section.name}"
        configuration = convert(section, component.configuration)
        for unknown in unknown_keys(section.configuration, component.configuration, path):
            self._notes.append(f"{unknown}{_UNKNOWN_KEY}")
        view = self._view(section.name)
        drafts = _ComponentDrafts(self, section.name)
        with watching(section.name):
            generator = component.configure(configuration, view)
            try:
                yielded = next(generator)
                while True:
                    with trusted():
                        changed = drafts.add(yielded)
                    yielded = generator.send(changed)
            except StopIteration:
                return

    def _view(self, name: str) -> PlannedView:
        def refuse(probe: Probe) -> str | None:
            return self._what_alters(name, probe)

        def record(probe: Probe, completed: Completed) -> None:
            answer = sha256(completed.stdout + completed.stderr)
            self._probes.append(Probed(name, probe.argv, completed.status, answer))

        return PlannedView(
            self._overlay, self._profile, templates=self._known.templates, refuse_probe=refuse, on_probe=record
        )

    # ---- what is pending ------------------------------------------------------------------------------------------

    def _relatives(self, name: str) -> frozenset[str]:
        """Return the component and all it depends on, directly or not."""
        return self._ancestors.get(name, frozenset()) | {name}

    def _what_alters(self, name: str, probe: Probe) -> str | None:
        """Return the description of a pending step that may change the answer of `probe`, None where none does."""
        for pending in self._pending.values():
            if pending.raised_by & self._relatives(name):
                return describe(pending.reaction)
        for step in self._steps:
            if any(_overlaps(path_of(at.path) or at.path, path) for at in step.after for path in probe.reads):
                return step.description
            if not probe.reads and step.component in self._relatives(name):
                return step.description
            if isinstance(step.change, OPAQUE_KINDS) and step.change.touches is None and step.component != name:
                return step.description
        return None

    def _flush(self, name: str | None) -> None:
        """Place pending reactions: those that `name` must not overtake, all at the end of the stage (D3)."""
        relatives = None if name is None else self._relatives(name)
        due = [pending for pending in self._pending.values() if relatives is None or pending.raised_by & relatives]
        if any(isinstance(pending.reaction, ReactUnit) for pending in due):
            self._reload_units()
        for pending in due:
            if self._pending.pop(encode(pending.reaction), None) is not None:
                self._append_reaction(pending)

    def _reload_units(self) -> None:
        """Place what makes the service manager read its unit files again: before it is told anything about a unit."""
        pending = self._pending.pop(_RELOAD_UNITS, None)
        if pending is not None:
            self._append_reaction(pending)

    def _append_reaction(self, pending: _Pending) -> None:
        effect = resolve(pending.reaction, self._overlay)
        assert effect is not None
        if pending.run and not pending.causes:
            cause = Cause("owed", f"owed since run {pending.run}", (), pending.run)
        else:
            cause = Cause("reaction", "", tuple(pending.causes), pending.run)
        because = self._why_not_run(pending.reaction)
        step = self._append(", ".join(sorted(pending.raised_by)), "", pending.reaction, effect, cause, because)
        if because:
            self._reduced_by.append(f"step {step.number}, {step.description}: {because[0]}")

    def _why_not_run(self, reaction: Reaction) -> tuple[str, ...]:
        """Return why a reaction would not run or would fail, nothing where it should go well."""
        if not is_run_here(reaction, self._overlay):
            return (OFFLINE,)
        if isinstance(reaction, ReactUnit):
            try:
                if not self._overlay.units.state(reaction.unit).exists:
                    return (f"would fail: there is no unit {reaction.unit}",)
            except (NotPossibleHere, UnknownUntilRun) as error:
                return (error.message,)
        return ()

    def raise_reactions(self, name: str, reactions: Iterable[Reaction], causes: Sequence[int]) -> None:
        """Collect reactions to the steps numbered `causes`; each once, whoever asks."""
        for reaction in reactions:
            pending = self._pending.setdefault(encode(reaction), _Pending(reaction, set(), []))
            pending.raised_by.add(name)
            pending.causes += causes

    # ---- steps ----------------------------------------------------------------------------------------------------

    def add_change(self, name: str, task: Task, change: Change) -> Step | None:
        """Return the step that `change` needs, None where its state is already right."""
        _refuse_no_path(change)
        if isinstance(change, OPAQUE_KINDS):
            return self._add_opaque(name, task, change)
        if isinstance(change, WriteFile | MakeSymlink | MakeHardlink | MakeSpecial | MakeDirectory | Move):
            self._add_parents(name, task, change.destination if isinstance(change, Move) else change.path)
        self._known.forbidden.refuse(change, self._overlay)
        effect = resolve(change, self._overlay)
        if isinstance(change, SetUnit) and change.active is not None:
            self._note_not_run(name, change)
        if effect is None:
            return None
        self._refuse_cut_off(name, change, effect)
        effect = self._kept_inodes.complete(effect, self._overlay)
        if isinstance(change, SetUnit | SetPackages):
            self._flush(name)
            self._reload_units()
        step = self._append(name, task.description, change, effect, self._cause(task, effect))
        if self._changes_units(change, effect):
            self.raise_reactions(name, (ReactDaemonReload(),), [step.number])
        self._remember(name, change, effect)
        return step

    def _note_not_run(self, name: str, change: SetUnit) -> None:
        if not self._overlay.units.state(change.unit).active:
            self._reduced_by.append(f"{name}: {not_run(change)}")

    def _changes_units(self, change: Change, effect: Effect) -> bool:
        """Whether the service manager must read its unit files again; where none runs, none must."""
        if not isinstance(change, FILE_KINDS) or self._overlay.offline:
            return False
        return are_unit_files((*effect.before, *effect.after))

    def _refuse_cut_off(self, name: str, change: Change, effect: Effect) -> None:
        """Refuse to replace what the object's own path leads through: by that path nobody could find or undo it."""
        replaces_link = isinstance(change, Move) or any(isinstance(at.object, Symlink) for at in effect.before)
        if not isinstance(change, FILE_KINDS) or not replaces_link:
            return
        places = [self._overlay.place(at.path) for at in effect.before]
        savepoint = self._overlay.savepoint()
        self._remember(name, change, effect)
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

    def _add_parents(self, name: str, task: Task, path: str) -> None:
        """Add a step for each missing parent directory: 0755, root's (CAF::FileWriter, REFERENCE 2.1)."""
        parent = posixpath.dirname(path)
        if parent in self._parents or parent == "/":
            return
        if self._overlay.status(parent) is None:
            self._add_parents(name, task, parent)
            self.add_change(name, task, MakeDirectory(path=parent, mode=0o755))
        self._parents.add(parent)

    def _add_opaque(self, name: str, task: Task, change: RunCommand | RunScript) -> Step | None:
        if not (change.guard or change.done_when or change.with_task or change.always):
            raise HostError(
                f"refused: {describe(change)} has neither guard nor done_when",
                hint="say always=True if it is to run every time",
            )
        if encode(change) in self._known.ran:
            return None
        unknown = [] if change.touches == Touches() else [f"what it does to {_touched(change)} is known once it ran"]
        for probe, needless_if in ((change.guard, False), (change.done_when, True)):
            if probe is None:
                continue
            altered_by = self._what_alters(name, probe)
            if altered_by is not None:
                unknown.append(f"whether it runs: {altered_by} comes first")
            elif probe_says_yes(probe, self._overlay.base) == needless_if:
                return None
        if change.always:
            unknown.append("runs every time: this never converges")
        self._flush(name)
        effect = resolve(change, self._overlay)
        assert effect is not None
        step = self._append(name, task.description, change, effect, Cause("intentional", task.cause), tuple(unknown))
        self._taint(name, change, step)
        return step

    def _taint(self, name: str, change: RunCommand | RunScript, step: Step) -> None:
        if change.touches is None:
            self._undeclared.append((name, step.description))
            return
        self._overlay.taint(change.touches.paths, step.description)
        self._overlay.taint_units(change.touches.units, step.description)
        self._overlay.taint_packages(change.touches.packages, step.description)

    def would_change(self, task: Task) -> bool:
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

    def note(self, name: str, note: Note) -> None:
        """Add a component's line to the plan."""
        self._notes.append(f"{name}: {note.text}")
        if note.lowers_coverage:
            self._reduced_by.append(f"{name}: {note.text}")

    def add_validation(self, name: str, task: Task, change: Validate) -> None:
        """Check would-be content now; a live run checks it again before it writes."""
        assert isinstance(change.content, Inline)
        with Scratch(self._overlay.root) as scratch:
            performed = perform_validation(change, self._overlay.base, scratch.write_copy, change.content.data)
        if performed.error is not None:
            raise StepFailed(f"{change.path} is not valid: {performed.error.message}")
        because = (performed.output,) if performed.outcome == "not-run" else ()
        if because:
            self._reduced_by.append(f"{change.path}: {performed.output}")
        effect = resolve(change, self._overlay)
        assert effect is not None
        self._append(name, task.description, change, effect, Cause("intentional", task.cause), because)

    def _cause(self, task: Task, effect: Effect) -> Cause:
        """Tell drift that is put right from what is newly wanted (R32)."""
        drifted = False
        for before, after in zip(effect.before, effect.after, strict=True):
            last = self._known.last_value(before.path)
            if last is None or not same_but_times(last.object, after.object):
                return Cause("intentional", task.cause)
            drifted = drifted or not same_but_times(last.object, before.object)
        return Cause("corrective" if drifted else "intentional", task.cause)

    def _append(
        self,
        name: str,
        task: str,
        change: Change,
        effect: Effect,
        cause: Cause,
        because: tuple[str, ...] = (),
    ) -> Step:
        secret = getattr(change, "secret", False) or any(
            is_secret(one.path, one.object, other.object, change)
            for one, other in zip(effect.before, effect.after, strict=True)
        )
        is_opaque = isinstance(change, OPAQUE_KINDS)
        if not is_opaque and not isinstance(change, (*REACTION_KINDS, Validate)):
            because += tuple(
                f"assumes that {description} changes nothing here"
                for author, description in self._undeclared
                if author != name
            )
        step = Step(
            number=self._first_number + len(self._steps),
            component=name,
            task=task,
            change=change,
            description=describe_step(change, effect.before, effect.after),
            cause=cause,
            before=effect.before,
            after=effect.after,
            undo=self._affordable(change, effect),
            undo_order=effect.undo_order,
            certain="certain"
            if not because or isinstance(change, (*REACTION_KINDS, Validate))
            else "unknown"
            if is_opaque
            else "assumption",
            because=because,
            stage=self._stage,
            secret=secret,
        )
        self._steps.append(step)
        return step

    def _affordable(self, change: Change, effect: Effect) -> Undo:
        """Return the undo of `effect`, irreversible where its pre-image is over budget (D15) or policy forbids it."""
        if isinstance(change, SetPackages):
            return self._allowed_packages(effect)
        restored = (one for one in effect.undo.changes if isinstance(one, Restore) and not one.kept)
        size = sum(one.object.size for one in restored if isinstance(one.object, RegularFile))
        budget = self._known.budget
        if effect.undo.class_ != "exact" or not size:
            return effect.undo
        if size > budget.step or self._kept_bytes + size > budget.run:
            which = "a step" if size > budget.step else "a run"
            return Undo(
                "irreversible", "nothing", (), f"too large: {size} bytes are over the pre-image budget of {which}"
            )
        self._kept_bytes += size
        return effect.undo

    def _allowed_packages(self, effect: Effect) -> Undo:
        """Return the undo of a transaction; raise `HostError` where it would itself do what policy forbids."""
        for name, older, newer in self._version_changes(effect):
            if self._overlay.packages.is_older(newer, older) and self._known.never_downgraded(name):
                raise HostError(f"this host's policy forbids to downgrade {name}: {older} to {newer}")
        kept = [
            (name, why)
            for name, older, newer in self._version_changes(effect)
            if self._overlay.packages.is_older(older, newer)
            for why in [self._known.why_not_downgraded(name)]
            if why
        ]
        if effect.undo.class_ != "exact" or not kept:
            return effect.undo
        return Undo("irreversible", "nothing", (), "; ".join(f"{name} is not downgraded: {why}" for name, why in kept))

    def _version_changes(self, effect: Effect) -> Iterator[tuple[str, str, str]]:
        """Yield the packages that are installed before and after, with both versions."""
        after = package_targets(effect.after)
        for name, one in package_targets(effect.before).items():
            then = after[name]
            if isinstance(one, Package) and isinstance(then, Package) and one.version and then.version:
                yield name, one.version, then.version

    def _remember(self, component: str, change: Change, effect: Effect) -> None:
        """Let later steps see what this one will have done."""
        match change:
            case Move():
                self._overlay.move(change.source, change.destination)
                self._parents.clear()
            case MakeHardlink():
                self._overlay.link(change.path, change.existing, "plan")
            case SetUnit():
                foresee_unit(change, effect.after, self._overlay)
            case SetRecord():
                self._overlay.accounts.set_entries(change.database, [entry_of(change)])
            case SetPackages():
                self._remember_packages(component, effect)
            case WriteFile() | EditFile():
                self._overlay.remember(effect.after[0].path, file_object(effect.after[0]), self._source(change))
            case _:
                at = effect.after[0]
                self._overlay.remember(at.path, file_object(at), None)
                if at.object == ABSENT:
                    self._parents.discard(at.path)

    def _remember_packages(self, component: str, effect: Effect) -> None:
        """Let later steps see the packages; what these bring, and what their scripts may do, is known once they ran."""
        targets = package_targets(effect.after)
        self._overlay.packages.transact(targets)
        because = describe_packages(effect.before, effect.after)
        paths: set[str] = set()
        for each in (effect.before, effect.after):
            for name, one in package_targets(each).items():
                listed = (
                    self._overlay.packages.contents(name, one.version)
                    if isinstance(one, Package) and one.version
                    else ()
                )
                if listed is None:
                    self._unlisted.append((component, because))
                    self._undeclared.append((component, because))
                    continue
                paths.update(listed)
        units = {posixpath.basename(path) for path in paths if posixpath.dirname(path).endswith("/systemd/system")}
        directories = {posixpath.dirname(path) for path in paths}
        self._overlay.taint(sorted(path for path in paths - directories), because)
        self._overlay.taint_units(sorted(units), because)

    def _source(self, change: WriteFile | EditFile) -> bytes | Callable[[], Any]:
        content = change.content
        if isinstance(content, Inline):
            return content.data
        assert isinstance(content, CopyOf)
        return self._overlay.content_now(content.path)

    def _finished(self) -> Plan:
        unknown = [step for step in self._steps if step.certain == "unknown"]
        assumed = [step for step in self._steps if step.certain == "assumption"]
        reduced = self._reduced_by + [f"step {step.number} is unknown until run: {step.because[0]}" for step in unknown]
        reduced += [f"step {step.number} {step.because[0]}" for step in assumed]
        steps = tuple(self._steps)
        return Plan(
            format=PLAN_FORMAT,
            tool=__version__,
            profile=self._profile.digest,
            stage=self._stage,
            steps=steps,
            components=dict(sorted(self._reports.items())),
            coverage=Coverage(len(steps), len(steps) - len(unknown), tuple(reduced)),
            digests=digests(steps, self._known.facts, self._known.secret_key),
            notes=tuple(self._notes),
            probes=tuple(self._probes),
        )


def _refuse_no_path(change: Change) -> None:
    """Refuse what is no plain path: nobody could say which object is meant."""
    for path in changed_files(change):
        if not is_plain(path):
            shown = repr(path) if len(path) < 200 else f"a path of {len(path)} characters"
            raise HostError(f"found {shown}, expected a plain absolute path of at most 4095 bytes")


class _ComponentDrafts:
    """Turns what one component yields into steps."""

    def __init__(self, planner: _Planner, name: str) -> None:
        self._planner = planner
        self._name = name

    def add(self, yielded: Yielded) -> bool:
        """Return whether anything of `yielded` is needed."""
        match yielded:
            case Note():
                self._planner.note(self._name, yielded)
                return False
            case Task():
                return self._add_task(yielded)
            case _:
                return self._add_task(Task(description="", changes=(yielded,)))

    def _add_task(self, task: Task) -> bool:
        independent = tuple(_independent(task))
        if len(independent) < len(task.changes) and not self._planner.would_change(task):
            task = msgspec.structs.replace(task, changes=independent)
        causes: list[int] = []
        for change in task.changes:
            if isinstance(change, REACTION_KINDS):
                if causes:
                    self._planner.raise_reactions(self._name, (change,), causes)
            elif isinstance(change, Validate):
                self._planner.add_validation(self._name, task, change)
            else:
                step = self._planner.add_change(self._name, task, change)
                causes += [step.number] if step is not None else []
        if causes:
            self._planner.raise_reactions(self._name, task.reactions, causes)
        return bool(causes)


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


def _overlaps(path: str, other: str) -> bool:
    return path == other or path.startswith(other.rstrip("/") + "/") or other.startswith(path.rstrip("/") + "/")


def _where(error: BaseException) -> str:
    """Return what was raised and in which line of which file, for the author of a component."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"
