"""A broker whose database was restored from a backup: what was deployed since is neither taken back nor hung up."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aquiline.agent.daemon.machine import Answered, Machine, Started, StartWork
from aquiline.broker import answering, members
from aquiline.broker.adopting import adopt
from aquiline.broker.broker import Refused
from aquiline.broker.repository import Repository
from aquiline.broker.restoring import remember
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.messages import Live, PollAnswer, Target
from tests.broker.small import ALICE, BOB, Fleet


class Backed(Fleet):
    """A fleet whose database is a file, of which backups can be made and restored."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place

    def back_up(self, *, repository: bool) -> None:
        """Make a backup as the manual says: the database first."""
        with sqlite3.connect(self.place / "broker.db") as source, sqlite3.connect(self.place / "backup.db") as to:
            source.backup(to)
        if repository:
            shutil.copytree(self.repository.path, self.place / "backup.git", symlinks=True)

    def restore(self) -> None:
        """Lose everything, and start a broker on the backup; the repository too, where it is in it."""
        self.store.close()
        for old in self.place.glob("broker.db*"):
            old.unlink()
        shutil.copy(self.place / "backup.db", self.place / "broker.db")
        if (self.place / "backup.git").exists():
            shutil.rmtree(self.repository.path)
            shutil.copytree(self.place / "backup.git", self.repository.path, symlinks=True)
        self.store = SqlStore.in_file(self.place / "broker.db")
        self.repository = Repository(self.repository.path)
        self.broker = self.another_broker("restored")
        remember(self.broker)
        for host in self.hosts.values():
            host.broker = self.broker


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backed]:
    """Three hosts in one domain, which is empty, and a database in a file."""
    monkeypatch.setattr("tests.broker.small.SqlStore", lambda _url: SqlStore.in_file(tmp_path / "broker.db"))
    found = Backed(tmp_path)
    yield found
    found.store.close()


@pytest.mark.parametrize("repository", [False, True], ids=["database", "both"])
def test_hosts_that_are_ahead_are_held(fleet: Backed, repository: bool) -> None:
    """What was deployed since stays as it is on each host that has it, and a person is told why it is held."""
    old = fleet.deploy({"common/motd": "old"})
    fleet.visit()
    fleet.back_up(repository=repository)
    since = fleet.deploy({"common/motd": "since", "common/ntp": "since"})
    fleet.visit()
    runs = {name: len(host.runs) for name, host in fleet.hosts.items()}

    fleet.restore()
    fleet.visit()
    fleet.visit()

    assert runs == {name: len(host.runs) for name, host in fleet.hosts.items()}
    assert {"motd": "since", "ntp": "since"} == fleet.tree("web1")
    record = fleet.record("web1")
    assert "broker" == record.held_by
    assert {old.id, since.id} <= set(record.live.change_ids)
    assert "was a backup restored?" in record.held


@pytest.mark.parametrize("repository", [False, True], ids=["database", "both"])
def test_a_released_host_becomes_what_the_database_says(fleet: Backed, repository: bool) -> None:
    """Released by a person it hears of its target again, also of the next ones, and nothing waits for ever."""
    fleet.deploy({"common/motd": "old"})
    fleet.visit()
    fleet.back_up(repository=repository)
    since = fleet.deploy({"common/ntp": "since"})
    fleet.visit()
    fleet.restore()
    fleet.visit()

    for name in fleet.hosts:
        members.release(fleet.broker, name, BOB)
    fleet.visit()
    fleet.visit()

    assert {"motd": "old"} == fleet.tree("web1")
    assert "" == fleet.record("web1").held
    if not repository:
        members.reset_domain(fleet.broker, "prod", ALICE)
    following = fleet.deploy({"common/ssh": "next"})
    fleet.visit()
    assert since.id != following.id
    assert {"done"} == set(fleet.states(following).values())
    assert {"motd": "old", "ssh": "next"} == fleet.tree("web1")


def test_what_the_repository_remembers_is_adopted(fleet: Backed) -> None:
    """With a repository that is newer, a domain was moved behind the database's back: adopting loses nothing."""
    fleet.deploy({"common/motd": "old"})
    fleet.visit()
    fleet.back_up(repository=False)
    since = fleet.deploy({"common/motd": "since"})
    fleet.visit()
    fleet.restore()
    with pytest.raises(Refused, match="was moved outside"):
        fleet.deploy({"common/ssh": "x"})

    adopted = adopt(fleet.broker, "prod", ALICE)

    assert adopted.id != since.id
    fleet.visit()
    assert {"motd": "since"} == fleet.tree("web1")
    for name in fleet.hosts:
        members.release(fleet.broker, name, BOB)
    fleet.visit()
    assert {"motd": "since"} == fleet.tree("web1")
    assert adopted.id in fleet.record("web1").live.change_ids
    assert fleet.target("web1").generation == fleet.hosts["web1"].generation


def test_what_was_taken_back_since_does_not_come_again(fleet: Backed) -> None:
    """An undeploy that the database has forgotten is not undone."""
    change = fleet.deploy({"common/motd": "bad"})
    fleet.visit()
    fleet.back_up(repository=True)
    fleet.undeploy(change)
    fleet.visit()
    assert {} == fleet.tree("web1")

    fleet.restore()
    fleet.visit()

    assert {} == fleet.tree("web1")
    assert "broker" == fleet.record("web1").held_by


def test_more_was_deployed_before_a_host_is_heard_of(fleet: Backed) -> None:
    """Its generation is no longer ahead, but it has a change that nobody remembers: it is held all the same."""
    fleet.back_up(repository=True)
    fleet.deploy({"common/ntp": "since"})
    fleet.visit("web1")
    host = fleet.hosts["web1"]
    host.live = msgspec.structs.replace(host.live, change_ids=(*host.live.change_ids, "prod-20"))
    fleet.restore()
    for number in range(3):
        fleet.deploy({"common/motd": f"{number}"})
    assert fleet.target("web1").generation > host.generation

    host.visit()

    assert "broker" == fleet.record("web1").held_by
    assert {"ntp": "since"} == fleet.tree("web1")
    assert "prod-21" == fleet.deploy({"common/ssh": "x"}).id


def test_a_hold_of_a_person_stays_a_persons(fleet: Backed) -> None:
    """A host that a person holds is not released by being held twice."""
    fleet.back_up(repository=True)
    fleet.deploy({"common/ntp": "since"})
    fleet.visit()
    fleet.restore()
    members.hold(fleet.broker, "web1", BOB)

    fleet.visit()

    assert ("person", "broker") == (fleet.record("web1").held_by, fleet.record("web2").held_by)


def test_no_host_uses_up_numbers(fleet: Backed) -> None:
    """A host that says what cannot be is held, and moves neither serials nor generations."""
    host = fleet.hosts["web1"]
    serial = fleet.branch().serial
    poll = msgspec.structs.replace(host.poll(), generation=2**62, live=Live("", ("prod-999999999", "prod-x", "odd")))

    told = answering.answer(fleet.broker, host.record(), poll)

    assert None is told.target
    assert "broker" == fleet.record("web1").held_by
    assert f"prod-{serial + 1}" == fleet.deploy({"common/ntp": "x"}).id
    members.release(fleet.broker, "web1", BOB)
    assert fleet.target("web1").generation < 10


def test_an_agent_does_not_go_back() -> None:
    """Started anew, it takes no target from before the one that it was at, also where a broker says one."""
    agent = Machine("h1")
    agent.receive(Started(begun=7), 0.0)

    older = agent.receive(Answered(PollAnswer(target=Target(generation=5, profile="a"), pace=1.0)), 10.0)
    newer = agent.receive(Answered(PollAnswer(target=Target(generation=8, profile="b"), pace=1.0)), 20.0)

    assert [] == [one for one in older if isinstance(one, StartWork)]
    assert 1 == len([one for one in newer if isinstance(one, StartWork)])
