"""Locks of git's that nobody holds any more: what a git leaves that was killed, or that lost its power.

Theory of operation

1. Git locks a file by making ``FILE.lock`` beside it, and lets go by renaming or removing that. It knows nothing of who
   made one, so that one that was left refuses everybody, for good.
2. One that is older than this machine's start is nobody's. So is one that is older than this broker and a minute, while
   no process is at work in the repository: locks on refs are held for an instant. Any other is left alone.
3. Only one broker at a time looks, so that none takes a new lock for the old one of the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds: a process that holds a younger one may be of another user, or hidden from this one.
_YOUNG = 60.0


def sweep_locks(repository: Path, *, started: float) -> list[str]:
    """Remove the locks in `repository` that nobody holds, for a broker that has `started` then; return their names."""
    descriptor = os.open(repository, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return sorted(_swept(repository, started))
    finally:
        os.close(descriptor)


def _swept(repository: Path, started: float) -> Iterator[str]:
    now = time.time()
    booted = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    for lock in repository.rglob("*.lock"):
        try:
            made = lock.lstat().st_mtime
            is_old = made < min(started, now - _YOUNG) and not _is_at_work(repository)
            if made < booted or is_old:
                lock.unlink()
                yield str(lock.relative_to(repository))
        except FileNotFoundError:
            continue  # whoever held it has let go


def _is_at_work(repository: Path) -> bool:
    """Return whether a process is in the repository, or has one of its files open, as far as we may see that."""
    top = os.path.realpath(repository)
    return any(place.startswith(f"{top}/") for process in Path("/proc").glob("[0-9]*") for place in _places(process))


def _places(process: Path) -> Iterator[str]:
    """Return the folder that a process is in, with a slash behind it, and what it has open; nothing where it is gone.

    Whoever sweeps has the repository itself open, without being at work in it.
    """
    try:
        yield f"{(process / 'cwd').readlink()}/"
        links = list((process / "fd").iterdir())
    except OSError:
        return  # or it is another user's
    for link in links:
        with contextlib.suppress(OSError):  # that one was closed just now
            yield str(link.readlink())
