"""Private copies of would-be content, for checkers that want a path; nothing of the host's tree changes.

On the running system a copy is an anonymous file of memory, named through ``/proc``. Below an offline root, whose
commands run chrooted and rarely see a ``/proc``, it is a file in a private directory that is removed again, with the
parent's modification time put back.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

#: Of private directories; then who made it, and the time of the directory that it is in.
_PREFIX = ".aquiline-"


class Scratch:
    """Makes private copies below a root; all are gone when it is closed."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def write_copy(self, content: bytes) -> str:
        """Return the path, below the root, of a file that holds `content` and that only root can read."""
        if self._root == Path("/"):
            descriptor = os.memfd_create("aquiline-check", os.MFD_CLOEXEC)
            self._open.enter_context(os.fdopen(descriptor, "wb", buffering=0)).write(content)
            return f"/proc/{os.getpid()}/fd/{descriptor}"
        return self._copy_on_disk(content)

    @staticmethod
    def sweep(root: str) -> None:
        """Remove the copies of killed processes below `root`, and put back the time of the directory they were in."""
        if root == "/":
            return  # they were in memory
        for parent in (Path(root), Path(root, "tmp")):
            for left in sorted(parent.glob(f"{_PREFIX}*")):
                made = re.fullmatch(r"([0-9]+)-([0-9]+)-\w+", left.name.removeprefix(_PREFIX))
                if made and left.lstat().st_uid == os.geteuid() and not Path("/proc", made[1]).exists():
                    access = parent.stat().st_atime_ns
                    shutil.rmtree(left)
                    os.utime(parent, ns=(access, int(made[2])))

    def _copy_on_disk(self, content: bytes) -> str:
        parent = self._root / "tmp" if (self._root / "tmp").is_dir() else self._root
        before = parent.stat()
        prefix = f"{_PREFIX}{os.getpid()}-{before.st_mtime_ns}-"
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
        self._open.callback(os.utime, parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        directory = self._open.enter_context(made)
        copy = Path(directory, "copy")
        copy.write_bytes(content)
        return "/" + str(copy.relative_to(self._root))
