"""A run as one value that other programs, and undo without a journal, can work from (DESIGN D10).

What `aquiline show RUN --json` prints: the complete records of a run, with the effect that was predicted beside the
one that came about. Pre-images are in it by digest only. A step that holds a secret has its content by digest too, and
a command that holds one loses its arguments and its undo, unless the secrets are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aquiline import __version__
from aquiline.agent.session import Session
from aquiline.changes.canonical import decode
from aquiline.changes.digests import effect, effect_digest
from aquiline.changes.kinds import (
    CommandUndo,
    EditFile,
    Inline,
    RunCommand,
    RunScript,
    SetRecord,
    Stored,
    Validate,
    WriteFile,
)
from aquiline.changes.redact import holds_secret
from aquiline.changes.steps import Step, Undo
from aquiline.errors import JournalError
from aquiline.host.objects import At, Record
from aquiline.journal.records import Debt, PreimageReference, RunRecord, StageRecord, StepRecord
from aquiline.journal.store import Journal

FORMAT = 1
#: What a command that holds a secret may have it in, beside its own words.
_BARE: dict[str, Any] = {"environment": {}, "undo": CommandUndo(), "guard": None, "done_when": None}
_LEFT_OUT = "left out of this export, because it holds a secret: `aquiline show RUN --json --with-secrets` has it"


_HAPPENED = ("done", "assumed-done")


class Effects(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a stage was predicted to do, and what it did (P1)."""

    stage: int
    #: Effect digests (D8).
    predicted: str
    actual: str
    #: The steps of the stage whose effect is not the predicted one, those that were not done included.
    differ: tuple[int, ...] = ()


class RunExport(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run, complete."""

    #: Version of this record.
    format: int
    tool: str
    #: Where it was made: the root, and the state directory that holds its pre-images.
    root: str
    state: str
    run: RunRecord
    stages: tuple[StageRecord, ...]
    #: ``step`` is left out of each, as ``raw`` says the same and more; `read_export` puts it back.
    steps: tuple[StepRecord, ...]
    #: Modification times in nanoseconds of parent directories before the run.
    directories: dict[str, int]
    preimages: tuple[PreimageReference, ...]
    #: What the run still owes.
    debts: tuple[Debt, ...] = ()
    effects: tuple[Effects, ...] = ()
    #: Numbers of the steps from which secrets were left out.
    redacted: tuple[int, ...] = ()


def export(session: Session, selector: str, *, with_secrets: bool = False) -> RunExport:
    """Return the run that `selector` names, complete. Nothing is written anywhere."""
    with session.reading() as journal:
        run = journal.run(selector)
        steps = journal.steps(run.id)
        redacted = () if with_secrets else tuple(one.number for one in steps if one.step and holds_secret(one.step))
        return RunExport(
            format=FORMAT,
            tool=__version__,
            root=session.root,
            state=str(session.state.path),
            run=run,
            stages=tuple(journal.stages(run.id)),
            steps=tuple(_exported(one, redact=one.number in redacted) for one in steps),
            directories=journal.directories(run.id),
            preimages=tuple(journal.preimages(run.id)),
            debts=tuple(debt for debt in journal.debts() if debt.run == run.id),
            effects=effects(session, journal, run, steps),
            redacted=redacted,
        )


def read_export(text: str | bytes) -> RunExport:
    """Return the run that `text`, an export as JSON, holds; raises `JournalError` where it is none."""
    try:
        found: RunExport = decode(text, RunExport)
    except msgspec.MsgspecError as error:
        raise JournalError(f"not what `aquiline show RUN --json` prints: {error}") from None
    if found.format != FORMAT:
        raise JournalError(f"an export of format {found.format}, expected {FORMAT}", hint="upgrade aquiline")
    return msgspec.structs.replace(found, steps=tuple(map(_revived, found.steps)))


def read_step(record: StepRecord) -> Step | None:
    """Return the step of an exported record, None where this version does not know its kind."""
    try:
        return msgspec.convert(record.raw, Step)
    except msgspec.ValidationError:
        return None


def _revived(record: StepRecord) -> StepRecord:
    return msgspec.structs.replace(record, step=read_step(record))


def _exported(record: StepRecord, *, redact: bool) -> StepRecord:
    raw: dict[str, Any] = record.raw
    amended = record.amended
    if redact:
        raw = msgspec.to_builtins(_without_secrets(record.known))
        amended = None if amended is None else _undo_left_out(amended, record.known)
        record = msgspec.structs.replace(record, observed=_without_lines(record.observed))
    return msgspec.structs.replace(record, raw=raw, step=None, amended=amended)


def _without_secrets(step: Step) -> Step:
    match step.change:
        case WriteFile(content=Inline()) | EditFile(content=Inline()) | Validate(content=Inline()) as change:
            stored = Stored(sha256=change.content.sha256, size=change.content.size)
            return msgspec.structs.replace(step, change=msgspec.structs.replace(change, content=stored))
        case RunCommand() as change:
            bare = msgspec.structs.replace(change, argv=change.argv[:1], stdin=b"", **_BARE)
            return msgspec.structs.replace(step, change=bare, undo=_undo_left_out(step.undo, step))
        case RunScript() as change:
            bare_script = msgspec.structs.replace(change, text="", arguments=None, **_BARE)
            return msgspec.structs.replace(step, change=bare_script, undo=_undo_left_out(step.undo, step))
        case SetRecord(line=line) as change:
            bare_record = msgspec.structs.replace(change, line=None if line is None else "")
            before, after = _without_lines(step.before), _without_lines(step.after)
            undo = _undo_left_out(step.undo, step)
            return msgspec.structs.replace(step, change=bare_record, before=before, after=after, undo=undo)
        case _:
            return step


def _without_lines(objects: Sequence[At]) -> tuple[At, ...]:
    return tuple(At(at.path, Record("") if isinstance(at.object, Record) else at.object) for at in objects)


def _undo_left_out(undo: Undo, step: Step) -> Undo:
    if undo.class_ == "exact" and not isinstance(step.change, SetRecord):
        return undo
    return Undo("irreversible", undo.description, reason=_LEFT_OUT)


# ---- predicted and actual -------------------------------------------------------------------------------------------


def effects(session: Session, journal: Journal, run: RunRecord, steps: Sequence[StepRecord]) -> tuple[Effects, ...]:
    """Return, for each stage of a run that has ended, the predicted effect and the one that came about."""
    key = session.known(journal, None).secret_key
    return tuple(
        _compare(stage, [one for one in steps if one.stage == stage.stage], key) for stage in journal.stages(run.id)
    )


def _compare(stage: StageRecord, records: Sequence[StepRecord], key: bytes) -> Effects:
    done = [one for one in records if one.step is not None and (one.status in _HAPPENED or _is_foreseen(one))]
    actual = [_as_observed(one) for one in done]
    predicted = [one.known for one in done]
    differ = {one.number for one in records} - {one.number for one in done}
    differ |= _differing(predicted, actual, key)
    return Effects(stage.stage, stage.digests.effect, effect_digest(actual, key), tuple(sorted(differ)))


def _is_foreseen(record: StepRecord) -> bool:
    """Return whether the plan said already that this step would not be run here, and it was not."""
    return record.status == "skipped" and record.known.certain == "certain" and bool(record.known.because)


def _as_observed(record: StepRecord) -> Step:
    observed = {at.path: at for at in record.observed}
    return msgspec.structs.replace(record.known, after=tuple(observed.get(at.path, at) for at in record.known.after))


def _differing(predicted: Sequence[Step], actual: Sequence[Step], key: bytes) -> set[int]:
    rows = zip(predicted, effect(predicted, key), effect(actual, key), strict=True)
    return {step.number for step, one, other in rows if one != other}
