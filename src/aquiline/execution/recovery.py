"""After a crash: what became of every step, decided by what is on disk and nothing else (D12).

A step that is intended and not concluded is compared with what it found and what it leaves: as before is *not done*, as
after is *done*, on the way from one to the other is *half way* and is done again, which is the same as doing it once;
anything else is *in doubt*. An opaque command is settled by its ``done_when``, else by running it again if
it says that this is the same as running it once; else a person is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

from aquiline.changes.kinds import (
    Change,
    Content,
    MakeHardlink,
    Move,
    Restore,
    RunCommand,
    RunScript,
    SetPackages,
    SetUnit,
    Stored,
    WriteFile,
)
from aquiline.changes.perform import (
    OPAQUE_KINDS,
    REACTION_KINDS,
    STATE_KINDS,
    Preimages,
    as_asked,
    content_chunks,
    keeps_inode,
    label_of,
    overwrites,
    probe_says_yes,
    remove_leftovers,
)
from aquiline.changes.steps import Step
from aquiline.errors import NotPossibleHere, StepFailed
from aquiline.host import unitfiles
from aquiline.host.naming import observe
from aquiline.host.objects import Absent, At, Metadata, Object, Package, RegularFile, System, Unit, same_but_times
from aquiline.host.protocol import Host, Reading
from aquiline.journal.records import Outcome, StepName, StepRecord
from aquiline.journal.store import Journal

Verdict = Literal["done", "not-done", "in-doubt", "half-way", "run-again", "assumed-done", "assumed-not-done"]
Assumption = Literal["done", "not-done"]


class Settled(msgspec.Struct, frozen=True):
    """What became of a step that a crash left open."""

    record: StepRecord
    verdict: Verdict
    #: In words: how it was decided, or what cannot be decided.
    why: str
    observed: tuple[At, ...] = ()


def settle(
    records: Iterable[StepRecord],
    host: Host,
    preimages: Preimages,
    assumptions: Mapping[int, Assumption] | None = None,
) -> list[Settled]:
    """Decide every step of `records` that is intended and not concluded, and remove what it left half-built.

    `assumptions` says what a person knows, by step number; it is used only where nothing else decides.
    """
    settled = []
    for record in records:
        if record.status not in ("intended", "in-doubt"):
            continue
        remove_leftovers(record.known, host, label_of(record.run, record.known))
        settled.append(_settle(record, host, preimages, (assumptions or {}).get(record.number)))
    return settled


def foresee(records: Iterable[StepRecord], host: Reading, preimages: Preimages) -> list[Settled]:
    """Return what `settle` would decide; nothing is removed."""
    return [_settle(record, host, preimages, None) for record in records if record.status in ("intended", "in-doubt")]


def _settle(record: StepRecord, host: Reading, preimages: Preimages, assumption: Assumption | None) -> Settled:
    step = record.known
    change = step.change
    if isinstance(change, STATE_KINDS):
        settled = _settle_state(record, host, preimages)
    elif isinstance(change, REACTION_KINDS):
        return Settled(record, "not-done", "a reaction that did not come back is owed")
    elif isinstance(change, OPAQUE_KINDS):
        settled = _settle_opaque(record, change, host)
    else:
        return Settled(record, "not-done", "it changes nothing")
    if settled.verdict != "in-doubt" or assumption is None:
        return settled
    verdict: Verdict = "assumed-done" if assumption == "done" else "assumed-not-done"
    return Settled(record, verdict, "because a person said so", settled.observed)


def _settle_state(record: StepRecord, host: Reading, preimages: Preimages) -> Settled:
    verdict, why = what_became_of(record.known, host, preimages)
    is_there = verdict in ("done", "half-way", "in-doubt")
    return Settled(record, verdict, why, observed_after(record.known, host) if is_there else ())


def observed_after(step: Step, host: Reading) -> tuple[At, ...]:
    """Return what stands now where `step` leaves something."""
    return tuple(At(at.path, as_asked(observe(host, at.path), at.object)) for at in step.after)


def what_became_of(step: Step, host: Reading, preimages: Preimages) -> tuple[Verdict, str]:
    """Decide a step that changes objects from what stands there; returns how it was decided, too."""
    if isinstance(step.change, MakeHardlink):
        return _what_became_of_link(step.change, host)
    if isinstance(step.change, SetUnit):
        return _what_became_of_unit(step, host)
    if isinstance(step.change, SetPackages):
        return _what_became_of_packages(step, host)
    found, after = observe(host, step.after[0].path), step.after[0].object
    is_before = all(_alike(observe(host, at.path), at.object) for at in step.before)
    is_after = all(_alike(observe(host, at.path), at.object) for at in step.after)
    if is_after and not is_before:
        if (keeps_inode(step) or overwrites(step)) and not _has_time(found, after):
            return "half-way", "all but its time is as it is to become"
        return "done", "what it makes is there"
    if is_after and _has_time(found, after) and not isinstance(step.change, Move):
        return "done", "its time is as it was to become"
    if is_before:
        return _NOT_DONE
    if is_half_way(step, found, host, preimages):
        return "half-way", "it is on its way from what it was to what it is to become"
    return "in-doubt", f"{step.after[0].path} is neither what it was nor what it was to become"


def _alike(found: Object, expected: Object) -> bool:
    return same_but_times(found, expected)


def _has_time(found: Object, expected: Object) -> bool:
    """Whether `found` has the time that is expected, where one is."""
    if isinstance(found, Absent | System) or isinstance(expected, Absent | System):
        return True
    return expected.metadata.mtime_ns in (0, found.metadata.mtime_ns)


def _what_became_of_link(change: MakeHardlink, host: Reading) -> tuple[Verdict, str]:
    one, other = host.status(change.path), host.status(change.existing)
    if one is not None and other is not None and one.inode == other.inode:
        return "done", "both names share one inode"
    return "not-done", "the two names do not share an inode"


def _what_became_of_unit(step: Step, host: Reading) -> tuple[Verdict, str]:
    """Decide a step that changes a unit; to do it again is the same as to do it once.

    The state tells too little in two cases: a unit that is enabled by several links is so by the first and by the last
    of them, and one that runs to its end is inactive before and after.
    """
    found = observe(host, step.after[0].path)
    before, after = step.before[0].object, step.after[0].object
    if not isinstance(found, Unit) or not isinstance(before, Unit) or not isinstance(after, Unit):
        return "in-doubt", f"{step.after[0].path} has gone"
    if before.active == "failed" and found.active == "inactive":
        before = msgspec.structs.replace(before, active="inactive")  # nobody can make it have failed again
    if _alike(found, before):
        if _alike(before, after):
            return "half-way", "whether it ran does not show"
        if not _are_alike(step.before[1:], host):
            return "half-way", "of what starts or stops with it, some has"
        return _NOT_DONE if _has_its_links(step, host) else ("half-way", "some of its links have gone, or have come")
    if _alike(found, after) and before.enabled == after.enabled and _are_alike(step.after[1:], host):
        return "done", "what it makes is there"
    known = (before.enabled, after.enabled, "disabled", "static", "indirect", "")
    if (not after.enabled or found.enabled in known) and (
        not after.active or found.active in (before.active, after.active, *_BETWEEN)
    ):
        return "half-way", "it is on its way from what it was to what it is to become"
    return "in-doubt", f"{step.after[0].path} is neither what it was nor what it was to become"


def _are_alike(objects: Iterable[At], host: Reading) -> bool:
    return all(_alike(observe(host, at.path), at.object) for at in objects)


def _has_its_links(step: Step, host: Reading) -> bool:
    """Whether a unit has exactly the links that it had before `step`, as far as the undo of that says which."""
    restored = [one.restores for one in step.undo.changes if isinstance(one, SetUnit) and one.restores is not None]
    return all(unitfiles.is_as(host, one) for one in restored)


_NOT_DONE: tuple[Verdict, str] = ("not-done", "what it replaces is still there")
#: States of a unit that is being started or stopped, or could not be.
_BETWEEN = ("activating", "deactivating", "failed")


def _what_became_of_packages(step: Step, host: Reading) -> tuple[Verdict, str]:
    """Decide a transaction: every state on the way can be taken up, whatever marks are set already."""
    host.packages.wait()
    found = [observe(host, at.path) for at in step.after]
    is_before = all(_alike(one, at.object) for one, at in zip(found, step.before, strict=True))
    if all(_alike(one, at.object) for one, at in zip(found, step.after, strict=True)):
        return "done", "what it makes is there"
    if is_before:
        return "not-done", "what it replaces is still there"
    for one, old, new in zip(found, step.before, step.after, strict=True):
        expected = (_version(old.object), _version(new.object))
        if isinstance(one, Package) and one.status in ("installed", "config-files") and _version(one) not in expected:
            return "in-doubt", f"{new.path} is neither what it was nor what it was to become"
    return "half-way", "it is on its way from what it was to what it is to become"


def _version(found: Object) -> str:
    return found.version if isinstance(found, Package) else ""


# ---- half way -----------------------------------------------------------------------------------------------------


def is_half_way(step: Step, found: Object, host: Reading, preimages: Preimages) -> bool:
    """Whether `found` is what a crash leaves of a step that changes an object in more than one call.

    Owner, mode and attributes are set one after the other; content that is written in place may be torn; an inode that
    was kept is back under its name before it has its metadata. Nothing else than `step` leaves such a thing: every part
    is as it was or as it was to become.
    """
    change, before, after = step.change, step.before[0].object, step.after[0].object
    if isinstance(found, Absent | System) or isinstance(before, Absent | System) or isinstance(after, Absent | System):
        return False
    if isinstance(change, Restore) and change.kept:
        return _alike(found, host.observe_kept(change.kept, change.path))
    if not type(found) is type(before) is type(after) or not _is_mixed(found.metadata, before.metadata, after.metadata):
        return False
    if keeps_inode(step):
        return _content(found) == _content(after)
    if overwrites(step) and isinstance(before, RegularFile) and isinstance(after, RegularFile):
        old, new = preimages.chunks(before.sha256), content_chunks(_content_of(change, after), host, preimages)
        return _is_torn(host.chunks(step.after[0].path), old, new)
    return False


def _content_of(change: Change, after: RegularFile) -> Content:
    return change.content if isinstance(change, WriteFile) else Stored(after.sha256, after.size)


def _is_mixed(found: Metadata, before: Metadata, after: Metadata) -> bool:
    """Whether every part is as before or as after; of the mode, and of attributes, something may be away meanwhile."""
    old, new = dict(before.xattrs), dict(after.xattrs)
    return (
        found.uid in (before.uid, after.uid)
        and found.gid in (before.gid, after.gid)
        and not found.mode & ~(before.mode | after.mode)
        and all(value in (old.get(name), new.get(name)) for name, value in found.xattrs)
    )


def _content(found: Object) -> tuple[object, ...]:
    return tuple(getattr(found, name, None) for name in ("sha256", "target", "special", "device"))


def _is_torn(found: Iterable[bytes], old: Iterable[bytes], new: Iterable[bytes]) -> bool:
    """Whether each byte is of the old or the new content, or was never written; reads piece by piece."""
    for piece, *both in zip_longest(_blocks(found), _blocks(old), _blocks(new), fillvalue=b""):
        if len(piece) > max(map(len, both)):
            return False
        ours = [each[: len(piece)].ljust(len(piece), b"\0") for each in both]
        if piece not in ours and not all(byte in (0, *others) for byte, *others in zip(piece, *ours, strict=True)):
            return False
    return True


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut content into blocks of one size, however it comes."""
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) - len(rest) % _BLOCK
        yield from (rest[start : start + _BLOCK] for start in range(0, whole, _BLOCK))
        rest = rest[whole:]
    if rest:
        yield rest


#: Bytes that are compared at once before they are compared one by one.
_BLOCK = 4096


# ---- commands -----------------------------------------------------------------------------------------------------


def _settle_opaque(record: StepRecord, change: RunCommand | RunScript, host: Reading) -> Settled:
    if change.done_when is not None:
        try:
            is_done = probe_says_yes(change.done_when, host)
        except (NotPossibleHere, StepFailed) as error:
            return Settled(record, "in-doubt", f"its done_when probe says nothing: {error.message}")
        return Settled(record, "done" if is_done else "not-done", "by its done_when probe")
    if change.idempotent:
        return Settled(record, "run-again", "running it twice is the same as running it once")
    return Settled(record, "in-doubt", "whether it ran, or how far, cannot be told from here")


def write_verdicts(journal: Journal, run: str, settled: Sequence[Settled]) -> None:
    """Put what was decided into the journal."""
    owed: dict[int, list[int]] = {}
    for debt in journal.debts():
        if debt.run == run:
            owed.setdefault(debt.step, []).append(debt.id)
    outcomes = []
    for one in settled:
        happened = one.verdict in ("done", "assumed-done")
        undecided = one.verdict in ("in-doubt", "half-way", "run-again")
        outcomes.append(
            Outcome(
                step=one.record.number,
                what="in-doubt" if undecided else one.verdict,  # type: ignore[arg-type]  # narrowed by the test
                observed=one.observed,
                note=one.why,
                debts_cancelled=() if happened or undecided else tuple(owed.get(one.record.number, ())),
                undoes=taken_back_by(one.record.known) if happened else None,
            )
        )
    if outcomes:
        journal.conclude(run, outcomes)


def taken_back_by(step: Step) -> StepName | None:
    """Return the step that `step` takes back, None where it takes none."""
    if isinstance(step.change, REACTION_KINDS):
        return None
    if step.cause.type == "undo" and step.cause.step:
        return StepName(step.cause.run, step.cause.step)
    return None


def in_effect(records: Iterable[StepRecord]) -> list[StepRecord]:
    """Return the steps that were done and that nothing has taken back."""
    return [one for one in records if one.status in ("done", "assumed-done") and one.undone_by is None]


def outstanding(records: Iterable[StepRecord]) -> list[Step]:
    """Return what finishing a run still has to do, in order; a reaction again where its cause happens again."""
    listed = list(records)
    to_do = {one.number for one in listed if _is_outstanding(one)}
    return [one.known for one in listed if one.number in to_do or _reacts_to(one, to_do)]


def _is_outstanding(record: StepRecord) -> bool:
    if record.status in ("done", "assumed-done"):
        return record.undone_by is not None
    return record.status != "skipped"


def _reacts_to(record: StepRecord, steps: set[int]) -> bool:
    return isinstance(record.known.change, REACTION_KINDS) and not steps.isdisjoint(record.known.cause.steps)
