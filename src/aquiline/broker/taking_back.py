"""Undeploying: changes taken back on every host that has them, and in git.

What may be taken back are the last changes in effect of a domain, however many: then the branch is simply what it was
before the first of them, and no revert can conflict. Later changes block (`targets.blocking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from aquiline.broker import targets
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
    seconds: float = TEST_DEADLINE,
) -> Change:  # fmt: skip
    """Take changes of one domain back: everywhere and in git, or only on `hosts`, which are then held.

    Raises:
        NotFound, Refused: they are not in effect, or of several domains. Blocked: later changes stand on them.
    """
    if not change_ids:
        raise UsageError("name the changes to be taken back")
    with broker.store.transaction() as tx:
        domain = change_of(tx, change_ids[0]).domain
    with broker.leased(domain, asker.name) as lease:
        with broker.store.transaction() as tx:
            settle_in(broker, tx, domain)
            gone = [change_of(tx, name) for name in dict.fromkeys(change_ids)]
            _refuse(tx, domain, gone, is_test=is_test)
            change_id, serial = new_change_id(tx, domain)
            branch = domain_of(tx, domain)
            members = [host_of(tx, name) for name in sorted(set(hosts))] if hosts else tx.hosts()
        newest_first = sorted(gone, key=lambda one: -one.serial)
        first = newest_first[-1]
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
            undoes=tuple(one.id for one in gone),
            author=asker.name, reason=asker.reason, justification=asker.justification, created=broker.now(),
            deadline=broker.now() + seconds if is_test else 0.0,
        )  # fmt: skip
        ours = [one.name for one in members if one.branch == domain]
        compiled = broker.compile(after or first.before, ours)
        with broker.store.transaction() as tx:
            broker.refuse_lost(tx, lease)
            if not is_test:
                refuse_frozen(domain_of(tx, domain))
            tx.put_change(change)
            if after and not is_test:
                for one in newest_first:
                    tx.put_change(msgspec.structs.replace(one, taken_back=commits[one.id]))
            # As they are now: while this was compiled a person may have held or released some, or moved them.
            predicted = {} if is_test else _predictions(tx, change)
            for host in filter(None, [tx.host(one.name) for one in members]):
                _write_down(tx, change, host, compiled, newest_first, predicted)
            broker.audit(tx, asker.name, change.kind, change.id, undoes=list(change.undoes), reason=asker.reason)
        if not is_test:
            change = go_live(broker, change)
    broker.bell.ring(change.id, *(one.name for one in members))
    return change


def _write_down(
    tx: Transaction,
    change: Change,
    host: Host,
    compiled: Compilation,
    newest_first: Sequence[Change],
    predicted: Mapping[tuple[str, str], str],
) -> None:
    target = tx.target(host.name)
    has = [one.id for one in newest_first if target is not None and one.id in target.change_ids]
    oldest = tx.change_host(has[-1], host.name) if has else None
    record = _meaning(change, host, target, compiled, archived=oldest.before if oldest is not None else None)
    if record.state == "asked":
        record = msgspec.structs.replace(record, predicted=predicted.get((host.name, record.after), ""))
    tx.put_change_host(record)
    found = compiled.get(host.name)
    if isinstance(found, Compiled):
        keep_profile(tx, found)
    if change.kind == "test-undeploy" and record.state == "asked" and target is not None:
        tx.put_order(_order(change, record, target))


def _refuse(tx: Transaction, domain: str, gone: Sequence[Change], *, is_test: bool) -> None:
    if not is_test:
        refuse_frozen(domain_of(tx, domain))
    changes = tx.changes(domain)
    standing = {one.id for one in targets.in_effect(changes) if one.kind == "deploy"}
    for change in gone:
        if change.domain != domain:
            raise Refused(f"{change.id} is of {change.domain}, not of {domain}", hint="undeploy them one by one")
        if change.id not in standing:
            raise Refused(f"{change.id} is not a deployment in effect: {change.kind}, {change.state}")
    later = [one.id for one in reversed(targets.blocking(changes, {one.id for one in gone}))]
    if later:
        raise Blocked(
            f"later changes stand on {', '.join(one.id for one in gone)}: {', '.join(later)}",
            changes=later,
            hint=f"undeploy them too: aquiline undeploy {' '.join([*later, *(one.id for one in gone)])}",
        )


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
    return record


def _predictions(tx: Transaction, change: Change) -> dict[tuple[str, str], str]:
    """Return what hosts said last that this undeploy would do, by host and the profile that it leaves."""
    for tested in tx.changes(change.domain, limit=20):
        if tested.kind == "test-undeploy" and set(tested.undoes) == set(change.undoes):
            return {(one.host, one.after): one.planned for one in tx.change_hosts(tested.id) if one.planned}
    return {}


def _order(change: Change, record: ChangeHost, target: HostTarget) -> StoredOrder:
    left = tuple(sorted(set(target.change_ids).difference(change.undoes)))
    return StoredOrder(
        id=f"{change.id}.{record.host}", change=change.id, host=record.host, kind="test-undo",
        profile=record.after, change_ids=left, expires=change.deadline,
    )  # fmt: skip
