"""The last steps of a deployment or undeploy: its ref in git moves, and then hosts are to be what it says.

Theory of operation

1. A change is written down as *intended*, with what it means to every host, before anything moves.
2. Its domain's ref moves by compare-and-swap.
3. One transaction makes it *open*: the database's commit and every host's target, all at once.
4. An undeploy that lays later changes again is several changes that come about together: their commits follow one
   another, the ref moves to the last of them, and step 3 makes all of them open, in their order.
5. Whoever finds an intended change of a broker that is gone finishes it: where the ref has moved by step 3, else by
   calling it failed, because nothing has moved. Only one of them finds it *intended*, so it is done once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from aquiline.broker import targets
from aquiline.broker.broker import Broker, Refused, change_of
from aquiline.broker.records import Change, HostTarget
from aquiline.broker.store import Reading, Transaction
from aquiline.errors import AquilineError, BranchMoved


def go_live(broker: Broker, change: Change, *, at: str = "") -> Change:
    """Make an intended change what hosts are to be; its domain's ref is `at` this commit, or where the change found it.

    Raises:
        BranchMoved: somebody moved the domain, so nothing has moved.
        Refused: it took so long that another broker has given it up; nothing has moved.
    """
    stood = at or change.before
    with broker.store.reading() as tx:
        goal = _goal(tx, change)
    if goal:
        try:
            broker.repository.move(change.domain, expected=stood, to=goal)
        except AquilineError as error:
            with broker.store.transaction() as tx:
                settle_in(broker, tx, change.domain, because=error.message)
            raise
    with broker.store.transaction() as tx:
        found = finish(tx, change.id)
    if found.state == "failed":
        if goal:
            with contextlib.suppress(BranchMoved):
                broker.repository.move(change.domain, expected=goal, to=stood)
        raise Refused(f"{change.id} took so long that it was given up: {found.error}", hint="try again")
    return found


def _goal(tx: Reading, change: Change) -> str:
    """Return the commit that the domain's ref moves to; empty where it stays."""
    return change_of(tx, change.lays[-1]).after if change.lays else change.after


def finish(tx: Transaction, change_id: str) -> Change:
    """Make a change open whose ref has moved, if nobody has done so yet; return what became of it."""
    change = change_of(tx, change_id)
    if change.state != "intended":
        return change
    if change.lays:
        return _retract_and_lay(tx, change)
    return retract(tx, change) if change.kind == "undeploy" else lay(tx, change)


def _retract_and_lay(tx: Transaction, change: Change) -> Change:
    """Make an undeploy and what it lays again what hosts are to be; they are told one after the other."""
    retracted = retract(tx, change)
    ways = _told_by(tx, change.id)
    for name in change.lays:
        lay(tx, change_of(tx, name))
        for host, told in _told_by(tx, name).items():
            ways.setdefault(host, []).extend(told)
    for way in ways.values():
        tx.put_target(targets.by_way_of(way))
    return retracted


def _told_by(tx: Transaction, change_id: str) -> dict[str, list[HostTarget]]:
    """Return the targets that a change has just set, by host."""
    names = [record.host for record in tx.change_hosts(change_id) if record.generation]
    return {name: [target] for name, target in tx.targets(names).items()}


def lay(tx: Transaction, change: Change) -> Change:
    """Make an intended deployment the one that hosts are to be; its ref has moved."""
    if not tx.move_branch(change.domain, expected=change.before, to=change.after):
        raise Refused(f"{change.domain} was moved by somebody else meanwhile")
    standing = standing_of(tx, change.domain, everywhere=True)
    for record in tx.change_hosts(change.id):
        host = tx.host(record.host)
        if host is None or host.branch != change.domain:
            tx.put_change_host(msgspec.structs.replace(record, state="left"))
            continue
        if record.after:
            tx.put_host(msgspec.structs.replace(host, compiled=record.after))
        if record.state != "asked":
            continue
        target = tx.target(host.name) or targets.first_target(host.name)
        missed = owed(tx, host.name, target.change_ids, standing)
        if change.laid_by and record.after == target.profile and not missed:
            # Known only now that the host's target is what the changes before it have made of it.
            tx.put_change_host(msgspec.structs.replace(record, state="unchanged", before=target.profile))
            continue
        following = targets.with_change(
            target, change, record.after, owed=missed, gone=standing.gone.difference(host.past_undo),
            effect=record.predicted if change.digest else "",
        )  # fmt: skip
        tx.put_target(following)
        tx.put_change_host(
            msgspec.structs.replace(
                record, before=target.profile, generation=following.generation, change_ids=added(target, following)
            )
        )
    laid = msgspec.structs.replace(change, state="open")
    tx.put_change(laid)
    return laid


def added(before: HostTarget, after: HostTarget) -> tuple[str, ...]:
    """Return the change IDs that a target has and the one before had not."""
    return tuple(sorted(set(after.change_ids).difference(before.change_ids)))


#: Changes of a domain among which one is looked for that a broker has begun and not ended: it is among the last.
_LATELY = 100


class InEffect(msgspec.Struct, frozen=True):
    """What is in effect in a domain, and what was taken back there."""

    deployed: tuple[str, ...]
    gone: frozenset[str]
    #: Which of these deployments left a host as it was, by host; None: nobody has asked for all hosts at once.
    left_alone: Mapping[str, Collection[str]] | None = None


def standing_of(tx: Transaction, domain: str, *, everywhere: bool = False) -> InEffect:
    """Return which deployments of a domain stand, in the order of their serials, and which were undone.

    `everywhere`: many hosts will be asked about; what they have in common is then looked up once.
    """
    changes = tx.changes(domain)
    deployed = tuple(one.id for one in targets.in_effect(changes) if one.kind == "deploy")
    gone = frozenset(one.id for one in changes if one.state == "undone")
    return InEffect(deployed, gone, tx.left_alone(deployed) if everywhere else None)


def owed(tx: Transaction, host: str, change_ids: Sequence[str], standing: InEffect) -> list[str]:
    """Return the changes that stand in a host's domain and that it is to have, and has not.

    It was held out of them, came or returned to the domain after them, did not compile then, or had them taken back on
    itself alone. Those that left its profile as it was it does not miss.
    """
    missing = [name for name in standing.deployed if name not in change_ids]
    if not missing:
        return []
    if standing.left_alone is not None:
        alone = standing.left_alone.get(host, ())
    else:
        alone = {one.change for one in tx.changes_of_host(host, states=["unchanged"])}
    return [name for name in missing if name not in alone]


def retract(tx: Transaction, change: Change) -> Change:
    """Make an intended undeploy what hosts are to be; its ref has moved, if it is of the whole domain."""
    everywhere = bool(change.after)
    if everywhere and not tx.move_branch(change.domain, expected=change.before, to=change.after):
        raise Refused(f"{change.domain} was moved by somebody else meanwhile")
    for record in tx.change_hosts(change.id):
        host = tx.host(record.host)
        if host is None or host.branch != change.domain:
            if record.state not in ("never-had", "left"):
                because = f"it is in {host.branch} by now" if host is not None else "it was removed"
                tx.put_change_host(msgspec.structs.replace(record, state="left", because=because))
            continue
        if everywhere:
            host = msgspec.structs.replace(host, compiled="" if record.is_archived else record.after)
        if record.state in ("asked", "reinstalled"):
            target = tx.target(host.name) or targets.first_target(host.name)
            following = targets.without_changes(target, change, change.undoes, record.after)
            tx.put_target(following)
            tx.put_change_host(msgspec.structs.replace(record, generation=following.generation))
            if not everywhere:
                held = f"{', '.join(change.undoes)} undeployed here by {change.id}"
                host = msgspec.structs.replace(host, held=held, held_by="undeploy")
        tx.put_host(host)
    if everywhere:
        for name in change.undoes:
            tx.put_change(msgspec.structs.replace(change_of(tx, name), state="undone"))
    laid = msgspec.structs.replace(change, state="open")
    tx.put_change(laid)
    return laid


def settle(broker: Broker) -> None:
    """Finish what brokers that died had begun; what a living one is at is left to it."""
    with broker.store.transaction() as tx:
        domains = [one.name for one in tx.branches() if one.kind == "domain"]
        waiting = [name for name in domains if any(one.state == "intended" for one in tx.changes(name, limit=_LATELY))]
    for name in waiting:
        with (
            contextlib.suppress(Refused),
            broker.leased(name, "a broker that starts"),
            broker.store.transaction() as tx,
        ):
            settle_in(broker, tx, name)


def settle_in(
    broker: Broker, tx: Transaction, domain: str, *, because: str = "the broker ended before anything had moved"
) -> None:
    """Finish what was begun in one domain; the caller holds its lease."""
    for change in _intended(tx.changes(domain)):
        goal = _goal(tx, change)
        if not (goal and broker.repository.head(domain) == goal and _finished(tx, change)):
            for one in (change, *(change_of(tx, name) for name in change.lays)):
                tx.put_change(msgspec.structs.replace(one, state="failed", error=because))
                broker.audit(tx, broker.name, "given up", one.id, why=because)


def _finished(tx: Transaction, change: Change) -> bool:
    try:
        finish(tx, change.id)
    except Refused:
        return False
    return True


def _intended(changes: Iterable[Change]) -> list[Change]:
    """Return what was begun and not ended; what an undeploy lays again is settled with that."""
    return [one for one in changes if one.state == "intended" and not one.laid_by]
