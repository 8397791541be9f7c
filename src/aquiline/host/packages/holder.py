"""Who holds a lock file of a package manager."""

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
_PACE = 0.2
#: struct flock of Linux on 64 bits: type, whence, start, length, process.
_FLOCK = "hhqqi4x"


def wait_for(files: Sequence[str], *, patience: float = PATIENCE, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once nobody holds a lock on any of `files`; raise `HostError`, naming the holder, after `patience` s."""
    started = time.monotonic()
    for file in files:
        while (holder := holder_of(file)) is not None:
            if time.monotonic() - started > patience:
                raise HostError(
                    f"{holder} has held the lock {file} for more than {patience:g} s",
                    hint="let it end, or end it; then run this again",
                )
            sleep(_PACE)


def holder_of(file: str) -> str | None:
    """Return who holds a POSIX lock on `file`, as a process number and its command; None where nobody does."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot be opened: {error.strerror}", path=file) from error
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else named(process)


def named(process: int) -> str:
    """Return a process in words."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = ""
    return f"process {process} ({words})" if words else f"process {process}"
