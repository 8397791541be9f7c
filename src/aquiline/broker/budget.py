"""What one host may make the broker keep: so much a day, so that none can fill its disk, and others are never asked.

Theory of operation

1. Whatever a host sends and is kept is charged to it, in the transaction that keeps it: reports, change-sets, schemas,
   and lines of the audit that it causes. What was there already costs nothing.
2. Beyond its budget nothing of it is kept until the next day (UTC), and it is told to come again: it keeps its reports.
   Once a day the audit says so, because a host that sends that much is broken, or somebody else's.
3. Polls are written over the ones before, so they cost nothing, and have a size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from aquiline.broker.broker import Broker
from aquiline.broker.store import Transaction
from aquiline.errors import AquilineError

#: Bytes that whatever is kept costs besides its own: rows, indexes, names.
OVERHEAD = 1024
_DAY = 86400.0


class OverBudget(AquilineError):
    """A host has sent more today than it may; it is to try again later."""


@contextmanager
def keeping(broker: Broker, host: str) -> Iterator[Transaction]:
    """Begin a transaction that keeps something of `host`; where that is too much, nothing is kept, and audited."""
    try:
        with broker.store.transaction() as tx:
            yield tx
    except OverBudget:
        _say(broker, host)
        raise


def charge(broker: Broker, tx: Transaction, name: str, size: int) -> None:
    """Write down that `size` bytes more are kept of a host; raises `OverBudget` where that is more than it may have."""
    host = tx.host(name)
    if host is None:
        return
    day = int(broker.now() // _DAY)
    sent = size + OVERHEAD + (host.sent if host.day == day else 0)
    if sent > broker.host_budget:
        raise OverBudget(
            f"{name} has sent more than the {broker.host_budget} bytes that one host may send in a day",
            hint="it is tried again by itself; `aquiline broker --host-budget` says how much a host may send",
        )
    tx.put_host(msgspec.structs.replace(host, day=day, sent=sent, over=host.over and host.day == day))


def _say(broker: Broker, name: str) -> None:
    with broker.store.transaction() as tx:
        host = tx.host(name)
        if host is not None and not host.over:
            tx.put_host(msgspec.structs.replace(host, over=True))
            broker.audit(tx, name, "over its budget", name, budget=broker.host_budget)
