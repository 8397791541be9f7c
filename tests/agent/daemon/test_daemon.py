"""Agents as processes of their own, with a broker behind a real server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aquiline.changes.kinds import Change, Inline, WriteFile
from aquiline.protocol.messages import Order
from tests.agent.daemon.broker import Broker
from tests.agent.daemon.server import CREDENTIAL, JOIN_TOKEN, Server, serving
from tests.agent.making import profile
from tests.cli.conftest import WAITING, Host, commands_run, shell, until

#: Seconds in which a process is started, polls and works, also on a machine that has much else to do.
PATIENCE = 90.0

ONE = profile(WriteFile(path="/etc/motd", content=Inline(b"one\n")))


def soon(is_so: Callable[[], bool]) -> None:
    """Return once `is_so` says yes; fail when that takes far too long."""
    until(is_so, PATIENCE)


@pytest.fixture
def server(broker: Broker) -> Iterator[Server]:
    """The broker, served."""
    with serving(broker) as found:
        yield found


@pytest.fixture
def host(tmp_path: Path, server: Server) -> Iterator[Host]:
    """A host that belongs to the server's fleet, with a shell."""
    made = Host(tmp_path)
    made.with_shell()
    (tmp_path / "token").write_text(f"{JOIN_TOKEN}\n")
    enrolled = enrol(made, server)
    assert 0 == enrolled.returncode, enrolled.stderr
    yield made
    made.path("/tmp/stop").touch()
    for pid in workers(made):
        soon(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


def enrol(host: Host, server: Server) -> subprocess.CompletedProcess[str]:
    token = str(host.top / "token")
    return host.run("enrol", "--broker", server.url, "--join-token-file", token, "--name", "h1.example.org")


def workers(host: Host) -> list[int]:
    """Return the processes that work for the host's agent."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"aquiline.agent.daemon.working" in line and os.fsencode(str(host.root)) in line:
            found.append(int(process.name))
    return found


class Daemon:
    """``aquiline agent``, running."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self.log = host.top / "agent.log"
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "aquiline.cli", "--root", str(host.root), "agent", *arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=host.environment())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def daemon(host: Host) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, and ends those that are left."""
    started: list[Daemon] = []

    def start(*arguments: str) -> Daemon:
        started.append(Daemon(host, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()


def wanted(broker: Broker, *changes: Change) -> None:
    broker.wants(profile(*changes), "c1")


def test_enrolment(host: Host, server: Server) -> None:
    """A join token is exchanged for a credential that root alone can read; the configuration is written once."""
    place = host.state / "agent" / "credential"

    assert (f"{CREDENTIAL}\n", 0o600) == (place.read_text(), place.stat().st_mode & 0o777)
    assert 0o700 == place.parent.stat().st_mode & 0o777
    assert b"k" * 32 == (host.state / "domain.key").read_bytes()
    assert f'"{server.url}"' in str(host.text("/etc/aquiline/agent.toml"))
    (message,) = server.enrolled
    assert ("h1.example.org", JOIN_TOKEN) == (message.name, message.join_token)
    (host.top / "token").write_text("wrong")
    again = enrol(host, server)
    assert (1, True) == (again.returncode, "no such token" in again.stderr)


def test_once(host: Host, broker: Broker) -> None:
    """One round: the target is reached, everything is reported, and the exit status is that of the last work."""
    broker.wants(ONE, "c1")

    assert 0 == host.run("agent", "--once").returncode
    assert ("one\n", ["run"]) == (host.text("/etc/motd"), [one.kind for one in broker.reports.values()])
    broker.wants(ONE, "c1", "c2", effect="0" * 64)
    assert 14 == host.run("agent", "--once").returncode
    status = host.run("status").stdout
    assert "target:        generation 2, failed: this host would do" in status
    assert "broker:" in status
    assert "failed" == host.answer("status")["agent"]["attempt"]["result"]


def test_a_broker_that_is_away(host: Host, server: Server, broker: Broker) -> None:
    """What could not be reported is reported with the next round."""
    broker.wants(ONE, "c1")
    broker.away.add("report")

    assert 1 == host.run("agent", "--once").returncode
    broker.away.clear()
    assert (0, 1) == (host.run("agent", "--once").returncode, len(broker.reports))


def test_what_is_not_spoken(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """A target of another version, and an order of another kind, are refused; what comes with them is done."""
    broker.asks(Order(id="o1", change="t", kind="rehearse", time_to_live=600.0))
    broker.asks(Order(id="o2", change="t", kind="verify", time_to_live=600.0))
    broker.wants(ONE, "c1", protocol=7)
    daemon()

    soon(lambda: len(broker.reports) == 3)
    assert [("refusal", ""), ("refusal", "o1"), ("verify", "o2")] == sorted(
        (one.kind, one.order) for one in broker.reports.values()
    )
    assert host.text("/etc/motd") is None


def test_waiting_costs_nothing(broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """While the broker holds its poll open, an agent sleeps: 20,000 of them are on machines with work to do."""
    agent = daemon()
    soon(lambda: bool(broker.polls))
    usage = Path(f"/proc/{agent.process.pid}/stat")

    def ticks() -> int:
        return sum(map(int, usage.read_text().rpartition(")")[2].split()[11:13]))

    def is_quiet() -> bool:
        before = ticks()
        time.sleep(1.0)
        return ticks() - before <= 5

    until(is_quiet, 20.0)


def test_it_is_told_at_once(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """A daemon does what it is told as soon as the broker has it, and ends when it is asked to."""
    agent = daemon()
    soon(lambda: bool(broker.polls))
    broker.wants(ONE, "c1")
    soon(lambda: bool(broker.reports))
    order = Order(id="t1", change="t", kind="test", profile=broker.compiles(profile()), time_to_live=60.0)
    broker.asks(order)
    soon(lambda: len(broker.reports) == 2)
    soon(lambda: "order t1 (test of t): answered, exit status 0" in agent.log.read_text())

    assert 0 == agent.end()
    assert ["run", "test"] == [one.kind for one in broker.reports.values()]
    assert "target 1 (c1): reached, exit status 0" in agent.log.read_text()


def test_one_agent(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """A host has one agent; another is refused: 10."""
    daemon()
    soon(lambda: bool(broker.polls))

    assert 10 == host.run("agent", "--once").returncode


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_agent_ends_and_the_run_goes_on(
    host: Host, broker: Broker, daemon: Callable[..., Daemon], how: signal.Signals
) -> None:
    """Restarting the agent ends no run: the next one finds it under way, waits for it, and reports it."""
    first = daemon()
    wanted(broker, shell(WAITING))
    soon(lambda: commands_run(host))
    first.end(how)
    (worker,) = workers(host)
    second = daemon()
    soon(lambda: "taken up" in second.log.read_text())

    assert [worker] == workers(host)
    host.path("/tmp/stop").touch()
    soon(lambda: bool(broker.reports))
    assert [("run", "done", 0)] == [(one.kind, one.status, one.exit_status) for one in broker.reports.values()]
    assert 1 == second.log.read_text().count("target 1 (c1): begun")


def test_the_run_ends_while_no_agent_is_there(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """What came to its end meanwhile is taken note of, and is not done again."""
    first = daemon()
    wanted(broker, shell(WAITING))
    soon(lambda: commands_run(host))
    first.end(signal.SIGKILL)
    host.path("/tmp/stop").touch()
    soon(lambda: not workers(host))
    daemon()
    soon(lambda: bool(broker.reports) and broker.polls[-1].generation == 1)

    assert [("run", "done")] == [(one.kind, one.status) for one in broker.reports.values()]


def test_the_work_is_killed(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """A run that was killed is finished, by new work, and reported once."""
    agent = daemon()
    wanted(broker, WriteFile(path="/etc/motd", content=Inline(b"one\n")), shell(WAITING, idempotent=True))
    soon(lambda: commands_run(host))
    (worker,) = workers(host)
    os.kill(worker, signal.SIGKILL)
    os.killpg(int(str(host.text("/tmp/pid"))), signal.SIGKILL)
    host.path("/tmp/stop").touch()
    soon(lambda: bool(broker.reports))

    assert [("run", "done", 0)] == [(one.kind, one.status, one.exit_status) for one in broker.reports.values()]
    assert "target 1 (c1): its work died" in agent.log.read_text()
    assert "one\n" == host.text("/etc/motd")


def test_hints(host: Host, broker: Broker, server: Server, daemon: Callable[..., Daemon]) -> None:
    """A datagram of CDP makes an agent poll that would sleep; what is no such datagram does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = host.path("/etc/aquiline/agent.toml")
    place.write_text(f"{place.read_text()}cdp_port = {port}\n")
    server.holds_polls = False
    broker.pace = 3600.0
    daemon()
    soon(lambda: bool(broker.polls))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = len(broker.polls)
        sender.sendto(b"xyz\x001700000000", ("127.0.0.1", port))
        sender.sendto(b"ccm\x001700000000", ("127.0.0.1", port))
        soon(lambda: len(broker.polls) > before)


def test_time_is_up(host: Host, broker: Broker, server: Server, daemon: Callable[..., Daemon]) -> None:
    """A run after which no confirmer is reached is taken back in time, and both are reported."""
    daemon()

    def cut(request: str) -> None:
        if host.text("/etc/motd") == "one\n" and request == "GET /v1/reach":
            broker.away.add("reach")

    server.before = cut
    host.write("/etc/motd", "old\n")
    broker.wants(ONE, "c1", confirm_within=2.0)
    soon(lambda: len(broker.of_kind("run")) == 2)

    assert "old\n" == host.text("/etc/motd")
    assert [("apply", 19), ("undo", 0)] == [(one.run_kind, one.exit_status) for one in broker.of_kind("run")]
    soon(lambda: broker.polls[-1].state == "failed")
    assert () == broker.polls[-1].live.change_ids


def test_logs_are_no_secret(host: Host, broker: Broker, daemon: Callable[..., Daemon]) -> None:
    """What the agent says and keeps does not show the credential but where it is kept."""
    agent = daemon()
    broker.wants(ONE, "c1")
    soon(lambda: bool(broker.reports))
    agent.end()
    kept = [one for one in (host.state / "agent").rglob("*") if one.is_file() and one.name != "credential"]

    assert [] == [one for one in (agent.log, *kept) if CREDENTIAL in one.read_text()]
    assert "attempts.json" in [one.name for one in kept]
