"""A database that was restored from a backup: what it has forgotten is found out, and nobody is taken back by it.

Theory of operation

1. Generations of targets only grow (D17). So a host that has reached one that this database has not given yet, or that
   has a change of which it knows nothing, was told more than the database remembers.
2. Such a host is held, until a person releases it: to bring it to what the database says would take back, without a
   word, what somebody had deployed since. Its next target has a generation that it has not seen yet.
3. A change ID is never given twice (P8). What the repository says was given counts, and what such a host has.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aquiline.broker import targets
from aquiline.broker.broker import Broker
from aquiline.broker.budget import charged_if_within
from aquiline.broker.records import Host
from aquiline.broker.store import Transaction
from aquiline.protocol.messages import Poll

#: Generations and serials by which a host may be ahead: no host can use up the numbers of a fleet.
_CREDIBLE = 1000


def held_ahead(broker: Broker, tx: Transaction, host: Host, poll: Poll) -> Host:
    """Return `host`, held where it was told more than this broker remembers."""
    target = tx.target(host.name) or targets.first_target(host.name)
    if poll.generation < target.released:
        return host  # it was released, and does not know it yet
    unknown = [] if poll.live == host.live else _unknown(tx, set(poll.live.change_ids).difference(target.change_ids))
    if poll.generation <= target.generation and not unknown:
        return host
    _skip_serials(tx, unknown, most=_CREDIBLE)
    if target.generation < poll.generation <= target.generation + _CREDIBLE:
        tx.put_target(msgspec.structs.replace(target, generation=poll.generation))
    if host.held_by == "broker":
        return host
    named = unknown[:_CREDIBLE]
    if charged_if_within(broker, tx, host.name, sum(map(len, named))):
        broker.audit(
            tx, host.name, "ahead of the database", host.name, generation=poll.generation, known=target.generation,
            changes=named,
        )  # fmt: skip
        host = tx.host(host.name) or host
    why = "it was told more than this broker remembers: was a backup restored?"
    return host if host.held_by == "person" else msgspec.structs.replace(host, held=why, held_by="broker")


def remember(broker: Broker) -> None:
    """Let no change ID be given again that is in the repository."""
    found = broker.repository.change_ids()
    with broker.store.transaction() as tx:
        _skip_serials(tx, found)


def _unknown(tx: Transaction, change_ids: Iterable[str]) -> list[str]:
    return sorted(name for name in change_ids if tx.change(name) is None)


def _skip_serials(tx: Transaction, change_ids: Iterable[str], *, most: int | None = None) -> None:
    """Go on after the highest serial of these changes; by no more than `most` at a time."""
    highest: dict[str, int] = {}
    for domain, _, number in (name.rpartition("-") for name in change_ids):
        if number.isascii() and number.isdecimal() and len(number) < 16:
            highest[domain] = max(int(number), highest.get(domain, 0))
    for domain, serial in highest.items():
        branch = tx.branch(domain)
        if branch is not None and branch.serial < serial and (most is None or serial <= branch.serial + most):
            tx.put_branch(msgspec.structs.replace(branch, serial=serial))
