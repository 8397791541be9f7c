"""A fleet of three real hosts, with systemd, a network of their own, and a broker behind real TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bed.host import Bed, BedHost
from tests.bed.snapshot import HostSnapshot, diff

TOP = Path(__file__).parents[2]
UNITS = TOP / "packaging" / "systemd"
#: A reload that takes until somebody lets it end; a minute is more than the test takes.
SLOW = """#!/bin/sh
touch /run/begun
for _ in $(seq 600); do [ -e /run/go ] && exit; sleep 0.1; done
exit 1
"""
BASE = """
software:
  components:
    filecopy:
      services:
        /etc/motd: {config: "Looked after.\\n", perms: "0644"}
"""
NEXT = """
software:
  components:
    filecopy:
      services:
        /etc/motd: {config: "Looked after, and changed.\\n", perms: "0640", restart: /usr/local/sbin/slow}
        /etc/profile.d/site.sh: {config: "SITE=example\\n", perms: "0644"}
    systemd:
      unit:
        cron: {state: disabled, startstop: true}
"""


def until(what: str, is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Return once `is_so`; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.2)


class Fleet:
    """A broker on the bridge of the bed, and whoever asks it."""

    def __init__(self, place: Path, address: str) -> None:
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        self.place = place
        self.data = place / "data"
        self.url = f"https://{address}:{port}"
        self.certificate = self.data / "certificate.pem"
        self._environment = {
            **os.environ,
            "AQUILINE_BROKER": self.url,
            "AQUILINE_TOKEN_FILE": str(self.data / "admin.token"),
            "AQUILINE_CA_FILE": str(self.certificate),
        }
        with (place / "broker.log").open("wb") as log:
            argv = [sys.executable, "-m", "aquiline.cli", "broker", "--data", str(self.data)]
            self._process = subprocess.Popen([*argv, "--listen", f"{address}:{port}"], stdout=log, stderr=log)
        until("the broker", self._answers)
        secret = (self.data / "admin.token").read_text().strip()
        self._client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {secret}"}, verify=self._tls(), timeout=60
        )

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.place / "broker.log").read_text()
        try:
            return httpx.get(f"{self.url}/health", verify=self._tls()).status_code == 200
        except (OSError, httpx.HTTPError):
            return False

    def close(self) -> None:
        """End the broker."""
        self._client.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def ask(self, *arguments: str) -> Any:
        """Return what a command answers, which succeeds."""
        argv = [sys.executable, "-m", "aquiline.cli", "--json", *arguments]
        found = subprocess.run(argv, env=self._environment, check=False, capture_output=True, text=True, timeout=90)
        assert 0 == found.returncode, found.stdout + found.stderr
        return json.loads(found.stdout)

    def push(self, sandbox: str, files: Mapping[str, str]) -> None:
        """Make a sandbox of prod with these files in it."""
        self.ask("sandbox", "add", sandbox, "--start", "prod")
        clone = self.place / sandbox
        subprocess.run(["git", "clone", "-q", "-b", sandbox, self.data / "repository.git", clone], check=True)
        for name, text in files.items():
            (clone / name).parent.mkdir(exist_ok=True)
            (clone / name).write_text(text)
        identity = ["-c", "user.name=ada", "-c", "user.email=ada@localhost"]
        for command in (["add", "."], [*identity, "commit", "-qm", "files"], ["push", "-q"]):
            subprocess.run(["git", *command], cwd=clone, check=True)

    def get(self, path: str) -> Any:
        """Return what the broker answers a person who looks."""
        return self._client.get(path).raise_for_status().json()

    def totals(self, change: str) -> dict[str, int]:
        """Return how many hosts of a change are in which state."""
        found: dict[str, int] = self.get(f"/v1/changes/{change}/report")["totals"]
        return found

    def seen(self, name: str) -> float:
        """Return when a host polled last."""
        return float(self.get(f"/v1/hosts/{name}")["seen"])


@pytest.fixture
def fleet(bed: Bed, tmp_path: Path) -> Iterator[Fleet]:
    """A broker that the hosts of the bed reach, with the branch ``prod`` of three hosts."""
    made = Fleet(tmp_path, bed.slot.address)
    yield made
    made.close()


def join(host: BedHost, fleet: Fleet, token: str) -> None:
    """Install the agent as a package would, enrol the host, and let systemd start it from now on."""
    host.install_aquiline()
    (host.root / "usr/bin/aquiline").symlink_to("../local/bin/aquiline")
    shutil.copy(UNITS / "aquiline-agent.service", host.root / "etc/systemd/system")
    (host.root / "etc/aquiline").mkdir()
    shutil.copy(fleet.certificate, host.root / "etc/aquiline/ca.pem")
    slow = host.root / "usr/local/sbin/slow"
    slow.write_text(SLOW)
    slow.chmod(0o755)
    host.boot()
    enrol = ["aquiline", "enrol", "--broker", fleet.url, "--join-token-file", "-", "--name", host.name]
    host.run([*enrol, "--ca-file", "/etc/aquiline/ca.pem"], stdin=token)
    host.run(["systemctl", "enable", "--now", "aquiline-agent"])


def runs(host: BedHost) -> list[str]:
    """Return how each run of a host ended, the oldest first; `open` is one that is under way."""
    found = json.loads(host.run(["aquiline", "--json", "log"]).stdout)
    return [one["status"] for one in reversed(found)]


def cron(host: BedHost) -> str:
    """Return whether a service of the host runs, as systemd says it."""
    return host.run(["systemctl", "is-active", "cron"], check=False).stdout.strip()


def main_process(host: BedHost) -> str:
    return host.run(["systemctl", "show", "--value", "--property=MainPID", "aquiline-agent"]).stdout.strip()


def snapshots(hosts: list[BedHost]) -> list[HostSnapshot]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(BedHost.snapshot, hosts))


def test_a_fleet_of_real_hosts(bed: Bed, fleet: Fleet) -> None:
    """A change is tested, deployed while one host is off and one agent restarts, outlives a reboot, and is undone."""
    names = ("web01", "web02", "web03")
    fleet.ask("domain", "add", "prod")
    fleet.push("base", {"layers/all.yaml": BASE, **{f"hosts/{name}.yaml": "include: [all]\n" for name in names}})
    for name in names:
        fleet.ask("host", "add", name, "--domain", "prod")
    token = fleet.ask("host", "join-token", "--count", "3", "--pattern", "web*")["token"]
    web01, web02, web03 = hosts = [bed.host(name) for name in names]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: join(host, fleet, token), hosts))
    base = fleet.ask("deploy", "base", "--domain", "prod", "--no-wait", "--reason", "the fleet begins")["change"]
    until("the first profile", lambda: fleet.totals(base) == {"done": 3})
    before = snapshots(hosts)

    fleet.push("next", {"layers/all.yaml": NEXT})
    tested = fleet.ask("deploy", "next", "--domain", "prod", "--test")
    assert {"answered": 3} == tested["totals"]
    assert [3] == [group["count"] for group in tested["groups"]]
    assert [(), (), ()] == list(map(diff, before, snapshots(hosts)))

    # One host is off, one agent is restarted in the middle of its run.
    web03.halt()
    change = fleet.ask("deploy", "next", "--domain", "prod", "--no-wait", "--reason", "what was tested")["change"]
    until("the run on web01", lambda: web01.run(["test", "-e", "/run/begun"], check=False).returncode == 0)
    first = main_process(web01)
    web01.run(["systemctl", "restart", "aquiline-agent"])
    assert first != main_process(web01)
    assert ["done", "open"] == runs(web01)
    for host in (web01, web02):
        host.run(["touch", "/run/go"])
    until("two hosts", lambda: fleet.totals(change) == {"asked": 1, "done": 2})
    assert ["done", "done"] == runs(web01)

    web03.boot()
    web03.run(["touch", "/run/go"])
    until("the host that was off", lambda: fleet.totals(change) == {"done": 3})
    until("its reports", lambda: fleet.get(f"/v1/changes/{change}/report")["compared"] == 3)
    found = fleet.ask("report", change)
    assert (3, "") == (found["as_predicted"], found["differ"])
    for host in hosts:
        assert "Looked after, and changed.\n" == (host.root / "etc/motd").read_text()
        assert "inactive" == cron(host)
        assert 0 == host.run(["aquiline", "verify"]).returncode

    # A reboot changes nothing: the agent comes back, and has nothing to do.
    was = fleet.seen("web02")
    web02.reboot()
    web02.run(["touch", "/run/go"])
    # That a host was seen is written down once a minute, and it may have been seen just before.
    until("the agent after a reboot", lambda: fleet.seen("web02") > was, seconds=180)
    assert "inactive" == cron(web02)
    assert ["done", "done"] == runs(web02)

    undone = fleet.ask("undeploy", change, "--no-wait", "--reason", "not what we wanted")["change"]
    until("undeployment", lambda: fleet.totals(undone) == {"done": 3})
    assert [(), (), ()] == list(map(diff, before, snapshots(hosts)))
    assert ["active", "active", "active"] == [cron(host) for host in hosts]
