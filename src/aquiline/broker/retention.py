"""What the broker forgets, and what it must not.

Theory of operation

1. Who did what, every change, and what it meant to each host stay for ever: they are small, and they are the history.
2. What is large goes once a change is old and over: its reports, and the change-sets, profiles and schemas that nothing
   else names. Old is older than the site says.
3. A change is not over while it can still be taken back somewhere: while a host has it live, is to have it, or has not
   answered, unless that host itself has put it past undo. So the broker's memory reaches back as far as every host's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from aquiline.broker.broker import Broker
from aquiline.broker.records import Change, Host, HostTarget
from aquiline.broker.store import Transaction
from aquiline.changes.canonical import decode
from aquiline.protocol.messages import Report

_DAY = 86400.0


class Forgotten(msgspec.Struct, frozen=True):
    """What went."""

    #: Changes whose reports went.
    changes: tuple[str, ...]
    reports: int
    #: Change-sets, profiles and schemas.
    contents: int


def forget(broker: Broker, *, days: float) -> Forgotten:
    """Forget what is older than `days` and needed by nobody; return what went."""
    before = broker.now() - days * _DAY
    with broker.store.transaction() as tx:
        hosts = tx.hosts()
        targets = tx.targets(host.name for host in hosts)
        old = [change for change in tx.changes() if _is_over(tx, change, hosts, targets, before)]
        reports = [one for change in old for one in tx.reports_of_change(change.id)]
        reports += [one for one in tx.reports_of_change("") if one.received < before]
        for one in reports:
            tx.drop_report(one.host, one.id)
        contents = _drop_contents(tx, hosts, targets.values(), [change.id for change in old], broker.now())
        went = tuple(sorted({one.change for one in reports if one.change}))
        if reports or contents:
            broker.audit(tx, "retention", "forgotten", "", changes=list(went), reports=len(reports), contents=contents)
    return Forgotten(went, len(reports), contents)


def _is_over(
    tx: Transaction, change: Change, hosts: Iterable[Host], targets: dict[str, HostTarget], before: float
) -> bool:
    if change.created >= before or change.state in ("intended", "open"):
        return False
    if change.is_question or change.state == "failed":
        return True
    for host in hosts:
        target = targets.get(host.name)
        wanted = target is not None and change.id in target.change_ids
        if (wanted or change.id in host.live.change_ids) and change.id not in host.past_undo:
            return False
    return not any(record.state == "asked" for record in tx.change_hosts(change.id))


def _drop_contents(
    tx: Transaction, hosts: Sequence[Host], targets: Iterable[HostTarget], forgotten: list[str], now: float
) -> int:
    """Drop what no target, host, change or report names any more; return how much that was."""
    gone = set(forgotten)
    profiles = {one.profile for target in targets for one in (*target.way, target)}
    profiles |= {host.live.profile for host in hosts} | {host.compiled for host in hosts}
    for host in hosts:
        for order in tx.orders_for(host.name, now):
            profiles |= {order.profile, order.reverted}
    change_sets: set[str] = set()
    for change in tx.changes():
        if change.id not in gone:
            for record in tx.change_hosts(change.id):
                profiles |= {record.before, record.after}
                change_sets |= {record.change_set, record.late.change_set if record.late is not None else ""}
            change_sets |= {decode(one.body, Report).change_set for one in tx.reports_of_change(change.id)}
    change_sets |= {decode(one.body, Report).change_set for one in tx.reports_of_change("")}
    kept = {"profile": profiles, "change-set": change_sets, "schemas": {host.schemas for host in hosts}}
    dropped = [(kind, digest) for kind, used in kept.items() for digest in sorted(tx.contents(kind) - used)]
    for kind, digest in dropped:
        tx.drop_content(kind, digest)
    return len(dropped)
