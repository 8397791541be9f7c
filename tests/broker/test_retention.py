"""What the broker forgets, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.broker import laying, members, reporting, taking_back
from aquiline.broker.broker import Asker, Broker
from aquiline.broker.repository import Repository
from aquiline.broker.retention import forget
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.messages import Enrol
from tests.fleet.histories import FilesCompiler, People, SmallHost

ALICE = Asker("alice", "because")
DAY = 86400.0


class Fleet:
    """A domain with one host."""

    def __init__(self, place: Path) -> None:
        self.now = 1_000_000.0
        self.broker = Broker(
            SqlStore("sqlite://"), Repository.create(place / "repository.git"), FilesCompiler(), now=lambda: self.now
        )
        members.add_domain(self.broker, "prod", ALICE)
        token = members.add_join_token(self.broker, ALICE, count=1, seconds=60.0, pattern="*")
        members.add_host(self.broker, "web1", ALICE, branch="prod")
        members.enrol(
            self.broker, Enrol(join_token=token, name="web1", machine_id="0" * 32, journal="journal-1", tool="test")
        )
        self.host = SmallHost("web1", self.broker)
        self.people = People(place / "clone", place / "repository.git")
        self.host.visit()

    def deploy(self, name: str, *, is_test: bool = False) -> str:
        """Deploy or test a sandbox that writes one file; return the change ID."""
        if name not in self.broker.repository.branches():
            members.add_sandbox(self.broker, name, ALICE, start="prod")
            self.people.push(name, {f"common/{name}": name})
        change = (laying.ask if is_test else laying.deploy)(self.broker, name, "prod", ALICE)
        self.host.visit()
        return change.id

    def reports(self, change: str) -> int:
        """Return how many reports about a change are kept."""
        with self.broker.store.transaction() as tx:
            return len(tx.reports_of_change(change))


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A domain with one host."""
    return Fleet(tmp_path)


def test_old_tests_are_forgotten(fleet: Fleet) -> None:
    """What hosts answered a test goes when it is old; that there was a test, and its digest, stay."""
    change = fleet.deploy("ntp", is_test=True)
    before = reporting.report(fleet.broker, change)
    assert (1, ()) == (fleet.reports(change), forget(fleet.broker, days=30.0).changes)

    fleet.now += 31 * DAY
    went = forget(fleet.broker, days=30.0)

    after = reporting.report(fleet.broker, change)
    assert ((change,), 0) == (went.changes, fleet.reports(change))
    assert (before.totals, before.approve) == (after.totals, after.approve)
    assert after.groups[0].incomplete


def test_what_a_host_can_take_back_is_kept(fleet: Fleet) -> None:
    """However old a change is: while it is live on a host that can undo it, all that is known of it stays."""
    change = fleet.deploy("ntp")
    fleet.now += 1000 * DAY

    forget(fleet.broker, days=30.0)

    assert 1 == fleet.reports(change)
    assert not reporting.report(fleet.broker, change).groups[0].incomplete
    undeploy = taking_back.undeploy(fleet.broker, [change], ALICE)
    fleet.host.visit()
    assert {"done": 1} == reporting.report(fleet.broker, undeploy.id).totals


def test_what_no_host_can_take_back_is_forgotten(fleet: Fleet) -> None:
    """Once every host that has it has put it past undo, or has taken it back, an old change's reports go."""
    first, second = fleet.deploy("ntp"), fleet.deploy("motd")
    taking_back.undeploy(fleet.broker, [second], ALICE)
    fleet.host.visit()
    fleet.host.past_undo = (first,)
    fleet.host.visit()
    reporting.report(fleet.broker, first)
    fleet.now += 1000 * DAY

    went = forget(fleet.broker, days=30.0)

    assert {first, second} <= set(went.changes)
    assert 0 == fleet.reports(first)


def test_a_host_that_did_not_answer_keeps_a_change(fleet: Fleet) -> None:
    """A host that is off for years still learns what it is to be, and its report has somewhere to go."""
    members.add_sandbox(fleet.broker, "late", ALICE, start="prod")
    fleet.people.push("late", {"common/late": "late"})
    change = laying.deploy(fleet.broker, "late", "prod", ALICE)
    fleet.now += 1000 * DAY
    forget(fleet.broker, days=30.0)

    fleet.host.visit()

    assert "late" == fleet.host.tree["late"]
    assert {"done": 1} == reporting.report(fleet.broker, change.id).totals
