"""How long undo reaches back: what of the journal is sound, what is kept, what goes."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from aquiline.agent.session import Session
from aquiline.changes.kinds import Restore
from aquiline.changes.perform import let_go_of_inode
from aquiline.journal.retention import Dropped, Policy, Purged, Review, drop, purge_secrets, review


class Collected(msgspec.Struct, frozen=True):
    """What `collect` did with each run, oldest first."""

    runs: tuple[Review, ...]
    #: None in a dry-run: what it would free is known only once it is done.
    dropped: Dropped | None


def collect(session: Session, policy: Policy, *, is_dry_run: bool = False) -> Collected:
    """Drop what undoing old runs needs, as `policy` says; the record of them stays.

    Raises:
        HostLocked: somebody changes this host.
    """
    if is_dry_run:
        with session.reading() as journal:
            return Collected(tuple(review(journal, policy, now=time.time())), None)
    if not session.state.database.exists():
        return Collected((), Dropped((), 0, 0))
    with session.changing("gc") as journal:
        reviewed = tuple(review(journal, policy, now=time.time()))
        return Collected(reviewed, drop(journal, policy, now=time.time(), drop_kept=_letting_go(session)))


def purge(session: Session, days: float, *, is_dry_run: bool = False) -> Purged:
    """Remove secrets from the pre-images of runs older than `days`; a tombstone stays of each (D9).

    Raises:
        HostLocked: somebody changes this host.
    """
    if is_dry_run or not session.state.database.exists():
        with session.reading() as journal:
            return purge_secrets(journal, now=time.time(), days=days, is_dry_run=True)
    with session.changing("gc --purge-secrets") as journal:
        return purge_secrets(journal, now=time.time(), days=days, drop_kept=_letting_go(session))


def _letting_go(session: Session) -> Callable[[Restore], None]:
    """Return what lets go of a kept inode, on whichever file system it is."""

    def let_go(restore: Restore) -> None:
        let_go_of_inode(restore, session.host)

    return let_go
