"""When a test is over, and what becomes of answers and change-sets that come later (D21)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquiline.broker import answering, closing, laying, reporting
from aquiline.broker.broker import Refused
from aquiline.broker.records import AuditEntry, Change, ChangeHost, StoredOrder
from aquiline.broker.rendering import render_report
from aquiline.broker.reporting import FleetReport
from aquiline.changes.canonical import encode
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import Report, encode_message
from tests.broker.small import ALICE, BOB, Fleet


def question(fleet: Fleet, *, seconds: float = 600.0) -> Change:
    """Ask every host about a new sandbox."""
    return laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=seconds)


def written_down(fleet: Fleet, name: str) -> Change:
    """Ask every host, without a sandbox: quicker."""
    test = Change(
        id=name, kind="test", domain="prod", state="open", author="alice", created=fleet.now, deadline=fleet.now + 60
    )
    with fleet.store.transaction() as tx:
        tx.put_change(test)
        for host in fleet.hosts:
            tx.put_change_host(ChangeHost(change=name, host=host, state="asked"))
            tx.put_order(StoredOrder(id=f"{name}.{host}", change=name, host=host, kind="test", expires=test.deadline))
    return test


def body_of(host: str) -> ChangeSet:
    """Return the change-set that a host answers with: web1 and web2 have one."""
    return ChangeSet(notes=(f"of {host.rstrip('012')}",))


def says(fleet: Fleet, test: Change, host: str, **more: object) -> None:
    """Let a host send its report, and no body."""
    report = Report(
        id=f"{test.id}/{host}", tool="test", journal="journal-1", kind="test", order=f"{test.id}.{host}",
        effect=f"effect of {host}", change_set=change_set_digest(body_of(host)),
    )  # fmt: skip
    answering.receive(fleet.broker, fleet.record(host), msgspec.structs.replace(report, **more))


def sends_body(fleet: Fleet, host: str) -> None:
    """Let a host send the change-set that its report named."""
    body = body_of(host)
    answering.keep_change_set(fleet.broker, fleet.record(host), change_set_digest(body), encode_message(body))


def closings(fleet: Fleet, test: Change) -> list[AuditEntry]:
    """Return what was written down about the end of a test."""
    with fleet.store.transaction() as tx:
        return [one for one in tx.audit_entries(about=test.id) if one.what == "closed"]


def report(fleet: Fleet, test: Change) -> FleetReport:
    """Return the report of a test as it is now."""
    return reporting.report(fleet.broker, test.id)


def test_the_last_body_closes_it(fleet: Fleet) -> None:
    """A test whose hosts have all answered is open until every change-set that they named is there."""
    test = question(fleet)
    for host in fleet.hosts:
        says(fleet, test, host)
    sends_body(fleet, "web1")
    before = report(fleet, test)

    sends_body(fleet, "db1")

    assert ("open", {"answered": 3}) == (before.state, before.totals)
    assert ("closed", ()) == (fleet.change(test).state, fleet.change(test).missing)
    assert [("broker", '{"why":"every host has answered"}')] == [
        (one.who, one.details) for one in closings(fleet, test)
    ]  # fmt: skip
    assert [False, False] == [one.incomplete for one in report(fleet, test).groups]


def test_a_body_that_never_comes(fleet: Fleet) -> None:
    """At its deadline a test closes without it; that it was missing stays so, and what comes later is shown below."""
    test = question(fleet, seconds=60.0)
    for host in fleet.hosts:
        says(fleet, test, host)
    sends_body(fleet, "db1")
    fleet.now += 60
    first = report(fleet, test)

    sends_body(fleet, "web2")

    second = report(fleet, test)
    missing = next(one for one in first.groups if one.incomplete)
    assert ("closed", "web[1-2]", None) == (first.state, missing.hosts, first.addendum)
    assert (first.digest, first.groups) == (second.digest, second.groups)
    assert second.addendum is not None
    assert [(0, missing.name, False)] == [
        (second.addendum.answered, one.same_as, one.incomplete) for one in second.addendum.groups
    ]
    assert "its change-set has not arrived" in render_report(second)
    assert "after it closed: change-sets came" in render_report(second)


def test_late_answers_are_an_addendum(fleet: Fleet) -> None:
    """How many came late, which, and what they say, as text and as data; nothing above it is another for that."""
    test = question(fleet)
    says(fleet, test, "web1")
    sends_body(fleet, "web1")
    closing.close_early(fleet.broker, test.id, BOB)
    first = report(fleet, test)

    says(fleet, test, "web2")
    says(fleet, test, "db1", exit_status=15, error="no room on db1", facts={"name": "db1"})
    sends_body(fleet, "db1")

    second = report(fleet, test)
    assert msgspec.structs.replace(second, addendum=None) == first
    assert render_report(second).startswith(render_report(first))
    assert second.addendum is not None
    assert (2, "db1,web2") == (second.addendum.answered, second.addendum.hosts)
    assert [("L1", "db1", "no room on ⟦name⟧", ""), ("L2", "web2", "", "G1")] == [
        (one.name, one.hosts, one.error, one.same_as) for one in second.addendum.groups
    ]
    assert "after it closed: 2 hosts answered  db1,web2" in render_report(second)
    assert '"addendum":{"answered":2' in encode(second)


def test_closed_by_a_person(fleet: Fleet) -> None:
    """Whoever closes a test is written down; closing it again is no more, and a deployment is not closed so."""
    test = question(fleet)
    first = closing.close_early(fleet.broker, test.id, BOB)
    fleet.now += 1

    again = closing.close_early(fleet.broker, test.id, ALICE)

    assert ("closed", first) == (first.state, again)
    assert [("bob", '{"why":"somebody said so"}')] == [(one.who, one.details) for one in closings(fleet, test)]
    with pytest.raises(Refused, match="asks nothing"):
        closing.close_early(fleet.broker, fleet.deploy({"common/motd": "y"}).id, ALICE)


def test_nobody_need_look(fleet: Fleet) -> None:
    """A test whose time is up is closed by the broker itself; one that has time left is not."""
    due, later = question(fleet, seconds=60.0), question(fleet, seconds=600.0)
    fleet.now += 61

    closing.close_overdue(fleet.broker)

    assert ["closed", "open"] == [fleet.change(due).state, fleet.change(later).state]
    assert ['{"why":"its time was up"}'] == [one.details for one in closings(fleet, due)]


def test_whenever_it_closes(fleet: Fleet) -> None:
    """Answers, bodies and a deadline in any order: what it says when it closes it says for ever, and all is shown."""
    names = sorted(fleet.hosts)
    events = [*((kind, name) for kind in ("report", "body") for name in names), ("deadline", "")]
    number = iter(range(1000))

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.permutations(events))
    def check(order: list[tuple[str, str]]) -> None:
        # Bodies are kept by digest, so each test has its own.
        salt = f"{next(number)}"
        bodies = {name: ChangeSet(notes=(salt, name.rstrip("12"))) for name in names}
        test, closed = question(fleet, seconds=60.0), None
        for kind, name in order:
            if kind == "report":
                says(fleet, test, name, change_set=change_set_digest(bodies[name]))
            elif kind == "body":
                digest = change_set_digest(bodies[name])
                # No host sends one before the report that names it, which may come once more later.
                says(fleet, test, name, change_set=digest)
                answering.keep_change_set(fleet.broker, fleet.record(name), digest, encode_message(bodies[name]))
            else:
                fleet.now += 61
            found = report(fleet, test)
            assert sum(found.totals.values()) == found.fleet == 3
            if found.state == "closed":
                closed = closed or found
                assert closed == msgspec.structs.replace(found, addendum=None)
        assert closed is not None
        late = found.addendum.answered if found.addendum is not None else 0
        assert 3 == late + closed.totals.get("answered", 0)
        whole = [*found.groups, *(found.addendum.groups if found.addendum is not None else ())]
        assert not [one for one in whole if one.incomplete and not _is_told_below(one.name, whole)]

    def _is_told_below(name: str, groups: list[reporting.Group]) -> bool:
        return any(one.same_as == name and not one.incomplete for one in groups)

    check()
