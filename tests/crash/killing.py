"""Kills a forked child of its own at the n-th point at which it changes something on disk, or is about to.

A point is every call that changes a file system (seen by an audit hook where Python has one, by a wrapper where it has
none), every write half way, every start and end of a command, and before, inside and after every transaction of the
journal. SQLite's own writes are not points: that a transaction is there or is not is what it promises.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aquiline.host.real import RealHost
from aquiline.journal.database import Database

_EVENTS = frozenset(
    (
        *("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "os.utime"),
        *("os.chmod", "os.chown", "os.setxattr", "os.removexattr"),
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Points:
    """Counts, and kills at `fatal`."""

    def __init__(self, fatal: int, log: int) -> None:
        self._fatal = fatal
        self._log = log
        self._count = 0
        self.lock = threading.RLock()
        self._is_within = False

    def pass_by(self, what: str) -> None:
        with self.lock:
            self._count += 1
            if self._log >= 0:
                _write(self._log, f"{what}\n".encode())
            if self._count == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def guarded(self, passed: Callable[[], None]) -> None:
        """Call `passed`, unless it is its own doing that is seen."""
        with self.lock:
            if not self._is_within:
                self._is_within = True
                passed()
                self._is_within = False

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            self.pass_by(f"{event} {arguments[0]!r}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self.pass_by(f"open {arguments[0]!r}")


_write = os.write


def _install(points: _Points, synced: Callable[[int], None] = lambda _descriptor: None) -> None:
    sys.addaudithook(points.audit)
    for name in ("mknod", "posix_fallocate"):
        _wrap(points, os, name)
    _wrap_sync(points, synced)
    for name in ("write", "pwrite"):
        _wrap_write(points, name)
    _wrap(points, RealHost, "run", after=True)
    _wrap_transactions(points)


def _wrap(points: _Points, owner: Any, name: str, *, after: bool = False) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        points.pass_by(name)
        result = original(*arguments, **options)
        if after:
            points.pass_by(f"after {name}")
        return result

    setattr(owner, name, wrapped)


def _wrap_sync(points: _Points, synced: Callable[[int], None]) -> None:
    original = os.fsync

    def wrapped(descriptor: int) -> None:
        points.pass_by("fsync")
        original(descriptor)
        with points.lock:
            synced(descriptor)

    os.fsync = wrapped  # type: ignore[assignment]


def _wrap_write(points: _Points, name: str) -> None:
    original = getattr(os, name)

    def wrapped(descriptor: int, data: bytes, *place: int) -> int:
        points.pass_by(f"{name} of {len(data)}")
        if len(data) < 2:
            return int(original(descriptor, data, *place))
        # In two halves: the kernel promises no more.
        half = len(data) // 2
        written = int(original(descriptor, data[:half], *place))
        points.pass_by(f"half a {name} of {len(data)}")
        return written + int(original(descriptor, data[half:], *(at + half for at in place)))

    setattr(os, name, wrapped)


def _wrap_transactions(points: _Points) -> None:
    original = Database._transaction

    def wrapped(self: Database, work: Callable[[Any], Any]) -> Any:
        def inside(write: Any) -> Any:
            result = work(write)
            points.pass_by("before commit")
            return result

        points.pass_by("before begin")
        result = original(self, inside)
        points.pass_by("after commit")
        return result

    Database._transaction = wrapped  # type: ignore[method-assign]


def _in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child and return its wait status."""
    with warnings.catch_warnings():
        # The workers of pytest-xdist have a thread, which holds no lock that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        action()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the child may get into the tests of the parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _at_points(action: Callable[[], object], fatal: int, log: Path | None) -> Callable[[], None]:
    def watched() -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if log is not None else -1
        _install(_Points(fatal, descriptor))
        action()

    return watched


def watch(action: Callable[[], object], passed: Callable[[], None], synced: Callable[[int], None]) -> None:
    """Run `action` to its end in a child that calls `passed` at each point, and `synced` after each fsync."""

    def watched() -> None:
        points = _Points(0, -1)
        points.pass_by = lambda _what: points.guarded(passed)  # type: ignore[method-assign,assignment]
        _install(points, synced)
        action()
        passed()

    assert 0 == _in_child(watched)


def points_of(action: Callable[[], object], log: Path) -> list[str]:
    """Run `action` to its end in a child; return the points it passed, in words."""
    status = _in_child(_at_points(action, 0, log))
    assert 0 == status, f"it ended with wait status {status}"
    return log.read_text().splitlines()


def kill_at(point: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that is killed at its `point`-th point, from 1; return whether it got that far."""
    status = _in_child(_at_points(action, point, None))
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, f"it ended with wait status {status}"
    return status != 0
