"""A host that sends whatever it can fills no disk, harms no other host, and is heard of when a run of it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from aquiline.broker import answering, laying, members, reporting
from aquiline.broker.broker import Broker, Refused
from aquiline.broker.budget import OverBudget
from aquiline.broker.sqlstore import SqlStore
from aquiline.changes.canonical import decode
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import (
    Enrol,
    Live,
    MessageRefused,
    Report,
    ReportAnswer,
    ReportedStep,
    UndoneBy,
    encode_message,
)
from tests.broker.small import ALICE, BOB, Fleet
from tests.fleet.histories import FilesCompiler

DAY = 86400.0
BUDGET = 300_000
#: What is kept at most, with outlines of reports.
MOST = BUDGET * 5 // 4


@pytest.fixture
def broker(fleet: Fleet) -> Broker:
    """A broker of the small fleet that keeps little of each host."""
    return Broker(fleet.store, fleet.repository, FilesCompiler(), now=lambda: fleet.now, host_budget=BUDGET)


def report(name: str, *, size: int = 0, change_set: str = "") -> Report:
    """Return a report that nobody asked for."""
    return Report(id=name, tool="test", journal="journal-1", kind="refusal", error="x" * size, change_set=change_set)


def kept(store: SqlStore, name: str) -> int:
    """Return how many bytes of reports are kept of a host."""
    with store.reading() as tx:
        return sum(len(one.body) for one in tx.reports_of_host(name))


def until_over_budget(send: Callable[[int], object]) -> int:
    """Return how often something can be sent before it is refused."""
    for number in range(1000):
        try:
            send(number)
        except OverBudget:
            return number
    raise AssertionError("there is no end to it")


def spend(fleet: Fleet, broker: Broker, size: int) -> None:
    """Let web1 report until no report of that size is taken any more."""
    until_over_budget(
        lambda number: answering.receive(broker, fleet.record("web1"), report(f"{size}-{number}", size=size))
    )


def audited(store: SqlStore, what: str) -> int:
    """Return how often something was written down."""
    with store.reading() as tx:
        return sum(one.what == what for one in tx.audit_entries())


def test_reports_beyond_the_budget_wait_for_another_day(fleet: Fleet, broker: Broker) -> None:
    """So much is kept and no more; the audit says so once; the next day it goes on."""
    refused = 0
    for number in range(50):
        try:
            answering.receive(broker, fleet.record("web1"), report(f"r{number}", size=20_000))
        except OverBudget:
            refused += 1

    assert 0 < refused < 50
    assert kept(fleet.store, "web1") <= MOST
    assert 1 == audited(fleet.store, "over its budget")
    with pytest.raises(OverBudget):
        answering.receive(broker, fleet.record("web1"), report("r49", size=20_000))
    fleet.now += DAY
    answering.receive(broker, fleet.record("web1"), report("r49", size=20_000))


def test_many_small_reports_cost_as_well(fleet: Fleet, broker: Broker) -> None:
    """What is kept of a report besides itself counts; one that comes twice is kept, and counts, once."""
    for number in range(BUDGET):
        try:
            answering.receive(broker, fleet.record("web1"), report(f"r{number}"))
        except OverBudget:
            break

    assert number < MOST / 1024
    for _ in range(3):
        answering.receive(broker, fleet.record("web1"), report("r0"))
    assert number == len(_reports(fleet, "web1"))


def _reports(fleet: Fleet, name: str) -> list[str]:
    with fleet.store.reading() as tx:
        return [one.id for one in tx.reports_of_host(name)]


def test_other_hosts_are_not_harmed(fleet: Fleet, broker: Broker) -> None:
    """While one host has spent its budget, a test asks all of them, and the others answer and are in the report."""
    for number in range(50):
        with_suppressed(broker, fleet, report(f"r{number}", size=20_000))
    change = laying.ask(broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE)
    for name in ("web2", "db1"):
        fleet.hosts[name].broker = broker
        fleet.hosts[name].visit()

    found = reporting.report(broker, change.id)

    assert {"answered": 2, "asked": 1} == found.totals
    assert [2] == [one.count for one in found.groups]


def with_suppressed(broker: Broker, fleet: Fleet, sent: Report) -> None:
    """Let web1 send a report, kept or not."""
    try:
        answering.receive(broker, fleet.record("web1"), sent)
    except OverBudget:
        return


def test_only_what_was_asked_for_is_kept(fleet: Fleet, broker: Broker) -> None:
    """A change-set that no report of the host named, or schemas that its poll did not, are refused and not kept."""
    body = ChangeSet(notes=("nobody asked",))
    digest, schemas = change_set_digest(body), b'{"filecopy":{}}'
    named = hashlib.sha256(schemas).hexdigest()

    answering.receive(broker, fleet.record("web2"), report("r1", change_set=digest))
    with pytest.raises(Refused, match="not asked"):
        answering.keep_change_set(broker, fleet.record("web1"), digest, encode_message(body))
    with pytest.raises(Refused, match="not asked"):
        answering.keep_schemas(broker, fleet.record("web1"), named, schemas)
    with fleet.store.reading() as tx:
        assert (None, None) == (tx.content("change-set", digest), tx.content("schemas", named))

    for _ in range(2):
        answering.keep_change_set(broker, fleet.record("web2"), digest, encode_message(body))
    fleet.hosts["web1"].visit()
    said = msgspec.structs.replace(fleet.hosts["web1"].poll(), schemas=named)
    assert answering.answer(broker, fleet.record("web1"), said).wants_schemas
    for _ in range(2):
        answering.keep_schemas(broker, fleet.record("web1"), named, schemas)
    with fleet.store.reading() as tx:
        assert tx.content("change-set", digest) is not None
        assert schemas == tx.content("schemas", named)
    assert () == fleet.record("web2").wanted


def test_change_sets_and_schemas_are_in_the_budget(fleet: Fleet, broker: Broker) -> None:
    """Naming ever new ones, and sending them, comes to an end as well."""
    host = fleet.hosts["web1"]
    host.visit()

    def send(number: int) -> None:
        body = ChangeSet(notes=(f"{number}", "x" * 20_000))
        digest = change_set_digest(body)
        answering.receive(broker, host.record(), report(f"r{number}", change_set=digest))
        answering.keep_change_set(broker, host.record(), digest, encode_message(body))

    assert 5 < until_over_budget(send) < 20

    schemas = b'{"filecopy":{"x":"' + b"y" * 20_000 + b'"}}'
    named = hashlib.sha256(schemas).hexdigest()
    answering.answer(broker, host.record(), msgspec.structs.replace(host.poll(), schemas=named))
    with pytest.raises(OverBudget):
        answering.keep_schemas(broker, host.record(), named, schemas)


def test_the_audit_is_not_filled(fleet: Fleet, broker: Broker) -> None:
    """A copy of a host is written down once an hour; a host that has ever another journal spends its budget with it."""
    host = fleet.hosts["web1"]
    host.visit()
    copied = msgspec.structs.replace(host.poll(), machine_id="f" * 32)
    for _ in range(20):
        with pytest.raises(Refused, match="copy"):
            answering.answer(broker, host.record(), copied)
        fleet.now += 360

    assert 2 == audited(fleet.store, "machine-id refused")

    for number in range(BUDGET // 1024 + 10):
        answering.answer(broker, host.record(), msgspec.structs.replace(host.poll(), journal=f"j{number}"))

    assert 0 < audited(fleet.store, "journal changed") < BUDGET / 1024


def test_a_host_that_a_person_holds_does_not_fill_the_audit(fleet: Fleet, broker: Broker) -> None:
    """Nor does one that says with each poll something else that cannot be."""
    host = fleet.hosts["web1"]
    host.visit()
    members.hold(broker, "web1", BOB)
    for number in range(BUDGET // 5000):
        live = Live("", tuple(f"{'x' * 100}-{number}-{one}" for one in range(50)))
        answering.answer(broker, host.record(), msgspec.structs.replace(host.poll(), generation=2**40, live=live))

    assert 0 < audited(fleet.store, "ahead of the database") < BUDGET / 5000
    assert "person" == fleet.record("web1").held_by


def test_who_has_spent_the_budget_is_heard_of_when_a_run_fails(fleet: Fleet, broker: Broker) -> None:
    """Large answers to tests keep no failure from the report: of it the outline is kept, and no body asked for."""
    change = fleet.deploy({"common/motd": "x"})
    for number in range(20):
        answering.receive(broker, fleet.record("web1"), report(f"r{number}", size=20_000))
    step = ReportedStep(
        number=1, component="filecopy", kind="write-file", kind_version=1, description="y" * 50_000, status="failed",
        undo=UndoneBy("exact", "as before"),
    )  # fmt: skip
    failed = msgspec.structs.replace(
        report("failed", change_set="a" * 64), kind="run", run="1", sequence=1, exit_status=15, error="no room",
        generation=fleet.target("web1").generation, steps=(step,), facts={"name": "web1"},
    )  # fmt: skip

    for _ in range(2):
        assert ReportAnswer() == answering.receive(broker, fleet.record("web1"), failed)

    assert ("failed", "no room", 15) == (
        (found := fleet.meaning(change, "web1")).state, found.because, found.exit_status
    )  # fmt: skip
    assert [("no room", "web1")] == [(one.what, one.hosts) for one in reporting.report(broker, change.id).failed]
    with fleet.store.reading() as tx:
        outline = decode(tx.reports_of_host("web1", limit=1)[0].body, Report)
    assert ((), "no room", 15) == (outline.steps, outline.error, outline.exit_status)
    assert "too much today" in outline.notes[0]
    assert 1 == audited(fleet.store, "over its budget")


def test_a_body_that_does_not_fit_holds_up_no_report(fleet: Fleet, broker: Broker) -> None:
    """Where there is no room for a change-set any more, its report is taken without it when it comes again."""
    body = ChangeSet(notes=("x" * BUDGET,))
    named = report("r1", change_set=change_set_digest(body))

    assert answering.receive(broker, fleet.record("web1"), named).wants
    with pytest.raises(OverBudget):
        answering.keep_change_set(broker, fleet.record("web1"), named.change_set, encode_message(body))
    assert ReportAnswer() == answering.receive(broker, fleet.record("web1"), named)


def test_installed_anew_with_the_budget_spent(fleet: Fleet, broker: Broker) -> None:
    """Whoever puts a broken host right on the same day can enrol it, and it is told what it is to be."""
    fleet.visit()
    spend(fleet, broker, 20_000)
    spend(fleet, broker, 0)
    members.revoke_host(broker, "web1", ALICE)
    token = members.add_join_token(broker, ALICE, count=1, seconds=60.0, pattern="*")

    members.enrol(broker, Enrol(join_token=token, name="web1", machine_id="a" * 32, journal="journal-2", tool="test"))
    poll = msgspec.structs.replace(fleet.hosts["web1"].poll(), machine_id="a" * 32, journal="journal-3", generation=0)

    assert fleet.target("web1").generation == getattr(
        answering.answer(broker, fleet.record("web1"), poll).target, "generation", None
    )
    assert "journal-3" == fleet.record("web1").journal


def test_what_is_longer_than_any_such_thing_is_refused(fleet: Fleet, broker: Broker) -> None:
    """Names and polls have a size, so that what is written again and again stays small."""
    host = fleet.hosts["web1"]
    for sent in (report("x" * 256), report("1", change_set="a" * 65)):
        with pytest.raises(MessageRefused):
            answering.receive(broker, host.record(), sent)
    with pytest.raises(MessageRefused, match="poll"):
        answering.answer(broker, host.record(), msgspec.structs.replace(host.poll(), past_undo=("x" * 300_000,)))


def test_what_a_change_lists_of_a_host_has_an_end(fleet: Fleet) -> None:
    """However many reports of one run come, the record that each of them is written to stays small."""
    change = fleet.deploy({"common/motd": "x"})
    generation = fleet.target("web1").generation
    for number in range(120):
        sent = msgspec.structs.replace(report(f"r{number}"), generation=generation, kind="run", run="1", sequence=1)
        answering.receive(fleet.broker, fleet.record("web1"), sent)

    found = fleet.meaning(change, "web1").reports

    assert (100, "r119") == (len(found), found[-1])
