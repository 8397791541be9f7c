"""What an undo will do, in words (R23): which runs go, which stay, every step, every conflict with its three sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from aquiline.agent.session import Session
from aquiline.agent.undoing import sides
from aquiline.changes.diff import diff
from aquiline.changes.kinds import Inline, WriteFile
from aquiline.changes.redact import Hidden, is_private, why_hidden
from aquiline.changes.render import plan_as_json
from aquiline.changes.steps import Step
from aquiline.changes.text import visible
from aquiline.cli.changing import when
from aquiline.cli.command import Invocation
from aquiline.execution.undo import Choice, Conflict, UndoPlan
from aquiline.host.objects import Absent, RegularFile
from aquiline.journal.records import RunRecord
from aquiline.journal.store import Journal


class UndoShown:
    """Shows what will be done, before anything is: on stderr, because stdout answers what was done."""

    def __init__(
        self, invocation: Invocation, runs: Sequence[RunRecord], choices: Mapping[str, Choice], verb: str
    ) -> None:
        self._invocation = invocation
        self._runs = runs
        self._choices = choices
        self._verb = verb

    def __call__(self, undo: UndoPlan) -> None:
        """Show `undo`; in a dry-run that is the answer."""
        with self._invocation.session.reading() as journal:
            self.show(undo, journal)

    def show(self, undo: UndoPlan, journal: Journal) -> None:
        """Show `undo` of runs that `journal` has."""
        terminal, session = self._invocation.terminal, self._invocation.session
        is_dry = getattr(self._invocation.arguments, "dry_run", False)
        if terminal.is_json:
            if is_dry:
                terminal.answer_json(_as_json(undo, self._runs))
            return
        lines = describe_runs(journal, self._runs, self._verb)
        lines += describe_undo_plan(session, undo, self._choices)
        lines += describe_conflicts(session, journal, undo.conflicts)
        (terminal.answer if is_dry else terminal.say)("\n".join(lines))


def _as_json(undo: UndoPlan, runs: Sequence[RunRecord]) -> dict[str, object]:
    keys = ("path", "run", "step", "description", "differs", "secret", "no_merge")
    return {
        "runs": [run.id for run in runs],
        "plan": plan_as_json(undo.plan),
        "conflicts": [{key: getattr(one, key) for key in keys} for one in undo.conflicts],
        "stays": undo.stays,
        "notes": undo.notes,
    }


def describe_runs(journal: Journal, runs: Sequence[RunRecord], verb: str) -> list[str]:
    """Return which runs go and which stay."""
    chosen = {run.id for run in runs}
    oldest = min(run.sequence for run in runs)
    later = [
        run
        for run in journal.runs()
        if run.sequence > oldest and run.id not in chosen and run.header.kind == "apply" and journal.stands(run.id)
    ]
    lines = [f"{verb}:", *(f"  {named(run)}" for run in runs)]
    if later:
        lines += ["stays, though it came later:", *(f"  {named(run)}" for run in later)]
    return lines


def named(run: RunRecord) -> str:
    """Return a run in words."""
    changes = (
        f", change {', '.join(run.header.change_ids)}" if run.header.change_ids and run.header.kind == "apply" else ""
    )
    return f"run {run.id} of {when(run.header.started)}{changes}: {run.steps} step{'' if run.steps == 1 else 's'}"


def describe_undo_plan(session: Session, undo: UndoPlan, choices: Mapping[str, Choice]) -> list[str]:
    """Return the steps, what stays and why, and what is merged, before any of it is written."""
    lines = [f"  {_line(step)}" for step in undo.plan.steps] or ["  nothing"]
    lines = ["steps:", *lines]
    for step in undo.plan.steps:
        lines += _merged(session, step, choices)
    if undo.stays:
        lines.append("stays:")
        lines += [f"  step {one.step} of run {one.run}, {one.description}: {one.reason}" for one in undo.stays]
    if undo.notes:
        lines += ["notes:", *(f"  {visible(note)}" for note in undo.notes)]
    return lines


def _line(step: Step) -> str:
    """Return a step as a line, which says too where it is not run here, and where nobody can tell what it does."""
    doubt = "unknown until run" if step.certain == "unknown" else "; ".join(step.because)
    return f"{step.number:>3} {step.component}: {step.description}" + (f" ({doubt})" if doubt else "")


def _merged(session: Session, step: Step, choices: Mapping[str, Choice]) -> Iterator[str]:
    change = step.change
    if isinstance(change, WriteFile) and choices.get(change.path) == "merge" and isinstance(change.content, Inline):
        yield f"merged {visible(change.path)}:"
        shown = diff(change.path, session.content(change.path), change.content.data, hidden=why_hidden(step))
        yield from (f"  {line}" for line in shown.splitlines())


def describe_conflicts(session: Session, journal: Journal, conflicts: Iterable[Conflict]) -> Iterator[str]:
    """Return, for each object that somebody changed: what the run left, what is there, what undo would put there."""
    for one in conflicts:
        by = f", by run {one.by_run}" if one.by_run else ""
        yield f"conflict: {visible(one.path)}, left by step {one.step} of run {one.run}: {', '.join(one.differs)}{by}"
        left, found, wanted = sides(session, journal, one)
        hidden = _why_hidden(journal, one)
        yield from _side("changed since", one.path, left, found, hidden=hidden)
        yield from _side("undo would put there", one.path, found, wanted, hidden=hidden)
        ways = "--skip or --force" if one.no_merge else "--skip, --force or --merge"
        yield f"  decide with {ways} {visible(one.path)}" + (f" (no merge: {one.no_merge})" if one.no_merge else "")


def _why_hidden(journal: Journal, one: Conflict) -> Hidden:
    """Return why the sides of a conflict are not shown, besides what their content says; empty where they are."""
    if any(map(is_private, (one.left, one.found, one.wanted))):
        change = journal.step(one.run, one.step).known.change
        is_file = isinstance(one.left, RegularFile | Absent)
        return "private" if is_file and not getattr(change, "secret", False) else "secret"
    return "secret" if one.secret else ""


def _side(title: str, path: str, before: bytes | None, after: bytes | None, *, hidden: Hidden) -> Iterator[str]:
    shown = diff(path, before, after, hidden=hidden)
    if shown:
        yield f"  {title}:"
        yield from (f"    {line}" for line in shown.splitlines())
