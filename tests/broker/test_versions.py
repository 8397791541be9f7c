"""Hosts whose agent speaks another version of the protocol: they are named with the reason, and heard once upgraded."""

from __future__ import annotations

import json

import msgspec
import pytest

from aquiline import __version__
from aquiline.broker import answering, closing, laying, reporting
from aquiline.broker.records import Change
from aquiline.broker.rendering import render_report
from aquiline.protocol.messages import NotSpoken, Order, Poll, Report, decode_message
from tests.broker.small import ALICE, BOB, Fleet


@pytest.fixture
def question(fleet: Fleet) -> Change:
    """A test that asks every host."""
    return laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=600.0)


def orders(fleet: Fleet, host: str, tool: str) -> tuple[Order, ...]:
    """Return what a host is asked whose agent is of a version of the program."""
    poll = msgspec.structs.replace(fleet.hosts[host].poll(), tool=tool)
    return answering.answer(fleet.broker, fleet.record(host), poll).orders


def says(fleet: Fleet, host: str, order: Order, tool: str, **more: object) -> None:
    """Let a host answer an order."""
    report = Report(id=f"{order.id}/{tool}", tool=tool, journal="journal-1", kind="test", order=order.id)
    answering.receive(fleet.broker, fleet.record(host), msgspec.structs.replace(report, **more))


def polls_strangely(fleet: Fleet, host: str, **more: object) -> str:
    """Let a host poll in a version that the broker does not speak; return what the broker says."""
    body = json.dumps({"protocol": 9, "tool": "9.0", "live": "another shape", **more}).encode()
    with pytest.raises(NotSpoken) as refused:
        decode_message(body, Poll)
    answering.refused(fleet.broker, fleet.record(host), body, refused.value)
    return refused.value.message


def test_an_order_that_an_agent_cannot_read(fleet: Fleet, question: Change) -> None:
    """The report groups such hosts by the reason; the order is theirs again once they are of another version."""
    error = "an order of protocol 2: this agent, aquiline 0.1, speaks 1"
    for host in ("web1", "web2"):
        (order,) = orders(fleet, host, "0.1")
        says(fleet, host, order, "0.1", kind="refusal", exit_status=1, error=error, hint="upgrade the agent")
    text = render_report(reporting.report(fleet.broker, question.id))

    assert f"{error}  x2  web[1-2]" in text
    assert {"web1": "failed", "web2": "failed", "db1": "asked"} == fleet.states(question)
    assert () == orders(fleet, "web1", "0.1")
    (again,) = orders(fleet, "web1", "0.2")
    says(fleet, "web1", again, "0.2")
    assert {"web1": "answered", "web2": "failed", "db1": "asked"} == fleet.states(question)
    assert () == orders(fleet, "web1", "0.2")
    assert () == orders(fleet, "web1", "0.1")


def test_a_late_refusal_takes_no_answer_away(fleet: Fleet, question: Change) -> None:
    """An order that was answered stays so, whatever comes of an earlier version of the program."""
    (order,) = orders(fleet, "web1", "0.2")
    says(fleet, "web1", order, "0.2")
    says(fleet, "web1", order, "0.1", kind="refusal", exit_status=1, error="cannot read it")

    assert () == orders(fleet, "web1", "0.3")


def test_a_poll_that_is_not_spoken(fleet: Fleet, question: Change) -> None:
    """The host's state says so, and the report why it is silent; a poll that is spoken ends it."""
    before = fleet.record("web1")
    fleet.now += 5.0
    why = polls_strangely(fleet, "web1")

    assert f"a poll of protocol 9: this broker, aquiline {__version__}, speaks 1" == why
    after = fleet.record("web1")
    assert ("refused", why, "9.0", fleet.now) == (after.state, after.because, after.tool, after.seen)
    assert (before.live, before.journal, before.generation) == (after.live, after.journal, after.generation)
    closing.close_early(fleet.broker, question.id, BOB)
    assert f"silent: refused: {why}  x1  web1" in render_report(reporting.report(fleet.broker, question.id))

    orders(fleet, "web1", "0.1")
    assert ("idle", "") == (fleet.record("web1").state, fleet.record("web1").because)


def test_refused_polls_are_written_down_seldom(fleet: Fleet) -> None:
    """One that says the same again within a minute writes nothing; what is no version of a program is passed over."""
    polls_strangely(fleet, "web1")
    first = fleet.record("web1")
    fleet.now += 30.0
    polls_strangely(fleet, "web1")
    assert first == fleet.record("web1")
    fleet.now += 31.0
    polls_strangely(fleet, "web1")
    assert fleet.now == fleet.record("web1").seen
    polls_strangely(fleet, "web1", tool=["no text"])
    assert "" == fleet.record("web1").tool
    polls_strangely(fleet, "web1", tool="9" * 1000)
    assert len(fleet.record("web1").tool) < 100
