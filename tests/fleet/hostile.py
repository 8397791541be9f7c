"""What lies between agents and their broker, where it is hostile: a proxy that does to each message what a rule says.

The broker, the agents and their work are processes of their own, and each of them may be killed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import httpx

from aquiline.profile import escape
from tests.broker.api.conftest import Served, free_port, started
from tests.fleet.histories import People

#: What happens to a message: it passes; it is lost; half of it arrives; its answer is lost; half of that arrives; it
#: arrives twice; it arrives, and once more after others that came later.
Fate = Literal["pass", "lose", "cut", "lose answer", "cut answer", "twice", "again later"]
#: What the hosts are made of: one of it for each sandbox that a test deploys.
LAYERS = ("work", "ann", "bob")
Rule = Callable[["Message"], Fate]


@dataclass(frozen=True)
class Message:
    """A request of an agent's."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_of_work(self) -> bool:
        """Whether the process that works sent it, not the agent."""
        return self.path.startswith("/v1/host/profiles/")

    @property
    def name(self) -> str:
        """What it is about: what is sent again has the same name."""
        found = json.loads(self.body) if self.path.endswith(("/poll", "/reports")) else {}
        if self.path.endswith("/reports"):
            return f"report {found['id']}"
        if self.path.endswith("/poll"):
            return f"poll {found.get('generation', 0)} {found.get('live', {}).get('change_ids', [])}"
        return f"{self.method} {self.path}"


class Proxy(ThreadingHTTPServer):
    """Hands messages on to a broker as its rule says."""

    daemon_threads = True

    def __init__(self, served: Served) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served = served
        self.rule: Rule = lambda _message: "pass"
        self.log: list[tuple[str, Fate]] = []
        #: Messages that will arrive once more.
        self.late: list[Message] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Somebody was killed: nobody need be told."""

    def passed_on(self, message: Message, *, half: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Send a message to the broker; return its answer."""
        way = http.client.HTTPSConnection("127.0.0.1", self.served.port, context=self.served.tls, timeout=90)
        with contextlib.closing(way):
            way.putrequest(message.method, message.path, skip_host=True, skip_accept_encoding=True)
            for name, value in message.headers.items():
                way.putheader(name, value)
            way.endheaders()
            way.send(message.body[: len(message.body) // 2] if half else message.body)
            if half:
                return 0, {}, b""
            answer = way.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def passed_on_besides(self, message: Message) -> None:
        """Send a message to the broker meanwhile; nobody hears its answer."""

        def send() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.passed_on(message)

        threading.Thread(target=send, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        message = Message(self.command, self.path, dict(self.headers), body)
        fate = self.server.rule(message)
        self.server.log.append((message.name, fate))
        try:
            self._meet(message, fate)
        except (OSError, http.client.HTTPException):
            self._hang_up()

    do_POST = do_PUT = do_GET  # noqa: N815 - the library's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _meet(self, message: Message, fate: Fate) -> None:
        if fate == "lose":
            return self._hang_up()
        if fate == "cut":
            self.server.passed_on(message, half=True)
            return self._hang_up()
        if fate == "twice":
            self.server.passed_on_besides(message)
        answer = self.server.passed_on(message)
        if fate == "again later":
            self.server.late.append(message)
        elif self.server.late:
            self.server.passed_on_besides(self.server.late.pop(0))
        if fate == "lose answer":
            return self._hang_up()
        return self._send(*answer, half=fate == "cut answer")

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, half: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("date", "server", "connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class AgentProcess:
    """``aquiline agent`` on a root of its own."""

    def __init__(self, top: Path, name: str) -> None:
        self.name = name
        self.root = top / name
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/machine-id").write_text(f"{int.from_bytes(name.encode()):032x}\n")
        (self.root / "etc/motd").write_text("old\n")
        self.before = self.tree()
        #: Besides those of this process.
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        """Return what a command of aquiline says on this root, which does it."""
        argv = [sys.executable, "-m", "aquiline.cli", "--root", str(self.root), *arguments]
        found = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=90)
        assert 0 == found.returncode, found.stderr
        return found.stdout

    def start(self) -> None:
        """Start the agent, unless it runs."""
        if self.process is None or self.process.poll() is not None:
            argv = [sys.executable, "-m", "aquiline.cli", "--root", str(self.root), "agent"]
            with (self.root.parent / f"{self.name}.log").open("ab") as log:
                environment = {**os.environ, **self.environment}
                self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log, env=environment)

    def kill(self) -> None:
        """Kill the agent, and leave its work alone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)

    def kill_work(self) -> None:
        """Kill what works for the agent, and leave the agent alone."""
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (place / "cmdline").read_bytes().split(b"\0")
                if b"aquiline.agent.daemon.working" in line and os.fsencode(str(self.root)) in line:
                    os.kill(int(place.name), 9)

    def tree(self) -> dict[str, tuple[str, int]]:
        """Return content and mode of what is below /etc, but for what belongs to the agent."""
        files = (path for path in (self.root / "etc").rglob("*") if path.is_file())
        found = (path for path in files if path.parent.name != "aquiline")
        return {str(path.relative_to(self.root)): (path.read_text(), path.stat().st_mode) for path in found}

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of its journal, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.run("--json", "log"))
        return found[::-1]

    def outbox(self) -> list[Path]:
        """Return the reports that wait."""
        return list((self.root / "var/lib/aquiline/spool/outbox").glob("*.json"))


class HostileFleet:
    """A broker, a hostile way to it, and agents that know no other."""

    def __init__(self, place: Path, *names: str) -> None:
        data, port = place / "data", free_port()
        self.served = Served(data, port, started(data, port))
        self.proxy = Proxy(self.served)
        self._thread = threading.Thread(target=self.proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self.ask("POST", "/v1/domains", {"name": "prod"})
        self.people = People(place / "clone", data / "repository.git")
        token = place / "token"
        token.write_text(self.ask("POST", "/v1/join-tokens", {"count": len(names)})["token"])
        self.agents = {name: AgentProcess(place / "hosts", name) for name in names}
        includes = json.dumps({"include": LAYERS})
        self.ask("POST", "/v1/sandboxes", {"name": "begin", "start": "prod"})
        files = {f"hosts/{name}.yaml": includes for name in names} | {f"layers/{one}.yaml": "{}" for one in LAYERS}
        self.people.push("begin", files)
        self.ask("POST", "/v1/deployments", {"sandbox": "begin", "domain": "prod"})
        for name, agent in self.agents.items():
            self.ask("POST", "/v1/hosts", {"name": name, "branch": "prod"})
            agent.run("enrol", "--broker", self.proxy.url, "--join-token-file", str(token), "--name", name)

    def close(self) -> None:
        """End all processes."""
        for agent in self.agents.values():
            agent.kill()
            agent.kill_work()
        self.proxy.shutdown()
        self.proxy.server_close()
        self.served.stop(kill=True)

    # ---- people, who have a better way to the broker ----

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what the broker answers an admin; asks again while it is being started again."""
        until = time.monotonic() + 60
        while True:
            try:
                answer = self.served.ask(method, path, json=body)
            except (OSError, httpx.HTTPError):
                assert time.monotonic() < until
                time.sleep(0.1)
                continue
            assert answer.status_code < 300, answer.text
            return answer.json()

    def push(self, sandbox: str, text: str, *paths: str) -> None:
        """Make a sandbox in which every host has files with this text."""
        self.ask("POST", "/v1/sandboxes", {"name": sandbox, "start": "prod"})
        services = {escape(path): {"config": text, "perms": "0640"} for path in paths}
        tree = {"software": {"components": {"filecopy": {"active": True, "dispatch": True, "services": services}}}}
        self.people.push(sandbox, {f"layers/{sandbox}.yaml": json.dumps(tree)})

    def command(self, token: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of somebody with a token of their own."""
        place = self.served.data.parent / f"token-{secrets.token_hex(4)}"
        place.touch(mode=0o600)
        place.write_text(token)
        environment = {
            **os.environ, "AQUILINE_BROKER": self.served.url, "AQUILINE_TOKEN_FILE": str(place),
            "AQUILINE_CA_FILE": str(self.served.data / "certificate.pem"),
        }  # fmt: skip
        argv = [sys.executable, "-m", "aquiline.cli", *arguments, "--no-wait"]
        return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill_broker(self) -> None:
        """Kill the broker, and start it again on what it left."""
        with self._lock:
            self.served.stop(kill=True)
            self.served.start()

    # ---- looking ----

    def wait_for(self, what: str, is_so: Callable[[], bool], *, seconds: float = 180.0) -> None:
        """Return once it is so; meanwhile agents that were killed are started again."""
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, f"{what} did not come about: {self.proxy.log[-20:]}"
            for agent in self.agents.values():
                agent.start()
            time.sleep(0.05)

    def states(self, change: str) -> dict[str, str]:
        """Return what a change means to each host, in a word."""
        found = self.ask("GET", f"/v1/changes/{change}/hosts")
        return {one["host"]: one["state"] for one in found}

    def reports(self, name: str) -> list[dict[str, Any]]:
        """Return what a host has reported."""
        found: list[dict[str, Any]] = self.ask("GET", f"/v1/hosts/{name}/reports?limit=1000")
        return found

    def story(self) -> tuple[str, str, str]:
        """Test, deploy, undeploy: each until every host has answered; return the changes."""
        self.push("work", "new\n", "/etc/motd", "/etc/issue")
        everywhere = set(self.agents)
        test = self.ask("POST", "/v1/deployments", {"sandbox": "work", "domain": "prod", "test": True})["id"]
        self.wait_for("the test", lambda: _all(self.states(test), everywhere, "answered"))
        deployed = self.ask("POST", "/v1/deployments", {"sandbox": "work", "domain": "prod"})["id"]
        self.wait_for("the deployment", lambda: _all(self.states(deployed), everywhere, "done"))
        assert {"new\n"} == {agent.tree()["etc/motd"][0] for agent in self.agents.values()}
        undone = self.ask("POST", "/v1/undeployments", {"domain": "prod", "last": 1})["id"]
        self.wait_for("the undeploy", lambda: _all(self.states(undone), everywhere, "done"))
        return test, deployed, undone

    def check(self, deployed: str) -> None:
        """Each tree is what it was, each run happened once, and the broker was told of each once."""
        for name, agent in self.agents.items():
            self.wait_for(f"the last report of {name}", lambda agent=agent, name=name: self._has_told(agent, name))  # type: ignore[misc]
            assert agent.before == agent.tree()
            runs, reports = agent.runs(), self.reports(name)
            brought = Counter(change for run in runs if run["kind"] == "apply" for change in run["change_ids"])
            assert deployed in brought
            assert {1} == set(brought.values()), runs
            assert 1 == sum(run["kind"] == "undo" for run in runs), runs
            assert {"done"} == {run["status"] for run in runs}
            told = [one["report"]["run"] for one in reports if one["report"].get("run")]
            assert sorted(told) == sorted(run["id"] for run in runs)
            assert 1 == sum(one["report"]["kind"] == "test" for one in reports)
            assert [] == [one["report"] for one in reports if one["report"]["kind"] == "refusal"]

    def _has_told(self, agent: AgentProcess, name: str) -> bool:
        told = {one["report"].get("run") for one in self.reports(name)}
        return not agent.outbox() and {run["id"] for run in agent.runs()} <= told


def _all(states: dict[str, str], hosts: set[str], state: str) -> bool:
    return dict.fromkeys(hosts, state) == states


@contextlib.contextmanager
def hostile_fleet(place: Path, *names: str) -> Iterator[HostileFleet]:
    """Give a fleet, all of whose processes are gone afterwards."""
    (place / "hosts").mkdir()
    fleet = HostileFleet(place, *names)
    try:
        yield fleet
    finally:
        fleet.close()
