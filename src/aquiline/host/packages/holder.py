"""Who holds the locks of a package manager, and waiting for them.

apt, dpkg and rpm hold a POSIX lock on a file; dnf writes its process number into one (dnf's ``lock.py``).
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aquiline.errors import HostError

#: Seconds that we wait for whoever changes packages: as long as an unattended upgrade takes.
PATIENCE = 600.0
#: Seconds after which a person is told what is being waited for.
SILENCE = 1.0
_PACE = 0.2
#: Characters of a command line that are shown.
_WIDTH = 100
#: struct flock of Linux on 64 bits: type, whence, start, length, process.
_FLOCK = "hhqqi4x"


def wait_for(
    manager: str,
    files: Sequence[str],
    *,
    say: Callable[[str], None] = lambda _line: None,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once nobody holds a lock on any of `files`; `say`, once for each, which process of whom is waited for.

    Raises:
        HostError: a lock was held for more than `patience` seconds; names the holder.
    """
    started = time.monotonic()
    for file in files:
        said = None
        while (process := holder_of(file)) is not None:
            waited = time.monotonic() - started
            if waited > patience:
                raise HostError(
                    f"{named(process)} has held {manager}'s lock {file} for more than {patience:g} s",
                    hint="let it end, or end it; then run this again",
                )
            if waited >= SILENCE and process != said:
                say(f"waiting for {manager}'s lock {file}, held by {named(process)}{_since(process)}")
                said = process
            sleep(_PACE)


def holder_of(file: str) -> int | None:
    """Return the process that holds a lock on `file`; None where none does."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot be opened: {error.strerror}", path=file) from error
    try:
        if file.endswith(".pid"):
            written = os.read(descriptor, 20)
            process = int(written) if written.isdigit() else 0
            return process if process and Path(f"/proc/{process}").exists() else None
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(process)


def named(process: int) -> str:
    """Return a process in words."""
    if process <= 0:
        return "a process of another namespace"
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = ""
    return f"process {process} ({_short(words)})" if words else f"process {process}"


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _since(process: int) -> str:
    """Return since when a process runs: nobody writes down when it got the lock."""
    try:
        # the name, in brackets, may hold anything (proc(5))
        ticks = int(Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return ""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = time.localtime(booted + ticks / os.sysconf("SC_CLK_TCK"))
    return f", which runs since {time.strftime('%Y-%m-%d %H:%M:%S', started)}"
