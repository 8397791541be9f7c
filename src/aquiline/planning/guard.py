"""Refuses effects while component code runs (issue: a component cannot cheat by mistake).

An audit hook, once added, stays for the life of the process; it looks at nothing unless a component is being watched in
the current thread. It catches mistakes, not malice: code that means to get round it can.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import local
from typing import Any

from aquiline.errors import AquilineError

#: Audit events that are effects whatever their arguments.
_EFFECTS = frozenset({
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.mkfifo", "os.mknod", "os.remove", "os.removexattr", "os.rename",
    "os.rmdir", "os.setxattr", "os.symlink", "os.truncate", "os.unlink", "os.utime", "os.chflags", "os.lockf",
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "os.kill",
    "os.killpg", "subprocess.Popen", "pty.spawn", "signal.pthread_kill", "os.putenv", "os.unsetenv",
    "shutil.chown", "shutil.copyfile", "shutil.copymode", "shutil.copystat", "shutil.copytree", "shutil.move",
    "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp", "sqlite3.connect",
    "socket.__new__", "socket.bind", "socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname",
})  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watched = local()
_installed = False


class ForbiddenEffect(AquilineError):
    """Component code tried to write a file, start a process or open a socket."""

    def __init__(self, component: str, event: str, where: str) -> None:
        super().__init__(
            f"component {component} tried {event} at {where}",
            hint="a component yields changes; it reads through the view it is given",
        )
        self.component = component
        self.event = event
        self.where = where


@contextmanager
def watching(component: str) -> Iterator[None]:
    """Refuse effects of the code inside, in the name of `component`."""
    _install()
    before = getattr(_watched, "component", None)
    no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watched.component = component
    try:
        yield
    finally:
        _watched.component = before
        sys.dont_write_bytecode = no_bytecode


@contextmanager
def trusted() -> Iterator[None]:
    """Let the code inside do what it does: the view's own reads and probes."""
    before = getattr(_watched, "component", None)
    _watched.component = None
    try:
        yield
    finally:
        _watched.component = before


def _install() -> None:
    global _installed  # noqa: PLW0603 - an audit hook can be added but never taken away
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    component = getattr(_watched, "component", None)
    if component is None:
        return
    if event in _EFFECTS or (event == "open" and _is_for_writing(arguments)):
        with trusted():  # making the message may itself open source files
            where = _line_of_component()
        raise ForbiddenEffect(component, event, where)


def _is_for_writing(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & _WRITING)


def _line_of_component() -> str:
    """Return file:line of the innermost frame outside the standard library and this module."""
    library = str(Path(os.__file__).parent)
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    own = [frame for frame in frames if not frame.filename.startswith(library) and not frame.filename.startswith("<")]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
