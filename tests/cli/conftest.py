"""Real processes of the command line, on a root of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.changes.kinds import Change, CommandUndo, Inline, RunCommand, WriteFile
from tests.agent.making import Site, profile

PROGRAM = (sys.executable, "-m", "aquiline.cli")


class Host(Site):
    """A root, and the command line at work on it."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.top = top
        self.install()

    def profile(self, *changes: Change, name: str = "profile.json") -> str:
        """Write a profile that wants `changes`; return where."""
        place = self.top / name
        place.write_text(json.dumps(profile(*changes).tree))
        return str(place)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``aquiline`` on this root."""
        return subprocess.Popen(
            [*PROGRAM, "--root", str(self.root), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``aquiline`` on this root to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def answer(self, *arguments: str) -> Any:
        """Return what ``aquiline --json`` answers."""
        return json.loads(self.run("--json", *arguments).stdout)

    def done(self, *arguments: str) -> str:
        """Run ``aquiline``, which does it; return the id of the run."""
        found = self.answer(*arguments)
        assert found["exit_status"] in (0, 18), found
        return str(found["run"])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host with an empty ``/etc``, a shell, and the component *anything*."""
    made = Host(tmp_path)
    made.with_shell()
    yield made
    (made.path("/tmp/stop")).touch()


def write(path: str, text: str, *, mode: int | None = None) -> WriteFile:
    """Return the change that writes a file."""
    return WriteFile(path=path, content=Inline(text.encode()), mode=mode)


def shell(text: str, *, undo: str | None = "true", idempotent: bool = False) -> RunCommand:
    """Return the change that runs a shell command line; without `undo` it is irreversible."""
    way_back = CommandUndo(irreversible="nobody knows how")
    if undo is not None:
        way_back = CommandUndo(changes=(RunCommand(argv=("/bin/sh", "-c", undo), always=True, description=undo),))
    return RunCommand(
        argv=("/bin/sh", "-c", text), always=True, description=text, undo=way_back, idempotent=idempotent, timeout=30.0
    )


#: Says that it runs, and goes on until somebody makes /tmp/stop.
WAITING = "echo $$ > /tmp/pid; while [ ! -e /tmp/stop ]; do :; done"


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once `is_so` says yes; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def commands_run(host: Host) -> bool:
    """Whether the command `WAITING` runs."""
    pid = host.text("/tmp/pid")
    return bool(pid and pid.strip())
