"""A change with all that is known of it: why, what it replaces, how it is taken back.

The same `Step` is what a dry-run shows, a saved plan holds, a live run executes and the journal keeps (P1).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from aquiline.changes.kinds import Change
from aquiline.host.objects import At

UndoClass = Literal["exact", "command", "irreversible"]
UndoOrder = Literal["reversed", "after"]


class Undo(msgspec.Struct, frozen=True, omit_defaults=True, rename={"class_": "class"}):
    """How a step is taken back (D5); data, from before the step is made (P3)."""

    class_: UndoClass
    description: str
    changes: tuple[Change, ...] = ()
    #: Why it is irreversible, or what limits it; empty otherwise.
    reason: str = ""


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step is in the plan."""

    #: ``intentional``: the profile wants something new; ``corrective``: the host differs from what the journal last
    #: left there; ``reaction``: steps of this run changed what it reads; ``owed``: a debt of an earlier run;
    #: ``undo``: it takes a step of an earlier run back.
    type: Literal["intentional", "corrective", "reaction", "owed", "undo"]
    #: Profile path, or the run and step it comes from.
    detail: str = ""
    #: Numbers of the steps of this run that caused a reaction.
    steps: tuple[int, ...] = ()
    #: The run whose debt is paid, or whose step is undone.
    run: str = ""
    #: The step of that run that is undone; 0 where none is.
    step: int = 0


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of a plan or run, numbered from 1 in execution order (D1)."""

    number: int
    component: str
    #: The task's description; empty where the change stands alone.
    task: str
    change: Change
    #: Rendered on the host, so that whoever reads it need not know the kind (D24).
    description: str
    cause: Cause
    #: What must stand there for the step to be what was planned: every object it replaces or builds on.
    before: tuple[At, ...]
    #: What will stand there, times aside.
    after: tuple[At, ...]
    undo: Undo
    undo_order: UndoOrder = "reversed"
    certain: Literal["certain", "unknown", "assumption"] = "certain"
    #: What it assumes, or why it is unknown, in words.
    because: tuple[str, ...] = ()
    #: The stage it belongs to, from 1.
    stage: int = 1
    #: Holds a secret (D9).
    secret: bool = False
    #: What is in its way as things stand when it is planned, in words; empty where nothing is seen.
    would_fail: str = ""


ComponentState = Literal["planned", "unchanged", "inactive", "missing", "not-possible-here", "deferred", "failed"]


class ComponentReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one component of the profile."""

    state: ComponentState
    #: In words; empty where the state says it all.
    detail: str = ""
    version: str = ""


class Coverage(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much of what will happen the plan foresees."""

    steps: int
    predicted: int
    #: What lowers it, one line each: unknown steps, deferred components, what is not validated or not possible here.
    reduced_by: tuple[str, ...] = ()


class Digests(msgspec.Struct, frozen=True, omit_defaults=True):
    """SHA-256 over the canonical form (D8)."""

    #: Steps with preconditions: staleness.
    plan: str
    #: What is done to what: predicted == actual, approval.
    effect: str
    #: Effect with placeholders for the host's own facts: grouping only.
    shape: str


class Probed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A probe that a component ran while it was planned, and what it answered."""

    component: str
    argv: tuple[str, ...]
    #: Exit status.
    status: int
    #: SHA-256 of what it printed: the same answer again or another.
    output_sha256: str


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ordered steps for one host, as far as they can be foreseen: one stage."""

    #: Version of this record.
    format: int
    tool: str
    profile: str
    stage: int
    steps: tuple[Step, ...]
    components: dict[str, ComponentReport]
    coverage: Coverage
    digests: Digests
    #: What a person must see besides the steps: unknown keys, drift, debts, lines of D7.
    notes: tuple[str, ...] = ()
    probes: tuple[Probed, ...] = ()
    #: What the steps change of the program that makes them, in words: the run then ends with this stage (D16).
    itself: tuple[str, ...] = ()
