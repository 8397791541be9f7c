"""Locks of package managers: waited for, and whoever waits is told for whom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.errors import HostError
from aquiline.host.packages import holder

HOLD = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A lock file, and the process that holds it until its input ends."""
    file = str(tmp_path / "lock")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield file, process
    process.communicate()


def test_the_holder_is_named_at_once(held: tuple[str, subprocess.Popen[str]]) -> None:
    """After a second, once, it is said which process of whom is waited for; the wait ends with the lock."""
    file, process = held
    said: list[tuple[float, str]] = []
    started = time.monotonic()

    def say(line: str) -> None:
        said.append((time.monotonic() - started, line))
        threading.Timer(0.5, process.communicate).start()

    holder.wait_for("apt", [file], say=say)

    ((after, line),) = said
    assert holder.SILENCE <= after < holder.SILENCE + 1
    expected = (
        rf"waiting for apt's lock {file}, held by process {process.pid} \(.* -c import fcntl.*\), which runs since "
    )
    found = re.match(expected + r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", line)
    assert found is not None, line
    assert abs(time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) - time.time()) < 60


def test_patience_ends(held: tuple[str, subprocess.Popen[str]]) -> None:
    """Whoever holds it for too long is named in the error."""
    file, process = held

    with pytest.raises(HostError, match=f"process {process.pid} .* has held dnf's lock {file} for more than 0 s"):
        holder.wait_for("dnf", [file], patience=0)


def test_who_is_named(tmp_path: Path) -> None:
    """A file with a process number counts while that process lives; no file, and one that nobody holds, do not."""
    (tmp_path / "alive.pid").write_text(str(os.getpid()))
    (tmp_path / "dead.pid").write_text("4194304")
    (tmp_path / "free").touch()

    names = ("alive.pid", "dead.pid", "free", "missing")
    assert [os.getpid(), None, None, None] == [holder.holder_of(str(tmp_path / name)) for name in names]
