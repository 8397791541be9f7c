"""Change-sets: what hosts have in common of what is done to them, and what a fleet report groups them by.

A change-set is a plan with the host's own facts replaced by placeholders (D8), each step with its text as the host
rendered it: what, the exact command or diff, why, and how it is taken back. Two hosts have one change-set exactly if a
person who reads one has read the other. It is made where the plan is, so it holds no secret (P10), and it is named by
the digest of its canonical form, which whoever receives it computes anew (D25).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from aquiline.changes.canonical import pack
from aquiline.changes.digests import Contents, Row, shape
from aquiline.changes.kinds import Change, ReactSignal, ReactUnit, SetUnit
from aquiline.changes.placeholders import Facts, Placeholders
from aquiline.changes.render import Stored, kind_of, render_steps
from aquiline.changes.steps import Plan, Step

#: Of the form that the digest is over.
CHANGE_SET_VERSION = 1


class ChangeSetStep(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step, for whoever has never heard of its kind."""

    number: int
    stage: int = 1
    component: str
    kind: str
    kind_version: int
    description: str
    certain: str = "certain"
    #: ``intentional``, ``corrective``, ``reaction``, ``owed`` or ``undo``.
    cause: str
    undo_class: str
    undo: str
    #: Why it is irreversible, or what limits its undo.
    reason: str = ""
    #: What a running service sees of it: ``restart nginx.service``; empty where none sees anything.
    disturbs: str = ""
    #: All of it as text: exact command or diff, cause, undo.
    text: str
    #: What it does as data: the row of the shape digest.
    row: Row


class DriftedObject(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something that is not as a run last left it."""

    #: A path, ``unit:NAME``, ``package:NAME``, ``passwd:NAME``, …
    object: str
    #: ``drifted``, ``gone``, ``unreadable``.
    state: str
    #: One line for each respect in which it differs; of a secret, sizes only.
    how: tuple[str, ...] = ()
    #: SHA-256 of what a file holds now, where that is something else; of a secret, nothing.
    content: str = ""
    #: Whose step left it.
    component: str = ""


class ChangeSet(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is done to one host, in words that fit every host it is done to."""

    version: int = CHANGE_SET_VERSION
    steps: tuple[ChangeSetStep, ...] = ()
    #: Component to its state, of those that are neither planned nor unchanged; with why after a colon.
    components: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    predicted: int = 0
    reduced_by: tuple[str, ...] = ()
    #: What a verification found, by object; it has no steps.
    drift: tuple[DriftedObject, ...] = ()


def change_set_of(
    plans: Sequence[Plan],
    facts: Facts,
    secret_key: bytes,
    *,
    contents: Contents = lambda _: None,
    stored: Stored = lambda _: None,
) -> ChangeSet:
    """Return the change-set of the stages of one dry-run or run.

    `contents` gives what stands at a path before it, `stored` what is kept under a digest; each is shown only where it
    is what the plan was made on and no secret.
    """
    placeholders = Placeholders(facts)
    steps = [step for plan in plans for step in plan.steps]
    rows = shape(steps, facts, secret_key, contents)
    texts = render_steps(steps, contents=contents, stored=stored)
    shaped = [
        _step(step, row, placeholders.shape(text), placeholders)
        for step, row, text in zip(steps, rows, texts, strict=True)
    ]
    last = plans[-1] if plans else None
    return ChangeSet(
        steps=tuple(shaped),
        components={} if last is None else dict(_components(plans, placeholders)),
        notes=tuple(placeholders.shape(note) for plan in plans for note in plan.notes),
        predicted=sum(plan.coverage.predicted for plan in plans),
        reduced_by=() if last is None else tuple(map(placeholders.shape, last.coverage.reduced_by)),
    )


def change_set_digest(change_set: ChangeSet) -> str:
    """Return the SHA-256 that names `change_set`."""
    return hashlib.sha256(b"aquiline change-set %d\n" % change_set.version + pack(change_set)).hexdigest()


def _step(step: Step, row: Row, text: str, placeholders: Placeholders) -> ChangeSetStep:
    return ChangeSetStep(
        number=step.number,
        stage=step.stage,
        component=step.component,
        kind=kind_of(step.change),
        kind_version=step.change.version,
        description=placeholders.shape(step.description),
        certain=step.certain,
        cause=step.cause.type,
        undo_class=step.undo.class_,
        undo=placeholders.shape(step.undo.description),
        reason=placeholders.shape(step.undo.reason),
        disturbs=_disturbs(step.change),
        text=text,
        row=row,
    )


def _components(plans: Sequence[Plan], placeholders: Placeholders) -> Iterator[tuple[str, str]]:
    states = {name: report for plan in plans for name, report in plan.components.items()}
    for name, report in sorted(states.items()):
        if report.state not in ("planned", "unchanged"):
            yield name, placeholders.shape(f"{report.state}: {report.detail}" if report.detail else report.state)


def _disturbs(change: Change) -> str:
    match change:
        case SetUnit(active=False):
            return f"stop {change.unit}"
        case SetUnit(active=True):
            return f"start {change.unit}"
        case ReactUnit():
            return f"{change.action} {change.unit}"
        case ReactSignal():
            return f"signal {change.process} {change.signal}"
        case _:
            return ""
