"""A fleet on this machine, for as long as a tour takes: a broker, hosts on temporary roots, and their agents.

Every command of the tour is run as a person would run it, in a process of its own, and printed before what it answers.
Nothing outside one temporary directory is changed, and that is removed at the end, whatever happened.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from aquiline.cli.terminal import Terminal
from aquiline.errors import AquilineError

_AQUILINE = (sys.executable, "-P", "-m", "aquiline.cli")
#: Seconds that anything may take before the tour gives up.
_PATIENCE = 120.0


class NotAsPromised(AquilineError):
    """Something on the tour was not as it should be."""


class Fleet:
    """The broker, the hosts and the agents of a tour. Use it as a context."""

    def __init__(self, terminal: Terminal, *, agents: int) -> None:
        self._terminal = terminal
        self.place = Path(tempfile.mkdtemp(prefix="aquiline-demo-"))
        self.site = Path(__file__).parent.parent / "broker" / "example"
        names = sorted(path.stem for path in (self.site / "hosts").glob("*.yaml"))
        self.hosts = names[:agents]
        self.data = self.place / "broker"
        self.work = self.place / "work"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    # ---- starting --------------------------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """Start a broker on a free port of the loopback interface, and be its first admin."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._start("broker", ["broker", "--data", str(self.data), "--listen", f"127.0.0.1:{port}"])
        self.environment = {
            "AQUILINE_BROKER": f"https://127.0.0.1:{port}",
            "AQUILINE_TOKEN_FILE": str(self.data / "admin.token"),
            "AQUILINE_CA_FILE": str(self.data / "certificate.pem"),
        }
        self.wait_for("the broker", self._is_up)

    def _is_up(self) -> bool:
        return self.quietly(["domain", "list"]).returncode == 0

    def root(self, host: str) -> Path:
        """Return the root of a host."""
        return self.place / "hosts" / host

    def start_host(self, host: str, join_token: Path) -> None:
        """Make a host: a root with a machine id, enrolled, its agent running."""
        root = self.root(host)
        (root / "etc").mkdir(parents=True)
        (root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        (root / "etc/motd").write_text(f"Welcome to {host}.\n")
        enrol = ["--root", str(root), "enrol", "--broker", self.environment["AQUILINE_BROKER"], "--name", host]
        enrol += ["--join-token-file", str(join_token), "--ca-file", self.environment["AQUILINE_CA_FILE"]]
        found = self.quietly(enrol)
        if found.returncode != 0:
            raise NotAsPromised(f"{host} could not enrol: {found.stderr}")
        self._start(host, ["--root", str(root), "agent"])

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        with (self.place / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "aquiline.cli", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    # ---- running ---------------------------------------------------------------------------------------------------

    def quietly(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of aquiline; return what it answered."""
        argv = [*_AQUILINE, *arguments]
        return subprocess.run(
            argv, env={**os.environ, **self.environment}, check=False, capture_output=True, text=True, timeout=_PATIENCE
        )

    def run(self, *arguments: str, accepts: tuple[int, ...] = (0,)) -> str:
        """Show a command and what it answers; raise `NotAsPromised` where it exits otherwise than it should."""
        self.show(f"aquiline {shlex.join(arguments)}")
        found = self.quietly(arguments)
        self._terminal.answer("".join(f"  {line}\n" for line in found.stdout.splitlines()))
        if found.returncode not in accepts:
            raise NotAsPromised(f"aquiline {shlex.join(arguments)}: exit status {found.returncode}\n{found.stderr}")
        return found.stdout

    def asked(self, *arguments: str) -> Any:
        """Return what a command answers in JSON."""
        found = self.quietly(["--json", *arguments])
        return msgspec.json.decode(found.stdout.encode()) if found.stdout else None

    def git(self, *arguments: str) -> None:
        """Run git in the clone that the tour works in."""
        argv = ["git", "-c", "user.name=alice", "-c", "user.email=alice@example.org", *arguments]
        found = subprocess.run(
            argv,
            cwd=self.work,
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        if found.returncode != 0:
            raise NotAsPromised(f"git {shlex.join(arguments)}: {found.stderr}")

    def show(self, command: str) -> None:
        """Show a command that is about to be run."""
        short = command.replace(str(self.place), "…")
        self._terminal.answer(f"\n  $ {short}\n")

    def say(self, text: str) -> None:
        """Tell what happens."""
        self._terminal.answer(f"\n{text}\n")

    # ---- waiting and looking ---------------------------------------------------------------------------------------

    def wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        """Return once `is_so`; raise `NotAsPromised` where it does not come."""
        until = time.monotonic() + _PATIENCE
        while not is_so():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    log = (self.place / f"{name}.log").read_text("utf-8", "replace")
                    raise NotAsPromised(f"{name} ended: {log[-2000:]}")
            if time.monotonic() > until:
                raise NotAsPromised(f"{what} did not come about in {_PATIENCE:.0f} seconds")
            time.sleep(0.2)

    def have_arrived(self) -> bool:
        """Return whether every host is what it is to be."""
        hosts = self.asked("host", "list") or []
        return all(
            one["target"] is not None
            and one["live"].get("profile", "") == one["target"]["profile"]
            and one["generation"] == one["target"]["generation"]
            for one in hosts
        )

    def trees(self) -> Mapping[str, Mapping[str, tuple[int, int, int, int, bytes]]]:
        """Return every host's files: mode, owner, group, modification time and content, the agent's state aside."""
        return {host: self._tree(self.root(host)) for host in self.hosts}

    @staticmethod
    def _tree(root: Path) -> Mapping[str, tuple[int, int, int, int, bytes]]:
        found = {}
        for path in sorted(root.rglob("*")):
            relative = str(path.relative_to(root))
            if not relative.startswith("var") and path.is_file() and not path.is_symlink():
                status = path.stat()
                found[relative] = (
                    status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, path.read_bytes()
                )  # fmt: skip
        return found
