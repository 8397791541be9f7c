"""How far back undo reaches: dropping what old runs need to be undone, never the record of them.

Theory of operation:

1. A run is dropped because of its age or because of how many came after it, unless something speaks against it: it
   goes on, waits for confirmation, is held, has a step in doubt, or was the last to touch some object (D15).
2. First the journal says durably that a run is past undo; then its undo script, its kept inodes and those pre-images go
   that no other run needs. Killed in between, the next time finds the same content without users and removes it.
3. Content that no run ever needed is what a killed run had kept before its intent, or belongs to a saved plan: it goes
   by its age alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import msgspec

from aquiline.changes.kinds import Restore
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import RunRecord
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal

_DAY = 86400.0


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long runs stay undoable."""

    #: Days after which a run may be dropped; None is never.
    days: float | None = 90.0
    #: Runs that stay whatever their age is not; None is any number.
    runs: int | None = None


class Review(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of one run."""

    run: str
    #: It is to be dropped.
    drop: bool
    #: Why, in words.
    reason: str


class Dropped(msgspec.Struct, frozen=True):
    """What was dropped."""

    runs: tuple[str, ...]
    preimages: int
    #: Bytes of pre-images.
    bytes: int


def review(journal: Journal, policy: Policy, *, now: float, held: Collection[str] = ()) -> list[Review]:
    """Return what becomes of each run that can still be undone, oldest first; `now` is seconds since the epoch."""
    last = journal.last_to_touch()
    runs = journal.runs()
    found = []
    for position, run in enumerate(runs):
        if run.past_undo:
            continue
        excess = _excess(run, position, policy, now)
        against = _against(journal, run, last, held) if excess else ""
        found.append(Review(run.id, drop=bool(excess) and not against, reason=against or excess or "recent"))
    return found[::-1]


def drop(
    journal: Journal,
    policy: Policy,
    *,
    now: float,
    held: Collection[str] = (),
    drop_kept: Callable[[str], None] | None = None,
) -> Dropped:
    """Drop what `review` says; only for the holder of the lock. `drop_kept` forgets the kept inode of a name."""
    state = journal.state
    forget = drop_kept or (lambda name: (state.links / name).unlink(missing_ok=True))
    dropped = [each for each in review(journal, policy, now=now, held=held) if each.drop]
    for each in dropped:
        kept = list(_kept_names(journal, each.run))
        journal.record(each.run, 0, "past-undo", {"reason": each.reason})
        for name in kept:
            forget(name)
    _remove_scripts(journal, state)
    removed = _remove_preimages(journal, policy, now)
    return Dropped(runs=tuple(each.run for each in dropped), preimages=len(removed), bytes=sum(removed))


def _excess(run: RunRecord, position: int, policy: Policy, now: float) -> str:
    """Return why the policy would drop a run with `position` newer ones, empty where it would not."""
    age = (now - run.header.started) / _DAY
    if policy.days is not None and age > policy.days:
        return f"older than {policy.days:g} days"
    if policy.runs is not None and position >= policy.runs:
        return f"more than {policy.runs} runs"
    return ""


def _against(journal: Journal, run: RunRecord, last: Collection[str], held: Collection[str]) -> str:
    """Return what speaks against dropping a run, empty where nothing does."""
    if run.open:
        return "it has not ended"
    if run.awaits_confirmation:
        return "it waits for confirmation"
    if run.id in held:
        return "it is held"
    if run.id in last:
        return "it was the last to touch some object"
    if any(step.status in ("intended", "in-doubt") for step in journal.steps(run.id)):
        return "a step of it is in doubt"
    return ""


def _kept_names(journal: Journal, run: str) -> Iterator[str]:
    for record in journal.steps(run):
        changes = record.step.undo.changes if record.step is not None else ()
        if any(isinstance(change, Restore) and change.kept for change in changes):
            yield f"{run}-{record.number}"


def _remove_scripts(journal: Journal, state: StateDirectory) -> None:
    for run in journal.runs():
        if run.past_undo:
            for suffix in ("sh", "done"):
                (state.undo / f"{run.id}.{suffix}").unlink(missing_ok=True)


def _remove_preimages(journal: Journal, policy: Policy, now: float) -> list[int]:
    """Remove the content that no run can need any more; return the size of each."""
    store = PreimageStore(journal.state)
    users, past = journal.preimage_users(), {run.id for run in journal.runs() if run.past_undo}
    removed = []
    for digest in list(store.digests()):
        found = store.path(digest).stat()
        is_old = policy.days is not None and (now - found.st_mtime) / _DAY > policy.days
        if users[digest] <= past if digest in users else is_old:
            store.purge(digest)
            removed.append(found.st_size)
    return removed
