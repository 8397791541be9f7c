"""When a change is over: every host has answered, its time is up, or somebody ends it. It is immutable then (D21).

Theory of operation

1. A *question* (a test, a verification) closes once every host has answered and every change-set that an answer names
   is here; at its deadline; or when a person says so. What is missing then is shown as missing for ever.
2. What a closed question says never changes, and neither does its digest. An answer that comes late is kept beside what
   was said in time, a change-set that comes late is not looked at for it: both are its addendum.
3. Any other change closes once every host has done it or failed.
4. Nobody need be there at the deadline: whoever looks at a change closes it if it is due, and so does the broker by
   itself after a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from aquiline.broker.broker import Asker, Broker, Refused, change_of
from aquiline.broker.records import Change, ChangeHost, Host, LateAnswer
from aquiline.broker.store import Reading, Transaction
from aquiline.changes.canonical import pack

#: What is said of hosts for which there is nothing in a change, whatever else is known of them.
_PLAINLY: dict[str, str] = {"never-had": "never had it", "reinstalled": "installed anew since"}
#: Changes of the fleet among which those are looked for whose time is up.
_LATELY = 100


def looked_at(broker: Broker, change_id: str) -> Change:
    """Return a change as it is, closed if it is over; where it is not, nobody waits for whoever looks."""
    with broker.store.reading() as tx:
        change = change_of(tx, change_id)
        if not _why_over(broker, tx, change):
            return change
    with broker.store.transaction() as tx:
        return close_if_due(broker, tx, change_id)


def close_if_due(broker: Broker, tx: Transaction, change_id: str) -> Change:
    """Close a change that is over; return it as it is then."""
    change = change_of(tx, change_id)
    why = _why_over(broker, tx, change)
    return _close(broker, tx, change, who=broker.name, why=why) if why else change


def _why_over(broker: Broker, tx: Reading, change: Change) -> str:
    """Return why an open change is to be closed, an empty text where it is not; asked at every report of every host."""
    if change.state != "open":
        return ""
    if 0 < change.deadline <= broker.now():
        return "its time was up"
    if tx.is_waited_for(change.id) or (change.is_question and _missing(tx, change.id)):
        return ""
    return "every host has answered"


def close_early(broker: Broker, change_id: str, asker: Asker) -> Change:
    """Close a question before its time; one that is closed stays as it is. Raises `Refused` where it is none."""
    with broker.store.transaction() as tx:
        change = change_of(tx, change_id)
        if not change.is_question:
            raise Refused(
                f"{change_id} asks nothing: only a test or a verification is closed",
                hint=f"`aquiline undeploy {change_id}` takes it back",
            )
        if close_if_due(broker, tx, change_id).state != "open":
            return change_of(tx, change_id)
        found = _close(broker, tx, change, who=asker.name, why="somebody said so")
    broker.bell.ring(change_id)
    return found


def close_overdue(broker: Broker) -> None:
    """Close the questions whose time is up and at which nobody has looked since."""
    with broker.store.reading() as tx:
        overdue = [
            one.id for one in tx.changes(limit=_LATELY) if one.state == "open" and 0 < one.deadline <= broker.now()
        ]
    for change_id in overdue:
        looked_at(broker, change_id)


def _close(broker: Broker, tx: Transaction, change: Change, *, who: str, why: str) -> Change:
    records = tx.change_hosts(change.id)
    closed = msgspec.structs.replace(change, state="closed", closed=broker.now())
    if change.is_question:
        for record in records:
            if record.state == "asked":
                # As it was then: the report of a closed question says the same for ever.
                tx.put_change_host(msgspec.structs.replace(record, because=why_silent(record, tx.host(record.host))))
        closed = msgspec.structs.replace(closed, digest=digest_of(closed, records), missing=_missing(tx, change.id))
    tx.put_change(closed)
    broker.audit(tx, who, "closed", change.id, why=why)
    return closed


def _missing(tx: Reading, change_id: str) -> tuple[str, ...]:
    """Return the change-sets that hosts have named and that nobody has sent, sorted."""
    named = tx.change_sets_of(change_id)
    return tuple(sorted(named - tx.has_content("change-set", named)))


def digest_of(change: Change, records: Iterable[ChangeHost]) -> str:
    """Return the digest of what hosts answered: over host, profile and effect or drift, in the order of names."""
    is_verification = change.kind == "verify"
    rows = [
        [one.host, one.state, one.after, one.change_set if is_verification else one.planned]
        for one in sorted(records, key=lambda one: one.host)
    ]
    return hashlib.sha256(
        (b"aquiline verification 1\n" if is_verification else b"aquiline test 1\n") + pack(rows)
    ).hexdigest()


def keep_late(tx: Transaction, change: Change, host: str, answer: LateAnswer) -> None:
    """Keep what a host answered when its question was closed, beside what stands."""
    record = tx.change_host(change.id, host)
    if record is not None:
        tx.put_change_host(msgspec.structs.replace(record, late=answer))


def why_silent(record: ChangeHost, host: Host | None) -> str:
    """Return why a host has nothing to say of a change."""
    if record.state in _PLAINLY:
        return _PLAINLY[record.state]
    if record.state != "asked":
        return f"{record.state}: {record.because}" if record.because else record.state
    if record.because:
        return record.because
    if host is None:
        return "removed"
    if not host.enrolled:
        return "not enrolled"
    if host.state not in ("", "idle"):
        return f"{host.state}: {host.because}" if host.because else host.state
    return "not heard of since it was asked" if host.seen else "never seen"
