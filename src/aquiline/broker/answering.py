"""What the broker says to hosts: where they stand is written down, what they are to be is told, reports are kept.

A host reads and writes only what is its own: each function here is given the host whose credential was shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from aquiline.broker import targets
from aquiline.broker.broker import Broker, NotFound, Refused
from aquiline.broker.budget import charge, charged_if_within, has_room, is_over, keeping, note_over
from aquiline.broker.closing import close_if_due, keep_late
from aquiline.broker.records import (
    TOLD_NOTHING,
    Change,
    ChangeHost,
    ChangeHostState,
    Host,
    HostTarget,
    LateAnswer,
    StoredReport,
)
from aquiline.broker.restoring import held_ahead
from aquiline.broker.store import Reading, Transaction
from aquiline.changes.canonical import decode, encode, pack
from aquiline.changes.placeholders import Placeholders
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import (
    Live,
    MessageRefused,
    NotSpoken,
    Order,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    Target,
    decode_message,
    encode_message,
)

#: Seconds between two polls of a host that nothing is wanted of and that does not wait for news.
PACE = 300.0
#: Seconds between two polls of one that does: in between it hears of nothing.
PACE_WAITING = 0.5
#: Seconds after which it is written down again that a host has polled, where nothing else is new.
SEEN_EVERY = 60.0
#: Seconds after which the audit says again that a copy of a host polls.
_COPY_EVERY = 3600.0
#: Bytes of a poll; change-sets that a host may be asked for and owe; reports that are listed of one host in one change.
_LARGEST_POLL, _WANTED, _REPORTS = 256 * 1024, 32, 100
#: Exit statuses of a report that no person has to mend something for: done; something drifted, or what is left follows
#: with the next run; done and not confirmed yet.
_WELL = (0, 3, 18)
#: That of a verification which found something.
_DRIFTED = 3
#: States in which a host has not arrived at a target, whatever its journal says is live.
_SHORT_OF_IT = ("failed", "held")
#: Characters of a text that a host says about itself, and facts of it, that go into reports.
_LONGEST_TEXT, _FACTS = 4000, 200
#: Characters of the version of its program.
_LONGEST_TOOL = 64
#: Seconds between two polls while something is.
PACE_AT_WORK = 5.0


def answer(broker: Broker, host: Host, poll: Poll) -> PollAnswer:
    """Write down where `host` stands and return what it is to do.

    Raises:
        Refused: the host is a copy of another: two machines with one credential.
    """
    if len(pack(poll)) > _LARGEST_POLL:
        raise MessageRefused(f"a poll of more than {_LARGEST_POLL} bytes")
    _refuse_copy(broker, host, poll)
    with broker.store.reading() as tx:
        if not _is_news(broker, tx, host.name, poll):
            return _answer_in(broker, tx, host.name, poll)
    with keeping(broker, host.name) as tx:
        host = _seen(broker, tx, host.name, poll)
        target = tx.target(host.name)
        if target is not None and poll.state not in _SHORT_OF_IT:
            _settle(broker, tx, host, target)
        return _answer_in(broker, tx, host.name, poll)


def _is_news(broker: Broker, tx: Reading, name: str, poll: Poll) -> bool:
    """Return whether a poll says anything that is not written down: most do not, and those write nothing."""
    host, target = _host_in(tx, name), tx.target(name)
    if host.journal != poll.journal or not 0 <= broker.now() - host.seen < SEEN_EVERY:
        return True
    if _as_said(host, target, poll, host.seen) != host:
        return True
    return bool(target is not None and poll.state not in _SHORT_OF_IT and _arrived(tx, host, target))


def refused(broker: Broker, host: Host, poll: bytes, error: NotSpoken) -> None:
    """Write down that `host` polls in a version of the protocol that this broker does not speak.

    Of what it says only its version of the program is taken: the rest may mean something else.
    """
    found = decode(poll, object) if len(poll) <= _LARGEST_POLL else None
    said = found.get("tool", "") if isinstance(found, dict) else ""
    tool = said[:_LONGEST_TOOL] if isinstance(said, str) else ""
    with broker.store.transaction() as tx:
        before = _host_in(tx, host.name)
        because = error.message[:_LONGEST_TEXT]
        after = msgspec.structs.replace(before, state="refused", because=because, tool=tool)
        if after != before or not 0 <= broker.now() - before.seen < SEEN_EVERY:
            tx.put_host(msgspec.structs.replace(after, seen=broker.now()))


def _answer_in(broker: Broker, tx: Reading, name: str, poll: Poll) -> PollAnswer:
    """Return what a host that has polled is to do, in the version of its poll."""
    target = None if _host_in(tx, name).held_by in TOLD_NOTHING else tx.target(name)
    if target is not None:
        target = targets.told(target, poll.generation)
    orders = [one for one in tx.orders_for(name, broker.now()) if not one.unread_by or one.unread_by != poll.tool]
    wants_schemas = bool(poll.schemas) and not tx.has_content("schemas", [poll.schemas])
    work = [one.change for one in orders]
    if target is not None and target.generation > poll.generation:
        work.append(target.change)
    slot = broker.slots.of(tx, work, name, broker.now())
    return PollAnswer(
        protocol=poll.protocol,
        target=None if target is None else _message(target, poll.protocol),
        orders=tuple(
            Order(
                protocol=poll.protocol,
                id=one.id, change=one.change, kind=one.kind, profile=one.profile, change_ids=one.change_ids,
                again=one.again, reverted=one.reverted,
                time_to_live=max(0.0, one.expires - broker.now()),
            )
            for one in orders
        ),
        pace=PACE_AT_WORK + slot if work else PACE_WAITING if poll.wait else PACE,
        report_after=slot,
        wants_schemas=wants_schemas,
    )  # fmt: skip


def has_news(answered: PollAnswer, poll: Poll) -> bool:
    """Return whether a host that polled has something to do: a poll without is held open."""
    return bool(answered.orders) or (answered.target is not None and answered.target.generation > poll.generation)


def _message(target: HostTarget, protocol: int) -> Target:
    return Target(
        protocol=protocol,
        generation=target.generation, profile=target.profile, change_ids=target.change_ids, effect=target.effect,
        confirm_within=target.confirm_within, allow_irreversible=target.allow_irreversible, released=target.released,
    )  # fmt: skip


def _refuse_copy(broker: Broker, host: Host, poll: Poll) -> None:
    if poll.machine_id == host.machine_id:
        return
    if not 0 <= broker.now() - host.copied < _COPY_EVERY:
        with broker.store.transaction() as tx:
            tx.put_host(msgspec.structs.replace(_host_in(tx, host.name), copied=broker.now()))
            broker.audit(tx, host.name, "machine-id refused", host.name, found=poll.machine_id[:64])
    raise Refused(f"{host.name} was enrolled from another machine: this one is a copy of it", hint="enrol it anew")


def _seen(broker: Broker, tx: Transaction, name: str, poll: Poll) -> Host:
    host = held_ahead(broker, tx, installed_anew(broker, tx, _host_in(tx, name), poll.journal), poll)
    seen = _as_said(host, tx.target(name), poll, broker.now())
    tx.put_host(seen)
    return seen


def _host_in(tx: Reading, name: str) -> Host:
    host = tx.host(name)
    if host is None:
        raise NotFound(f"there is no host {name} any more")
    return host


def _as_said(host: Host, target: HostTarget | None, poll: Poll, when: float) -> Host:
    """Return a host as its poll says that it is."""
    seen = msgspec.structs.replace(
        host, seen=when, tool=poll.tool, journal=poll.journal, live=poll.live,
        past_undo=poll.past_undo, generation=poll.generation,
        state=poll.state, because=poll.because[:_LONGEST_TEXT], schemas=poll.schemas,
    )  # fmt: skip
    # A host that was released since it said so does not know it yet.
    has_heard = target is None or poll.generation >= target.released
    if poll.state == "held" and not host.held and has_heard:
        seen = msgspec.structs.replace(seen, held=poll.because or "undo and revert differ", held_by="agent")
    elif poll.state in ("idle", "failed") and host.held_by == "agent":
        seen = msgspec.structs.replace(seen, held="", held_by="")
    return seen


def installed_anew(broker: Broker, tx: Transaction, host: Host, journal: str) -> Host:
    """Mark what a host was told and will never say that it did, where its journal is another one than before."""
    if not host.journal or journal == host.journal:
        return host
    if charged_if_within(broker, tx, host.name, len(journal)):
        broker.audit(tx, host.name, "journal changed", host.name, before=host.journal, now=journal)
    for record in tx.changes_of_host(host.name):
        if record.state == "asked" and record.generation:
            tx.put_change_host(msgspec.structs.replace(record, state="reinstalled"))
    target = tx.target(host.name)
    lost = target.change_ids if target is not None else ()
    anew = msgspec.structs.replace(
        _host_in(tx, host.name), journal=journal, sequence=0, live=Live(), generation=0, lost=lost
    )
    tx.put_host(anew)
    return anew


def _settle(broker: Broker, tx: Transaction, host: Host, target: HostTarget) -> None:
    """Mark the changes that `host` has arrived at: it is what its target says, or one on the way there."""
    for record in _arrived(tx, host, target):
        tx.put_change_host(msgspec.structs.replace(record, state="done", answered=broker.now()))


def _arrived(tx: Reading, host: Host, target: HostTarget) -> list[ChangeHost]:
    """Return the changes that `host` has arrived at and that nobody has marked so."""
    at = [one.generation for one in (*target.way, target) if host.live == Live(one.profile, one.change_ids)]
    if not at:
        return []
    return [
        record
        for record in tx.changes_of_host(host.name, states=("asked", "failed", "reinstalled"))
        if 0 < record.generation <= max(at) and not (record.state == "reinstalled" and _takes_back(tx, record.change))
    ]


def _takes_back(tx: Reading, change_id: str) -> bool:
    """Return whether a change is an undeploy: what was installed anew has brought it about without taking a step."""
    change = tx.change(change_id)
    return change is not None and change.kind == "undeploy"


def profile(broker: Broker, host: Host, digest: str) -> bytes:
    """Return a profile that `host` is to be or was asked about; any other does not exist for it."""
    with broker.store.reading() as tx:
        target = tx.target(host.name)
        ours = {one.profile for one in (*target.way, target)} if target is not None else set()
        for order in tx.orders_for(host.name, broker.now()):
            ours.update((order.profile, order.reverted))
        found = tx.content("profile", digest) if digest in ours else None
    if found is None:
        raise NotFound(f"{host.name} has no profile {digest}")
    return found


def receive(broker: Broker, host: Host, report: Report) -> ReportAnswer:
    """Keep a report of `host`, once however often it comes; ask for the change-set if nobody has sent it.

    Of a host that has sent too much today only the outline is kept, and nothing is asked for.

    Raises:
        OverBudget: it has sent even more. MessageRefused: something in it is longer than any such thing is.
    """
    _refuse_long(report)
    body = encode(report).encode("ascii")
    with keeping(broker, host.name) as tx:
        is_whole = has_room(broker, _host_in(tx, host.name), len(body))
        if not is_whole:
            body = encode(_outline(report)).encode("ascii")
        change = _change_of(tx, host, report)
        if change is not None:
            # It is over when its time is up, whether or not somebody looked then.
            change = close_if_due(broker, tx, change.id)
        late = change is not None and change.is_question and change.state != "open"
        is_new = tx.add_report(
            StoredReport(
                id=report.id, host=host.name, change=change.id if change else "", received=broker.now(),
                kind=report.kind, body=body, late=late,
            )
        )  # fmt: skip
        if is_new:
            charge(broker, tx, host.name, len(body), is_outline=not is_whole)
            if not is_whole:
                note_over(broker, tx, host.name)
            if report.order:
                _end_order(tx, host, report)
            if change is not None and late:
                keep_late(tx, change, host.name, _late_answer(report))
            elif change is not None:
                _write_down(broker, tx, host, change, report)
            _learn_live(broker, tx, host.name, report)
            if change is not None:
                close_if_due(broker, tx, change.id)
        asks = is_whole and not is_over(broker, _host_in(tx, host.name))
        wanted = asks and report.change_set and not tx.has_content("change-set", [report.change_set])
        if wanted:
            _ask_for(tx, host.name, report.change_set)
    if change is not None:
        broker.bell.ring(change.id)
    return ReportAnswer((report.change_set,) if wanted else ())


def _outline(report: Report) -> Report:
    """Return how it went, without what was done: that is in the host's journal."""
    return msgspec.structs.replace(
        report, steps=(), facts={}, error=report.error[:_LONGEST_TEXT], hint=report.hint[:_LONGEST_TEXT],
        notes=("kept without its steps: this host has sent too much today",),
    )  # fmt: skip


def _refuse_long(report: Report) -> None:
    for most, values in (
        (64, (report.change_set,)),
        (255, (report.id, report.order, report.journal, report.run)),
        (_LONGEST_TEXT, (report.effect, report.actual)),
    ):
        if any(len(value) > most for value in values):
            raise MessageRefused(f"a report with a name of more than {most} characters")


def _ask_for(tx: Transaction, name: str, digest: str) -> None:
    """Remember that a host was asked for a change-set: it may send no other."""
    host = tx.host(name)
    if host is not None and digest not in host.wanted:
        tx.put_host(msgspec.structs.replace(host, wanted=(*host.wanted, digest)[-_WANTED:]))


def _change_of(tx: Transaction, host: Host, report: Report) -> Change | None:
    """Return the change that a report is about: by its order, else by the generation it was made for."""
    if report.order:
        order = tx.order(report.order)
        if order is None or order.host != host.name:
            raise Refused(f"{host.name} was not given an order {report.order}")
        return tx.change(order.change)
    if report.generation:
        found = next((one for one in tx.changes_of_host(host.name) if one.generation == report.generation), None)
        return None if found is None else tx.change(found.change)
    return None


def _end_order(tx: Transaction, host: Host, report: Report) -> None:
    """Give an order no more: to nobody, or to the version of the program that could not read it."""
    order = tx.order(report.order)
    if order is None or order.host != host.name:
        return
    is_unread = report.kind == "refusal" and bool(report.tool)
    tx.put_order(
        msgspec.structs.replace(
            order, answered=order.answered or not is_unread, unread_by=report.tool if is_unread else order.unread_by
        )
    )


def _write_down(broker: Broker, tx: Transaction, host: Host, change: Change, report: Report) -> None:
    record = tx.change_host(change.id, host.name)
    if record is None:
        return
    if report.journal == record.journal and 0 < report.sequence < record.sequence:
        tx.put_change_host(msgspec.structs.replace(record, reports=_with(record.reports, report.id)))
        return
    failed = report.exit_status not in _WELL
    tx.put_change_host(
        msgspec.structs.replace(
            record,
            state=_state_after(change, record, report),
            because=_shaped(report) if failed else record.because,
            planned=report.effect or record.planned,
            actual=report.actual or record.actual,
            change_set=report.change_set or record.change_set,
            reports=_with(record.reports, report.id),
            exit_status=report.exit_status if failed else 0,
            answered=broker.now(),
            journal=report.journal,
            sequence=report.sequence or (record.sequence if report.journal == record.journal else 0),
        )
    )


def _with(reports: Sequence[str], report: str) -> tuple[str, ...]:
    return (*reports, report)[-_REPORTS:]


def _state_after(change: Change, record: ChangeHost, report: Report) -> ChangeHostState:
    if report.exit_status not in _WELL:
        return "failed"
    if not change.is_question:
        return record.state
    if change.kind != "verify":
        return "answered"
    return "drifted" if report.exit_status == _DRIFTED else "clean"


def _late_answer(report: Report) -> LateAnswer:
    failed = report.exit_status not in _WELL
    return LateAnswer(
        report=report.id,
        change_set=report.change_set,
        exit_status=report.exit_status if failed else 0,
        because=_shaped(report) if failed else "",
    )


def _shaped(report: Report) -> str:
    """Return why a host failed, without what is its own, so that hosts that failed alike are shown once (P9)."""
    is_plausible = len(report.facts) <= _FACTS and sum(map(len, report.facts.values())) <= _LONGEST_TEXT
    try:
        shown = Placeholders(report.facts).shape(report.error[:_LONGEST_TEXT]) if is_plausible else report.error
    except ValueError:
        shown = report.error
    return shown[:_LONGEST_TEXT]


def _learn_live(broker: Broker, tx: Transaction, name: str, report: Report) -> None:
    """Take from a report what its host is after a run, unless a later run has told already."""
    host = tx.host(name)
    if host is None or report.live is None or report.journal != host.journal or report.sequence < host.sequence:
        return
    host = msgspec.structs.replace(host, live=report.live, sequence=report.sequence)
    tx.put_host(host)
    target = tx.target(name)
    # What failed in part is live too, and has failed all the same.
    if target is not None and report.exit_status in _WELL:
        _settle(broker, tx, host, target)


def keep_change_set(broker: Broker, host: Host, digest: str, body: bytes) -> None:
    """Keep the change-set that `body` holds, which `host` was asked for, if its digest is what it says (D25).

    One that is there already is passed over. Questions that waited for nothing else are closed.

    Raises:
        Refused: the host was not asked for it. MessageRefused: `body` is another, or none.
        OverBudget: the host has sent too much today.
    """
    with broker.store.reading() as tx:
        if tx.has_content("change-set", [digest]):
            return
        if digest not in _host_in(tx, host.name).wanted:
            raise Refused(f"{host.name} was not asked for the change-set {digest[:64]}")
    found = decode_message(body, ChangeSet)
    if change_set_digest(found) != digest:
        raise MessageRefused(f"this change-set is not {digest}")
    # As it was understood, not as it came: what the digest does not cover is not kept for others.
    kept = encode_message(found)
    with keeping(broker, host.name) as tx:
        charge(broker, tx, host.name, len(kept))
        now = _host_in(tx, host.name)
        tx.put_host(msgspec.structs.replace(now, wanted=tuple(one for one in now.wanted if one != digest)))
        tx.put_content("change-set", digest, kept)
        waiting = [one.change for one in tx.changes_of_host(host.name) if one.change_set == digest]
        for change_id in waiting:
            close_if_due(broker, tx, change_id)
    broker.bell.ring(*waiting)


def keep_schemas(broker: Broker, host: Host, digest: str, body: bytes) -> None:
    """Keep the schemas that `body` holds, by component, if they have the digest that the last poll of `host` named.

    Raises:
        Refused: it named another. MessageRefused: they have another, or are none. OverBudget: see `receive`.
    """
    with broker.store.reading() as tx:
        if tx.has_content("schemas", [digest]):
            return
        if digest != _host_in(tx, host.name).schemas:
            raise Refused(f"{host.name} was not asked for the schemas {digest[:64]}")
    decode_message(body, dict[str, dict[str, Any]])
    if hashlib.sha256(body).hexdigest() != digest:
        raise MessageRefused(f"these schemas are not {digest}")
    with keeping(broker, host.name) as tx:
        charge(broker, tx, host.name, len(body))
        tx.put_content("schemas", digest, body)
