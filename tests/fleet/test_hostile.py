"""Test, deploy, undeploy, whatever becomes of the messages and processes: nothing is lost, and nothing done twice.

Agents, their work and the broker are real processes that talk real HTTP, through a proxy that means them no good.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.hostile import AgentProcess, Fate, HostileFleet, Message, hostile_fleet

#: Connections to whoever was killed are left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
#: Hosts whose splay is small, so that nobody waits for them to begin.
HOSTS = ("h90", "h162")
FATES: tuple[Fate, ...] = ("lose", "cut", "lose answer", "cut answer", "twice", "again later")


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HostileFleet]:
    """A fleet of the hosts that the test says."""
    with hostile_fleet(tmp_path, *request.param) as found:
        yield found


class Whims:
    """Lets each message meet each fate once, in an order that a seed says; then it passes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._left: dict[str, list[Fate]] = {}
        self.met: Counter[Fate] = Counter()

    def __call__(self, message: Message) -> Fate:
        kind = f"{message.headers.get('Authorization', '')} {message.name.split()[0]} {message.path}"
        with self._lock:
            left = self._left.setdefault(kind, random.Random(f"{self._seed} {kind}").sample(FATES, len(FATES)))
            fate: Fate = left.pop() if left else "pass"
            self.met[fate] += 1
        return fate


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [HOSTS[:1]], indirect=True)
def test_each_message_meets_each_fate(fleet: HostileFleet) -> None:
    """Lost, cut, answered in vain, doubled, overtaken: each kind of message once in each way."""
    fleet.proxy.rule = whims = Whims(4)

    _, deployed, _ = fleet.story()

    fleet.check(deployed)
    assert set(FATES) <= set(whims.met)


class Deaths:
    """Kills somebody at each message, the first times that it is sent.

    First whoever sent it, before it arrives; then whoever sent it, before its answer arrives; then the broker, while it
    is at it.
    """

    def __init__(self, fleet: HostileFleet) -> None:
        self._fleet = fleet
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()

    def __call__(self, message: Message) -> Fate:
        with self._lock:
            self.seen[message.name] += 1
            turn = self.seen[message.name]
        agent = next(iter(self._fleet.agents.values()))
        if turn == 1:
            self._kill(agent, message)
            return "lose"
        if turn == 2:
            self._fleet.proxy.passed_on(message)
            self._kill(agent, message)
            return "lose"
        if turn == 3:
            self._fleet.proxy.passed_on_besides(message)
            self._fleet.kill_broker()
            return "lose"
        return "pass"

    def _kill(self, agent: AgentProcess, message: Message) -> None:
        if message.is_of_work:
            agent.kill_work()
        else:
            agent.kill()


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [HOSTS[:1]], indirect=True)
def test_killed_at_each_message(fleet: HostileFleet) -> None:
    """At each message of the story the agent or its work is killed before and after, and the broker in between."""
    fleet.proxy.rule = deaths = Deaths(fleet)

    _, deployed, _ = fleet.story()

    fleet.check(deployed)
    kinds = {name.split()[0] for name in deaths.seen}
    assert {"poll", "report", "GET", "PUT"} <= kinds


#: Shifts the wall clock of every Python process that has it in its path.
CLOCK = """
import os, time
_real, _real_ns, _off = time.time, time.time_ns, float(os.environ.get("HOURS_OFF", "0")) * 3600
time.time = lambda: _real() + _off
time.time_ns = lambda: _real_ns() + int(_off * 1_000_000_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [HOSTS], indirect=True)
def test_clocks_that_are_hours_off(fleet: HostileFleet, tmp_path: Path) -> None:
    """A host a day ahead and one a day behind do and report what any does: the broker's clock counts."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(CLOCK)
    for agent, hours in zip(fleet.agents.values(), ("26", "-26"), strict=True):
        agent.environment = {"PYTHONPATH": str(tmp_path / "clock"), "HOURS_OFF": hours}
    begun = time.time()

    _, deployed, _ = fleet.story()

    fleet.check(deployed)
    off = [round((run["started"] - begun) / 3600) for agent in fleet.agents.values() for run in agent.runs()]
    assert {26, -26} == set(off)


@pytest.mark.slow
@pytest.mark.parametrize("fleet", [HOSTS[:1]], indirect=True)
def test_two_people_deploy_at_once(fleet: HostileFleet) -> None:
    """Each of two command lines deploys, or is told who does: afterwards both are in, once, and can be taken back."""
    (name,) = fleet.agents
    people = {
        who: fleet.ask("POST", "/v1/people", {"name": who, "roles": ["author"]})["token"] for who in ("ann", "bob")
    }
    for who in people:
        fleet.push(who, f"{who}\n", f"/etc/{who}")

    waiting = {who: fleet.command(token, "deploy", who, "--domain", "prod") for who, token in people.items()}
    ended = {who: (*one.communicate(timeout=120), one.returncode) for who, one in waiting.items()}
    refused = [who for who, (_, _, status) in ended.items() if status]
    assert len(refused) < len(people), ended
    for who in refused:
        assert "is being changed by" in ended[who][1], ended[who]
        again = fleet.command(people[who], "deploy", who, "--domain", "prod")
        assert 0 == (again.communicate(timeout=120), again.returncode)[1]

    changes = [one for one in fleet.ask("GET", "/v1/changes?domain=prod") if one["author"] in people]
    assert ["ann", "bob"] == sorted(one["author"] for one in changes)
    assert 2 == len({one["id"] for one in changes})
    agent = fleet.agents[name]
    fleet.wait_for("both", lambda: {"etc/ann", "etc/bob"} <= set(agent.tree()))
    undone = fleet.ask("POST", "/v1/undeployments", {"domain": "prod", "last": 2})["id"]
    fleet.wait_for("the undeploy", lambda: {name: "done"} == fleet.states(undone))
    assert agent.before == agent.tree()
