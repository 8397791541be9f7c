"""The fleet report: short, quick, and safe to look at, whatever hosts send."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from aquiline.broker import answering, reporting
from aquiline.broker.records import Change, ChangeHost
from aquiline.broker.rendering import render_report
from aquiline.broker.reporting import FleetReport, report_of
from aquiline.protocol.changesets import ChangeSet, ChangeSetStep, change_set_digest
from aquiline.protocol.messages import Live, Report
from tests.broker.small import Fleet

CHANGE = Change(id="prod-1", kind="test", domain="prod", state="closed", author="alice", created=0.0)


def step(number: int, **more: Any) -> ChangeSetStep:
    """Return a step that disturbs a service."""
    values: dict[str, Any] = {
        "number": number, "component": "filecopy", "kind": "write-file", "kind_version": 1, "cause": "intentional",
        "description": f"write /etc/{number}", "undo_class": "exact", "undo": "restore", "text": "text",
        "disturbs": f"restart {number}.service", "row": ["write-file", number],
    }  # fmt: skip
    return ChangeSetStep(**(values | more))


def reported(hosts: dict[str, ChangeSet]) -> FleetReport:
    """Return the report of a test that these hosts answered."""
    bodies = {change_set_digest(body): body for body in hosts.values()}
    records = [
        ChangeHost(change="prod-1", host=host, state="answered", change_set=change_set_digest(body))
        for host, body in hosts.items()
    ]
    return report_of(CHANGE, records, bodies, {})


def test_nothing_of_a_host_commands_a_terminal() -> None:
    """A host that writes what a terminal obeys into its change-set has it shown, escaped, wherever it stands."""
    evil = "\x1b[2J\x1b]0;owned\x07\r\u202e"
    nasty = step(
        1, component=evil, description=evil, certain=evil, cause=evil, undo=evil, disturbs=evil, text=f"+a\tb\\n{evil}"
    )
    found = reported({"web1": ChangeSet(steps=(nasty,), components={evil: evil})})

    text = render_report(found, show="all") + render_report(found)

    assert set() == {one for one in text if not one.isprintable()} - {"\n", "\t"}
    assert "+a\tb\\n\\x1b[2J" in text


def test_a_large_fleet_is_reported_at_once() -> None:
    """The time that a report takes grows with hosts and with change-sets, and not with the one times the other."""
    bodies = [ChangeSet(steps=(*(step(number) for number in range(1, 100)), step(1000 + one))) for one in range(10)]
    hosts = {f"node{number:05d}": bodies[number % 10] for number in range(5000)}

    begun = time.process_time()
    found = reported(hosts)

    assert 10 == len(found.groups)
    assert [5000] * 99 + [500] * 10 == [one.count for one in found.disturbs]
    assert time.process_time() - begun < 5


def failed(host: Any, number: str, **more: Any) -> Report:
    """Return the report of a run of `host` that failed."""
    values: dict[str, Any] = {
        "id": number, "tool": "test", "journal": host.journal, "kind": "run", "run": number, "sequence": 9,
        "status": "partial", "exit_status": 15, "generation": fleet_generation(host),
    }  # fmt: skip
    return Report(**(values | more))


def fleet_generation(host: Any) -> int:
    """Return the generation that a host is to reach."""
    with host.broker.store.transaction() as tx:
        target = tx.target(host.name)
    assert target is not None
    return int(target.generation)


def test_hosts_that_failed_alike_are_shown_once(fleet: Fleet) -> None:
    """A host's own name and run in the words of its failure make no group of its own."""
    change = fleet.deploy({"common/motd": "x"})
    for name, host in fleet.hosts.items():
        facts = {"name": f"{name}.example.org", "run": f"20261122-{name}"}
        error = f"run 20261122-{name}: /etc/{name}.example.org cannot be written"
        answering.receive(fleet.broker, host.record(), failed(host, f"1-{name}", error=error, facts=facts))

    found = reporting.report(fleet.broker, change.id)

    assert {"failed": 3} == found.totals
    assert [("run ⟦run⟧: /etc/⟦name⟧ cannot be written", 3)] == [(one.what, one.count) for one in found.failed]
    assert [3] == [one.count for one in found.groups]


def test_silent_hosts_are_grouped_by_what_is_not_their_own(fleet: Fleet) -> None:
    """Hosts that are silent for one reason are one line, although each names itself and a run of its own."""
    change = fleet.deploy({"common/motd": "x"}, domain="prod")
    for number, (name, host) in enumerate(fleet.hosts.items()):
        because = f"run {number:08x}: {name} is in doubt, see /srv/{name}/log"
        said = msgspec.structs.replace(host.poll(), state="in-doubt", because=because)
        answering.answer(fleet.broker, host.record(), said)

    found = reporting.report(fleet.broker, change.id)

    assert [("in-doubt: run ⟦run⟧: ⟦name⟧ is in doubt, see /srv/⟦name⟧/log", 3)] == [
        (one.what, one.count) for one in found.silent
    ]
    assert "run 00000001: web2" in fleet.record("web2").because


def test_long_lists_of_hosts_are_cut(fleet: Fleet) -> None:
    """A group's line is as short as any other, unless its hosts are asked for."""
    found = reported({f"node{number * 3:05d}": ChangeSet(steps=(step(1),)) for number in range(3000)})

    short, whole = render_report(found), render_report(found, show="G1")

    assert max(map(len, short.splitlines())) < 400
    assert found.groups[0].hosts in whole


def test_what_failed_in_part_has_failed(fleet: Fleet) -> None:
    """A host whose run made its profile live but for what failed is listed as failed, by its report and its polls."""
    change = fleet.deploy({"common/motd": "x"})
    host = fleet.hosts["web1"]
    with fleet.store.transaction() as tx:
        target = tx.target("web1")
    assert target is not None
    live = Live(target.profile, target.change_ids)

    answering.receive(fleet.broker, host.record(), failed(host, "1", error="no room", live=live))
    said = msgspec.structs.replace(host.poll(), live=live, generation=target.generation, state="failed")
    answering.answer(fleet.broker, host.record(), said)

    assert ("failed", 15) == (fleet.meaning(change, "web1").state, fleet.meaning(change, "web1").exit_status)


def test_what_goes_on_has_not_failed(fleet: Fleet) -> None:
    """A run that changed the program itself, and leaves the rest to the next one, keeps its host waited for."""
    change = fleet.deploy({"common/motd": "x"})
    host = fleet.hosts["web1"]

    answering.receive(fleet.broker, host.record(), failed(host, "1", exit_status=3))

    assert ("asked", 0) == (fleet.meaning(change, "web1").state, fleet.meaning(change, "web1").exit_status)


def asked_for(fleet: Fleet, name: str, digest: str) -> None:
    """Let a host name a change-set."""
    told = Report(id=digest, tool="test", journal="journal-1", kind="refusal", change_set=digest)
    assert (digest,) == answering.receive(fleet.broker, fleet.record(name), told).wants


def test_what_is_kept_for_others_is_what_its_digest_says(fleet: Fleet) -> None:
    """Whatever a host wraps around a change-set that others refer to is not kept."""
    body = ChangeSet(notes=("one",))
    digest = change_set_digest(body)

    asked_for(fleet, "web1", digest)
    more = b'{"version":1,"notes":["one"],"more":"' + b"x" * 100_000 + b'"}'
    answering.keep_change_set(fleet.broker, fleet.record("web1"), digest, more)

    with fleet.store.transaction() as tx:
        kept = tx.content("change-set", digest)
    assert kept is not None
    assert len(kept) < 1000
