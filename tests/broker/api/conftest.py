"""A broker that listens on this machine, in a process of its own, as `aquiline broker` starts it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Served:
    """A broker's process and the way to it."""

    data: Path
    port: int
    process: subprocess.Popen[bytes]
    #: Of `aquiline broker`, besides.
    options: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.data / "certificate.pem"))

    @property
    def admin(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def ask(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        """Send one request, with the admin's token where no other is given; an empty one is none."""
        secret = self.admin if token is None else token
        headers = {**({"Authorization": f"Bearer {secret}"} if secret else {}), **more.pop("headers", {})}
        with httpx.Client(base_url=self.url, verify=self.tls, timeout=60.0) as client:
            return client.request(method, path, headers=headers, **more)

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(timeout=30)

    def start(self) -> None:
        """Start it again, on the same data and port."""
        self.process = started(self.data, self.port, *self.options)


def started(data: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a broker and return once it answers."""
    argv = [
        sys.executable,
        "-m",
        "aquiline.cli",
        "broker",
        "--data",
        str(data),
        "--listen",
        f"127.0.0.1:{port}",
        *options,
    ]
    with (data.parent / "broker.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, (data.parent / "broker.log").read_text()
        try:
            tls = ssl.create_default_context(cafile=str(data / "certificate.pem"))
            with httpx.Client(verify=tls) as client:
                if client.get(f"https://127.0.0.1:{port}/health").status_code == 200:
                    return process
        except (OSError, httpx.HTTPError):
            pass
        time.sleep(0.05)
    process.kill()
    raise AssertionError((data.parent / "broker.log").read_text())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker for all tests of a module."""
    data = tmp_path_factory.mktemp("broker") / "data"
    port = free_port()
    found = Served(data, port, started(data, port))
    yield found
    found.stop(kill=True)
