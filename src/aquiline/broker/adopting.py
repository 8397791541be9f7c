"""Adopting: what somebody moved a domain to behind the broker's back becomes a deployment like any other (D20)."""

from __future__ import annotations

from aquiline.broker.broker import Asker, Broker, Refused, domain_of, new_change_id, refuse_frozen
from aquiline.broker.going_live import go_live, settle_in
from aquiline.broker.laying import Prepared, intend, trailers
from aquiline.broker.records import Change


def adopt(broker: Broker, domain: str, asker: Asker, *, allow_irreversible: bool = False) -> Change:
    """Deploy what a domain's branch was moved to outside, as a commit of its own on top that says who and why.

    Raises:
        Refused: nothing was moved, what had been deployed is not in it any more, a host that compiled before does not
            now, or the domain takes only what was approved.
        HostFrozen: the domain is frozen.
    """
    with broker.leased(domain, asker.name) as lease:
        with broker.store.transaction() as tx:
            settle_in(broker, tx, domain_of(tx, domain).name)
            branch = domain_of(tx, domain)
            refuse_frozen(branch)
            change_id, serial = new_change_id(tx, domain)
            hosts = tx.hosts(domain)
            known = tx.targets(host.name for host in hosts)
        found = broker.repository.head(domain)
        if found == branch.commit:
            raise Refused(f"there is nothing to adopt: {domain} is where its hosts are")
        if branch.needs_approval or not broker.repository.is_ancestor(branch.commit, found):
            why = "it takes only what was approved" if branch.needs_approval else "what was deployed is rewritten in it"
            raise Refused(
                f"what {domain} was moved to cannot be adopted: {why}",
                hint=f"push it as a sandbox, `aquiline domain reset {domain}`, then test and deploy the sandbox",
            )
        after = broker.repository.take_back(
            found, to=found, message=f"Adopt what {domain} was moved to",
            trailers=trailers(change_id, asker), author=asker.name,
        )  # fmt: skip
        prepared = Prepared(
            sandbox="", domain=branch, source=found, after=after, relays=(), hosts=hosts, targets=known,
            compiled=broker.compile(after, [host.name for host in hosts]),
        )  # fmt: skip
        change = Change(
            id=change_id, kind="deploy", domain=domain, serial=serial, state="intended", source=found,
            before=branch.commit, after=after, author=asker.name, reason=asker.reason,
            justification=asker.justification, created=broker.now(), allow_irreversible=allow_irreversible,
        )  # fmt: skip
        intend(broker, lease, change, prepared)
        change = go_live(broker, change, at=found)
    broker.bell.ring(change.id, *(host.name for host in hosts))
    return change
