"""Running a command to its end, below a root.

A command gets a session and process group of its own, a fixed environment, umask 022, ``/`` as its directory and no
descriptor but its standard three. It is over when its *main process* ends: a daemon that it left behind may keep the
output open for ever, so what is in the pipes then is taken, and they are closed.

Of each output the first and the last 64 KiB are kept.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

import msgspec

from aquiline.errors import HostError, NotPossibleHere
from aquiline.host.protocol import COPY, Command, Completed
from aquiline.host.scratch import private_copy
from aquiline.host.walk import Walk

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Seconds between SIGTERM and SIGKILL.
_GRACE = 1.0
#: Seconds between looks at the process where the kernel has no pidfd (before 5.3).
_PATIENCE = 0.02


def run(command: Command, walk: Walk, *, offline: bool) -> Completed:
    """Run `command` below the root of `walk`, chrooted where it is `offline`.

    Raise `NotPossibleHere` where the program, or the interpreter it names, is not there, or no copy can be made;
    `HostError` where it cannot be started.
    """
    program = _find(command, walk)
    if command.copy is None:
        return _run(command, program, _into(walk.root) if offline else None)
    try:
        return _run_on_copy(command, command.copy, program, walk, offline=offline)
    except HostError as error:
        if not isinstance(error.__cause__, subprocess.SubprocessError):
            raise
        # Some sandboxes let us make a file system and not mount it, and that shows in the child alone.
        return _run_on_copy(command, command.copy, program, walk, offline=offline, may_mount=False)


def _run_on_copy(
    command: Command, content: bytes, program: str, walk: Walk, *, offline: bool, may_mount: bool = True
) -> Completed:
    root = walk.prefix or "/"
    with private_copy(content, root, walk.root, offline=offline, may_mount=may_mount) as copy:
        argv = tuple(copy.path if word == COPY else word for word in command.argv)
        enter = _into(walk.root, copy.attach) if offline else None
        return _run(msgspec.structs.replace(command, argv=argv), program, enter)


def _run(command: Command, program: str, enter: Callable[[], None] | None) -> Completed:
    try:
        process = subprocess.Popen(
            command.argv,
            executable=program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH, "HOME": "/", "LC_ALL": "C", **command.environment},
            cwd=None if enter is not None else "/",
            umask=0o022,
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509 see there
            bufsize=0,
        )
    except FileNotFoundError as error:
        raise NotPossibleHere(f"{program} names an interpreter or library that is not there", path=program) from error
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise HostError(f"cannot be started: {error}", path=program) from error
    with process:
        return _attend(process, command)


def _into(root: int, attach: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Return what enters the root in the child, `attach` done just before.

    There is no other way to enter it without a helper program, which an image need not have. Between fork and exec it
    makes a few system calls and waits for no lock of ours, so it is safe even where threads are running.
    """

    def enter() -> None:
        os.fchdir(root)
        attach()
        os.chroot(".")

    return enter


def _find(command: Command, walk: Walk) -> str:
    """Return the path of the program below the root."""
    if not command.argv or not command.argv[0]:
        raise HostError("a command without a program cannot be run")
    name = command.argv[0]
    if "/" in name:
        candidates = [name if name.startswith("/") else f"/{name}"]
    else:
        candidates = [f"{directory}/{name}" for directory in PATH.split(":")]
    for candidate in candidates:
        if _is_program(candidate, walk):
            return candidate
    raise NotPossibleHere(f"there is no program {name!r} here", path=name if "/" in name else "")


def _is_program(path: str, walk: Walk) -> bool:
    try:
        descriptor = walk.follow(path)
    except OSError:
        return False
    try:
        mode = os.fstat(descriptor).st_mode
        return stat.S_ISREG(mode) and bool(mode & 0o111)
    finally:
        os.close(descriptor)


class _Output:
    """The first and the last bytes of what a pipe brought."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, data: bytes) -> None:
        room = self._keep - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room < len(data) else b""
        if len(self._tail) > 2 * self._keep:
            self._shorten()

    def _shorten(self) -> None:
        surplus = max(0, len(self._tail) - self._keep)
        self._left_out += surplus
        del self._tail[:surplus]

    def kept(self) -> bytes:
        self._shorten()
        gap = b"\n[%d bytes left out]\n" % self._left_out if self._left_out else b""
        return bytes(self._head) + gap + bytes(self._tail)


def _attend(process: subprocess.Popen[bytes], command: Command) -> Completed:
    """Feed the process and take its output until it ends or its time is up."""
    pipes = [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
    for pipe in pipes:
        os.set_blocking(pipe.fileno(), False)
    outputs = {pipe.fileno(): _Output(command.keep) for pipe in pipes[1:]}
    deadline = time.monotonic() + command.timeout if command.timeout else None
    try:
        timed_out = _talk(process, memoryview(command.stdin), outputs, deadline)
    except BaseException:
        _kill(process)
        raise
    for descriptor, output in outputs.items():
        _drain(descriptor, output)
    status = process.returncode
    stdout, stderr = (output.kept() for output in outputs.values())
    return Completed(status if status >= 0 else 128 - status, stdout, stderr, timed_out)


def _talk(
    process: subprocess.Popen[bytes], stdin: memoryview, outputs: dict[int, _Output], deadline: float | None
) -> bool:
    """Return once the process has ended: whether that was because its time was up."""
    end = _end_of(process)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (*outputs, *end):
                selector.register(descriptor, selectors.EVENT_READ)
            if process.stdin is not None:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while process.poll() is None:
                if deadline is not None and time.monotonic() >= deadline:
                    _kill(process)
                    return True
                for key, events in selector.select(_wait(end, deadline)):
                    if events & selectors.EVENT_WRITE:
                        stdin = _feed(selector, key, stdin)
                    elif key.fd in outputs and not _take(key.fd, outputs[key.fd]):
                        selector.unregister(key.fd)
    finally:
        for descriptor in end:
            os.close(descriptor)
    return False


def _end_of(process: subprocess.Popen[bytes]) -> tuple[int, ...]:
    """Return a descriptor that becomes readable when the process ends; none where the kernel has no such thing."""
    try:
        return (os.pidfd_open(process.pid),)
    except OSError:
        return ()


def _wait(end: tuple[int, ...], deadline: float | None) -> float | None:
    """Return how many seconds to wait for an event, None without limit."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    if end:
        return left
    return _PATIENCE if left is None else min(_PATIENCE, left)


def _feed(selector: selectors.BaseSelector, key: selectors.SelectorKey, rest: memoryview) -> memoryview:
    """Return what is left of the input; close it after the last of it, or where the process closed its end."""
    try:
        rest = rest[os.write(key.fd, rest[:65536]) if rest else 0 :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        rest = rest[:0]
    if not rest:
        selector.unregister(key.fileobj)
        cast("IO[bytes]", key.fileobj).close()
    return rest


def _take(descriptor: int, output: _Output) -> bool:
    """Take what is in the pipe; return whether more may come."""
    try:
        data = os.read(descriptor, 65536)
    except BlockingIOError:
        return True
    output.add(data)
    return bool(data)


def _drain(descriptor: int, output: _Output) -> None:
    """Take what is left, without waiting for more: at most what a pipe holds, lest a daemon that writes keeps us."""
    for _ in range(17):
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        if not data:
            return
        output.add(data)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process group, and collect the main process."""
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):  # nobody is left in it: the goal is reached
            os.killpg(process.pid, number)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            _kill_rest(process.pid)
        return


def _kill_rest(group: int) -> None:
    """Kill those of the group that outlived the main process."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
