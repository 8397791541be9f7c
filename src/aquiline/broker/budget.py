"""What one host may make the broker keep: so much a day, so that none can fill its disk, and others are never asked.

Theory of operation

1. Whatever a host sends and is kept is charged to it, in the transaction that keeps it: reports, change-sets, schemas,
   and lines of the audit that it causes. What was there already costs nothing.
2. Beyond its budget, until the next day (UTC), no body of it is asked for or kept, and of a report only the outline:
   how it went, without steps, up to a quarter more than the budget. So whoever tested much is still heard of when a run
   fails. Beyond that nothing is kept, and the host is told to come again: it keeps its reports. Once a day the audit
   says so, because a host that sends that much is broken, or somebody else's.
3. Polls are written over the ones before, so they cost nothing, and have a size. They are always answered: what they
   cause in the audit is left out of it where the budget is spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from aquiline.broker.broker import Broker
from aquiline.broker.records import Host
from aquiline.broker.store import Transaction
from aquiline.errors import AquilineError

#: Bytes that whatever is kept costs besides its own: rows, indexes, names.
OVERHEAD = 1024
_DAY = 86400.0
#: Share of the budget that is kept of outlines beyond it.
_RESERVE = 4


class OverBudget(AquilineError):
    """A host has sent more today than it may; it is to try again later."""


@contextmanager
def keeping(broker: Broker, host: str) -> Iterator[Transaction]:
    """Begin a transaction that keeps something of `host`; where that is too much, nothing is kept, and audited."""
    try:
        with broker.store.transaction() as tx:
            yield tx
    except OverBudget:
        with broker.store.transaction() as tx:
            note_over(broker, tx, host)
        raise


def charge(broker: Broker, tx: Transaction, name: str, size: int, *, is_outline: bool = False) -> None:
    """Write down that `size` bytes more are kept of a host; raises `OverBudget` where that is more than it may have."""
    host = tx.host(name)
    if host is None:
        return
    sent = _sent(broker, host) + size + OVERHEAD
    if sent > broker.host_budget + (broker.host_budget // _RESERVE if is_outline else 0):
        raise OverBudget(
            f"{name} has sent more than the {broker.host_budget} bytes that one host may send in a day",
            hint="it is tried again by itself; `aquiline broker --host-budget` says how much a host may send",
        )
    tx.put_host(msgspec.structs.replace(host, day=_today(broker), sent=sent, over=is_over(broker, host)))


def charged_if_within(broker: Broker, tx: Transaction, name: str, size: int) -> bool:
    """Charge a host as `charge` does, and return True; where it has spent its budget, return False."""
    try:
        charge(broker, tx, name, size)
    except OverBudget:
        return False
    return True


def is_over(broker: Broker, host: Host) -> bool:
    """Return whether a host has wanted to send more today than it may."""
    return host.over and host.day == _today(broker)


def has_room(broker: Broker, host: Host, size: int) -> bool:
    """Return whether `size` bytes more of a host may be kept today, outlines apart."""
    return _sent(broker, host) + size + OVERHEAD <= broker.host_budget


def note_over(broker: Broker, tx: Transaction, name: str) -> None:
    """Write down that a host has sent too much today; once a day in the audit."""
    host = tx.host(name)
    if host is not None and not is_over(broker, host):
        tx.put_host(msgspec.structs.replace(host, day=_today(broker), sent=_sent(broker, host), over=True))
        broker.audit(tx, name, "over its budget", name, budget=broker.host_budget)


def _sent(broker: Broker, host: Host) -> int:
    return host.sent if host.day == _today(broker) else 0


def _today(broker: Broker) -> int:
    return int(broker.now() // _DAY)
