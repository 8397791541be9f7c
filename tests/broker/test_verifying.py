"""Verifications of a fleet: everybody is asked, what drifted alike is shown once, and nothing is told to change."""

from __future__ import annotations

import pytest

from aquiline.broker import answering, closing, laying, members, reporting, verifying
from aquiline.broker.broker import NotFound, Refused
from aquiline.broker.records import Change
from aquiline.broker.rendering import render_report
from aquiline.changes.canonical import encode
from aquiline.errors import UsageError
from aquiline.protocol.changesets import ChangeSet, DriftedObject, change_set_digest
from aquiline.protocol.messages import Report, encode_message
from tests.broker.small import ALICE, BOB, Fleet

MOTD = DriftedObject(
    object="/etc/motd", state="drifted", how=("content: 4 bytes then, 6 bytes now",), content="ab" * 32,
    component="filecopy",
)  # fmt: skip
GONE = DriftedObject(object="/etc/⟦name⟧", state="gone", how=("it was a file, it is nothing",), component="filecopy")


def answers(fleet: Fleet, change: Change, host: str, *drift: DriftedObject, **more: object) -> None:
    """Let a host fetch the order, answer it, and send what the broker wants of that."""
    record, poll = fleet.record(host), fleet.hosts[host].poll()
    (order,) = (one for one in answering.answer(fleet.broker, record, poll).orders if one.change == change.id)
    assert ("verify", "", ()) == (order.kind, order.profile, order.change_ids)
    body = ChangeSet(drift=drift)
    values = {
        "id": f"{order.id}/answer", "tool": "test", "journal": "journal-1", "kind": "verify", "order": order.id,
        "exit_status": 3 if drift else 0, "change_set": change_set_digest(body), **more,
    }  # fmt: skip
    answered = answering.receive(fleet.broker, record, Report(**values))  # type: ignore[arg-type]
    for digest in answered.wants:
        answering.keep_change_set(fleet.broker, record, digest, encode_message(body))


def text_of(fleet: Fleet, change: Change) -> str:
    """Return the report of a verification as it is now."""
    return render_report(reporting.report(fleet.broker, change.id))


@pytest.fixture
def wide(fleet: Fleet) -> Fleet:
    """Five hosts, of which one never enrolled."""
    fleet.add("web3")
    members.add_host(fleet.broker, "db2", ALICE, branch="prod")
    return fleet


def test_what_drifted_alike_is_shown_once(wide: Fleet) -> None:
    """Groups, an index by object, silent hosts with the reason, totals that are the fleet."""
    change = verifying.verify(wide.broker, "prod", BOB)
    answers(wide, change, "web1", MOTD)
    answers(wide, change, "web2", MOTD)
    answers(wide, change, "web3", MOTD, GONE)
    answers(wide, change, "db1")
    closing.close_early(wide.broker, change.id, BOB)

    found = reporting.report(wide.broker, change.id)

    assert {"asked": 1, "clean": 1, "drifted": 3} == found.totals
    assert 5 == found.fleet == sum(found.totals.values())
    assert [("/etc/motd", 3, "web[1-3]"), ("/etc/⟦name⟧", 1, "web3")] == [
        (one.what, one.count, one.hosts) for one in found.drift
    ]
    assert (
        f"{change.id}  verification on prod, by bob, closed\n"
        "reason: because\n"
        "fleet 5: 1 asked, 1 clean, 3 drifted\n"
        "\n"
        "! drifted: /etc/motd  x3  web[1-3]\n"
        "! drifted: /etc/⟦name⟧  x1  web3\n"
        "! silent: not enrolled  x1  db2\n"
        "\n"
        "~ G1  2 hosts, 40 %  web[1-2]\n"
        "    drifted: /etc/motd: content: 4 bytes then, 6 bytes now [abababababab]   filecopy\n"
        "\n"
        "~ G2  1 host, 20 %  web3\n"
        "    drifted: /etc/motd: content: 4 bytes then, 6 bytes now [abababababab]   filecopy\n"
        "    gone: /etc/⟦name⟧: it was a file, it is nothing   filecopy\n"
        "\n"
        "~ G3  1 host, 20 %  db1\n"
        "    as the last run left it\n"
        "\n"
        f"digest {found.digest}\n"
    ) == render_report(found)


def test_the_order_of_answers_does_not_matter(wide: Fleet) -> None:
    """Equal answers are equal bytes, but for the name of the verification."""
    said = []
    for hosts in (("web1", "db1", "web2"), ("web2", "web1", "db1")):
        change = verifying.verify(wide.broker, "prod", BOB, hosts=["web[1-2],db1"])
        for host in hosts:
            answers(wide, change, host, *([MOTD] if host.startswith("web") else []))
        found = reporting.report(wide.broker, change.id)
        assert "closed" == found.state
        said.append(encode(found).replace(change.id, "ID").replace(found.digest, "DIGEST"))

    assert said[0] == said[1]


def test_a_host_that_cannot_say(fleet: Fleet) -> None:
    """What failed is first, and is not taken for clean; what comes late is in the addendum."""
    change = verifying.verify(fleet.broker, "prod", BOB)
    answers(fleet, change, "web1", exit_status=1, error="the journal is damaged")
    closing.close_early(fleet.broker, change.id, BOB)
    before = text_of(fleet, change)
    report = Report(
        id="late", tool="test", journal="journal-1", kind="verify", order=f"{change.id}.db1", exit_status=3,
        change_set=change_set_digest(ChangeSet(drift=(MOTD,))),
    )  # fmt: skip
    answering.receive(fleet.broker, fleet.record("db1"), report)
    answering.keep_change_set(
        fleet.broker, fleet.record("db1"), report.change_set, encode_message(ChangeSet(drift=(MOTD,)))
    )

    assert "fleet 3: 2 asked, 1 failed" in before
    assert "! failed: the journal is damaged  x1  web1" in before
    added = text_of(fleet, change).removeprefix(before)
    assert "after it closed: 1 host answered  db1" in added
    assert "drifted: /etc/motd" in added


def test_nothing_is_told_to_change(fleet: Fleet) -> None:
    """No target, no profile, no commit moves, and none is held up: hosts that are held and frozen domains are asked."""
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    members.hold(fleet.broker, "web1", ALICE)
    members.freeze_domain(fleet.broker, "prod", ALICE, "sale")
    before = [fleet.target(name) for name in fleet.hosts], fleet.branch().commit

    change = verifying.verify(fleet.broker, "prod", BOB)
    for name in fleet.hosts:
        answers(fleet, change, name)

    assert {"web1": "clean", "web2": "clean", "db1": "clean"} == fleet.states(change)
    assert before == ([fleet.target(name) for name in fleet.hosts], fleet.branch().commit)
    members.freeze_domain(fleet.broker, "prod", ALICE, "")
    members.release(fleet.broker, "web1", ALICE)
    assert "open" == fleet.deploy({"common/motd": "y"}).state


def test_whom_it_asks(fleet: Fleet) -> None:
    """Hosts that were named and no others; nobody is passed over silently; hosts of a sandbox are asked by its name."""
    sandbox = fleet.sandbox({})
    members.manage(fleet.broker, "db1", ALICE, branch=sandbox)

    assert {"web2": "asked"} == fleet.states(verifying.verify(fleet.broker, "prod", BOB, hosts=["web[1-2]!web1"]))
    assert {"db1": "asked"} == fleet.states(verifying.verify(fleet.broker, sandbox, BOB))
    with pytest.raises(Refused, match=r"not in prod: db1,web9"):
        verifying.verify(fleet.broker, "prod", BOB, hosts=["web1", "web9", "db1"])
    with pytest.raises(Refused, match="has no hosts"):
        verifying.verify(fleet.broker, fleet.sandbox({}), BOB)
    with pytest.raises(NotFound):
        verifying.verify(fleet.broker, "nowhere", BOB)
    with pytest.raises(UsageError, match="no set of hosts"):
        verifying.verify(fleet.broker, "prod", BOB, hosts=["web["])


def test_it_is_no_test(fleet: Fleet) -> None:
    """A verification is approved by nobody, and foresees nothing."""
    change = verifying.verify(fleet.broker, "prod", BOB, hosts=["web1"])
    answers(fleet, change, "web1")
    closed = fleet.change(change)

    with pytest.raises(Refused, match="not a closed test"):
        laying.approve(fleet.broker, change.id, closed.digest, BOB, seconds=60.0)
    assert ("", "closed") == (reporting.report(fleet.broker, change.id).approve, closed.state)
