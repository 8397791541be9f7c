"""Laying changes again that an undeploy takes back because they stand on what it is about (decision 14).

Each is laid by a new change, with an ID of its own, that says which one it lays again; sandbox, source and reason are
those of the first time. Nothing here moves anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aquiline.broker.broker import Asker, Broker, Compilation
from aquiline.broker.compiling import Compiled, CompileFailed
from aquiline.broker.laying import keep_profile, refuse_broken, trailers
from aquiline.broker.records import Branch, Change, ChangeHost, Host
from aquiline.broker.store import Transaction
from aquiline.errors import MergeConflict, PlanStale


class Later(msgspec.Struct, frozen=True):
    """A change that is to be laid again: the commit that takes it back, and the ID that it gets."""

    change: Change
    taken_back: str
    id: str
    serial: int


class Again(msgspec.Struct, frozen=True):
    """A change that lays another one again: committed and compiled, apart from every branch."""

    change: Change
    #: What hosts are without it, and with it.
    before: Compilation
    compiled: Compilation

    def changes(self, host: str) -> bool:
        """Return whether it makes anything else of a host."""
        before, after = self.before.get(host), self.compiled.get(host)
        return isinstance(after, Compiled) and not (isinstance(before, Compiled) and before.digest == after.digest)

    def intend(self, tx: Transaction) -> None:
        """Write it down with what it means to every host of its domain."""
        tx.put_change(self.change)
        # As they are now: while this was compiled a person may have held or released some.
        for host in tx.hosts(self.change.domain):
            if host.name in self.compiled:
                tx.put_change_host(self._meaning(tx, host))

    def _meaning(self, tx: Transaction, host: Host) -> ChangeHost:
        """Return what it means to a host; that it leaves it as it is turns out when those before it are laid."""
        found = self.compiled[host.name]
        record = ChangeHost(change=self.change.id, host=host.name, state="asked")
        if isinstance(found, CompileFailed):
            return msgspec.structs.replace(record, state="not-compiled", because=found.message)
        keep_profile(tx, found)
        record = msgspec.structs.replace(record, after=found.digest)
        return msgspec.structs.replace(record, state="held-out", because=f"held: {host.held}") if host.held else record


def refuse_unapproved(domain: Branch, later: Sequence[str]) -> None:
    """Raise `PlanStale` where changes would be laid again on a domain that takes only what was approved."""
    if later and domain.needs_approval:
        names = " ".join(reversed(later))
        raise PlanStale(
            f"{domain.name} takes only what was approved, and {names} would be something else than was approved",
            hint=f"undeploy them too ({names}), then test, approve and deploy each again",
        )


def lay_each_again(
    broker: Broker,
    undeploy: Change,
    laters: Sequence[Later],
    compiled: Compilation,
    hosts: Sequence[Host],
    asker: Asker,
) -> list[Again]:
    """Return what lays later changes again after `undeploy`, which `compiled` says what hosts are by.

    Raises:
        MergeConflict: one of them cannot be laid again; it says which, and on which files.
        Refused: one of `hosts` compiled before and does not with one of them.
    """
    found: list[Again] = []
    before = undeploy.after
    for later in laters:
        old = later.change
        after = _committed(broker, undeploy, later, before, asker)
        change = Change(
            id=later.id, kind="deploy", domain=old.domain, serial=later.serial, state="intended", sandbox=old.sandbox,
            source=old.source, before=before, after=after, relays=(old.id,), laid_by=undeploy.id, author=asker.name,
            reason=old.reason, justification=old.justification, created=broker.now(),
            confirm_within=old.confirm_within, allow_irreversible=old.allow_irreversible,
        )  # fmt: skip
        one = Again(change, compiled, broker.compile(after, sorted(compiled)))
        failed = (one.compiled.get(host.name) for host in hosts if host.compiled)
        broken = [each for each in failed if isinstance(each, CompileFailed)]
        refuse_broken(broken, f"{old.id} cannot be laid again: ", hint=_instead(undeploy))
        found.append(one)
        before, compiled = after, one.compiled
    return found


def _committed(broker: Broker, undeploy: Change, later: Later, head: str, asker: Asker) -> str:
    old = later.change
    said = trailers(later.id, Asker(asker.name, old.reason, old.justification)) | {"Lays-Again": old.id}
    message = f"Deploy {old.sandbox or old.source[:12]} on {old.domain} again"
    try:
        return broker.repository.lay_again(
            head, later.taken_back, message=message, trailers=said, author=asker.name
        )  # fmt: skip
    except MergeConflict as error:
        raise MergeConflict(
            f"{old.id} cannot be laid again without {', '.join(_goes(undeploy))}",
            conflicts=error.conflicts,
            hint=_instead(undeploy),
        ) from None


def _goes(undeploy: Change) -> list[str]:
    """Return the changes that an undeploy does not lay again."""
    return [name for name in undeploy.undoes if name not in undeploy.relays]


def _instead(undeploy: Change) -> str:
    names = " ".join([*reversed(undeploy.relays), *_goes(undeploy)])
    return f"nothing has moved; to take all of them back: aquiline undeploy {names}"
