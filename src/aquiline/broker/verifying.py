"""Verifications: hosts asked what is not as their last run left it. Nothing changes anywhere (D17)."""

from __future__ import annotations

from collections.abc import Sequence

from aquiline.broker.broker import Asker, Broker, NotFound, Refused, new_change_id
from aquiline.broker.laying import TEST_DEADLINE
from aquiline.broker.naming import folded, unfolded
from aquiline.broker.records import Change, ChangeHost, Host, StoredOrder
from aquiline.broker.store import Transaction


def verify(
    broker: Broker, branch: str, asker: Asker, *, hosts: Sequence[str] = (), seconds: float = TEST_DEADLINE
) -> Change:
    """Ask every host of a domain or sandbox what drifted, or those in the node sets `hosts`.

    Raises:
        NotFound: there is no such branch. Refused: it has no hosts, or not these. UsageError: `hosts` are no node sets.
    """
    wanted = sorted({name for one in hosts for name in unfolded(one)})
    with broker.store.transaction() as tx:
        asked = _members(tx, branch, wanted)
        change_id, serial = new_change_id(tx, branch)
        change = Change(
            id=change_id, kind="verify", domain=branch, serial=serial, state="open", author=asker.name,
            reason=asker.reason, justification=asker.justification,
            created=broker.now(), deadline=broker.now() + seconds,
        )  # fmt: skip
        tx.put_change(change)
        for host in asked:
            tx.put_change_host(ChangeHost(change=change_id, host=host.name, state="asked"))
            tx.put_order(
                StoredOrder(
                    id=f"{change_id}.{host.name}", change=change_id, host=host.name, kind="verify",
                    expires=change.deadline,
                )
            )  # fmt: skip
        broker.audit(tx, asker.name, "verify", change_id, hosts=list(hosts), reason=asker.reason)
    broker.bell.ring(change_id, *(host.name for host in asked))
    return change


def _members(tx: Transaction, branch: str, wanted: Sequence[str]) -> list[Host]:
    """Return the hosts of a branch, those that are wanted where some are named."""
    if tx.branch(branch) is None:
        raise NotFound(f"there is no domain or sandbox {branch}", hint="`aquiline domain list` names the domains")
    members = {host.name: host for host in tx.hosts(branch)}
    strangers = [name for name in wanted if name not in members]
    if strangers:
        raise Refused(f"not in {branch}: {folded(strangers)}", hint=f"`aquiline host list --domain {branch}`")
    if not members:
        raise Refused(f"{branch} has no hosts", hint=f"`aquiline host add HOST --domain {branch}`")
    return [members[name] for name in wanted or sorted(members)]
