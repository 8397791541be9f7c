"""What a newer or older broker may say: what this program does not speak is refused, and the rest is done."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline import __version__
from aquiline.agent.daemon import agent as agents
from aquiline.agent.daemon import refusing
from aquiline.changes.kinds import Inline, WriteFile
from aquiline.protocol import messages
from aquiline.protocol.messages import (
    MessageRefused,
    NotSpoken,
    Order,
    Poll,
    PollAnswer,
    Target,
    decode_answer,
    decode_message,
    encode_message,
    speaks,
)
from tests.agent.daemon.broker import Broker, once
from tests.agent.making import Site, profile

ONE = profile(WriteFile(path="/etc/motd", content=Inline(b"one\n")))


class Stranger(Broker):
    """A broker of another version: it says what the messages of this program have no words for."""

    def __init__(self) -> None:
        super().__init__()
        #: Orders as they are sent.
        self.strange: list[dict[str, Any]] = []
        self.is_target_strange = False

    def poll(self, poll: Poll) -> PollAnswer:
        """Return what comes of the bytes that are sent."""
        said = json.loads(encode_message(super().poll(poll)))
        answered = {report.order for report in self.reports.values() if report.kind != "refusal"}
        said["orders"] = [*self.strange, *said.get("orders", [])]
        said["orders"] = [one for one in said["orders"] if one["id"] not in answered]
        if self.is_target_strange:
            said["target"] |= {"profile": {"of": "another shape"}, "change_ids": 7}
        return decode_answer(json.dumps(said).encode())


def verification(name: str, **more: Any) -> dict[str, Any]:
    """Return an order as it is sent."""
    return {"id": name, "change": "t", "kind": "verify", "time_to_live": 60.0, **more}


def upgraded(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    """From now on this is a later version of the program, which speaks `protocol`."""
    monkeypatch.setattr(messages, "PROTOCOL", protocol)
    for module in (agents, refusing, messages):
        monkeypatch.setattr(module, "__version__", "99.0")


def test_a_target_that_is_not_spoken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused once, with what to do; orders beside it are answered; the next version of the program tries it."""
    broker = Stranger()
    broker.wants(ONE, "c1", protocol=2)
    broker.is_target_strange = True
    broker.asks(Order(id="o1", change="t", kind="verify", time_to_live=60.0))
    once(site, broker)
    once(site, broker)

    (refusal,) = broker.of_kind("refusal")
    assert (1, "", "upgrade the agent") == (refusal.generation, refusal.order, refusal.hint)
    assert f"a target of protocol 2: this agent, aquiline {__version__}, speaks 1" == refusal.error
    assert ["o1"] == [report.order for report in broker.of_kind("verify")]
    assert ("failed", refusal.error, 1) == (
        broker.polls[-1].state,
        broker.polls[-1].because,
        broker.polls[-1].generation,
    )
    assert site.text("/etc/motd") is None

    upgraded(monkeypatch, 2)
    broker.is_target_strange = False
    once(site, broker)

    assert "one\n" == site.text("/etc/motd")
    assert ("idle", 1, ("c1",)) == (
        broker.polls[-1].state, broker.polls[-1].generation, broker.polls[-1].live.change_ids,
    )  # fmt: skip


def test_what_took_nothing_back(site: Site) -> None:
    """What was read of a target that is not spoken is not taken for all of it: nothing here is taken back."""
    broker = Stranger()
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(ONE, "c1", "c2", protocol=9)
    once(site, broker)

    assert "one\n" == site.text("/etc/motd")
    assert ("failed", ("c1",)) == (broker.polls[-1].state, broker.polls[-1].live.change_ids)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"protocol": 3, "profile": ["?"]}, f"an order of protocol 3: this agent, aquiline {__version__}, speaks 1"),
        (
            {"kind": "rehearse"},
            f"an order of the kind 'rehearse': this agent, aquiline {__version__}, knows test, test-undo, verify",
        ),
    ],
)
def test_an_order_that_is_not_spoken(
    site: Site, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], error: str
) -> None:
    """It is refused and the target reached; a later version that is given it again answers it."""
    broker = Stranger()
    broker.strange = [verification("o1", **more)]
    broker.wants(ONE, "c1")
    once(site, broker)

    (refusal,) = broker.of_kind("refusal")
    assert ("o1", 0, 1, error, "upgrade the agent") == (
        refusal.order, refusal.generation, refusal.exit_status, refusal.error, refusal.hint,
    )  # fmt: skip
    assert "one\n" == site.text("/etc/motd")

    upgraded(monkeypatch, 3)
    broker.strange = [verification("o1", protocol=more.get("protocol", 1))]
    once(site, broker)

    assert ["o1"] == [report.order for report in broker.of_kind("verify")]


def test_its_own_and_the_two_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program speaks three versions; a message that says none is of the first, whatever the reader's own is."""
    monkeypatch.setattr(messages, "PROTOCOL", 5)

    assert [3, 4, 5] == [version for version in range(-1, 9) if speaks(version)]
    with pytest.raises(NotSpoken, match=r"protocol 1: this broker, .*, speaks 3 to 5") as refused:
        decode_message(b'{"tool":"x","journal":"j"}', Poll)
    assert "upgrade the agent" == refused.value.hint
    with pytest.raises(NotSpoken) as refused:
        decode_answer(b'{"pace":1.0,"protocol":2}')
    assert "upgrade the broker" == refused.value.hint
    with pytest.raises(NotSpoken, match="protocol 6"):
        decode_message(b'{"protocol":6,"tool":["another shape"]}', Poll)
    monkeypatch.setattr(messages, "PROTOCOL", 2)
    assert [1, 2] == [version for version in range(-1, 9) if speaks(version)]


def test_what_is_spoken_must_fit() -> None:
    """A target or order of a version that is spoken and does not fit makes the answer none."""
    for wrong in ({"target": {"generation": 1}}, {"orders": [{"id": "o"}]}, {"orders": 7}, {"target": 7}):
        with pytest.raises(MessageRefused):
            decode_answer(json.dumps({"pace": 1.0, **wrong}).encode())


VERSIONS = st.integers(-1, 4) | st.integers()
KINDS = st.sampled_from(["verify", "test", "test-undo"]) | st.text(max_size=8)
JUNK = st.dictionaries(
    st.sampled_from(["profile", "change_ids", "again", "effect", "signature", "anything"]),
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4) | st.lists(st.integers(0, 9), max_size=2),
)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_rest_is_always_worked_at(data: st.DataObject) -> None:
    """Whatever versions and kinds come: each order that can be read is answered, each other refused, one by one."""
    broker = Stranger()
    broker.asks(Order(id="plain", change="t", kind="verify", time_to_live=60.0))
    readable = {"plain"}
    unreadable = set()
    for number in range(data.draw(st.integers(0, 4))):
        one = verification(f"o{number}", kind=data.draw(KINDS), protocol=data.draw(VERSIONS))
        if speaks(one["protocol"]) and one["kind"] in ("verify", "test", "test-undo"):
            readable.add(one["id"])
        else:
            unreadable.add(one["id"])
            one |= {} if speaks(one["protocol"]) else data.draw(JUNK)
        broker.strange.append(one)
    version = data.draw(VERSIONS)
    # Any integer on the wire; but messages are written with such only as fit 64 bits.
    target = broker.wants(ONE, "c1", protocol=version if abs(version) < 2**63 else 9)
    broker.is_target_strange = not speaks(target.protocol)

    with tempfile.TemporaryDirectory() as place:
        site = Site(Path(place))
        site.install()
        with site.importing():
            once(site, broker)
            once(site, broker)
        refused = {report.order for report in broker.of_kind("refusal") if report.order}
        answered = {report.order for report in broker.reports.values() if report.kind in ("verify", "test")}

        assert (unreadable, readable) == (refused, answered)
        assert ("one\n" if speaks(target.protocol) else None) == site.text("/etc/motd")
        assert (not speaks(target.protocol)) == sum("/refusal-1-0" in report for report in broker.came)
        assert 1 == broker.polls[-1].generation


@given(VERSIONS, JUNK)
def test_only_the_name_is_read(version: int, junk: dict[str, Any]) -> None:
    """Of a target of a version that is not spoken there is its name and nothing else, whatever it says."""
    said = {"pace": 1.0, "target": {"generation": 7, "released": 3, "protocol": version, **junk}}
    if speaks(version):
        return
    assert (
        Target(generation=7, released=3, protocol=version, profile="")
        == decode_answer(json.dumps(said).encode()).target
    )


def test_a_message_says_its_version_where_it_is_not_the_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program of a later version makes is of that version on the wire, also where all else is left out."""
    monkeypatch.setattr(agents, "PROTOCOL", 2)
    monkeypatch.setattr(messages, "PROTOCOL", 2)
    broker = Broker()
    once(site, broker)

    assert 2 == broker.polls[-1].protocol
    assert 2 == json.loads(encode_message(broker.polls[-1]))["protocol"]
    assert "protocol" not in json.loads(encode_message(msgspec.structs.replace(broker.polls[-1], protocol=1)))
