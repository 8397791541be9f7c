"""Where reactions stand in a plan: collected, once each, and placed where nothing that needs them overtakes them (D3).

A reaction is placed before the first opaque step, unit start or probe of a component that depends on one that raised
it, else at the end of the stage. What earlier runs owe is placed the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aquiline.changes.canonical import encode
from aquiline.changes.kinds import ReactDaemonReload, Reaction, ReactUnit
from aquiline.changes.perform import OFFLINE, is_run_here
from aquiline.changes.resolve import resolve
from aquiline.changes.steps import Cause
from aquiline.errors import NotPossibleHere, UnknownUntilRun
from aquiline.planning.draft import Draft, Waiting
from aquiline.planning.known import Owed

_RELOAD_UNITS = encode(ReactDaemonReload())


def owe(draft: Draft, owed: Iterable[Owed]) -> None:
    """Collect what earlier runs left undone."""
    for one in owed:
        draft.waiting[encode(one.reaction)] = Waiting(one.reaction, {one.component}, [], one.run)


def collect(draft: Draft, component: str, reactions: Iterable[Reaction], causes: Sequence[int]) -> None:
    """Collect reactions of `component` to the steps numbered `causes`; each once, whoever asks."""
    for reaction in reactions:
        waiting = draft.waiting.setdefault(encode(reaction), Waiting(reaction, set(), []))
        waiting.raised_by.add(component)
        waiting.causes += causes


def place_before(draft: Draft, component: str) -> None:
    """Place the reactions that the next step of `component` must not overtake."""
    relatives = draft.relatives(component)
    _place(draft, [waiting for waiting in draft.waiting.values() if waiting.raised_by & relatives])


def place_all(draft: Draft) -> None:
    """Place what still waits, at the end of the stage."""
    _place(draft, list(draft.waiting.values()))


def reload_units(draft: Draft) -> None:
    """Place what makes the service manager read its unit files again: before it is told anything about a unit."""
    waiting = draft.waiting.pop(_RELOAD_UNITS, None)
    if waiting is not None:
        _append(draft, waiting)


def _place(draft: Draft, due: Sequence[Waiting]) -> None:
    if any(isinstance(waiting.reaction, ReactUnit) for waiting in due):
        reload_units(draft)
    for waiting in due:
        if draft.waiting.pop(encode(waiting.reaction), None) is not None:
            _append(draft, waiting)


def _append(draft: Draft, waiting: Waiting) -> None:
    reaction = waiting.reaction
    effect = resolve(reaction, draft.overlay)
    assert effect is not None
    because = _why_not_run(draft, reaction)
    raised_by = ", ".join(sorted(waiting.raised_by))
    step = draft.append(raised_by, "", reaction, effect, undo=effect.undo, cause=_cause(waiting), because=because)
    if because:
        draft.reduced_by.append(f"step {step.number}, {step.description}: {because[0]}")


def _cause(waiting: Waiting) -> Cause:
    if waiting.run and not waiting.causes:
        return Cause("owed", f"owed since run {waiting.run}", (), waiting.run)
    return Cause("reaction", "", tuple(waiting.causes), waiting.run)


def _why_not_run(draft: Draft, reaction: Reaction) -> tuple[str, ...]:
    """Return why a reaction would not run or would fail, nothing where it should go well."""
    if not is_run_here(reaction, draft.overlay):
        return (OFFLINE,)
    if isinstance(reaction, ReactUnit):
        try:
            if not draft.overlay.units.state(reaction.unit).exists:
                return (f"would fail: there is no unit {reaction.unit}",)
        except (NotPossibleHere, UnknownUntilRun) as error:
            return (error.message,)
    return ()
