"""What every `Store` must do: one suite for each place that a broker's memory may be in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar, cast

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from aquiline.broker import tables
from aquiline.broker.migrating import configuration
from aquiline.broker.records import (
    Approval,
    AuditEntry,
    Branch,
    Change,
    ChangeHost,
    Host,
    HostTarget,
    JoinToken,
    Lease,
    Person,
    StoredOrder,
    StoredReport,
)
from aquiline.broker.sqlstore import SqlStore, StoreError
from aquiline.broker.store import Store, Transaction
from aquiline.changes.canonical import encode
from aquiline.errors import AquilineError

Opener = Callable[[], Store]
_Value = TypeVar("_Value")
PROD = Branch(name="prod", kind="domain", commit="c0", owner="alice", created=1.0)
SPAWN = multiprocessing.get_context("spawn")
WORKERS = 6


def change(number: int, domain: str = "prod") -> Change:
    """Return a deployment."""
    return Change(
        id=f"{domain}-{number}", kind="deploy", domain=domain, serial=number, state="open", author="alice", created=1.0
    )


def order(name: str, host: str = "web1", expires: float = 100.0) -> StoredOrder:
    """Return an order."""
    return StoredOrder(id=name, change="prod-1", host=host, kind="test", expires=expires)


def report(name: str, host: str = "web1") -> StoredReport:
    """Return a report."""
    return StoredReport(id=name, host=host, change="", received=1.0, kind="run", body=b"{}")


@pytest.fixture(params=["in memory", "in a file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with one domain."""
    found = SqlStore("sqlite://") if request.param == "in memory" else SqlStore.in_file(tmp_path / "broker.db")
    with found.transaction() as tx:
        tx.put_branch(PROD)
    yield found
    found.close()


def at_once(work: Callable[[], _Value], times: int = WORKERS) -> list[_Value]:
    """Return what `work` returns in as many threads, which begin together."""
    barrier = threading.Barrier(times)

    def begin() -> _Value:
        barrier.wait(timeout=60)
        return work()

    with ThreadPoolExecutor(times) as pool:
        return [one.result(timeout=120) for one in [pool.submit(begin) for _ in range(times)]]


# ---- records -------------------------------------------------------------------------------------------------------


def test_what_is_put_is_found_again(store: Store) -> None:
    """Every record comes back whole, by its key, and a second put replaces it."""
    host = Host(name="web1", branch="prod", added=1.0, credential="h1", held="\u00fc\udcff")
    target = HostTarget(host="web1", generation=3, profile="p", change_ids=("prod-1",))
    record = ChangeHost(change="prod-1", host="web1", state="asked", reports=("r1",))
    person = Person(name="alice", token="t1", roles=("author",), created=1.0)
    token = JoinToken(id="j1", token="t2", left=2, expires=9.0, pattern="*", made_by="alice", created=1.0)

    with store.transaction() as tx:
        tx.put_change(change(1))
        for _ in range(2):
            tx.put_host(host)
            tx.put_target(target)
            tx.put_change(change(1))
            tx.put_change_host(record)
            tx.put_order(order("o1"))
            tx.put_person(person)
            tx.put_join_token(token)

    with store.transaction() as tx:
        found = (
            tx.branch("prod"), tx.host("web1"), tx.target("web1"), tx.change("prod-1"),
            tx.change_host("prod-1", "web1"), tx.order("o1"), tx.person("alice"), tx.join_token("t2"),
        )  # fmt: skip
        assert (PROD, host, target, change(1), record, order("o1"), person, token) == found
        assert ([host], [record], [person], [token]) == (
            list(tx.hosts()), list(tx.change_hosts("prod-1")), list(tx.people()), list(tx.join_tokens()),
        )  # fmt: skip


def test_what_is_not_there_is_none(store: Store) -> None:
    """A look-up of what nobody put finds nothing, and raises nothing; an empty secret is nobody's."""

    with store.transaction() as tx:
        tx.put_host(Host(name="web1", branch="prod", added=1.0))
        tx.put_host(Host(name="web2", branch="prod", added=1.0))

        assert [None] * 10 == [
            tx.branch("x"), tx.host("x"), tx.target("x"), tx.change("x"), tx.change_host("x", "x"), tx.order("x"),
            tx.report("x"), tx.content("profile", "x"), tx.host_of_credential(""), tx.person_of_token(""),
        ]  # fmt: skip
        assert ({}, [], set()) == (tx.targets(["x"]), list(tx.changes("x")), tx.has_content("profile", ["x"]))


def test_lists_have_an_order(store: Store) -> None:
    """Hosts and branches come by name; changes, approvals, reports and audit newest first, and no more than asked."""

    with store.transaction() as tx:
        for number in (1, 2, 3):
            tx.put_change(change(number))
            tx.put_change_host(ChangeHost(change=f"prod-{number}", host="web1", state="asked"))
            tx.put_approval(Approval(change="prod-1", digest=str(number), by="bob", when=1.0, until=2.0))
            tx.add_report(report(f"r{number}"))
            tx.audit(AuditEntry(when=1.0, who="alice", what=str(number), about="prod"))
            tx.put_host(Host(name=f"web{4 - number}", branch="prod", added=1.0))
        tx.put_change(change(9, "qa"))
        tx.put_change(change(1))

        assert ["qa-9", "prod-3", "prod-2", "prod-1"] == [one.id for one in tx.changes()]
        assert ["prod-3", "prod-2"] == [one.id for one in tx.changes("prod", limit=2)]
        assert ["prod-3", "prod-2", "prod-1"] == [one.change for one in tx.changes_of_host("web1")]
        assert ["3", "2", "1"] == [one.digest for one in tx.approvals("prod-1")]
        assert ["r3", "r2"] == [one.id for one in tx.reports_of_host("web1", limit=2)]
        assert ["3", "2"] == [one.what for one in tx.audit_entries(about="prod", limit=2)]
        assert ["web1", "web2", "web3"] == [one.name for one in tx.hosts("prod")]
        assert [] == list(tx.hosts("qa"))


def test_orders_wait_until_answered_or_expired(store: Store) -> None:
    """A host is told the orders that it has not answered and that live, and no other host's."""

    with store.transaction() as tx:
        tx.put_order(order("a"))
        tx.put_order(order("b", expires=50.0))
        tx.put_order(order("c", host="web2"))
        tx.put_order(StoredOrder(id="d", change="prod-1", host="web1", kind="test", expires=100.0, answered=True))

        assert ["a"] == [one.id for one in tx.orders_for("web1", 50.0)]
        assert ["a", "b"] == [one.id for one in tx.orders_for("web1", 49.0)]


def test_content_is_kept_once(store: Store) -> None:
    """The first body under a digest stays; the same digest of another kind is another body."""

    with store.transaction() as tx:
        tx.put_content("profile", "d", b"one")
        tx.put_content("profile", "d", b"two")
        tx.put_content("schemas", "d", b"three")

        assert (b"one", b"three") == (tx.content("profile", "d"), tx.content("schemas", "d"))
        assert {"d"} == tx.has_content("profile", ["d", "e"])


def test_a_removed_host_leaves_its_history(store: Store) -> None:
    """Host and target are gone, what it reported and what changes meant to it stays."""

    with store.transaction() as tx:
        tx.put_host(Host(name="web1", branch="prod", added=1.0))
        tx.put_target(HostTarget(host="web1", generation=1, profile="p"))
        tx.put_change(change(1))
        tx.put_change_host(ChangeHost(change="prod-1", host="web1", state="done"))
        tx.add_report(report("r1"))
        tx.remove_host("web1")

        assert (None, None, 1, 1) == (
            tx.host("web1"), tx.target("web1"), len(tx.changes_of_host("web1")), len(tx.reports_of_host("web1")),
        )  # fmt: skip


def test_many_at_once_are_looked_up(store: Store) -> None:
    """A question may name more hosts than a database takes values."""
    names = [f"web{number}" for number in range(12_000)]

    with store.transaction() as tx:
        tx.put_target(HostTarget(host="web11999", generation=1, profile="p"))

        assert ["web11999"] == list(tx.targets(names))
        assert set() == tx.has_content("profile", names)


def test_what_changes_mean_is_counted_and_looked_up(store: Store) -> None:
    """How many hosts are in which state, whether any is waited for, what they named, what left them as they are."""
    states = {"web1": "asked", "web2": "done", "web3": "done", "web4": "unchanged"}

    with store.transaction() as tx:
        for number in (1, 2):
            tx.put_change(change(number))
            for host, state in states.items():
                tx.put_change_host(ChangeHost(change=f"prod-{number}", host=host, state="asked"))
                named = f"c-{state}" if state == "done" else ""
                tx.put_change_host(
                    ChangeHost(change=f"prod-{number}", host=host, state=state, change_set=named)  # type: ignore[arg-type]
                )
        tx.put_change_host(ChangeHost(change="prod-2", host="web1", state="failed"))

    with store.reading() as tx:
        assert {"asked": 1, "done": 2, "unchanged": 1} == tx.states_of("prod-1")
        assert (True, False, False) == tuple(map(tx.is_waited_for, ("prod-1", "prod-2", "none")))
        assert {"c-done"} == tx.change_sets_of("prod-1")
        assert {"web4": {"prod-1", "prod-2"}} == tx.left_alone(["prod-1", "prod-2", "none"])
        assert ["prod-2"] == [one.change for one in tx.changes_of_host("web1", states=["failed", "done"])]
        assert ({}, set(), {}) == (tx.states_of("none"), tx.change_sets_of("none"), tx.left_alone([]))


# ---- reading -------------------------------------------------------------------------------------------------------


def test_a_write_while_reading_is_refused(store: Store) -> None:
    """Nothing is written where it was said that nothing would be; the next transaction writes again."""
    writes: list[Callable[[Transaction], object]] = [
        lambda tx: tx.put_host(Host(name="web1", branch="prod", added=1.0)),
        lambda tx: tx.next_serial("prod"),
        lambda tx: tx.move_branch("prod", expected="c0", to="c9"),
        lambda tx: tx.remove_branch("prod"),
        lambda tx: tx.add_report(report("r1")),
        lambda tx: tx.audit(AuditEntry(when=1.0, who="alice", what="tried")),
        lambda tx: tx.lease("prod", "alice", 0.0, 10.0),
    ]

    for write in writes:
        with pytest.raises(StoreError), store.reading() as tx:
            write(cast("Transaction", tx))

    with store.transaction() as tx:
        assert ([PROD], [], []) == (list(tx.branches()), list(tx.hosts()), list(tx.audit_entries()))
        assert 1 == tx.next_serial("prod")


def test_reading_sees_one_moment_and_waits_for_nobody(tmp_path: Path) -> None:
    """Who reads sees nothing of what is written meanwhile, waits for no writer, and keeps none waiting."""
    store = SqlStore.in_file(tmp_path / "broker.db")
    with store.transaction() as tx:
        tx.put_branch(PROD)

    def write() -> None:
        with store.transaction() as tx:
            tx.put_host(Host(name="web1", branch="prod", added=1.0))
            with store.reading() as other:
                assert [] == list(other.hosts())

    with store.reading() as reading, ThreadPoolExecutor(1) as pool:
        assert [] == list(reading.hosts())
        pool.submit(write).result(timeout=20)
        assert [] == list(reading.hosts())
    with store.reading() as reading:
        assert ["web1"] == [one.name for one in reading.hosts()]
    store.close()


# ---- all or nothing ------------------------------------------------------------------------------------------------


def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    """Whatever is raised in the block, nothing of the block has happened, and the next one goes well."""

    def fail(error: BaseException) -> None:
        with store.transaction() as tx:
            tx.put_branch(Branch(name="qa", kind="domain", commit="c", owner="alice", created=1.0))
            assert tx.move_branch("prod", expected="c0", to="c9")
            tx.next_serial("prod")
            tx.audit(AuditEntry(when=1.0, who="alice", what="tried"))
            raise error

    for error in (ValueError("a bug"), AquilineError("a refusal"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)

    with store.transaction() as tx:
        assert ([PROD], []) == (list(tx.branches()), list(tx.audit_entries()))


def test_what_the_database_refuses_is_an_error_of_ours(store: Store) -> None:
    """Two people with one token, a change's host without a change: refused, and nothing is written."""

    with store.transaction() as tx:
        tx.put_person(Person(name="alice", token="same", created=1.0))

    with pytest.raises(StoreError), store.transaction() as tx:
        tx.put_person(Person(name="bob", token="same", created=1.0))
    with pytest.raises(StoreError), store.transaction() as tx:
        tx.put_change_host(ChangeHost(change="nobody's", host="web1", state="asked"))

    with store.transaction() as tx:
        assert ["alice"] == [one.name for one in tx.people()]


def test_numbers_and_texts_that_no_database_takes(store: Store) -> None:
    """A number beyond 64 bits, or text with half a surrogate pair, is refused as any value is: no crash of a driver."""

    for left, name in ((10**30, "j"), (1, "\ud800")):
        with pytest.raises(StoreError), store.transaction() as tx:
            tx.put_join_token(
                JoinToken(id=name, token=name, left=left, expires=9.0, pattern="*", made_by="a", created=1.0)
            )

    with store.transaction() as tx:
        assert [] == list(tx.join_tokens())


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_serials_are_never_given_twice(store: Store) -> None:
    """However many ask at once, each gets a serial of its own, and none is left out."""

    def take() -> list[int]:
        found = []
        for _ in range(5):
            with store.transaction() as tx:
                found.append(tx.next_serial("prod"))
        return found

    assert list(range(1, 5 * WORKERS + 1)) == sorted(serial for some in at_once(take) for serial in some)
    with pytest.raises(StoreError, match="no domain"), store.transaction() as tx:
        tx.next_serial("nowhere")


def test_a_serial_survives_other_writes(store: Store) -> None:
    """What else is written of a branch meanwhile does not bring a serial back."""

    with store.transaction() as tx:
        tx.next_serial("prod")
        found = tx.branch("prod")
        assert found is not None
        tx.put_branch(found)

        assert (1, 2) == (found.serial, tx.next_serial("prod"))


def test_one_of_many_moves_a_branch(store: Store) -> None:
    """Of all who expect the same commit one moves the branch; who expects another moves nothing."""

    def move() -> bool:
        with store.transaction() as tx:
            return tx.move_branch("prod", expected="c0", to=f"c-{threading.get_ident()}")

    assert 1 == sum(at_once(move))
    with store.transaction() as tx:
        assert not tx.move_branch("nowhere", expected="c0", to="c1")


def test_one_of_many_has_the_lease(store: Store) -> None:
    """A domain is leased to one holder at a time; whoever takes it after the end gets a higher fence."""

    def take() -> Lease | None:
        with store.transaction() as tx:
            return tx.lease("prod", f"holder-{threading.get_ident()}", 0.0, 10.0)

    first = [one for one in at_once(take) if one is not None]
    with store.transaction() as tx:
        second = tx.lease("prod", "late", 10.0, 10.0)

    assert 1 == len(first)
    assert second is not None
    assert second.fence > first[0].fence


def test_a_lease_is_prolonged_ended_and_lost(store: Store) -> None:
    """Its holder may prolong it; one that ran out or was taken over cannot be ended or used any more."""

    with store.transaction() as tx:
        lease = tx.lease("prod", "alice", 0.0, 10.0)
        assert lease is not None
        longer = tx.lease("prod", "alice", 5.0, 10.0)
        assert longer is not None
        assert (lease.fence, 15.0, True) == (longer.fence, longer.expires, tx.holds_lease(lease, 14.0))
        assert (False, None) == (tx.holds_lease(lease, 15.0), tx.open_lease("prod", 15.0))
        taken = tx.lease("prod", "bob", 15.0, 10.0)
        assert taken is not None
        tx.end_lease(lease)
        assert (False, True) == (tx.holds_lease(lease, 16.0), tx.holds_lease(taken, 16.0))
        tx.end_lease(taken)
        again = tx.lease("prod", "bob", 17.0, 10.0)
        assert again is not None
        assert (True, False) == (again.fence > taken.fence, tx.holds_lease(taken, 17.0))


def test_a_join_token_is_used_as_often_as_it_says(store: Store) -> None:
    """Many hosts with one token: as many as it is good for get in, and none after it has expired."""
    with store.transaction() as tx:
        for name in ("j1", "j2"):
            tx.put_join_token(
                JoinToken(id=name, token=name, left=2, expires=10.0, pattern="*", made_by="a", created=1.0)
            )

    def use() -> bool:
        with store.transaction() as tx:
            return tx.use_join_token("j1", 9.0)

    assert 2 == sum(at_once(use))
    with store.transaction() as tx:
        left = tx.join_token("j1")
        assert left is not None
        assert (0, False, False) == (left.left, tx.use_join_token("j2", 10.0), tx.use_join_token("none", 1.0))


def test_a_report_is_kept_once(store: Store) -> None:
    """However often and from however many connections it comes; another host may have one of the same id."""

    def add() -> bool:
        with store.transaction() as tx:
            return tx.add_report(report("r1"))

    assert 1 == sum(at_once(add))
    with store.transaction() as tx:
        assert tx.add_report(report("r1", "web2"))
        assert (1, 1) == (len(tx.reports_of_host("web1")), len(tx.reports_of_host("web2")))


def test_generations_are_never_given_twice(store: Store) -> None:
    """Who reads a target and writes the next one in a transaction has a generation that nobody else has."""
    with store.transaction() as tx:
        tx.put_target(HostTarget(host="web1", generation=0, profile="p"))

    def follow() -> int:
        with store.transaction() as tx:
            found = tx.target("web1")
            assert found is not None
            tx.put_target(HostTarget(host="web1", generation=found.generation + 1, profile="p"))
            return found.generation + 1

    assert list(range(1, WORKERS + 1)) == sorted(at_once(follow))


# ---- several processes, and those that die ---------------------------------------------------------------------------


def _claim(place: Path, answers: Connection) -> None:
    """Claim what there is to claim, as a broker's process of its own, and say what was got."""
    store = SqlStore.in_file(place)
    serials, uses, reports, leases = [], 0, 0, []
    for number in range(10):
        with store.transaction() as tx:
            serials.append(tx.next_serial("prod"))
            uses += tx.use_join_token("j1", 1.0)
            reports += tx.add_report(report(f"r{number}"))
            found = tx.target("web1")
            assert found is not None
            tx.put_target(HostTarget(host="web1", generation=found.generation + 1, profile="p"))
        with store.transaction() as tx:
            lease = tx.lease("prod", f"{os.getpid()}", float(number), 0.5)
            leases.append(lease.fence if lease is not None else 0)
    store.close()
    answers.send((serials, uses, reports, [fence for fence in leases if fence]))


@pytest.mark.slow
def test_processes_claim_as_threads_do(tmp_path: Path) -> None:
    """Serials, uses of a token, reports, generations and fences: nothing is given to two processes."""
    place = tmp_path / "broker.db"
    store = SqlStore.in_file(place)
    with store.transaction() as tx:
        tx.put_branch(PROD)
        tx.put_target(HostTarget(host="web1", generation=0, profile="p"))
        tx.put_join_token(JoinToken(id="j1", token="j1", left=7, expires=9.0, pattern="*", made_by="a", created=1.0))
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(3)]
    workers = [SPAWN.Process(target=_claim, args=(place, sender)) for _, sender in pipes]
    for one in workers:
        one.start()

    found = [receiver.recv() for receiver, _ in pipes if receiver.poll(120)]
    for one in workers:
        one.join(60)

    serials, uses, reports, fences = zip(*found, strict=True)
    assert list(range(1, 31)) == sorted(serial for some in serials for serial in some)
    assert (7, 10) == (sum(uses), sum(reports))
    assert len([fence for some in fences for fence in some]) == len({fence for some in fences for fence in some})
    with store.transaction() as tx:
        target = tx.target("web1")
        assert target is not None
        assert 30 == target.generation
    store.close()


def _write_and_stop(place: Path, answers: Connection) -> None:
    """Commit some, and stop in the middle of a transaction."""
    store = SqlStore.in_file(place)
    for _ in range(3):
        with store.transaction() as tx:
            serial = tx.next_serial("prod")
            tx.put_change(change(serial))
        answers.send(serial)
    with store.transaction() as tx:
        tx.put_change(change(tx.next_serial("prod")))
        tx.move_branch("prod", expected="c0", to="c9")
        tx.lease("prod", "the dead", 0.0, 1000.0)
        answers.send(0)
        signal.pause()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    """All that was committed is there, nothing of the transaction that did not end, and nobody waits for the dead."""
    place = tmp_path / "broker.db"
    store = SqlStore.in_file(place)
    with store.transaction() as tx:
        tx.put_branch(PROD)
    receiver, sender = SPAWN.Pipe(duplex=False)
    worker = SPAWN.Process(target=_write_and_stop, args=(place, sender))
    worker.start()
    committed: list[int] = []
    while receiver.poll(120) and (serial := receiver.recv()):
        committed.append(serial)

    worker.kill()
    worker.join(60)

    with store.transaction() as tx:
        found = tx.branch("prod")
        assert found is not None
        assert ([1, 2, 3], 3, "c0", None) == (
            committed, found.serial, found.commit, tx.open_lease("prod", 1.0),
        )  # fmt: skip
        assert committed == sorted(one.serial for one in tx.changes("prod"))
    store.close()


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_code_has(tmp_path: Path) -> None:
    """Alembic finds nothing to change between a migrated database and the tables in the code."""
    SqlStore.in_file(tmp_path / "broker.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'broker.db'}")

    with engine.connect() as connection:
        differences: Sequence[object] = compare_metadata(MigrationContext.configure(connection), tables.metadata)

    engine.dispose()
    assert [] == differences


def test_states_are_filled_in_from_records(tmp_path: Path) -> None:
    """A database from before there were columns for states counts as one that had them from the start."""
    engine = create_engine(f"sqlite:///{tmp_path / 'broker.db'}")
    record = ChangeHost(change="prod-1", host="web1", state="done", change_set="c1")
    with engine.begin() as connection:
        command.upgrade(configuration(connection), "0001")
        for statement, values in (
            ("INSERT INTO change (id, domain, record) VALUES ('prod-1', 'prod', :r)", encode(change(1))),
            ("INSERT INTO change_host (change, host, record) VALUES ('prod-1', 'web1', :r)", encode(record)),
        ):
            connection.execute(text(statement), {"r": values})
    engine.dispose()

    store = SqlStore.in_file(tmp_path / "broker.db")
    with store.reading() as tx:
        assert ({"done": 1}, {"c1"}) == (tx.states_of("prod-1"), tx.change_sets_of("prod-1"))
        assert [record] == list(tx.change_hosts("prod-1"))
    store.close()


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """It is named as such, and left as it was."""
    place = tmp_path / "broker.db"
    SqlStore.in_file(place).close()
    database = sqlite3.connect(place)
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()

    with pytest.raises(AquilineError, match="of another version"):
        SqlStore.in_file(place)

    assert [("9999",)] == database.execute("SELECT version_num FROM alembic_version").fetchall()
    database.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file that holds something else, or a place where none can be, is an error in words."""
    (tmp_path / "text").write_text(
        "this is a text, and a long one, so that it is not taken for an empty database\n" * 99
    )

    for place in (tmp_path / "text", tmp_path / "no such folder" / "broker.db"):
        with pytest.raises(AquilineError):
            SqlStore.in_file(place)


def test_its_file_is_private(tmp_path: Path) -> None:
    """Nobody else can read what the fleet is."""
    store = SqlStore.in_file(tmp_path / "broker.db")
    with store.transaction() as tx:
        tx.put_branch(PROD)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    store.close()
    assert {0o600} == set(modes.values())
