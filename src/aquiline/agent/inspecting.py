"""Looking at one host through its journal: who made this, what drifted since, how things stand. Nothing is written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from aquiline.agent.session import Freeze, Session
from aquiline.changes.compare import Difference, differences
from aquiline.changes.describe import describe
from aquiline.changes.kinds import SetPackages, SetUnit
from aquiline.changes.perform import OPAQUE_KINDS
from aquiline.changes.redact import is_known_secret, is_private
from aquiline.changes.steps import Cause
from aquiline.errors import AquilineError, HostError, UsageError
from aquiline.execution import deadline
from aquiline.execution.recovery import foresee
from aquiline.host.naming import observe
from aquiline.host.objects import ABSENT, At, Object, RegularFile, Symlink, same_but_times
from aquiline.host.protocol import Reading
from aquiline.host.records import DATABASES
from aquiline.journal.records import LivePointer, RunRecord, StepName, StepRecord, StepStatus
from aquiline.journal.state import LockHolder
from aquiline.journal.store import Journal

_HAPPENED = ("done", "assumed-done")

# ---- blame --------------------------------------------------------------------------------------------------------


class Deed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A step of some run that set out to change an object, and what became of it."""

    run: str
    step: int
    #: Seconds since the epoch, for show.
    started: float
    user: str
    #: What kind of run it was: apply, undo, redo, recovery.
    run_kind: str
    change_ids: tuple[str, ...] = ()
    component: str
    task: str = ""
    #: None where this version does not know the kind of the step.
    cause: Cause | None
    description: str
    status: StepStatus
    #: It stands: it happened, and nothing took it back.
    in_effect: bool = False
    undone_by: StepName | None = None
    #: Its undo was corrected later.
    amended: bool = False
    #: Empty, or how it bears upon the object: a command that declares that it touches what is named here.
    touches: str = ""


class Blame(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who made an object what it is."""

    #: A path, ``unit:NAME``, ``package:NAME``, or an account database and a name: ``passwd:NAME``.
    subject: str
    #: The newest step that stands; None where the object is not of this program's making, or no longer.
    made_by: Deed | None
    #: The step that last put it back as it was before some run; None where none did since `made_by`.
    put_back_by: Deed | None = None
    #: Every step that set out to change it, newest first, undone ones too.
    history: tuple[Deed, ...] = ()
    #: What is not as the last run left it, in words: changed since by somebody else.
    differs: tuple[str, ...] = ()
    #: Only its modification time is another.
    touched: bool = False


def blame(session: Session, subject: str) -> Blame:
    """Return which steps made `subject` (a path, ``unit:NAME``, ``package:NAME``, ``passwd:NAME``) what it is.

    Raises:
        UsageError: no run ever set out to change it.
    """
    with session.reading() as journal:
        steps = _Steps(journal)
        sort, _, name = subject.partition(":")
        if sort in ("unit", "package") and name:
            history = tuple(_named(steps, sort, name))
            differs: tuple[str, ...] = ()
            is_touched = False
        elif sort in DATABASES and name:
            history = tuple(_deed(steps.runs[record.run], record) for record in steps.touching(subject))
            differs, is_touched = _since(session.host, journal.last_value(subject))
        else:
            subject = _path(subject)
            history = tuple(_at_path(steps, subject))
            differs, is_touched = _since(session.host, journal.last_value(subject))
        if not history:
            raise UsageError(
                f"no run of this host's journal changed {subject}", hint="`aquiline log` lists the runs there are"
            )
        made_by = next((one for one in history if one.in_effect and not _takes_back(one)), None)
        newest = next((one for one in history if one.in_effect), None)
        put_back_by = newest if newest is not None and _takes_back(newest) else None
        return Blame(
            subject=subject, made_by=made_by, put_back_by=put_back_by, history=history, differs=differs,
            touched=is_touched,
        )  # fmt: skip


def _path(subject: str) -> str:
    if not subject.startswith("/"):
        raise UsageError(f"{subject!r} is no absolute path", hint="or say unit:NAME, package:NAME, passwd:NAME")
    return posixpath.normpath("/" + subject.lstrip("/"))


def _takes_back(deed: Deed) -> bool:
    return deed.cause is not None and deed.cause.type == "undo"


def _since(host: Reading, last: At | None) -> tuple[tuple[str, ...], bool]:
    """Return what differs from what was last recorded, in words, and whether nothing but the time does."""
    if last is None:
        return (), False
    found = observe(host, last.path)
    return tuple(one.what for one in differences(last.object, found)), _only_time(last.object, found)


def _only_time(left: Object, found: Object) -> bool:
    return isinstance(found, RegularFile | Symlink) and left != found and same_but_times(left, found)


class _Steps:
    """The steps of a journal, each run read once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.runs = {run.id: run for run in journal.runs()}
        self._by_run: dict[str, dict[int, StepRecord]] = {}

    def of(self, run: str) -> Mapping[int, StepRecord]:
        """Return the steps of a run by number."""
        if run not in self._by_run:
            self._by_run[run] = {record.number: record for record in self._journal.steps(run)}
        return self._by_run[run]

    def touching(self, path: str) -> list[StepRecord]:
        """Return the steps that set out to change `path`, newest first."""
        return [self.of(name.run)[name.step] for name in self._journal.touching(path)]

    def newest_first(self) -> Iterator[StepRecord]:
        """Return every step there is."""
        for run in self.runs:
            yield from reversed(list(self.of(run).values()))


def _at_path(steps: _Steps, path: str) -> Iterator[Deed]:
    found = [(record, "") for record in steps.touching(path)]
    parent = path
    while parent != "/":
        parent = posixpath.dirname(parent)
        # A command that declares a directory may have changed anything in it.
        found += [(record, parent) for record in steps.touching(parent) if record.kind in ("run_command", "run_script")]
    found.sort(key=lambda one: (-steps.runs[one[0].run].sequence, -one[0].number))
    for record, touches in found:
        declared = touches or (path if record.kind in ("run_command", "run_script") else "")
        yield _deed(steps.runs[record.run], record, declared)


def _named(steps: _Steps, sort: str, name: str) -> Iterator[Deed]:
    for record in steps.newest_first():
        if record.step is None:
            continue
        change = record.step.change
        match change:
            case SetUnit(unit=unit) if sort == "unit" and unit == name:
                yield _deed(steps.runs[record.run], record)
            case SetPackages() if sort == "package" and any(at.path == f"package:{name}" for at in record.step.after):
                yield _deed(steps.runs[record.run], record)
            case _ if isinstance(change, OPAQUE_KINDS) and change.touches is not None:
                if name in (change.touches.units if sort == "unit" else change.touches.packages):
                    yield _deed(steps.runs[record.run], record, name)
            case _:
                continue


def _deed(run: RunRecord, record: StepRecord, touches: str = "") -> Deed:
    return Deed(
        run=record.run,
        step=record.number,
        started=run.header.started,
        user=run.header.user,
        run_kind=run.header.kind,
        change_ids=run.header.change_ids,
        component=record.component,
        task=record.raw.get("task", ""),
        cause=record.step.cause if record.step is not None else None,
        description=record.description,
        status=record.status,
        in_effect=record.status in _HAPPENED and record.undone_by is None,
        undone_by=record.undone_by,
        amended=record.amended is not None,
        touches=touches,
    )


# ---- verify -------------------------------------------------------------------------------------------------------


class Drift(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An object that is not as a run last left it."""

    path: str
    #: ``drifted``; ``gone``: nothing stands there any more; ``unreadable``: it cannot be looked at.
    state: Literal["drifted", "gone", "unreadable"]
    #: One line for each thing that differs: what it was, what it is. Of a secret, sizes only.
    how: tuple[str, ...]
    #: The run and step that left it.
    run: str
    step: int
    component: str = ""
    secret: bool = False
    #: SHA-256 of what a file holds now that holds something else than it did; of a secret, nothing.
    content: str = ""


class Verified(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the host is, compared with what the journal says it was left as."""

    unchanged: int
    drift: tuple[Drift, ...] = ()
    #: Changed since a run of this program was taken back there: nobody's business but its owner's.
    no_longer_ours: tuple[Drift, ...] = ()
    #: Paths of which only the modification time is another.
    touched: tuple[str, ...] = ()


def verify(session: Session) -> Verified:
    """Compare every object that a run left with the host; one look at each."""
    with session.reading() as journal:
        steps = _Steps(journal)
        unchanged = 0
        drift: list[Drift] = []
        no_longer_ours: list[Drift] = []
        touched: list[str] = []
        for path, left in journal.last_values().items():
            how = _how(session.host, path, left)
            if how.state == "touched":
                touched.append(path)
            elif how.state == "unchanged":
                unchanged += 1
            else:
                records = steps.touching(path)
                found = _drift(path, how.state, how, records)
                (drift if any(map(_is_ours, records)) else no_longer_ours).append(found)
        return Verified(
            unchanged=unchanged, drift=tuple(drift), no_longer_ours=tuple(no_longer_ours), touched=tuple(touched)
        )


def _is_ours(record: StepRecord) -> bool:
    stands = record.status in _HAPPENED and record.undone_by is None
    return stands and (record.step is None or record.step.cause.type != "undo")


class _How(msgspec.Struct, frozen=True):
    """How an object differs, and whether it is one of which nothing may be told but its size."""

    state: Literal["unchanged", "touched", "drifted", "gone", "unreadable"]
    lines: tuple[str, ...] = ()
    private: bool = False
    content: str = ""


def _how(host: Reading, path: str, left: Object) -> _How:
    """Return how `path` differs from what was `left` there."""
    try:
        found = observe(host, path)
    except HostError as error:
        return _How("unreadable", (error.message,))
    if same_but_times(found, left):
        return _How("touched" if _only_time(left, found) else "unchanged")
    private = is_known_secret(path) or is_private(left) or is_private(found)
    held = left.sha256 if isinstance(left, RegularFile) else ""
    holds = found.sha256 if isinstance(found, RegularFile) else ""
    lines = tuple(map(_line, differences(left, found)))
    return _How("gone" if found == ABSENT else "drifted", lines, private, holds if holds != held else "")


def _line(one: Difference) -> str:
    if one.what == "type":
        return f"it was {one.was}, it is {one.now}"
    return f"{one.what}: {one.was} then, {one.now} now" if one.was else f"{one.what} {one.now}".rstrip()


def _drift(path: str, state: Literal["drifted", "gone", "unreadable"], how: _How, records: list[StepRecord]) -> Drift:
    newest = next((record for record in records if record.status in _HAPPENED), None)
    is_secret = how.private or any(record.raw.get("secret", False) for record in records)
    return Drift(
        path=path,
        state=state,
        how=how.lines,
        run=newest.run if newest is not None else "",
        step=newest.number if newest is not None else 0,
        component=newest.component if newest is not None else "",
        secret=is_secret,
        content="" if is_secret else how.content,
    )


# ---- status -------------------------------------------------------------------------------------------------------


class OwedReaction(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A reaction that is owed: its cause happened, it has not run yet."""

    run: str
    step: int
    component: str
    description: str


class WaitingRun(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run that reverts unless somebody confirms it."""

    run: str
    #: Seconds; negative where its time is over.
    remaining: float


class OpenRun(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run that did not end, or goes on."""

    run: str
    kind: str
    done: int
    steps: int
    #: Descriptions, by number, of steps of which recovery will not find out whether they happened.
    in_doubt: dict[int, str] = {}


class UndoReach(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far back undo reaches."""

    #: The oldest run such that it and every standing one after it can be taken back; empty where none can.
    oldest: str = ""
    #: Seconds since the epoch.
    started: float = 0.0
    #: How many runs that is.
    runs: int = 0
    #: Why it ends there: the next older standing run and what it lacks; empty where nothing stands before.
    ends_because: str = ""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How things stand on this host."""

    live: LivePointer | None
    runs: int
    undo: UndoReach
    owed: tuple[OwedReaction, ...] = ()
    frozen: Freeze | None = None
    #: The policy file's own freeze; empty where it has none.
    policy_freeze: str = ""
    open_runs: tuple[OpenRun, ...] = ()
    waiting: tuple[WaitingRun, ...] = ()
    #: Who changes this host right now.
    locked_by: LockHolder | None = None


def status(session: Session) -> Standing:
    """Return how things stand: live, owed, held, in doubt, waiting, and how far back undo reaches."""
    with session.reading() as journal:
        runs = journal.runs()
        return Standing(
            live=journal.live(),
            runs=len(runs),
            undo=_reach(session, journal, runs),
            owed=tuple(
                OwedReaction(
                    run=debt.run, step=debt.step, component=debt.component, description=describe(debt.reaction)
                )
                for debt in journal.debts()
            ),
            frozen=session.frozen(),
            policy_freeze=session.policy().freeze,
            open_runs=tuple(_open(session, journal, run) for run in journal.open_runs()),
            waiting=tuple(
                WaitingRun(run=run.id, remaining=deadline.remaining(journal, run.id))
                for run in runs
                if run.awaits_confirmation
            ),
            locked_by=session.state.lock_holder(),
        )


def _open(session: Session, journal: Journal, run: RunRecord) -> OpenRun:
    records = journal.steps(run.id)
    decided = () if session.state.lock_holder() is not None else foresee(records, session.host, session.preimages)
    return OpenRun(
        run=run.id,
        kind=run.header.kind,
        done=sum(1 for record in records if record.status in _HAPPENED),
        steps=len(records),
        in_doubt={one.record.number: one.record.description for one in decided if one.verdict == "in-doubt"},
    )


def _reach(session: Session, journal: Journal, runs: list[RunRecord]) -> UndoReach:
    reach = UndoReach()
    for run in runs:
        if run.header.kind not in ("apply", "redo"):
            continue
        records = [one for one in journal.steps(run.id) if one.status in _HAPPENED and one.undone_by is None]
        if not records:
            continue
        lacks = _lacks(session, run, journal, records)
        if lacks:
            return msgspec.structs.replace(reach, ends_because=f"run {run.id}: {lacks}")
        reach = UndoReach(oldest=run.id, started=run.header.started, runs=reach.runs + 1)
    return reach


def _lacks(session: Session, run: RunRecord, journal: Journal, records: list[StepRecord]) -> str:
    """Return what stands in the way of taking a run back; empty where nothing does."""
    if run.past_undo:
        return "its pre-images were dropped"
    standing = {record.number for record in records}
    for kept in journal.preimages(run.id):
        if kept.step in standing and not session.preimages.has(kept.sha256):
            return f"the pre-image of step {kept.step} is not there"
    for record in records:
        try:
            undo = record.undo
        except AquilineError as error:
            return error.message
        if undo.class_ == "irreversible":
            return f"step {record.number} cannot be taken back: {undo.reason}"
    return ""
