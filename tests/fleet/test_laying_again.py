"""Taking a change back from below later ones, on hosts with the real agent and engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aquiline.agent.session import Session
from aquiline.broker import laying, members, reporting
from aquiline.broker.broker import Broker
from aquiline.broker.rendering import render_report
from aquiline.broker.repository import Repository
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.messages import Enrol
from tests.broker.small import ALICE, Fleet
from tests.fleet.histories import People
from tests.fleet.real import RealCompiler, RealHost


class RealFleet(Fleet):
    """Hosts below temporary roots, in the domain ``prod``."""

    def __init__(self, place: Path, names: tuple[str, ...]) -> None:
        self.place = place
        self.store = SqlStore("sqlite://")
        self.repository = Repository.create(place / "repository.git")
        self.broker = Broker(self.store, self.repository, RealCompiler())
        self.people = People(place / "clone", place / "repository.git")
        self.real: dict[str, RealHost] = {}
        self._counter = 0
        members.add_domain(self.broker, "prod", ALICE)
        token = members.add_join_token(self.broker, ALICE, count=len(names), seconds=60.0, pattern="*")
        for number, name in enumerate(names):
            members.add_host(self.broker, name, ALICE, branch="prod")
            wish = Enrol(join_token=token, name=name, machine_id=f"{number:032x}", journal="journal-1", tool="test")
            members.enrol(self.broker, wish)
            self.real[name] = RealHost(name, self.broker, root=place / name, machine_id=f"{number:032x}")

    def brings(self, files: Mapping[str, str]) -> Any:
        """Deploy files, and let every host do it."""
        change = laying.deploy(self.broker, self.sandbox(files), "prod", ALICE)
        self.all_visit()
        return change

    def all_visit(self) -> None:
        """Let every host do what it is told."""
        for host in self.real.values():
            host.visit()

    def etc(self, name: str) -> dict[str, str]:
        """Return what is below /etc of a host, but for what was there before."""
        return {key: value for key, value in self.real[name].tree.items() if key != "by-hand"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    """Three hosts, each in the domain and nothing more."""
    found = RealFleet(tmp_path, ("web1", "web2", "web3"))
    found.all_visit()
    yield found
    found.store.close()


def runs(fleet: RealFleet, name: str) -> list[tuple[str, tuple[str, ...], str]]:
    """Return kind, change IDs and status of a host's runs, in their order."""
    with Session(str(fleet.place / name)) as session, session.reading() as journal:
        found = sorted(journal.runs(), key=lambda run: run.sequence)
    return [(run.header.kind, run.header.change_ids, run.status) for run in found]


def test_taken_back_from_below_on_real_hosts(fleet: RealFleet) -> None:
    """Tested first: every host says both halves. Then its own undo, latest first, and each later one as its own run."""
    one, two, last = (fleet.brings({f"common/{name}": name}) for name in ("a", "b", "c"))
    before = len(runs(fleet, "web1"))

    test = fleet.undeploy(one, redeploy=True, is_test=True)
    fleet.all_visit()

    shown = reporting.report(fleet.broker, test.id)
    text = render_report(shown)
    assert {"answered": 3} == shown.totals
    assert [("web[1-3]", 5)] == [(group.hosts, len(group.steps)) for group in shown.groups]
    assert f"lays again: {two.id}, {last.id}" in text
    assert before == len(runs(fleet, "web1"))
    assert {"a": "a", "b": "b", "c": "c"} == fleet.etc("web1")

    change = fleet.undeploy(one, redeploy=True)
    fleet.all_visit()

    second, third = change.lays
    for name in fleet.real:
        assert {"b": "b", "c": "c"} == fleet.etc(name)
        assert [("undo", (), "done"), ("apply", (second,), "done"), ("apply", (third,), "done")] == [
            (kind, ids if kind == "apply" else (), status) for kind, ids, status in runs(fleet, name)[before:]
        ]
    assert {"done": 3} == reporting.report(fleet.broker, change.id).totals
    assert 3 == reporting.report(fleet.broker, change.id).as_predicted
    for again in change.lays:
        assert {"done": 3} == reporting.report(fleet.broker, again).totals
    # Later it can be taken back alone, exactly: it is a run of its own.
    fleet.undeploy(third)
    fleet.all_visit()
    assert {"b": "b"} == fleet.etc("web1")


def test_one_host_where_it_does_not_go(fleet: RealFleet) -> None:
    """Edited since, one host refuses to undo, and nothing is laid again there; the others are as they should be."""
    one = fleet.brings({"common/a": "a"})
    fleet.brings({"common/b": "b"})
    (fleet.place / "web2/etc/a").write_text("mine")

    change = fleet.undeploy(one, redeploy=True)
    fleet.all_visit()

    assert [{"b": "b"}, {"a": "mine", "b": "b"}] == [fleet.etc(name) for name in ("web1", "web2")]
    for name in (change.id, *change.lays):
        assert {"web1": "done", "web2": "failed", "web3": "done"} == fleet.states(name)
        assert 12 == fleet.meaning(name, "web2").exit_status


def test_undo_and_revert_differ_in_between(fleet: RealFleet) -> None:
    """What undo leaves is not what the reverted branch says: held before anything is laid again, as the test says."""
    fleet.brings({"common/motd": "zero"})
    (fleet.place / "web2/etc/motd").write_text("by hand")
    one = fleet.brings({"common/motd": "one"})
    fleet.brings({"common/b": "b"})

    test = fleet.undeploy(one, redeploy=True, is_test=True)
    fleet.all_visit()
    change = fleet.undeploy(one, redeploy=True)
    fleet.all_visit()

    assert [{"motd": "zero", "b": "b"}, {"motd": "by hand"}] == [fleet.etc(name) for name in ("web1", "web2")]
    assert 2 == len(reporting.report(fleet.broker, test.id).groups)
    assert ("done", "failed") == (fleet.meaning(change, "web1").state, fleet.meaning(change, "web2").state)
    (again,) = change.lays
    assert ("failed", 21) == (fleet.meaning(again, "web2").state, fleet.meaning(again, "web2").exit_status)
    members.release(fleet.broker, "web2", ALICE)
    fleet.all_visit()
    assert {"motd": "zero", "b": "b"} == fleet.etc("web2")
    assert "done" == fleet.meaning(again, "web2").state
