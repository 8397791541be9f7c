"""A broker that is killed in the middle of a storm of requests, and two brokers on one folder."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from aquiline.broker.repository import Repository
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.messages import Enrol, Enrolled, Poll, Report, decode_message, encode_message
from tests.broker.api.conftest import Served, free_port, started
from tests.fleet.histories import People

#: A broker that dies in the middle of a handshake leaves the client's socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BOXES = 4
JSON = {"Content-Type": "application/json"}


@dataclass
class Storm:
    """Requests of many at once, and what was answered: only what was answered is promised."""

    served: list[Served]
    credential: str
    #: Sandbox to the ID of the change that somebody was told.
    told: list[tuple[str, str]] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def deploy_and_undeploy(self, seed: int) -> None:
        """Deploy sandboxes, and take the last change back now and then."""
        choose = random.Random(seed)
        while not self.is_over.is_set():
            box = f"s{choose.randrange(BOXES)}"
            if choose.random() < 0.7:
                answer = self.ask(choose, "/v1/deployments", {"sandbox": box, "domain": "prod"})
                if answer is not None and answer.status_code == 201:
                    self.told.append((box, answer.json()["id"]))
            else:
                answer = self.ask(choose, "/v1/undeployments", {"domain": "prod", "last": 1})
                if answer is not None and answer.status_code == 201:
                    self.undone += answer.json()["undoes"]

    def report(self, seed: int) -> None:
        """Be a host: poll, and send each report until it was taken."""
        choose = random.Random(seed)
        number = 0
        while not self.is_over.is_set():
            poll = encode_message(Poll(tool="test", journal="j", machine_id="a" * 32))
            self.ask(choose, "/v1/host/poll", poll)
            name = f"{seed}-{number}"
            answer = self.ask(
                choose, "/v1/host/reports", encode_message(Report(id=name, tool="test", journal="j", kind="run"))
            )
            if answer is not None and answer.status_code == 200:
                self.reports.append(name)
                number += 1

    def ask(self, choose: random.Random, path: str, body: object) -> httpx.Response | None:
        """Return the answer, None where there was none; an error of the broker's own is remembered."""
        served = choose.choice(self.served)
        try:
            if isinstance(body, bytes):
                answer = served.ask("POST", path, token=self.credential, content=body, headers=JSON)
            else:
                answer = served.ask("POST", path, json=body)
        except (OSError, httpx.HTTPError):
            return None
        if answer.status_code not in (200, 201, 409, 422):
            self.strange.append(f"{path}: {answer.status_code} {answer.text}")
        return answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Storm]:
    """A broker of its own with hosts and sandboxes, each of which changes one host."""
    data, port = tmp_path / "data", free_port()
    served = Served(data, port, started(data, port))
    assert 201 == served.ask("POST", "/v1/domains", json={"name": "prod"}).status_code
    people = People(tmp_path / "clone", data / "repository.git")
    for number in range(BOXES):
        assert 201 == served.ask("POST", "/v1/hosts", json={"name": f"web{number}", "branch": "prod"}).status_code
        assert 201 == served.ask("POST", "/v1/sandboxes", json={"name": f"s{number}", "start": "prod"}).status_code
        people.push(f"s{number}", {f"hosts/web{number}.yaml": "system: {}\n"})
    token = served.ask("POST", "/v1/join-tokens", json={"pattern": "web0"}).json()["token"]
    wish = Enrol(join_token=token, name="web0", machine_id="a" * 32, journal="j", tool="test")
    enrolled = decode_message(served.ask("POST", "/v1/enrol", token="", content=encode_message(wish)).content, Enrolled)
    storm = Storm([served], enrolled.credential)
    yield storm
    storm.is_over.set()
    for one in storm.served:
        one.stop(kill=True)


def blow(storm: Storm, meanwhile: Callable[[], None]) -> None:
    """Let all ask at once while something happens."""
    threads = [threading.Thread(target=storm.deploy_and_undeploy, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=storm.report, args=(seed,)) for seed in (10, 11)]
    for one in threads:
        one.start()
    try:
        meanwhile()
    finally:
        storm.is_over.set()
        for one in threads:
            one.join(timeout=120)


def settled(served: Served) -> list[dict[str, Any]]:
    """Return all changes once none of them is half done: whoever has died is finished by whoever lives."""
    until = time.monotonic() + 60
    while True:
        changes: list[dict[str, Any]] = served.ask("GET", "/v1/changes?limit=10000").json()
        if not [one for one in changes if one["state"] == "intended"]:
            return changes
        assert time.monotonic() < until, "a change stays half done"
        time.sleep(0.2)


def check(storm: Storm) -> None:
    """Nothing that was answered is lost, nothing is done twice, and database and git say the same."""
    served = storm.served[0]
    changes = settled(served)
    by_id = Counter(one["id"] for one in changes)
    states = {one["id"]: one["state"] for one in changes}
    assert [] == storm.strange
    assert {1} == set(by_id.values())
    assert len(changes) == len({one["serial"] for one in changes})
    assert {states[name] for _, name in storm.told} <= {"open", "closed", "undone"}
    assert {states[name] for name in storm.undone} <= {"undone"}
    # Of a quick machine they are more than one answer of the API holds.
    with SqlStore.in_file(served.data / "broker.db").transaction() as tx:
        kept = Counter(one.id for one in tx.reports_of_host("web0"))
    assert set(storm.reports) <= set(kept)
    assert {1} >= set(kept.values())
    repository = Repository(served.data / "repository.git")
    head = repository.head("prod")
    assert head == served.ask("GET", "/v1/branches/prod").json()["branch"]["commit"]
    standing = {one["sandbox"] for one in changes if one["kind"] == "deploy" and one["state"] in ("open", "closed")}
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", head], cwd=repository.path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {f"hosts/web{name[1:]}.yaml" for name in standing} == set(listed)


@pytest.mark.slow
def test_killed_in_a_storm(site: Storm) -> None:
    """Killed at any instant and started again on the same data, several times over."""
    served, choose = site.served[0], random.Random(4)

    def kill_again_and_again() -> None:
        for _ in range(4):
            time.sleep(choose.uniform(0.5, 3.0))
            served.stop(kill=True)
            served.start()
        until = time.monotonic() + 60
        done = len(site.told)
        while len(site.told) == done and time.monotonic() < until:
            time.sleep(0.1)

    blow(site, kill_again_and_again)

    assert site.told
    assert site.reports
    check(site)


@pytest.mark.slow
def test_two_brokers_on_one_folder(site: Storm) -> None:
    """Two processes share the work, one of them is killed: one deployment at a time, each once, and none half done."""
    first = site.served[0]
    port = free_port()
    second = Served(first.data, port, started(first.data, port))
    site.served.append(second)

    def kill_one() -> None:
        time.sleep(3.0)
        second.stop(kill=True)
        second.start()
        until = time.monotonic() + 60
        done = len(site.told)
        while len(site.told) < done + 2 and time.monotonic() < until:
            time.sleep(0.1)

    blow(site, kill_one)

    assert len(site.told) > 1
    check(site)
