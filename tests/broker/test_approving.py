"""Tests that close, and approvals of exactly what they said (D21)."""

from __future__ import annotations

import pytest

from aquiline.broker import answering, closing, laying, members, reporting
from aquiline.broker.broker import Refused
from aquiline.broker.records import Approval, Change, StoredReport
from aquiline.errors import PlanStale
from tests.broker.small import ALICE, BOB, Fleet


def asked(fleet: Fleet, sandbox: str, *answering_hosts: str) -> Change:
    """Test a sandbox, let some hosts answer, and close it."""
    test = laying.ask(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit(*(answering_hosts or fleet.hosts))
    closing.close_early(fleet.broker, test.id, ALICE)
    return fleet.change(test)


def approved(fleet: Fleet, test: Change, seconds: float = 3600.0) -> Approval:
    """Let bob approve a test."""
    return laying.approve(fleet.broker, test.id, test.digest, BOB, seconds=seconds)


def reports_of(fleet: Fleet, name: str) -> list[StoredReport]:
    """Return what a host reported, newest first."""
    with fleet.store.transaction() as tx:
        return list(tx.reports_of_host(name))


def test_an_approved_test_goes_live_as_it_was_approved(fleet: Fleet) -> None:
    """Each host is told the effect that it answered; who had not answered is held out, and named."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    test = asked(fleet, sandbox, "web1", "web2")
    approved(fleet, test)

    change = laying.deploy(fleet.broker, sandbox, "prod", ALICE, approved=test.digest)

    assert {"web1": "asked", "web2": "asked", "db1": "held-out"} == fleet.states(change)
    assert fleet.meaning(test, "web1").planned == fleet.target("web1").effect != ""
    assert test.id in fleet.meaning(change, "db1").because
    fleet.visit()
    assert [{"motd": "x"}, {}] == [fleet.tree("web1"), fleet.tree("db1")]


def test_whoever_did_not_answer_may_be_included(fleet: Fleet) -> None:
    """With --include-untested the silent get it too, held to no effect, whatever a later test said."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    test = asked(fleet, sandbox, "web1")
    approved(fleet, test)
    later = asked(fleet, sandbox)

    change = laying.deploy(fleet.broker, sandbox, "prod", ALICE, approved=test.digest, include_untested=True)

    assert {"web1": "asked", "web2": "asked", "db1": "asked"} == fleet.states(change)
    assert fleet.meaning(later, "db1").planned != ""
    assert ("", "") == (fleet.target("db1").effect, fleet.target("web2").effect)


def test_a_late_answer_goes_to_the_addendum(fleet: Fleet) -> None:
    """Once its time is up a test is immutable, whether or not anybody looked in between; what comes late is kept."""
    test = laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=60.0)
    host = fleet.hosts["web1"]
    orders = answering.answer(fleet.broker, host.record(), host.poll()).orders
    for order in orders:
        host._answer(order)

    fleet.now += 61
    host.send()

    closed = fleet.change(test)
    assert ("closed", "asked") == (closed.state, fleet.meaning(test, "web1").state)
    assert [True] == [one.late for one in reports_of(fleet, "web1")]
    first = reporting.report(fleet.broker, test.id)
    fleet.visit()
    fleet.add("new1")
    assert (closed.digest, first.digest) == (
        fleet.change(test).digest, reporting.report(fleet.broker, test.id).digest,
    )  # fmt: skip


def test_an_expired_test_is_dropped_unexecuted(fleet: Fleet) -> None:
    """A host that comes after the deadline is given no order of it; what is deployed then is simply not foreseen."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    test = laying.ask(fleet.broker, sandbox, "prod", ALICE, seconds=60.0)
    fleet.now += 61
    fleet.visit()

    change = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()

    assert [] == [one for one in reports_of(fleet, "web1") if one.change == test.id]
    assert ("", "done") == (fleet.meaning(change, "web1").predicted, fleet.meaning(change, "web1").state)


def test_what_is_not_approved_does_not_go_live(fleet: Fleet) -> None:
    """A wrong digest, an open test, an approval that is no more or is another's, moved branches: refused, as stale."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    other = fleet.sandbox({"common/ntp": "x"})
    open_test = laying.ask(fleet.broker, sandbox, "prod", ALICE)
    with pytest.raises(Refused, match="not a closed test"):
        laying.approve(fleet.broker, open_test.id, "x", BOB, seconds=60.0)
    test = asked(fleet, sandbox)
    with pytest.raises(Refused, match="has the digest"):
        laying.approve(fleet.broker, test.id, "another", BOB, seconds=60.0)

    def refused(sandbox: str, digest: str) -> str:
        with pytest.raises(PlanStale) as error:
            laying.deploy(fleet.broker, sandbox, "prod", ALICE, approved=digest)
        return error.value.message

    assert "no closed test" in refused(sandbox, "0" * 64)
    assert "nobody has approved" in refused(sandbox, test.digest)
    approved(fleet, test, seconds=60.0)
    assert f"no closed test of {other}" in refused(other, test.digest)
    fleet.now += 61
    assert "nobody has approved" in refused(sandbox, test.digest)
    approved(fleet, test)
    fleet.people.push(sandbox, {"common/motd": "sneaked in"})
    assert "other commits" in refused(sandbox, test.digest)
    assert fleet.is_whole()


def test_the_same_outcome_tested_twice(fleet: Fleet) -> None:
    """Two tests of one commit with one digest: the approval of either is good for it."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    first = asked(fleet, sandbox)
    approved(fleet, first)
    second = asked(fleet, sandbox)

    change = laying.deploy(fleet.broker, sandbox, "prod", ALICE, approved=first.digest)

    assert (first.digest, "open") == (second.digest, change.state)


def test_a_domain_that_takes_only_what_was_approved(fleet: Fleet) -> None:
    """Its rules are set by an admin: not without a test, not approved by its author, and not around it by a move."""
    members.set_rules(fleet.broker, "prod", ALICE, needs_approval=True, author_may_approve=False)
    sandbox = fleet.sandbox({"common/motd": "x"})

    with pytest.raises(PlanStale, match="tested and approved"):
        laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    test = asked(fleet, sandbox)
    with pytest.raises(Refused, match="somebody else"):
        laying.approve(fleet.broker, test.id, test.digest, ALICE, seconds=60.0)
    with pytest.raises(PlanStale, match="tested and approved"):
        members.manage(fleet.broker, "web1", ALICE, branch=sandbox)
    approved(fleet, test)

    assert "open" == laying.deploy(fleet.broker, sandbox, "prod", ALICE, approved=test.digest).state
    members.set_rules(fleet.broker, "prod", ALICE, needs_approval=False)
    assert (False, False) == (fleet.branch().needs_approval, fleet.branch().author_may_approve)


def test_a_move_that_was_approved(fleet: Fleet) -> None:
    """Where approval is needed a move is tested, approved and carried out like any deployment."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    members.set_rules(fleet.broker, "qa", ALICE, needs_approval=True)
    qa = fleet.sandbox({"common/motd": "qa"}, domain="qa")
    test_of_qa = laying.ask(fleet.broker, qa, "qa", ALICE)
    closing.close_early(fleet.broker, test_of_qa.id, ALICE)
    approved(fleet, fleet.change(test_of_qa))
    laying.deploy(fleet.broker, qa, "qa", ALICE, approved=fleet.change(test_of_qa).digest)

    test = members.manage(fleet.broker, "web1", ALICE, branch="qa", is_test=True)
    fleet.visit("web1")
    closed = fleet.change(test)
    with pytest.raises(PlanStale, match="nobody has approved"):
        members.manage(fleet.broker, "web1", ALICE, branch="qa", approved=closed.digest)
    approved(fleet, closed)
    change = members.manage(fleet.broker, "web1", ALICE, branch="qa", approved=closed.digest)

    assert (closed.digest, fleet.meaning(test, "web1").planned) == (change.digest, fleet.target("web1").effect)
    fleet.visit("web1")
    assert {"motd": "qa"} == fleet.tree("web1")
