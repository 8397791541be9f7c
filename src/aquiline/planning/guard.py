"""Refuses effects while component code runs (issue: a component cannot cheat by mistake).

Theory of operation

1. An audit hook, once added, stays for the life of the process; it looks at nothing unless a component is being watched
   in the current thread.
2. A few calls have effects and raise no audit event, in some versions of Python at least (`_UNHEARD`): these functions
   are replaced, once and for good, by ones that ask first and then are the same.
3. What is watched is a thread, so a component must not start one.

It catches mistakes, not malice. Not seen is: what goes through a descriptor that was open before, or through `ctypes`
or another C extension; a function of `_UNHEARD` that a module had imported by name before anything was planned; a
thread that the component's module started when it was imported; and what runs when an object of the component is
destroyed later. The docs list that (why-below-the-component).
"""

from __future__ import annotations

import _thread
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import local
from types import ModuleType
from typing import Any

from aquiline.errors import AquilineError

#: Audit events that are effects whatever their arguments.
_EFFECTS = frozenset({
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.mkfifo", "os.mknod", "os.remove", "os.removexattr", "os.rename",
    "os.rmdir", "os.setxattr", "os.symlink", "os.truncate", "os.unlink", "os.utime", "os.chflags", "os.lockf",
    "_thread.start_new_thread", "_thread.start_joinable_thread",
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "os.kill",
    "os.killpg", "subprocess.Popen", "pty.spawn", "signal.pthread_kill", "os.putenv", "os.unsetenv",
    "shutil.chown", "shutil.copyfile", "shutil.copymode", "shutil.copystat", "shutil.copytree", "shutil.move",
    "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp", "sqlite3.connect",
    "socket.__new__", "socket.bind", "socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname",
})  # fmt: skip
#: Functions with effects that raise no audit event, by what they are called in a message.
_UNHEARD: tuple[tuple[ModuleType | type, str, str], ...] = (
    (os, "mkfifo", "os.mkfifo"),
    (os, "mknod", "os.mknod"),
    (threading.Thread, "start", "starting a thread"),
    (_thread, "start_new_thread", "starting a thread"),
)
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
        for owner, name, event in _UNHEARD:
            setattr(owner, name, _asking_first(getattr(owner, name), event))
        _installed = True


def _asking_first(call: Callable[..., Any], event: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def asking(*arguments: Any, **options: Any) -> Any:
        _refuse(event)
        return call(*arguments, **options)

    return asking


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EFFECTS or (event == "open" and _is_for_writing(arguments)):
        _refuse(event)


def _refuse(event: str) -> None:
    """Raise `ForbiddenEffect` where the current thread runs component code."""
    component = getattr(_watched, "component", None)
    if component is None:
        return
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
