"""How far back undo reaches: dropping what old runs need to be undone, never the record of them.

Theory of operation:

1. A run is dropped because of its age or because of how many came after it, unless something speaks against it: it
   goes on, waits for confirmation, is held, has a step in doubt, or was the last to touch some object (D15).
2. First the journal says durably that a run is past undo; then its undo script, its kept inodes and those pre-images go
   that no other run needs. Killed in between, the next time finds the same content without users and removes it.
3. Content that no run ever needed is what a killed run had kept before its intent, or belongs to a saved plan: it goes
   by its age alone.
4. Secrets can go before their runs do (D9): first a tombstone for each pre-image, durable, then the content. Undo and
   `aquiline fsck` then say that it was purged, and why. What a run wrote new is in its record, which stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import msgspec

from aquiline.changes.kinds import Restore
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import RunRecord, StepRecord
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
    drop_kept: Callable[[Restore], None] | None = None,
) -> Dropped:
    """Drop what `review` says; only for the holder of the lock. `drop_kept` forgets the inode a step had kept."""
    state = journal.state
    forget = drop_kept or (lambda restore: (state.links / restore.kept).unlink(missing_ok=True))
    dropped = [each for each in review(journal, policy, now=now, held=held) if each.drop]
    for each in dropped:
        kept = [restore for record in journal.steps(each.run) for restore in _kept(record)]
        journal.record(each.run, 0, "past-undo", {"reason": each.reason})
        for restore in kept:
            forget(restore)
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


def _kept(record: StepRecord) -> Iterator[Restore]:
    """Return the changes of a step's undo that need a kept inode, with its name."""
    for change in record.step.undo.changes if record.step is not None else ():
        if isinstance(change, Restore) and change.kept:
            yield msgspec.structs.replace(change, kept=f"{record.run}-{record.number}")


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


# ---- secrets ------------------------------------------------------------------------------------------------------


class Purged(msgspec.Struct, frozen=True):
    """What was purged, or would be."""

    #: The runs that cannot be undone whole any more.
    runs: tuple[str, ...]
    preimages: int
    #: Bytes of pre-images.
    bytes: int
    #: Runs whose secrets stay, with what speaks against it.
    spared: tuple[tuple[str, str], ...] = ()


def purge_secrets(
    journal: Journal,
    *,
    now: float,
    days: float = 0.0,
    is_dry_run: bool = False,
    drop_kept: Callable[[Restore], None] | None = None,
) -> Purged:
    """Remove from the pre-images of runs older than `days` all that is secret; only for the holder of the lock."""
    store = PreimageStore(journal.state)
    forget = drop_kept or (lambda restore: (journal.state.links / restore.kept).unlink(missing_ok=True))
    old, spared = _old_enough(journal, days, now)
    past, users = {run.id for run in journal.runs() if run.past_undo}, journal.preimage_users()
    sizes: dict[str, int] = {}
    runs = []
    for run in old:
        secrets = [one for one in journal.preimages(run) if one.secret and users[one.sha256] <= {*old, *past}]
        sizes |= {one.sha256: one.size for one in secrets if store.has(one.sha256)}
        kept = [one for record in journal.steps(run) if record.raw.get("secret") for one in _kept(record)]
        if secrets or kept:
            runs.append(run)
        if is_dry_run:
            continue
        for one in secrets:
            journal.purge_preimage(one.sha256, f"a secret of run {run}")
            store.purge(one.sha256)
        for restore in kept:
            forget(restore)
    return Purged(tuple(runs), len(sizes), sum(sizes.values()), tuple(spared))


def _old_enough(journal: Journal, days: float, now: float) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the runs that are old enough to lose their secrets, and those that are and must not."""
    old, spared = [], []
    for run in journal.runs(newest_first=False):
        if run.past_undo or (now - run.header.started) / _DAY < days:
            continue
        # Being the last to touch something does not save a secret: purging one is what was asked for.
        against = _against(journal, run, (), ())
        if against:
            spared.append((run.id, against))
        else:
            old.append(run.id)
    return old, spared
