"""A plan in the making: its steps, what is still unknown of them, and the host as it will be after them.

A component that fails, or must wait, is taken back whole: `Draft` keeps all that its changes leave behind, so that
`Draft.rollback` takes back all of it. Which steps there are to be is decided elsewhere: `aquiline.planning.tasks` and
`aquiline.planning.reactions`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from aquiline import __version__
from aquiline.changes.describe import describe, describe_step
from aquiline.changes.digests import digests
from aquiline.changes.itself import changes_itself
from aquiline.changes.kinds import Change, Probe, Reaction, Validate
from aquiline.changes.perform import OPAQUE_KINDS, REACTION_KINDS
from aquiline.changes.redact import is_secret
from aquiline.changes.resolve import Effect, KeptInodes
from aquiline.changes.steps import Cause, ComponentReport, Coverage, Plan, Probed, Step, Undo
from aquiline.host.naming import path_of
from aquiline.host.objects import Directory, Metadata
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Protection, Reading
from aquiline.planning.known import Known

PLAN_FORMAT = 1


class Waiting(msgspec.Struct):
    """A reaction that waits for its place."""

    reaction: Reaction
    #: Names of components.
    raised_by: set[str]
    #: Numbers of steps.
    causes: list[int]
    #: The earlier run that owes it; empty for this plan's own.
    run: str = ""

    def copy(self) -> Waiting:
        """Return one that stays as it is, whoever raises this one again."""
        return Waiting(self.reaction, set(self.raised_by), list(self.causes), self.run)


class Savepoint(msgspec.Struct, frozen=True):
    """A draft as it was: how far its lists went, and copies of the rest."""

    overlay: int
    steps: int
    notes: int
    reduced_by: int
    undeclared: int
    unlisted: int
    waiting: dict[str, Waiting]
    parents: set[str]
    kept_bytes: int


class Draft:
    """The steps of one stage, for one host, as far as they are planned."""

    def __init__(
        self, host: Reading, known: Known, relatives: Mapping[str, frozenset[str]], stage: int, first_number: int
    ) -> None:
        self.known = known
        #: The host as it will be after all steps.
        self.overlay = Overlay(host)
        self.steps: list[Step] = []
        #: Lines for a person.
        self.notes: list[str] = []
        #: Why the plan does not cover all that the profile wants.
        self.reduced_by: list[str] = []
        self.probes: list[Probed] = []
        #: Reactions that have no place yet, by their encoding: each once.
        self.waiting: dict[str, Waiting] = {}
        #: Descriptions of pending commands that declare nothing, with their component (D6).
        self.undeclared: list[tuple[str, str]] = []
        #: Transactions of packages that bring nobody knows what, each with its component.
        self.unlisted: list[tuple[str, str]] = []
        self.kept_inodes = KeptInodes()
        #: How much this run keeps for undo (D15), earlier stages included.
        self.kept_bytes = known.kept_bytes
        #: What ``chattr`` forbids in directories, as far as anybody asked.
        self.protections: dict[str, Protection] = {}
        #: Directories that will be there.
        self.parents: set[str] = set()
        self._relatives = relatives
        self._stage = stage
        self._first_number = first_number
        self._remember_state(known.state)

    def _remember_state(self, state: str) -> None:
        """Let a first dry-run find the state directory, as the live run after it will (P1)."""
        if not state or self.overlay.status(state) is not None:
            return
        self._remember_state(posixpath.dirname(state))
        self.overlay.remember(state, Directory(Metadata(0o755, 0, 0)), None)

    def savepoint(self) -> Savepoint:
        """Return the draft as it is now, for `rollback`."""
        return Savepoint(
            overlay=self.overlay.savepoint(),
            steps=len(self.steps),
            notes=len(self.notes),
            reduced_by=len(self.reduced_by),
            undeclared=len(self.undeclared),
            unlisted=len(self.unlisted),
            waiting={key: one.copy() for key, one in self.waiting.items()},
            parents=set(self.parents),
            kept_bytes=self.kept_bytes,
        )

    def rollback(self, savepoint: Savepoint) -> None:
        """Take back all since `savepoint`, but not the answers of probes: what was asked stays on record."""
        self.overlay.rollback(savepoint.overlay)
        del self.steps[savepoint.steps :]
        del self.notes[savepoint.notes :]
        del self.reduced_by[savepoint.reduced_by :]
        del self.undeclared[savepoint.undeclared :]
        del self.unlisted[savepoint.unlisted :]
        self.waiting, self.parents, self.kept_bytes = savepoint.waiting, savepoint.parents, savepoint.kept_bytes

    def relatives(self, component: str) -> frozenset[str]:
        """Return the component and all it depends on, directly or not."""
        return self._relatives.get(component, frozenset()) | {component}

    def what_alters(self, component: str, probe: Probe) -> str | None:
        """Return the description of what is pending and may change the answer of `probe`, None where nothing is."""
        relatives = self.relatives(component)
        for waiting in self.waiting.values():
            if waiting.raised_by & relatives:
                return describe(waiting.reaction)
        for step in self.steps:
            if any(_overlaps(path_of(at.path) or at.path, path) for at in step.after for path in probe.reads):
                return step.description
            if not probe.reads and step.component in relatives:
                return step.description
            if isinstance(step.change, OPAQUE_KINDS) and step.change.touches is None and step.component != component:
                return step.description
        return None

    def append(
        self,
        component: str,
        task: str,
        change: Change,
        effect: Effect,
        *,
        undo: Undo,
        cause: Cause,
        because: Sequence[str] = (),
        would_fail: str = "",
    ) -> Step:
        """Add the step that does `change`; `because` says what is unknown of it, `would_fail` what is in its way."""
        if not isinstance(change, (*OPAQUE_KINDS, *REACTION_KINDS, Validate)):
            because = (*because, *self._assumptions(component))
        step = Step(
            number=self._first_number + len(self.steps),
            component=component,
            task=task,
            change=change,
            description=describe_step(change, effect.before, effect.after),
            cause=cause,
            before=effect.before,
            after=effect.after,
            undo=undo,
            undo_order=effect.undo_order,
            certain=_certainty(change, because),
            because=tuple(because),
            stage=self._stage,
            secret=_holds_secret(change, effect),
            would_fail=would_fail,
        )
        self.steps.append(step)
        if would_fail:
            self.reduced_by.append(f"step {step.number} would fail: {would_fail}")
        return step

    def _assumptions(self, component: str) -> Sequence[str]:
        return [
            f"assumes that {description} changes nothing here"
            for author, description in self.undeclared
            if author != component
        ]

    def finished(self, profile: str, components: Mapping[str, ComponentReport]) -> Plan:
        """Return the plan; `profile` is the digest of what it is for."""
        steps = tuple(self.steps)
        unknown = [step for step in steps if step.certain == "unknown"]
        reduced = self.reduced_by + [f"step {step.number} is unknown until run: {step.because[0]}" for step in unknown]
        reduced += [f"step {step.number} {step.because[0]}" for step in steps if step.certain == "assumption"]
        itself = self.known.itself.changed_by(steps, self.overlay.base, self.overlay.where)
        if itself:
            left = [name for name, report in sorted(components.items()) if report.state == "deferred"]
            self.notes.append(changes_itself(itself, left))
        return Plan(
            format=PLAN_FORMAT,
            tool=__version__,
            profile=profile,
            stage=self._stage,
            steps=steps,
            components=dict(sorted(components.items())),
            coverage=Coverage(len(steps), len(steps) - len(unknown), tuple(reduced)),
            digests=digests(steps, self.known.facts, self.known.secret_key),
            notes=tuple(self.notes),
            probes=tuple(self.probes),
            itself=itself,
        )


def _certainty(change: Change, because: Sequence[str]) -> Literal["certain", "unknown", "assumption"]:
    if not because or isinstance(change, (*REACTION_KINDS, Validate)):
        return "certain"
    return "unknown" if isinstance(change, OPAQUE_KINDS) else "assumption"


def _holds_secret(change: Change, effect: Effect) -> bool:
    return getattr(change, "secret", False) or any(
        is_secret(one.path, one.object, other.object, change)
        for one, other in zip(effect.before, effect.after, strict=True)
    )


def _overlaps(path: str, other: str) -> bool:
    return path == other or path.startswith(other.rstrip("/") + "/") or other.startswith(path.rstrip("/") + "/")
