"""Commands of a fleet, with a broker and agents that are processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.cli import main
from tests.broker.api.conftest import Served, free_port, started
from tests.cli.conftest import PROGRAM
from tests.fleet.histories import People

HOSTS = ("web1", "web2", "db1")
PROFILE = """
software:
  components:
    filecopy:
      services:
        /etc/motd: {config: "one\\n", perms: "0644"}
        /etc/key: {config: "s3cret-word", perms: "0600"}
"""
Run = Callable[..., tuple[int, str]]


class Fleet:
    """A broker, and hosts below a temporary folder; `db1` is a member and never enrolled."""

    def __init__(self, top: Path) -> None:
        port = free_port()
        self.top = top
        self.served = Served(top / "data", port, started(top / "data", port))

    def begin(self) -> None:
        """Bring the hosts to their first profile."""
        top = self.top
        self._post("/v1/domains", {"name": "prod"})
        self._post("/v1/sandboxes", {"name": "box", "start": "prod"})
        files: dict[str, str | None] = {f"hosts/{name}.yaml": PROFILE for name in HOSTS}
        People(top / "clone", top / "data/repository.git").push("box", files)
        for name in HOSTS:
            self._post("/v1/hosts", {"name": name, "branch": "prod"})
        token = top / "join.token"
        token.write_text(self._post("/v1/join-tokens", {"count": 2})["token"])
        for number, name in enumerate(HOSTS[:2], 1):
            (self.root(name) / "etc").mkdir(parents=True)
            (self.root(name) / "etc/machine-id").write_text(f"{number:032x}\n")
            self.on(
                name, "enrol", "--name", name, "--broker", self.served.url, "--join-token-file", str(token),
                "--ca-file", str(top / "data/certificate.pem"),
            )  # fmt: skip
        self._post("/v1/deployments", {"sandbox": "box", "domain": "prod"})
        self.visit()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.served.ask("POST", path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def root(self, name: str) -> Path:
        """Return where a host is."""
        return self.top / name

    def on(self, name: str, *arguments: str) -> str:
        """Run a command on a host, which succeeds."""
        argv = [*PROGRAM, "--root", str(self.root(name)), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout

    def visit(self, *names: str) -> None:
        """Let the agents of hosts do all there is to do; of all that are enrolled where none is named."""
        for name in names or HOSTS[:2]:
            self.on(name, "agent", "--once")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One for all tests here."""
    found = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        found.begin()
        yield found
    finally:
        found.served.stop(kill=True)


@pytest.fixture
def run(fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a person's command in this process; return its exit status and what it answers."""
    data = fleet.served.data
    for name, value in {
        "BROKER": fleet.served.url,
        "TOKEN_FILE": data / "admin.token",
        "CA_FILE": data / "certificate.pem",
    }.items():
        monkeypatch.setenv(f"AQUILINE_{name}", str(value))

    def found(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(arguments)
        said = capsys.readouterr()
        return status, said.out if not status or said.out else said.err

    return found


@pytest.mark.slow
def test_verified_and_closed(fleet: Fleet, run: Run) -> None:
    """What drifted on real hosts, closed while two are silent: as text and as JSON, with a late answer below."""
    for name in HOSTS[:2]:
        (fleet.root(name) / "etc/motd").write_text("mine\n")
    (fleet.root("web1") / "etc/key").write_text("another s3cret-word")

    _, asked = run("verify", "--domain", "prod", "--no-wait", "--json", "--reason", "an audit")
    name = json.loads(asked)["change"]
    fleet.visit("web1")
    assert {"asked": 2, "drifted": 1} == json.loads(run("report", name, "--json")[1])["totals"]
    status, text = run("close", name)
    fleet.visit("web2")
    _, again = run("report", name)

    assert 0 == status
    assert f"{name}  verification on prod, by admin, closed\nreason: an audit\nfleet 3: 2 asked, 1 drifted\n" in text
    assert "    drifted: /etc/key: content: 11 bytes then, 19 bytes now   filecopy\n" in text
    assert "    drifted: /etc/motd: content: 4 bytes then, 5 bytes now [" in text
    assert "! silent: not enrolled  x1  db1" in text
    assert again.startswith(text)
    assert "after it closed: 1 host answered  web2" in again
    assert again == run("report", name)[1]
    (addendum,) = [json.loads(run("report", name, "--json")[1])["addendum"]]
    assert (1, "web2", ["/etc/motd"]) == (
        addendum["answered"], addendum["hosts"], [one["object"] for one in addendum["groups"][0]["drift"]],
    )  # fmt: skip
    assert "s3cret" not in again + run("report", name, "--json")[1] + run("report", name, "--show", "all")[1]
    assert "mine\n" == (fleet.root("web1") / "etc/motd").read_text()
    about = fleet.served.ask("GET", f"/v1/audit?about={name}").json()
    assert [("admin", "closed"), ("admin", "verify")] == [(one["who"], one["what"]) for one in about]


@pytest.mark.slow
def test_drift_as_an_exit_status(fleet: Fleet, run: Run) -> None:
    """3 where something drifted and that was asked for; a wait that is over closes nothing but itself."""
    (fleet.root("web1") / "etc/motd").write_text("mine\n")
    argv = [*PROGRAM, "--root", str(fleet.root("web1")), "agent"]
    log = (fleet.top / "agent.log").open("ab")
    agent = subprocess.Popen(argv, stdout=log, stderr=log, env=dict(os.environ))
    try:
        drifted = run("verify", "--domain", "prod", "--host", "web1", "--exit-code")
        plain = run("verify", "--domain", "prod", "--host", "web[1-1]")
    finally:
        agent.terminate()
        agent.wait(timeout=60)
        log.close()

    assert (3, 0) == (drifted[0], plain[0])
    assert "fleet 1: 1 drifted" in drifted[1]
    assert (1, True) == (
        *(found := run("verify", "--domain", "prod", "--host", "web9"))[:1],
        "not in prod: web9" in found[1],
    )


@pytest.mark.slow
def test_nobody_is_replaced(fleet: Fleet, run: Run, tmp_path: Path) -> None:
    """A person who is there is not added again; renewing gives another token and ends the old one; so does revoking."""
    _, first = run("person", "add", "ada", "--role", "author")
    status, refused = run("person", "add", "ada", "--role", "admin")
    _, second = run("person", "renew", "ada")

    def asks(token: str) -> int:
        return fleet.served.ask("GET", "/v1/changes", token=token.strip()).status_code

    assert (1, True) == (status, "`aquiline person renew ada`" in refused)
    assert [401, 200] == [asks(first), asks(second)]
    assert ["author"] == fleet.served.ask("GET", "/v1/me", token=second.strip()).json()["roles"]
    assert 0 == run("person", "revoke", "ada")[0]
    assert (1, 401) == (run("person", "renew", "ada")[0], asks(second))
    assert 0 == run("person", "add", "ada", "--role", "reader")[0]
    assert 1 == run("person", "renew", "nobody")[0]


@pytest.mark.slow
def test_only_a_question_is_closed(run: Run) -> None:
    """A deployment is taken back, not closed."""
    status, said = run("close", "prod-4")

    assert (1, True) == (status, "only a test or a verification is closed" in said)


@pytest.mark.slow
def test_the_rules_of_a_domain(fleet: Fleet, run: Run) -> None:
    """Without an option they are shown, to whoever may read, and nobody writes anything down."""
    before = run("domain", "rules", "prod")
    told = run("domain", "rules", "prod", "--needs-approval", "yes", "--author-may-approve", "no")
    shown = run("domain", "rules", "prod")
    as_data = json.loads(run("domain", "rules", "prod", "--json")[1])
    said = [one for one in fleet.served.ask("GET", "/v1/audit").json() if one["what"] == "rules"]
    run("domain", "rules", "prod", "--needs-approval", "no", "--author-may-approve", "yes")

    assert (0, "prod: needs no approval, its author may approve\n") == before
    assert (0, "prod: takes only what was approved, by somebody else than its author\n") == told == shown
    assert (True, False) == (as_data["needs_approval"], as_data["author_may_approve"])
    assert 1 == len(said)
    status, refused = run("domain", "rules", "box")
    assert (2, True) == (status, "box is a sandbox: only a domain has rules" in refused)
