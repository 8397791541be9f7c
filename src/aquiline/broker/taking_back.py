"""Undeploying: changes taken back on every host that has them, and in git.

Theory of operation

1. What may be taken back are the last changes in effect of a domain, however many: then the branch is simply what it
   was before the first of them, and no revert can conflict. Later changes block (`targets.blocking`).
2. Or they are taken back too and laid again, in their order, each as a change of its own that says which one it lays
   again. Its commit brings what the commit took back that had undone it; that may conflict, or compile no more, and
   then nothing has moved.
3. The undeploy and what it lays again are written down together, go live together (`going_live`), or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aquiline.broker import targets
from aquiline.broker.again import Again, Later, lay_each_again, refuse_unapproved
from aquiline.broker.broker import (
    Asker,
    Blocked,
    Broker,
    Compilation,
    Refused,
    change_of,
    domain_of,
    host_of,
    new_change_id,
    refuse_frozen,
)
from aquiline.broker.compiling import Compiled
from aquiline.broker.going_live import go_live, settle_in
from aquiline.broker.laying import TEST_DEADLINE, keep_profile, refuse_moved, trailers
from aquiline.broker.records import TOLD_NOTHING, Change, ChangeHost, Host, HostTarget, StoredOrder
from aquiline.broker.store import Transaction
from aquiline.errors import UsageError


def last_changes(tx: Transaction, domain: str, *, last: int = 0, since: float | None = None) -> list[str]:
    """Return the IDs of the `last` deployments in effect, or of all after `since`, newest first; raises `Refused`."""
    if last < 0:
        raise UsageError(f"the last {last} changes: at least one")
    deployed = [one for one in targets.in_effect(tx.changes(domain_of(tx, domain).name)) if one.kind == "deploy"]
    chosen = deployed[-last:] if last else [one for one in deployed if since is not None and one.created > since]
    if not chosen:
        raise Refused(f"{domain} has no such change in effect", hint=f"`aquiline changes --domain {domain}`")
    if last > len(deployed):
        raise Refused(f"{domain} has only {len(deployed)} changes in effect, not {last}")
    return [one.id for one in reversed(chosen)]


def undeploy(
    broker: Broker, change_ids: Sequence[str], asker: Asker, *, hosts: Sequence[str] = (), is_test: bool = False,
    seconds: float = TEST_DEADLINE, redeploy: bool = False,
) -> Change:  # fmt: skip
    """Take changes of one domain back: everywhere and in git, or only on `hosts`, which are then held.

    With `redeploy` later changes are taken back too and laid again, all or nothing.

    Raises:
        NotFound, Refused: they are not in effect, or of several domains; a host does not compile with what is laid
            again. Blocked: later changes stand on them. MergeConflict: a later one cannot be laid again without them.
        PlanStale: the domain takes only what was approved, which nothing is that would be laid again.
        HostFrozen: the domain is frozen.
    """
    if not change_ids:
        raise UsageError("name the changes to be taken back")
    if redeploy and hosts:
        raise UsageError("later changes are laid again on the whole domain, not on one host")
    with broker.store.transaction() as tx:
        domain = change_of(tx, change_ids[0]).domain
    with broker.leased(domain, asker.name) as lease:
        with broker.store.transaction() as tx:
            settle_in(broker, tx, domain)
            named = [change_of(tx, name) for name in dict.fromkeys(change_ids)]
            later = _refuse(tx, domain, named, is_test=is_test, redeploy=redeploy)
            gone = [*named, *later]
            change_id, serial = new_change_id(tx, domain)
            # A test lays nothing: what it would lay has no ID of its own.
            ids = [(change_id, serial) if is_test else new_change_id(tx, domain) for _ in later]
            branch = domain_of(tx, domain)
            members = [host_of(tx, name) for name in sorted(set(hosts))] if hosts else tx.hosts()
        newest_first = sorted(gone, key=lambda one: -one.serial)
        commits: dict[str, str] = {}
        after = ""
        if not hosts:
            refuse_moved(broker, branch)
            after = branch.commit
            # One commit for each, so that each can be laid again by itself.
            for one in newest_first:
                after = commits[one.id] = broker.repository.take_back(
                    after, to=one.before, message=f"Undeploy {one.id}",
                    trailers=trailers(change_id, asker), author=asker.name,
                )  # fmt: skip
        change = Change(
            id=change_id, kind="test-undeploy" if is_test else "undeploy", domain=domain, serial=serial,
            state="open" if is_test else "intended", before=branch.commit, after=after,
            undoes=tuple(one.id for one in gone), relays=tuple(one.id for one in later),
            lays=() if is_test else tuple(name for name, _ in ids),
            author=asker.name, reason=asker.reason, justification=asker.justification, created=broker.now(),
            deadline=broker.now() + seconds if is_test else 0.0,
        )  # fmt: skip
        ours = [one.name for one in members if one.branch == domain]
        compiled = broker.compile(after or newest_first[-1].before, ours)
        laters = [Later(one, commits[one.id], *given) for one, given in zip(later, ids, strict=True)]
        laid = lay_each_again(broker, change, laters, compiled, members, asker)
        taken = _Taken(change, newest_first, commits, compiled, laid)
        with broker.store.transaction() as tx:
            broker.refuse_lost(tx, lease)
            # As they are now: while this was compiled a person may have held or released some, or moved them.
            taken.write_down(tx, [host for one in members if (host := tx.host(one.name)) is not None])
            broker.audit(tx, asker.name, change.kind, change.id, undoes=list(change.undoes), reason=asker.reason)
            for again in laid if not is_test else ():
                broker.audit(tx, asker.name, "deploy", again.change.id, lays_again=again.change.relays[0])
        if not is_test:
            change = go_live(broker, change)
    broker.bell.ring(change.id, *change.lays, *(one.name for one in members))
    return change


class _Taken(msgspec.Struct, frozen=True):
    """Changes taken back, and later ones laid again, apart from every branch."""

    change: Change
    newest_first: Sequence[Change]
    #: By change, what takes it back; empty where git stays as it is.
    commits: Mapping[str, str]
    compiled: Compilation
    laid: Sequence[Again]

    def write_down(self, tx: Transaction, hosts: Iterable[Host]) -> None:
        """Write it down with what it means to each host; nothing has moved."""
        change = self.change
        is_test = change.kind == "test-undeploy"
        if not is_test:
            refuse_frozen(domain_of(tx, change.domain))
            if self.laid:
                refuse_unapproved(domain_of(tx, change.domain), change.relays)
        tx.put_change(change)
        for one in self.newest_first if self.commits and not is_test else ():
            tx.put_change(msgspec.structs.replace(one, taken_back=self.commits[one.id]))
        predicted = {} if is_test else _predictions(tx, change)
        for host in hosts:
            self._write_host(tx, host, predicted)
        for again in self.laid if not is_test else ():
            again.intend(tx)

    def _write_host(self, tx: Transaction, host: Host, predicted: Mapping[tuple[str, str], str]) -> None:
        target = tx.target(host.name)
        has = [one.id for one in self.newest_first if target is not None and one.id in target.change_ids]
        if self.commits and not has and host.branch != self.change.domain:
            return  # it is of another domain, and has nothing to do with it
        oldest = tx.change_host(has[-1], host.name) if has else None
        archived = oldest.before if oldest is not None else None
        record = _meaning(self.change, host, target, self.compiled, archived=archived)
        if record.state == "asked":
            record = msgspec.structs.replace(record, predicted=predicted.get((host.name, record.after), ""))
        found = self.compiled.get(host.name)
        if isinstance(found, Compiled):
            keep_profile(tx, found)
        if self.change.kind == "test-undeploy":
            record = _ask_host(tx, self.change, record, target, self.laid)
        tx.put_change_host(record)


def _refuse(tx: Transaction, domain: str, gone: Sequence[Change], *, is_test: bool, redeploy: bool) -> Sequence[Change]:
    """Return the later changes, oldest first, that are taken back too and laid again; raise where something blocks."""
    if not is_test:
        refuse_frozen(domain_of(tx, domain))
    changes = tx.changes(domain)
    standing = {one.id for one in targets.in_effect(changes) if one.kind == "deploy"}
    for change in gone:
        if change.domain != domain:
            raise Refused(f"{change.id} is of {change.domain}, not of {domain}", hint="undeploy them one by one")
        if change.id not in standing:
            raise Refused(f"{change.id} is not a deployment in effect: {change.kind}, {change.state}")
    later = targets.blocking(changes, {one.id for one in gone})
    if redeploy:
        refuse_unapproved(domain_of(tx, domain), [one.id for one in later])
        return later
    if later:
        names, blocking = " ".join(one.id for one in gone), [one.id for one in reversed(later)]
        raise Blocked(
            f"later changes stand on {', '.join(one.id for one in gone)}: {', '.join(blocking)}",
            changes=blocking,
            hint=f"undeploy them too: aquiline undeploy {' '.join(blocking)} {names}; "
            f"or take them back and lay them again: aquiline undeploy {names} --redeploy",
        )
    return ()


def _meaning(
    change: Change, host: Host, target: HostTarget | None, compiled: Compilation, *, archived: str | None
) -> ChangeHost:
    """Return what taking back means to a host; `archived` is the profile that it had before, None where none is known.

    A host that its branch does not compile any more goes back to that one: its journal is all that undo needs.
    """
    record = ChangeHost(change=change.id, host=host.name, state="asked", before=target.profile if target else "")
    has = sorted(set(change.undoes).intersection(target.change_ids if target else ()))
    found = compiled.get(host.name) if host.branch == change.domain else None
    if isinstance(found, Compiled):
        record = msgspec.structs.replace(record, after=found.digest)
    if not has:
        return msgspec.structs.replace(record, state="never-had")
    if host.branch != change.domain:
        return msgspec.structs.replace(record, state="left", because=f"it is in {host.branch} by now")
    past_undo = sorted(set(has).intersection(host.past_undo))
    if past_undo:
        return msgspec.structs.replace(record, state="held-out", because=f"past undo there: {', '.join(past_undo)}")
    record = msgspec.structs.replace(record, change_ids=tuple(has))
    if not isinstance(found, Compiled):
        because = found.message if found is not None else "it came meanwhile"
        record = msgspec.structs.replace(record, because=because, after=archived or "", is_archived=True)
        if archived is None:
            return msgspec.structs.replace(record, state="not-compiled")
    if host.held_by in TOLD_NOTHING and change.kind == "undeploy":
        return msgspec.structs.replace(record, state="held-out", because=f"held: {host.held}")
    if set(has).issubset(host.lost) and not set(has).intersection(host.live.change_ids):
        return msgspec.structs.replace(record, state="reinstalled")
    return record


def _predictions(tx: Transaction, change: Change) -> dict[tuple[str, str], str]:
    """Return what hosts said last that this undeploy would do, by host and the profile that it leaves."""
    for tested in tx.changes(change.domain, limit=20):
        if tested.kind == "test-undeploy" and set(tested.undoes) == set(change.undoes):
            return {(one.host, one.after): one.planned for one in tx.change_hosts(tested.id) if one.planned}
    return {}


def _ask_host(
    tx: Transaction, change: Change, record: ChangeHost, target: HostTarget | None, laid: Sequence[Again]
) -> ChangeHost:
    """Give a host the order of a test, if there is anything that it could say; return what the test means to it."""
    if target is None or record.state not in ("asked", "never-had"):
        return record
    order = StoredOrder(
        id=f"{change.id}.{record.host}", change=change.id, host=record.host, kind="test-undo", profile=record.after,
        change_ids=tuple(sorted(set(target.change_ids).difference(change.undoes))), expires=change.deadline,
    )  # fmt: skip
    again = tuple(one.change.relays[0] for one in laid if one.changes(record.host))
    in_the_end = laid[-1].compiled.get(record.host) if again else None
    if isinstance(in_the_end, Compiled):
        keep_profile(tx, in_the_end)
        order = msgspec.structs.replace(order, profile=in_the_end.digest, again=again, reverted=record.after)
        if record.state == "never-had" and in_the_end.digest != target.profile:
            # It has none of them, and gets some now that others are gone.
            order = msgspec.structs.replace(order, kind="test")
            record = msgspec.structs.replace(record, state="asked", after=in_the_end.digest)
    if record.state == "asked":
        tx.put_order(order)
    return record
