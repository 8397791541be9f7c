"""Who belongs to the fleet: domains, sandboxes, hosts, and people; and hosts that move, are held or let go."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from aquiline.broker import targets
from aquiline.broker.answering import installed_anew
from aquiline.broker.broker import (
    Asker,
    Broker,
    NotFound,
    Refused,
    domain_of,
    host_of,
    new_change_id,
    refuse_frozen,
)
from aquiline.broker.compiling import CompileFailed
from aquiline.broker.going_live import added, owed, settle_in, standing_of
from aquiline.broker.laying import TEST_DEADLINE, approved_test, keep_profile
from aquiline.broker.records import Branch, BranchKind, Change, ChangeHost, Host, JoinToken, Person, StoredOrder
from aquiline.broker.scratch import scratch_folder
from aquiline.broker.store import Transaction
from aquiline.errors import PlanStale, UsageError
from aquiline.protocol.messages import Enrol, Enrolled

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?)*")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
ROLES = ("reader", "author", "approver", "admin")


def hash_of(secret: str) -> str:
    """Return what is kept of a token or credential; it has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


# ---- branches ------------------------------------------------------------------------------------------------------


def add_domain(broker: Broker, name: str, asker: Asker, *, start: str = "") -> Branch:
    """Make a domain from the branch `start`, or with an empty tree where the fleet has none yet."""
    return _add_branch(broker, name, "domain", asker, start)


def add_sandbox(broker: Broker, name: str, asker: Asker, *, start: str) -> Branch:
    """Make a sandbox of its author from the domain `start`; people push to it with ordinary git."""
    with broker.store.transaction() as tx:
        domain_of(tx, start)
    return _add_branch(broker, name, "sandbox", asker, start)


def _add_branch(broker: Broker, name: str, kind: BranchKind, asker: Asker, start: str) -> Branch:
    with broker.store.transaction() as tx:
        if tx.branch(name) is not None:
            raise Refused(f"there is a {kind} or other branch {name} already")
        domains = [one.name for one in tx.branches() if one.kind == "domain"]
        begun = tx.branch(start) if start else None
        if start and begun is None:
            raise NotFound(f"there is no domain or sandbox {start}", hint="`aquiline domain list` names the domains")
        if begun is None:
            commit = _nothing(broker, asker)
        else:
            # Of a domain the database says which commit is live: the ref may be on its way to another (D20).
            commit = begun.commit if begun.kind == "domain" else broker.repository.head(begun.name)
        # Before there is a branch that could be pushed to; a name too many is struck off by the next one.
        broker.repository.protect(sorted([*domains, name] if kind == "domain" else domains))
        commit = _made(broker, name, kind, commit, domains)
        # Of a branch that was removed the changes stay, and an ID is never used again.
        serial = max((one.serial for one in tx.changes(name)), default=0)
        found = Branch(
            name=name, kind=kind, commit=commit, serial=serial, owner=asker.name, start=start, created=broker.now()
        )  # fmt: skip
        tx.put_branch(found)
        broker.audit(tx, asker.name, f"{kind} added", name, start=start)
    return found


def _made(broker: Broker, name: str, kind: BranchKind, commit: str, domains: Sequence[str]) -> str:
    """Return where the new branch is; one that was pushed already, or left by a broker that died, becomes a sandbox."""
    there = broker.repository.branches().get(name)
    if there is None:
        return broker.repository.add_branch(name, commit)
    if kind == "domain" and there != commit and broker.repository.changed_files(there, commit):
        broker.repository.protect(domains)
        raise Refused(
            f"somebody has pushed a branch {name}, and a domain holds only what was deployed",
            hint=f"`aquiline sandbox add {name}` makes it a sandbox; give the domain another name",
        )
    return there


def _nothing(broker: Broker, asker: Asker) -> str:
    """Return a commit without files: how a fleet begins."""
    with scratch_folder("empty") as folder:
        return broker.repository.commit(Path(folder), message="The fleet begins", author=asker.name)


def reset_domain(broker: Broker, name: str, asker: Asker) -> None:
    """Put the branch of a domain that was moved outside back to where its hosts are.

    Raises:
        Refused: somebody is just changing the domain.
    """
    with broker.leased(name, asker.name) as lease:
        with broker.store.transaction() as tx:
            settle_in(broker, tx, domain_of(tx, name).name)
            broker.refuse_lost(tx, lease)
            domain = domain_of(tx, name)
            found = broker.repository.head(name)
            broker.audit(tx, asker.name, "domain reset", name, found=found)
        if found != domain.commit:
            broker.repository.move(name, expected=found, to=domain.commit)


def remove_sandbox(broker: Broker, name: str, asker: Asker) -> None:
    """Remove a sandbox; what was deployed of it stays deployed."""
    with broker.store.transaction() as tx:
        branch = tx.branch(name)
        if branch is None or branch.kind != "sandbox":
            raise NotFound(f"there is no sandbox {name}")
        members = tx.hosts(name)
        if members:
            raise Refused(f"{len(members)} hosts are managed from {name}", hint="move them first: aquiline host manage")
        if branch.owner != asker.name:
            person = tx.person(asker.name)
            if person is None or "admin" not in person.roles:
                raise Refused(f"{name} is {branch.owner}'s", hint="its owner or an admin may remove it")
        tx.remove_branch(name)
        broker.audit(tx, asker.name, "sandbox removed", name)
    broker.repository.remove_branch(name, broker.repository.head(name))


def freeze_domain(broker: Broker, name: str, asker: Asker, reason: str) -> None:
    """Let nothing be deployed on a domain until it is thawed; an empty reason thaws it."""
    with broker.store.transaction() as tx:
        tx.put_branch(msgspec.structs.replace(domain_of(tx, name), frozen=reason))
        broker.audit(tx, asker.name, "frozen" if reason else "thawed", name, reason=reason)


def set_rules(
    broker: Broker,
    name: str,
    asker: Asker,
    *,
    needs_approval: bool | None = None,
    author_may_approve: bool | None = None,
) -> Branch:
    """Say whether a domain takes only what was approved, and whether its author may; None leaves it as it is."""
    with broker.store.transaction() as tx:
        found = domain_of(tx, name)
        if needs_approval is not None:
            found = msgspec.structs.replace(found, needs_approval=needs_approval)
        if author_may_approve is not None:
            found = msgspec.structs.replace(found, author_may_approve=author_may_approve)
        tx.put_branch(found)
        broker.audit(
            tx, asker.name, "rules", name,
            needs_approval=found.needs_approval, author_may_approve=found.author_may_approve,
        )  # fmt: skip
    return found


# ---- hosts ---------------------------------------------------------------------------------------------------------


def add_host(broker: Broker, name: str, asker: Asker, *, branch: str) -> Change:
    """Make a host a member: what its branch is now comes to it as a deployment like any other."""
    if not _is_host_name(name):
        raise UsageError(f"{name!r} is no host's name")
    with broker.store.transaction() as tx:
        if tx.host(name) is not None:
            raise Refused(f"there is a host {name} already")
        if tx.branch(branch) is None:
            raise NotFound(f"there is no domain or sandbox {branch}")
        tx.put_host(Host(name=name, branch=branch, added=broker.now()))
        broker.audit(tx, asker.name, "host added", name, branch=branch)
    return manage(broker, name, asker, branch=branch)


def _is_host_name(name: str) -> bool:
    return len(name) <= 253 and _HOST_NAME.fullmatch(name) is not None


def manage(
    broker: Broker,
    name: str,
    asker: Asker,
    *,
    branch: str,
    is_test: bool = False,
    seconds: float = TEST_DEADLINE,
    approved: str = "",
) -> Change:
    """Move a host to a branch: a deployment with a change ID, a test and an undo.

    Raises:
        NotFound, Refused: there is no such host or branch, it is held, or does not compile there.
        PlanStale: `approved` is not the digest of an approved test of exactly this, and has to be.
        HostFrozen: the branch is frozen.
    """
    with broker.leased(branch, asker.name) as lease:
        with broker.store.transaction() as tx:
            host = host_of(tx, name)
            into = _open_to(tx, host, branch, is_test=is_test)
            if into.kind == "domain":
                settle_in(broker, tx, branch)
                into = tx.branch(branch) or into
            change_id, serial = new_change_id(tx, branch)
        commit = into.commit if into.kind == "domain" else broker.repository.head(branch)
        compiled = broker.compile(commit, [name])[name]
        if isinstance(compiled, CompileFailed) and host.compiled:
            raise Refused(f"{name} compiled before and does not in {branch}: {compiled.message}")
        with broker.store.transaction() as tx:
            broker.refuse_lost(tx, lease)
            host = host_of(tx, name)
            _open_to(tx, host, branch, is_test=is_test)
            effect = "" if is_test else _approved_effect(broker, tx, host, into, commit, approved)
            target = tx.target(name) or targets.first_target(name)
            change = Change(
                id=change_id, kind="test" if is_test else "move", domain=branch, serial=serial, state="open",
                digest=approved,
                sandbox=host.branch, source=commit, before=commit, after=commit, author=asker.name,
                reason=asker.reason, justification=asker.justification, created=broker.now(),
                deadline=broker.now() + seconds if is_test else 0.0,
            )  # fmt: skip
            tx.put_change(change)
            record = ChangeHost(change=change_id, host=name, state="asked", before=target.profile)
            if isinstance(compiled, CompileFailed):
                record = msgspec.structs.replace(record, state="not-compiled", because=compiled.message)
            else:
                keep_profile(tx, compiled)
                record = msgspec.structs.replace(record, after=compiled.digest)
            if is_test:
                tx.put_change_host(record)
                if record.state == "asked":
                    tx.put_order(
                        StoredOrder(
                            id=f"{change_id}.{name}", change=change_id, host=name, kind="test",
                            profile=record.after, expires=change.deadline,
                        )
                    )  # fmt: skip
            else:
                _move(tx, host, change, msgspec.structs.replace(record, predicted=effect))
            broker.audit(tx, asker.name, "host test" if is_test else "host moved", name, change=change_id, to=branch)
    broker.bell.ring(change.id, name)
    return change


def _open_to(tx: Transaction, host: Host, branch: str, *, is_test: bool) -> Branch:
    """Return the branch that a host is to go to; raises where it, or the host, is kept as it is."""
    into = tx.branch(branch)
    if into is None:
        raise NotFound(f"there is no domain or sandbox {branch}")
    if not is_test:
        refuse_frozen(into)
        if host.held:
            raise Refused(f"{host.name} is held: {host.held}", hint=f"`aquiline host release {host.name}`")
    return into


def _approved_effect(broker: Broker, tx: Transaction, host: Host, into: Branch, commit: str, approved: str) -> str:
    """Return the effect of a move that was approved; empty where none has to be and none was named.

    A host leaves a domain that takes only what was approved as it comes into one: approved.
    """
    home = tx.branch(host.branch)
    # What becomes a member has no profile that anybody had agreed to.
    needs = into.needs_approval or (home is not None and home.needs_approval)
    if not approved and not (needs and tx.target(host.name) is not None):
        return ""
    test = approved_test(broker, tx, into, source=commit, before=commit, approved=approved, of=host.branch)
    record = tx.change_host(test.id, host.name)
    if record is None or not record.planned:
        raise PlanStale(f"{test.id} does not say what moving {host.name} would do", hint="test again")
    return record.planned


def _move(tx: Transaction, host: Host, change: Change, record: ChangeHost) -> None:
    moved = msgspec.structs.replace(host, branch=change.domain)
    if record.state == "asked":
        target = tx.target(host.name) or targets.first_target(host.name)
        standing = standing_of(tx, change.domain)
        following = targets.with_change(
            target,
            change,
            record.after,
            effect=record.predicted,
            owed=standing.deployed,
            gone=standing.gone.difference(host.past_undo),
        )
        tx.put_target(following)
        record = msgspec.structs.replace(record, generation=following.generation, change_ids=added(target, following))
        moved = msgspec.structs.replace(moved, compiled=record.after)
    tx.put_host(moved)
    tx.put_change_host(record)


def undo_move(broker: Broker, change: Change, asker: Asker) -> Change:
    """Take a move back: the host is what it was before, in the branch it was in, as that is by now."""
    with broker.leased(change.domain, asker.name) as lease:
        with broker.store.transaction() as tx:
            record = tx.change_hosts(change.id)[0]
            home = _home_of(tx, change, record)
            host = host_of(tx, record.host)
            change_id, serial = new_change_id(tx, change.domain)
        comes_home = change.sandbox != change.domain
        commit = home.commit if home.kind == "domain" else broker.repository.head(home.name)
        compiled = broker.compile(commit, [host.name])[host.name] if comes_home else None
        if isinstance(compiled, CompileFailed):
            raise Refused(f"{host.name} does not compile in {home.name}: {compiled.message}")
        with broker.store.transaction() as tx:
            broker.refuse_lost(tx, lease)
            if _home_of(tx, change, record).commit != home.commit:
                raise Refused(f"{home.name} was changed meanwhile", hint="try again")
            host = host_of(tx, record.host)
            target = tx.target(host.name) or targets.first_target(host.name)
            undo = Change(
                id=change_id, kind="undeploy", domain=change.domain, serial=serial, state="open", undoes=(change.id,),
                author=asker.name, reason=asker.reason, justification=asker.justification, created=broker.now(),
            )  # fmt: skip
            profile, gone, missed = record.before, set(record.change_ids), list[str]()
            if compiled is not None:
                keep_profile(tx, compiled)
                # What happened at home while the host was away has happened to it too.
                standing = standing_of(tx, home.name)
                missed = owed(tx, host.name, sorted(set(target.change_ids).difference(gone)), standing)
                profile, gone = compiled.digest, gone.union(standing.gone.difference(host.past_undo))
            following = targets.without_changes(target, undo, gone.difference(missed), profile, owed=missed)
            tx.put_change(undo)
            tx.put_change(msgspec.structs.replace(change, state="undone"))
            tx.put_target(following)
            tx.put_change_host(
                ChangeHost(
                    change=undo.id, host=host.name, state="asked", before=target.profile, after=following.profile,
                    change_ids=record.change_ids, generation=following.generation,
                )
            )  # fmt: skip
            tx.put_host(
                msgspec.structs.replace(host, branch=home.name, compiled=following.profile if comes_home else "")
            )
            broker.audit(tx, asker.name, "move undone", host.name, change=change.id)
    broker.bell.ring(undo.id, host.name)
    return undo


def _home_of(tx: Transaction, change: Change, record: ChangeHost) -> Branch:
    """Return the branch that a host came from by a move that can be taken back; raises where it cannot."""
    host = host_of(tx, record.host)
    moved = tx.change(change.id) or change
    _refuse_move(tx, moved, record)
    if host.held:
        raise Refused(f"{host.name} is held: {host.held}", hint=f"`aquiline host release {host.name}`")
    home = tx.branch(change.sandbox)
    if home is None:
        raise Refused(
            f"{host.name} came from {change.sandbox}, which is no more", hint="`aquiline host manage` moves it"
        )
    for name in {change.domain, home.name}:
        if (branch := tx.branch(name)) is not None:
            refuse_frozen(branch)
    return home


def _refuse_move(tx: Transaction, change: Change, record: ChangeHost) -> None:
    later = [
        one.change
        for one in tx.changes_of_host(record.host)
        if one.generation > record.generation and (found := tx.change(one.change)) and found.state in ("open", "closed")
        and found.kind in ("deploy", "move")
    ]  # fmt: skip
    if change.state not in ("open", "closed") or change.kind != "move":
        raise Refused(f"{change.id} is not a move in effect")
    if later:
        raise Refused(f"later changes came to {record.host}: {', '.join(later)}", hint="undeploy them first")


def hold(broker: Broker, name: str, asker: Asker) -> None:
    """Keep a host as it is: it takes tests, and no targets, and holds up no gate."""
    with broker.store.transaction() as tx:
        host = host_of(tx, name)
        tx.put_host(msgspec.structs.replace(host, held=asker.reason or f"by {asker.name}", held_by="person"))
        broker.audit(tx, asker.name, "held", name, reason=asker.reason)


def release(broker: Broker, name: str, asker: Asker) -> None:
    """Let a held host go on: it becomes what its branch is now, with every change it missed."""
    with broker.store.transaction() as tx:
        host = host_of(tx, name)
        if not host.held:
            raise Refused(f"{name} is not held")
        standing = standing_of(tx, host.branch)
        target = tx.target(name) or targets.first_target(name)
        missed = owed(tx, name, target.change_ids, standing) if host.compiled else []
        tx.put_target(
            targets.released(
                target, host.compiled or target.profile, owed=missed, gone=standing.gone.difference(host.past_undo)
            )
        )
        tx.put_host(msgspec.structs.replace(host, held="", held_by=""))
        broker.audit(tx, asker.name, "released", name, reason=asker.reason)
    broker.bell.ring(name)


# ---- people and credentials ----------------------------------------------------------------------------------------


def new_token() -> str:
    """Return a token for a person."""
    return f"aqp_{secrets.token_urlsafe(32)}"


def add_person(broker: Broker, name: str, roles: Sequence[str], asker: Asker, *, token: str = "") -> str:
    """Let somebody ask for things; return the token, a new one unless it is given, which is kept nowhere.

    Raises:
        UsageError: there is no such role. Refused: there is somebody of that name who was not revoked.
    """
    strange = sorted(set(roles).difference(ROLES))
    if strange or not roles:
        raise UsageError(f"no such role: {', '.join(strange) or 'none given'}; there are {', '.join(ROLES)}")
    token = token or new_token()
    with broker.store.transaction() as tx:
        known = tx.person(name)
        if known is not None and not known.revoked:
            raise Refused(
                f"there is somebody called {name} already: {', '.join(known.roles)}",
                hint=f"`aquiline person renew {name}` gives another token; for other roles revoke and add",
            )
        tx.put_person(Person(name=name, token=hash_of(token), roles=tuple(sorted(roles)), created=broker.now()))
        broker.audit(tx, asker.name, "person added", name, roles=list(roles))
    return token


def renew_token(broker: Broker, name: str, asker: Asker) -> str:
    """Give somebody another token, and make the one before worthless; return it. It is kept nowhere.

    Raises:
        NotFound: there is nobody of that name. Refused: they were revoked.
    """
    token = new_token()
    with broker.store.transaction() as tx:
        person = tx.person(name)
        if person is None:
            raise NotFound(f"there is nobody called {name}", hint="`aquiline person add`")
        if person.revoked:
            raise Refused(f"{name} was revoked", hint=f"`aquiline person add {name} --role ROLE` lets them in again")
        tx.put_person(msgspec.structs.replace(person, token=hash_of(token)))
        broker.audit(tx, asker.name, "token renewed", name)
    return token


def revoke_person(broker: Broker, name: str, asker: Asker) -> None:
    """Let somebody ask for nothing any more."""
    with broker.store.transaction() as tx:
        person = tx.person(name)
        if person is None:
            raise NotFound(f"there is nobody called {name}")
        tx.put_person(msgspec.structs.replace(person, revoked=broker.now()))
        broker.audit(tx, asker.name, "person revoked", name)


def add_join_token(broker: Broker, asker: Asker, *, count: int, seconds: float, pattern: str) -> str:
    """Let `count` hosts whose names match `pattern` enrol within `seconds`; return the token, which is kept nowhere."""
    token = f"aqj_{secrets.token_urlsafe(32)}"
    now = broker.now()
    with broker.store.transaction() as tx:
        made = JoinToken(
            id=secrets.token_hex(8), token=hash_of(token), left=count, expires=now + seconds, pattern=pattern,
            made_by=asker.name, created=now,
        )  # fmt: skip
        tx.put_join_token(made)
        broker.audit(tx, asker.name, "join token", made.id, count=count, pattern=pattern)
    return token


def enrol(broker: Broker, wish: Enrol) -> Enrolled:
    """Give a host its credential.

    Raises:
        Refused: the token is unknown, used up, expired or not for this name; the host is not a member, or is enrolled.
    """
    if not _is_host_name(wish.name):
        # Before anything is written down: whoever asks need not have shown anything yet.
        raise Refused("what wants to enrol has no name that a host can have", hint="`aquiline enrol --name`")
    credential = f"aqh_{secrets.token_urlsafe(32)}"
    key = b""
    with broker.store.transaction() as tx:
        token = tx.join_token(hash_of(wish.join_token))
        host = tx.host(wish.name)
        why = ""
        if token is None or not fnmatch.fnmatchcase(wish.name, token.pattern):
            why = "the join token is not good for this host"
        elif not _MACHINE_ID.fullmatch(wish.machine_id):
            why = "its machine id is none"
        elif host is None:
            why = "no such host was added"
        elif host.credential:
            why = "it is enrolled already; revoke it first"
        elif not tx.use_join_token(token.id, broker.now()):
            why = "the join token is used up or has expired"
        broker.audit(tx, wish.name, "enrol refused" if why else "enrolled", wish.name, why=why)
        if not why and host is not None:
            key = _domain_key(tx, host.branch)
            host = installed_anew(broker, tx, host, wish.journal)
            tx.put_host(
                msgspec.structs.replace(
                    host, credential=hash_of(credential), machine_id=wish.machine_id, enrolled=broker.now(),
                    journal=wish.journal,
                )
            )  # fmt: skip
    if why:
        raise Refused(f"{wish.name} cannot enrol: {why}", hint="`aquiline host join-token` makes one")
    return Enrolled(credential, key)


def _domain_key(tx: Transaction, branch: str) -> bytes:
    """Return the key with which hosts of a domain make digests of secrets, so that equal ones group (D9).

    It is made for the first of them, and told to hosts alone: who has it can try out what a secret might be.
    """
    found = tx.branch(branch)
    domain = found.start if found is not None and found.kind == "sandbox" else branch
    name = hashlib.sha256(domain.encode()).hexdigest()
    tx.put_content("domain-key", name, secrets.token_bytes(32))  # which keeps the one that is there
    key = tx.content("domain-key", name)
    assert key is not None, "it was put there just now"
    return key


def revoke_host(broker: Broker, name: str, asker: Asker) -> None:
    """Make a host's credential worthless, and forget what it said of its components; it may enrol again.

    So a host that nobody trusts any more cannot keep its domain from being deployed by schemas that fit no profile.
    """
    with broker.store.transaction() as tx:
        host = host_of(tx, name)
        tx.put_host(msgspec.structs.replace(host, credential="", machine_id="", schemas=""))
        broker.audit(tx, asker.name, "credential revoked", name)
