"""Folders that a broker works in for a moment: merges, compilations. Nothing that lasts is in them.

They are gone when the work is done. What a broker that was killed has left there is swept by the next one that starts.
"""

from __future__ import annotations

import shutil
import time
from os import geteuid, scandir
from pathlib import Path
from stat import S_ISDIR
from tempfile import TemporaryDirectory, gettempdir

_PREFIX = "aquiline-broker-"
#: Seconds: younger ones may be those of another broker that is at work.
_OLD = 3600.0


def scratch_folder(purpose: str) -> TemporaryDirectory[str]:
    """Return a new folder that nobody else can read, gone at the end of its ``with``."""
    return TemporaryDirectory(prefix=f"{_PREFIX}{purpose}-", ignore_cleanup_errors=True)


def sweep(folder: Path | str | None = None, *, now: float | None = None) -> list[str]:
    """Remove the scratch folders of brokers of this user that are gone; return the names of what was removed."""
    swept = []
    before = (time.time() if now is None else now) - _OLD
    with scandir(folder or gettempdir()) as entries:
        for one in entries:
            if not one.name.startswith(_PREFIX):
                continue
            try:
                found = one.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # its broker has just finished
            if S_ISDIR(found.st_mode) and found.st_uid == geteuid() and found.st_mtime < before:
                shutil.rmtree(one.path, ignore_errors=True)
                swept.append(one.name)
    return sorted(swept)
