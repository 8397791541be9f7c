"""Deployments and their tests: a sandbox merged into a domain, compiled, and asked or told.

Theory of operation of a live deployment

1. Under the domain's lease the sandbox is merged and compiled in a scratch clone. A conflict, or a host that compiled
   before and does not now, ends it: nothing has moved.
2. One transaction writes the change down as *intended*, with what it means to every host.
3. The domain's ref in git moves by compare-and-swap.
4. One transaction makes the change open: the database's commit, every host's target, all at once.

After a crash `settle` finds intended changes: where the ref has moved it does step 4, else nothing has moved and the
change has failed. The database says which commit is live (D20).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from aquiline.broker import targets
from aquiline.broker.broker import (
    Asker,
    Broker,
    Compilation,
    Refused,
    domain_of,
    new_change_id,
    refuse_frozen,
    sandbox_of,
)
from aquiline.broker.closing import close_if_due
from aquiline.broker.compiling import Compiled, CompileFailed
from aquiline.broker.going_live import InEffect, go_live, owed, settle_in, standing_of
from aquiline.broker.records import Approval, Branch, Change, ChangeHost, Host, HostTarget, Lease, StoredOrder
from aquiline.broker.store import Transaction
from aquiline.changes.canonical import pack
from aquiline.errors import PlanStale

#: Seconds after which a test closes, whoever has not answered.
TEST_DEADLINE = 600.0


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox merged into a domain and compiled, with nothing moved."""

    sandbox: str
    domain: Branch
    #: The sandbox's commit, and the merge.
    source: str
    after: str
    #: Undone changes that it lays again.
    relays: tuple[str, ...]
    hosts: Sequence[Host]
    targets: Mapping[str, HostTarget]
    compiled: Compilation

    def broken(self) -> list[CompileFailed]:
        """Return what keeps a deployment from going live: hosts that compiled before and fail now (D24)."""
        compiled_before = {host.name for host in self.hosts if host.compiled}
        return [
            found
            for name, found in sorted(self.compiled.items())
            if isinstance(found, CompileFailed) and name in compiled_before
        ]


def ask(
    broker: Broker,
    sandbox: str,
    domain: str,
    asker: Asker,
    *,
    every_host: bool = False,
    seconds: float = TEST_DEADLINE,
) -> Change:
    """Ask every host whose profile would change what deploying `sandbox` would do to it.

    Raises:
        NotFound: there is no such branch. MergeConflict, NothingToDeploy: the merge says so.
    """
    with broker.store.transaction() as tx:
        change_id, serial = new_change_id(tx, domain_of(tx, domain).name)
    prepared = _prepare(broker, sandbox, domain, change_id, asker)
    change = Change(
        id=change_id, kind="test", domain=domain, serial=serial, state="open", sandbox=sandbox,
        source=prepared.source, before=prepared.domain.commit, after=prepared.after, relays=prepared.relays,
        author=asker.name, reason=asker.reason, justification=asker.justification,
        created=broker.now(), deadline=broker.now() + seconds,
    )  # fmt: skip
    with broker.store.transaction() as tx:
        tx.put_change(change)
        for host in prepared.hosts:
            _ask_host(tx, change, host, prepared, every_host=every_host)
        broker.audit(tx, asker.name, "test", change.id, sandbox=sandbox, reason=asker.reason)
    broker.bell.ring(change.id, *(host.name for host in prepared.hosts))
    return change


def _ask_host(tx: Transaction, change: Change, host: Host, prepared: Prepared, *, every_host: bool) -> None:
    found = prepared.compiled[host.name]
    before = prepared.targets[host.name].profile if host.name in prepared.targets else ""
    if isinstance(found, CompileFailed):
        tx.put_change_host(
            ChangeHost(change=change.id, host=host.name, state="not-compiled", because=found.message, before=before)
        )
        return
    keep_profile(tx, found)
    is_asked = every_host or found.digest != before
    tx.put_change_host(
        ChangeHost(
            change=change.id, host=host.name, state="asked" if is_asked else "unchanged",
            before=before, after=found.digest,
        )
    )  # fmt: skip
    if is_asked:
        tx.put_order(
            StoredOrder(
                id=f"{change.id}.{host.name}", change=change.id, host=host.name, kind="test", profile=found.digest,
                expires=change.deadline,
            )
        )  # fmt: skip


def deploy(
    broker: Broker,
    sandbox: str,
    domain: str,
    asker: Asker,
    *,
    confirm_within: float = 0.0,
    allow_irreversible: bool = False,
    approved: str = "",
    include_untested: bool = False,
) -> Change:
    """Merge `sandbox` into `domain` and give every host whose profile changes its new target; all or nothing.

    Raises:
        NotFound: there is no such branch. MergeConflict, NothingToDeploy: the merge says so.
        Refused: a host that compiled before does not now, or somebody else is changing the domain.
        PlanStale: `approved` is not the digest of a closed and approved test of exactly this.
        HostFrozen: the domain is frozen.
    """
    with broker.leased(domain, asker.name) as lease:
        with broker.store.transaction() as tx:
            settle_in(broker, tx, domain)
            refuse_frozen(domain_of(tx, domain))
            change_id, serial = new_change_id(tx, domain)
        prepared = _prepare(broker, sandbox, domain, change_id, asker)
        change = Change(
            id=change_id, kind="deploy", domain=domain, serial=serial, state="intended", sandbox=sandbox,
            source=prepared.source, before=prepared.domain.commit, after=prepared.after, relays=prepared.relays,
            author=asker.name, reason=asker.reason, justification=asker.justification,
            created=broker.now(), digest=approved, confirm_within=confirm_within,
            allow_irreversible=allow_irreversible,
        )  # fmt: skip
        intend(broker, lease, change, prepared, include_untested=include_untested)
        change = go_live(broker, change)
    broker.bell.ring(change.id, *(host.name for host in prepared.hosts))
    return change


def intend(broker: Broker, lease: Lease, change: Change, prepared: Prepared, *, include_untested: bool = False) -> None:
    """Write a deployment down with what it means to every host; nothing has moved.

    Raises:
        Refused: a host that compiled before does not now, or the lease was lost meanwhile.
        PlanStale: it names no closed and approved test of exactly this, and has to.
        HostFrozen: the domain is frozen by now.
    """
    refuse_broken(prepared.broken(), "", hint="mend the sandbox and push it again")
    with broker.store.transaction() as tx:
        broker.refuse_lost(tx, lease)
        refuse_frozen(domain_of(tx, change.domain))
        tested = _approved_test(broker, tx, prepared, change.digest)
        tx.put_change(change)
        meaning = _Meaning(
            change, prepared, tested, _predictions(tx, prepared, tested),
            standing_of(tx, change.domain, everywhere=True), include_untested,
        )  # fmt: skip
        # As they are now: while this was compiled a person may have held or released some.
        for host in tx.hosts(change.domain):
            if host.name in prepared.compiled:
                tx.put_change_host(meaning.to(tx, host))
                found = prepared.compiled[host.name]
                if isinstance(found, Compiled):
                    keep_profile(tx, found)
        broker.audit(tx, change.author, "deploy", change.id, sandbox=change.sandbox, reason=change.reason)


def _prepare(broker: Broker, sandbox: str, domain: str, change_id: str, asker: Asker) -> Prepared:
    with broker.store.transaction() as tx:
        into, _ = domain_of(tx, domain), sandbox_of(tx, sandbox)
        hosts, changes = tx.hosts(domain), tx.changes(domain)
        known = tx.targets(host.name for host in hosts)
    refuse_moved(broker, into)
    source = broker.repository.head(sandbox)
    undone = _taken_back(broker, changes, source)
    # What another one of them had laid again comes back with that one.
    with_another = {name for one in undone for name in one.relays}
    after = broker.repository.merge(
        domain,
        source,
        message=f"Deploy {sandbox} on {domain}",
        trailers=trailers(change_id, asker),
        author=asker.name,
        first_revert=[one.taken_back for one in undone if one.id not in with_another],
    )
    refuse_moved(broker, into)
    return Prepared(
        sandbox=sandbox, domain=into, source=source, after=after,
        relays=tuple(one.id for one in undone),
        hosts=hosts, targets=known, compiled=broker.compile(after, [host.name for host in hosts]),
    )  # fmt: skip


def refuse_moved(broker: Broker, domain: Branch) -> None:
    """Refuse to build on a domain that is not where its hosts are (D20).

    It is just being changed, or somebody moved it behind the broker's back.
    """
    found = broker.repository.head(domain.name)
    if found == domain.commit:
        return
    with broker.store.transaction() as tx:
        now = domain_of(tx, domain.name)
        is_changing = any(one.state == "intended" for one in tx.changes(domain.name))
    if is_changing or now.commit != domain.commit:
        raise Refused(f"{domain.name} is just being changed", hint="try again when that is over")
    raise Refused(
        f"{domain.name} was moved outside: its branch is at {found[:12]}, its hosts at {domain.commit[:12]}",
        hint=f"`aquiline domain reset {domain.name}` puts it back, `aquiline domain adopt {domain.name}` deploys it",
    )


def _taken_back(broker: Broker, changes: Sequence[Change], source: str) -> list[Change]:
    """Return the undone changes that `source` has in it, in the order in which they are laid again (D20).

    git takes what was merged once for merged, and would silently leave it out. A source that has the undeploy in it as
    well was begun, or merged with the domain, afterwards: it is what its author sees there, without that change.
    """
    has = broker.repository.is_ancestor
    laid_again = _brought_again(changes)
    undone = (one for one in changes if one.state == "undone" and one.taken_back and one.id not in laid_again)
    found = [one for one in undone if has(one.source, source) and not has(one.taken_back, source)]
    undone_at = {name: one.serial for one in changes if one.kind == "undeploy" for name in one.undoes}
    # What was taken back last is laid again first.
    return sorted(found, key=lambda one: (-undone_at.get(one.id, 0), one.serial))


def _brought_again(changes: Sequence[Change]) -> set[str]:
    """Return what the changes in effect lay again, also by way of one that was laid again and taken back since."""
    relays = {one.id: one.relays for one in changes}
    found: set[str] = set()
    left = [name for one in targets.in_effect(changes) for name in one.relays]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(relays.get(name, ()))
    return found


def refuse_broken(broken: Sequence[CompileFailed], what: str, *, hint: str) -> None:
    """Raise `Refused` where hosts that compiled before do not now (D24); `what` begins the message."""
    if broken:
        some = "\n".join(f"{one.host}: {one.message}" for one in broken[:10])
        more = f"\nand {len(broken) - 10} more" if len(broken) > 10 else ""
        raise Refused(
            f"{what}{len(broken)} hosts that compiled before do not now; nothing has moved\n{some}{more}", hint=hint
        )


def _approved_test(broker: Broker, tx: Transaction, prepared: Prepared, approved: str) -> Change | None:
    """Return the test that was approved; None where none has to be and none was named."""
    if not approved and not prepared.domain.needs_approval:
        return None
    return approved_test(
        broker, tx, prepared.domain,
        source=prepared.source, before=prepared.domain.commit, approved=approved, of=prepared.sandbox,
    )  # fmt: skip


def approved_test(
    broker: Broker, tx: Transaction, into: Branch, *, source: str, before: str, approved: str, of: str
) -> Change:
    """Return the approved test, with the digest `approved`, of going from commit `before` to what `source` brings.

    Raises:
        PlanStale: there is none.
    """
    if not approved:
        raise PlanStale(
            f"{into.name} takes only what was tested and approved, and so do hosts of a domain that does",
            hint="test with --test, `aquiline approve`, then `--approved DIGEST`",
        )
    tests = [
        one for one in tx.changes(into.name)
        if one.kind == "test" and one.state == "closed" and one.digest == approved and one.sandbox == of
    ]  # fmt: skip
    if not tests:
        raise PlanStale(f"no closed test of {of} on {into.name} has the digest {approved}")
    # The same may have been tested twice, with the same outcome.
    same = [one for one in tests if (one.source, one.before) == (source, before)]
    if not same:
        raise PlanStale(
            f"{tests[0].id} tested other commits than would be deployed now: sandbox or domain has moved since",
            hint="test again",
        )
    for found in same:
        if any(one.digest == approved and one.until > broker.now() for one in tx.approvals(found.id)):
            return found
    raise PlanStale(f"nobody has approved {same[0].id}, or not for this long", hint=f"`aquiline approve {same[0].id}`")


def _predictions(tx: Transaction, prepared: Prepared, tested: Change | None) -> dict[str, str]:
    """Return what hosts said that the profiles they get now would do, by host: in the approved test, or else lately."""
    found: dict[str, str] = {}
    for change in [tested] if tested is not None else tx.changes(prepared.domain.name, limit=20):
        if change.kind == "test" and change.source == prepared.source:
            for record in tx.change_hosts(change.id):
                now = prepared.compiled.get(record.host)
                if record.planned and isinstance(now, Compiled) and now.digest == record.after:
                    found.setdefault(record.host, record.planned)
    return found


class _Meaning(msgspec.Struct, frozen=True):
    """What a deployment means to hosts, before it goes live."""

    change: Change
    prepared: Prepared
    tested: Change | None
    predicted: Mapping[str, str]
    standing: InEffect
    include_untested: bool

    def to(self, tx: Transaction, host: Host) -> ChangeHost:
        found = self.prepared.compiled[host.name]
        target = tx.target(host.name) or targets.first_target(host.name)
        record = ChangeHost(
            change=self.change.id, host=host.name, state="asked", before=target.profile,
            predicted=self.predicted.get(host.name, ""),
        )  # fmt: skip
        if isinstance(found, CompileFailed):
            return msgspec.structs.replace(record, state="not-compiled", because=found.message)
        record = msgspec.structs.replace(record, after=found.digest)
        if host.held:
            return msgspec.structs.replace(record, state="held-out", because=f"held: {host.held}")
        # A host that is owed something by another change is to have it, also where this one takes that out again.
        if found.digest == target.profile and not owed(tx, host.name, target.change_ids, self.standing):
            return msgspec.structs.replace(record, state="unchanged")
        if self.tested is not None and not record.predicted and not self.include_untested:
            return msgspec.structs.replace(
                record, state="held-out", because=f"did not answer the test {self.tested.id}"
            )
        return record


def keep_profile(tx: Transaction, compiled: Compiled) -> None:
    """Keep a profile under its digest, for the host to fetch."""
    tx.put_content("profile", compiled.digest, pack(compiled.profile))


def trailers(change_id: str, asker: Asker) -> dict[str, str]:
    """Return the lines at the end of a commit that say who did it and why."""
    found = {"Change-Id": change_id, "Deployed-By": asker.name, "Reason": asker.reason}
    return {name: value for name, value in (found | {"Justification": asker.justification}).items() if value}


def approve(broker: Broker, change_id: str, digest: str, asker: Asker, *, seconds: float) -> Approval:
    """Write down that `asker` read a closed test and agrees to it for so long (D21).

    Raises:
        Refused: it is not closed, has another digest, or its author may not approve it.
    """
    with broker.store.transaction() as tx:
        change = close_if_due(broker, tx, change_id)
        # A move may be tested that leads into a sandbox, out of a domain with rules.
        ruled = [one for one in (tx.branch(change.domain), tx.branch(change.sandbox)) if one is not None]
        if change.kind != "test" or change.state != "closed":
            raise Refused(f"{change_id} is not a closed test", hint=f"`aquiline watch {change_id}` waits for it")
        if change.digest != digest:
            raise Refused(f"{change_id} has the digest {change.digest}: read its report again")
        strict = [one.name for one in ruled if one.kind == "domain" and not one.author_may_approve]
        if change.author == asker.name and strict:
            raise Refused(f"{asker.name} made {change_id}, and {strict[0]} wants somebody else to approve it")
        found = Approval(
            change=change_id, digest=digest, by=asker.name, when=broker.now(), until=broker.now() + seconds
        )
        tx.put_approval(found)
        broker.audit(tx, asker.name, "approved", change_id, digest=digest)
        return found
