"""What the broker does often takes no turn at writing, and no time that grows with the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest

from aquiline.broker import answering, closing, laying, members, reading, reporting
from aquiline.broker.broker import Broker
from aquiline.broker.store import Reading, Store, Transaction
from tests.broker.small import ALICE, Fleet
from tests.fleet.histories import FilesCompiler


class Watched:
    """A store that counts its transactions, and what is asked in them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.counts: Counter[str] = Counter()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self.counts["transaction"] += 1
        with self._store.transaction() as tx:
            yield cast("Transaction", _Asked(tx, self.counts))

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        self.counts["reading"] += 1
        with self._store.reading() as tx:
            yield cast("Reading", _Asked(tx, self.counts))

    def close(self) -> None:
        self._store.close()


class _Asked:
    def __init__(self, tx: Any, counts: Counter[str]) -> None:
        self._tx = tx
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        self._counts[name] += 1
        return getattr(self._tx, name)


@pytest.fixture
def watched(fleet: Fleet) -> tuple[Broker, Watched]:
    """A broker of the small fleet, and what it asks of its store."""
    store = Watched(fleet.store)
    return Broker(store, fleet.repository, FilesCompiler(), now=lambda: fleet.now), store


def test_a_quiet_poll_writes_nothing(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """A host that has nothing new to say and nothing to do is answered without a turn at writing."""
    broker, store = watched
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    host = fleet.hosts["web1"]
    answering.answer(broker, host.record(), host.poll())
    store.counts.clear()

    answers = []
    for _ in range(6):
        fleet.now += answering.SEEN_EVERY / 3
        answers.append(answering.answer(broker, host.record(), host.poll()))

    assert (2, 6) == (store.counts["transaction"], store.counts["reading"])
    assert [answers[0]] * 6 == answers
    assert fleet.now - host.record().seen < answering.SEEN_EVERY


def test_whatever_a_poll_says_is_written_at_once(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """However soon it comes after another one."""
    broker, _ = watched
    fleet.visit()
    host = fleet.hosts["web1"]
    said = host.poll()
    news: list[dict[str, Any]] = [
        {"state": "frozen", "because": "a person"}, {"state": "held", "because": "differs"}, {"state": "idle"},
        {"past_undo": ("prod-1",)}, {"schemas": "5"}, {"tool": "new"},
        {"journal": "another"},
    ]  # fmt: skip

    for one in news:
        said = msgspec.structs.replace(said, **one)
        answering.answer(broker, host.record(), said)
        found = host.record()
        assert one.items() <= {name: getattr(found, name) for name in one}.items()
        assert ("agent" if said.state == "held" else "") == found.held_by


def test_a_host_that_has_arrived_is_marked_though_it_says_nothing_new(fleet: Fleet) -> None:
    """What a change still waits for is settled by a poll like the one before it."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()
    host = fleet.hosts["web1"]
    record = fleet.meaning(change, "web1")
    with fleet.store.transaction() as tx:
        tx.put_change_host(msgspec.structs.replace(record, state="asked"))

    answering.answer(fleet.broker, host.record(), host.poll())

    assert "done" == fleet.meaning(change, "web1").state


def test_who_only_looks_takes_no_turn_at_writing(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """Reports, progress, hosts and branches are read beside whoever writes."""
    broker, store = watched
    change = fleet.deploy({"common/motd": "x"})

    reporting.report(broker, change.id)
    found = reading.progress(broker, change.id)
    reading.hosts(broker)
    reading.host(broker, "web1")
    reading.branch(broker, "prod")

    assert 0 == store.counts["transaction"]
    assert ("open", {"asked": 3}) == (found.state, found.totals)


def test_looking_closes_what_is_over(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """A test whose time is up is closed by whoever looks, once."""
    broker, store = watched
    change = laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=60.0)
    fleet.now += 60

    assert ["closed"] * 3 == [closing.looked_at(broker, change.id).state for _ in range(3)]
    assert 1 == store.counts["transaction"]


def test_a_report_asks_nothing_of_every_host(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """What one host reports is written down without reading what the change means to all the others."""
    broker, store = watched
    fleet.visit()
    laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=60.0)
    for name in ("web2", "web1"):
        # Who is in a test is looked up once, for the first of them.
        store.counts.clear()
        fleet.hosts[name].broker = broker
        fleet.hosts[name].visit()

    assert 0 == store.counts["change_hosts"]
    assert 1 == store.counts["add_report"]


def test_a_deployment_asks_once_what_hosts_are_owed(fleet: Fleet, watched: tuple[Broker, Watched]) -> None:
    """However many hosts there are: what earlier deployments left alone is looked up once, not for each."""
    broker, store = watched
    fleet.deploy({"web1/motd": "x"})
    fleet.visit()
    sandbox = fleet.sandbox({"db1/motd": "y"})

    change = laying.deploy(broker, sandbox, "prod", ALICE)

    assert {"web1": "unchanged", "web2": "unchanged", "db1": "asked"} == fleet.states(change)
    assert (0, 2) == (store.counts["changes_of_host"], store.counts["left_alone"])


def test_what_a_host_is_owed_is_the_same_for_one_and_for_all(fleet: Fleet) -> None:
    """A host that was held out of a deployment gets it with the next one; who was left alone does not."""
    members.hold(fleet.broker, "web2", ALICE)
    first = fleet.deploy({"common/motd": "x"})
    members.release(fleet.broker, "web2", ALICE)
    second = fleet.deploy({"web1/issue": "y"})

    fleet.visit()

    deployed = {first.id, second.id}
    has = {name: deployed.intersection(fleet.record(name).live.change_ids) for name in fleet.hosts}
    assert {"web1": deployed, "web2": {first.id}, "db1": {first.id}} == has
