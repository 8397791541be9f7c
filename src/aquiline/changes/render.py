"""A plan for people and for machines.

The text is for one screen and one question: what will surprise me? So it begins with that (what would fail, what cannot
be taken back, what restarts, what nobody can foresee), then lists every step in execution order with its exact command
or diff, its undo and its cause, and ends with what became of each component, coverage and digests.

Both forms are functions of the plan and of the contents it was made on: no clock, no colour, sorted, so that equal
plans are equal bytes. Secrets are left out of both (DESIGN P10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from aquiline.changes.compare import Difference, differences
from aquiline.changes.describe import what_runs
from aquiline.changes.diff import diff, size_only
from aquiline.changes.kinds import (
    Change,
    CopyOf,
    EditFile,
    Inline,
    Probe,
    ReactCommand,
    ReactSignal,
    ReactUnit,
    Remove,
    RunCommand,
    RunScript,
    SetUnit,
    Validate,
    WriteFile,
)
from aquiline.changes.redact import Hidden, holds_secret, secret_contents, why_hidden
from aquiline.changes.steps import ComponentReport, Plan, Step, Undo
from aquiline.changes.text import TEXT_LIMIT, bytes_of, command_line, quoted, visible
from aquiline.host.objects import ABSENT, At, Object, Record, RegularFile, Unit, sha256

Contents = Callable[[str], bytes | None]
"""Content of the regular file that stands at a path before the plan, None where it cannot be had."""


Stored = Callable[[str], bytes | None]
"""Content of this SHA-256, where it is kept."""


def render_plan(
    plan: Plan,
    *,
    contents: Contents = lambda _: None,
    stored: Stored = lambda _: None,
    show_diff: bool = True,
) -> str:
    """Return `plan` as text, every line with its end.

    `contents` and `stored` are asked only for what may be shown, and what they return is shown only if it is what the
    plan was made on. `show_diff` False leaves out diffs and the text of scripts.
    """
    steps = render_steps(plan.steps, contents=contents, stored=stored, show_diff=show_diff)
    first, *last = (
        "".join(f"{line}\n" for line in section)
        for section in (
            _headline(plan),
            _components(plan),
            _lines("notes:", plan.notes),
            _coverage(plan),
            _digests(plan),
        )
    )
    return "\n".join(filter(None, [first, *steps, *last]))


def render_steps(
    steps: Sequence[Step],
    *,
    contents: Contents = lambda _: None,
    stored: Stored = lambda _: None,
    show_diff: bool = True,
) -> list[str]:
    """Return the text of each of `steps`, as in a plan: a later one is shown against what earlier ones made."""
    known = _Known(steps, contents, stored) if show_diff else None
    return ["".join(f"{line}\n" for line in _step_lines(step, known)) for step in steps]


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """Return `plan` as JSON values for other programs; what holds a secret has neither content nor digest of it."""
    hidden = frozenset(secret_contents(plan.steps))
    return {
        "format": plan.format,
        "tool": plan.tool,
        "profile": plan.profile,
        "stage": plan.stage,
        "digest": plan.digests.plan,
        "digests": msgspec.to_builtins(plan.digests),
        "components": {name: report.state for name, report in sorted(plan.components.items())},
        "component_details": {n: r.detail for n, r in sorted(plan.components.items()) if r.detail},
        "coverage": {
            "steps": plan.coverage.steps,
            "predicted": plan.coverage.predicted,
            "reduced_by": list(plan.coverage.reduced_by),
        },
        "notes": list(plan.notes),
        "itself": list(plan.itself),
        "steps": [step_as_json(step, hidden) for step in plan.steps],
    }


def step_as_json(step: Step, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return one step as JSON values; `hidden` are digests of contents that are secrets elsewhere in its plan."""
    secret = holds_secret(step)
    found = {
        "number": step.number,
        "stage": step.stage,
        "component": step.component,
        "task": step.task,
        "kind": kind_of(step.change),
        "kind_version": step.change.version,
        "description": step.description,
        "certain": step.certain,
        "because": list(step.because),
        "would_fail": step.would_fail,
        "cause": msgspec.to_builtins(step.cause),
        "undo": {"class": step.undo.class_, "description": step.undo.description, "reason": step.undo.reason},
        "undo_order": step.undo_order,
        "secret": secret,
        "before": [_at_as_json(at, secret, hidden) for at in step.before],
        "after": [_at_as_json(at, secret, hidden) for at in step.after],
    }
    if isinstance(step.change, RunCommand | ReactCommand) and not secret:
        found["argv"] = list(step.change.argv)
    return found


def kind_of(change: Change) -> str:
    """Return the name of a change's kind, as in its record."""
    return str(change.__struct_config__.tag)


def _at_as_json(at: At, secret: bool, hidden: frozenset[str]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(at)
    if isinstance(at.object, RegularFile) and (secret or at.object.sha256 in hidden):
        del found["object"]["sha256"]
    if isinstance(at.object, Record) and secret:
        del found["object"]["line"]
    return found


# ---- headline ------------------------------------------------------------------------------------------------------


def _headline(plan: Plan) -> list[str]:
    if not plan.steps:
        first = "nothing to do" if _is_complete(plan) else "nothing to do that can be foreseen"
    else:
        first = f"{_count(len(plan.steps), 'step')}: {_totals(plan.steps)}"
    return [first, *_surprises(plan)]


def _is_complete(plan: Plan) -> bool:
    return not plan.coverage.reduced_by and plan.coverage.predicted == plan.coverage.steps


def _totals(steps: Sequence[Step]) -> str:
    counts: dict[str, int] = {}
    for step in steps:
        kind = kind_of(step.change)
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items())


def _surprises(plan: Plan) -> Iterator[str]:
    """Return one line for each thing that a person should see first, worst first."""
    for name, report in sorted(plan.components.items()):
        if report.state == "failed":
            yield f"! would fail: {visible(name)}{_detail(report)}"
    for step in plan.steps:
        if step.would_fail:
            yield f"! would fail: step {step.number}, {_words(step.description)}: {_words(step.would_fail)}"
    for step in plan.steps:
        if step.undo.class_ == "irreversible":
            yield f"! irreversible: step {step.number}, {_words(step.description)}: {_words(step.undo.reason)}"
    removed = [quoted(step.change.path) for step in plan.steps if isinstance(step.change, Remove)]
    if removed:
        yield f"! removes: {_some(removed)}"
    yield from (f"! {verb}: {', '.join(units)}" for verb, units in _disturbed(plan.steps).items() if units)
    for certain, what in (("unknown", "unknown until run"), ("assumption", "rests on an assumption")):
        numbers = [step.number for step in plan.steps if step.certain == certain]
        if numbers:
            yield f"! {what}: {_steps(numbers)}"
    for state in ("deferred", "not-possible-here", "missing"):
        names = [visible(name) for name, report in sorted(plan.components.items()) if report.state == state]
        if names:
            yield f"! {state.replace('-', ' ')}: {_some(names)}"
    for cause, what in (("corrective", "corrects drift"), ("owed", "owed by earlier runs")):
        numbers = [step.number for step in plan.steps if step.cause.type == cause]
        if numbers:
            yield f"! {what}: {_steps(numbers)}"
    always = [s.number for s in plan.steps if isinstance(s.change, RunCommand | RunScript) and s.change.always]
    if always:
        yield f"! never converges, runs every time: {_steps(always)}"


def _disturbed(steps: Sequence[Step]) -> dict[str, list[str]]:
    """Return what running services see of a plan: units, processes and commands by what happens to them."""
    found: dict[str, dict[str, None]] = {
        "stops": {},
        "restarts": {},
        "starts": {},
        "reloads": {},
        "signals": {},
        "runs": {},
    }
    for step in steps:
        if step.certain == "certain" and step.because:
            continue  # known not to happen here
        match step.change:
            case SetUnit(active=False):
                found["stops"][visible(step.change.unit)] = None
                _add_along(step, found)
            case SetUnit(active=True):
                found["starts"][visible(step.change.unit)] = None
                _add_along(step, found)
            case ReactUnit(action="reload"):
                found["reloads"][visible(step.change.unit)] = None
            case ReactUnit():
                found["restarts"][visible(step.change.unit)] = None
            case ReactSignal():
                found["signals"][f"{quoted(step.change.process)} ({visible(step.change.signal)})"] = None
            case ReactCommand():
                found["runs"][_words(step.change.description) or command_line(step.change.argv)] = None
            case _:
                pass
    return {verb: list(units) for verb, units in found.items()}


def _add_along(step: Step, found: dict[str, dict[str, None]]) -> None:
    for at in step.after[1:]:
        if isinstance(at.object, Unit):
            verb = "starts" if at.object.active == "active" else "stops"
            found[verb][visible(at.path.removeprefix("unit:"))] = None


# ---- steps ---------------------------------------------------------------------------------------------------------


def _step_lines(step: Step, known: _Known | None) -> list[str]:
    """Return the lines of one step: what, how exactly, why, and how it is taken back; its diff is one of many lines."""
    lines = [f"{step.number}. {visible(step.component)}: {_words(step.description)}"]
    lines += (f"   {line}" for line in _particulars(step))
    content = "" if known is None else known.shown(step)
    if content:
        lines.append("   | " + content.removesuffix("\n").replace("\n", "\n   | "))
    return lines


def _particulars(step: Step) -> Iterator[str]:
    if step.task:
        yield f"task: {_words(step.task)}"
    yield from _command(step.change)
    yield from _metadata(step)
    if step.would_fail:
        yield f"would fail: {_words(step.would_fail)}"
    if step.certain == "unknown":
        yield f"unknown until run{_because(step)}"
    elif step.certain == "assumption":
        yield f"assumption{_because(step)}"
    elif step.because:
        yield "; ".join(map(_words, step.because))
    yield f"cause: {_cause(step)}"
    yield _undo(step.undo, step.undo_order == "after")


def _command(change: Change) -> Iterator[str]:
    if isinstance(change, WriteFile) and isinstance(change.content, CopyOf):
        yield f"content: a copy of {quoted(change.content.path)}"
    if isinstance(change, RunCommand | RunScript | ReactCommand):
        if change.description:
            yield what_runs(change)
        if change.accepts != (0,):
            yield f"accepts exit statuses {', '.join(map(str, change.accepts))}"
    if isinstance(change, RunCommand | RunScript):
        if isinstance(change, RunCommand) and change.stdin:
            yield f"with {bytes_of(len(change.stdin))} on its standard input"
        if change.touches is None:
            yield "touches: not declared"
        yield from _probe("only if", change.guard, change.secret)
        yield from _probe("done when", change.done_when, change.secret)
        if change.always:
            yield "runs every time: it never converges"
    if isinstance(change, ReactCommand) and change.may_fail:
        yield "may fail"


def _probe(word: str, probe: Probe | None, secret: bool) -> Iterator[str]:
    if probe is not None:
        yield f"{word}: {command_line(probe.argv[:1]) + ' …' if secret else command_line(probe.argv)}"


def _metadata(step: Step) -> Iterator[str]:
    """Return how owner, mode, attributes and type change, object by object."""
    before = {at.path: at.object for at in step.before}
    for at in step.after:
        found = before.get(at.path, ABSENT)
        # Content is shown as a diff of its own.
        ways = [
            one for one in differences(found, at.object) if one.what != "content" and ABSENT not in (found, at.object)
        ]
        changes = list(map(_difference, ways))
        if changes:
            where = "" if len(step.after) == 1 else f"{quoted(at.path)} "
            yield f"changes: {where}{', '.join(changes)}"


def _difference(one: Difference) -> str:
    what = "" if one.what == "type" else f"{one.what} "
    return f"{what}{one.was} -> {one.now}" if one.was else f"{what}{one.now}"


def _because(step: Step) -> str:
    return f": {'; '.join(map(_words, step.because))}" if step.because else ""


def _cause(step: Step) -> str:
    cause = step.cause
    detail = f" ({_words(cause.detail)})" if cause.detail else ""
    match cause.type:
        case "intentional":
            return _words(cause.detail) or "the profile"
        case "corrective":
            return f"drift is corrected{detail}"
        case "reaction":
            return f"{_steps(cause.steps) if cause.steps else 'steps of this run'}{detail}"
        case "owed":
            return f"owed since run {visible(cause.run)}{detail}"
        case "undo":
            which = f"step {cause.step} of run" if cause.step else "run"
            return f"takes back {which} {visible(cause.run)}{detail}"


def _undo(undo: Undo, after: bool) -> str:
    order = " (in forward order, after all others)" if after else ""
    if undo.class_ == "irreversible":
        return f"no undo: {_words(undo.reason or undo.description)}"
    by_command = " by command" if undo.class_ == "command" else ""
    limits = f" ({_words(undo.reason)})" if undo.reason else ""
    return f"undo{by_command}: {_words(undo.description)}{limits}{order}"


def _file(found: Object | None) -> RegularFile | None:
    return found if isinstance(found, RegularFile) else None


class _Known:
    """The contents that a plan's steps can be shown with, found by digest."""

    def __init__(self, steps: Sequence[Step], contents: Contents, stored: Stored) -> None:
        self._contents = contents
        self._stored = stored
        self._hidden = secret_contents(steps)
        #: What steps so far have put in place, so that a later one is shown against that.
        self._made: dict[str, bytes] = {}

    def shown(self, step: Step) -> str:
        """Return the diff or script of `step`, or what may be told in its place; empty where there is neither."""
        hidden = why_hidden(step)
        if isinstance(step.change, RunScript):
            return "" if hidden else visible(step.change.text, keep="\t\n\\")
        if isinstance(step.change, Validate):
            return ""
        if isinstance(step.change, WriteFile | EditFile) and isinstance(step.change.content, Inline):
            self._made[step.change.content.sha256] = step.change.content.data
        before = {at.path: _file(at.object) for at in step.before}
        after = before | {at.path: _file(at.object) for at in step.after}
        return "".join(self._diff(path, before.get(path), found, hidden) for path, found in after.items())

    def _diff(self, path: str, old: RegularFile | None, new: RegularFile | None, hidden: Hidden) -> str:
        if (old and old.sha256) == (new and new.sha256):
            return ""
        not_shown = size_only(old.size if old else None, new.size if new else None) + "\n"
        elsewhere = [self._hidden[side.sha256] for side in (old, new) if side and side.sha256 in self._hidden]
        why = max(hidden, *elsewhere, key=("", "private", "secret").index) if elsewhere else hidden
        if why:
            return f"{why} {not_shown}"
        old_data, new_data = self._content(path, old), self._content(path, new)
        if (old is not None and old_data is None) or (new is not None and new_data is None):
            return not_shown
        return diff(path, old_data, new_data)

    def _content(self, path: str, found: RegularFile | None) -> bytes | None:
        if found is None or found.size >= TEXT_LIMIT:
            return None
        made = self._made.get(found.sha256)
        if made is not None:
            return made
        for data in (look(at) for look, at in ((self._stored, found.sha256), (self._contents, path))):
            if data is not None and sha256(data) == found.sha256:
                return data
        return None


# ---- the end -------------------------------------------------------------------------------------------------------


#: Worst first.
_STATES = ("failed", "deferred", "not-possible-here", "missing", "inactive", "planned", "unchanged")


def _components(plan: Plan) -> list[str]:
    """Return one line for all components of one state and detail, so that a site's many are few lines."""
    names: dict[tuple[int, str], list[str]] = {}
    for name, report in sorted(plan.components.items()):
        state = report.state.replace("-", " ") + _detail(report)
        names.setdefault((_STATES.index(report.state), state), []).append(visible(name))
    return _lines("components:", (f"{state}: {', '.join(names[order, state])}" for order, state in sorted(names)))


def _detail(report: ComponentReport) -> str:
    return f" ({_words(report.detail)})" if report.detail else ""


def _coverage(plan: Plan) -> list[str]:
    """Return the coverage; what lowers it in full only where components and notes above have not said it."""
    coverage = plan.coverage
    first = f"coverage: {coverage.predicted} of {_count(coverage.steps, 'step')} predicted"
    if coverage.reduced_by:
        first += f"; lowered by {_count(len(coverage.reduced_by), 'thing')}"
    told = (*plan.notes, *(f"component {name} {verb} " for name in plan.components for verb in ("is", "would")))
    rest = [line for line in coverage.reduced_by if not line.startswith(told)]
    return _lines(first, rest) or [first]


def _digests(plan: Plan) -> list[str]:
    found = plan.digests
    return [f"plan digest    {found.plan}", f"effect digest  {found.effect}", f"shape digest   {found.shape}"]


def _lines(first: str, rest: Iterable[str]) -> list[str]:
    lines = [f"  {_words(line)}" for line in rest]
    return [first, *lines] if lines else []


def _words(text: str) -> str:
    """Return words that whoever made them has escaped already: made harmless again, and no more."""
    return visible(text, keep="\\")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _steps(numbers: Sequence[int]) -> str:
    return f"{'step' if len(numbers) == 1 else 'steps'} {_some(list(map(str, numbers)))}"


def _some(items: list[str]) -> str:
    """Return the first ten of `items`, and how many more there are."""
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return ", ".join(items[:10]) + more
