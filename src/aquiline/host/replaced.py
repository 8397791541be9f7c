"""Inodes that lost a name, held open until many of them can be freed at once.

When the last name of a file goes, the kernel frees its blocks before the call returns; where the device is told of
freed blocks that takes up to a millisecond each, one after the other. With a descriptor on the inode the name goes at
once, and the freeing waits for the last descriptor: those are closed by several threads, side by side.

Nothing hangs on it but time: whoever dies before closing has the kernel close.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
#: Descriptors held at once: far below any process's limit.
_HOLD = 256
_THREADS = 16


class Replaced:
    """Holds inodes; not for use by several threads."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def hold(self, at: int, name: str) -> None:
        """Hold what stands at `name` in the directory `at`, which is about to lose this name; nothing is success."""
        if len(self._held) >= _HOLD:
            self.release()
        try:
            self._held.append(os.open(name, _LOOK, dir_fd=at))
        except OSError:
            return  # whether and why it cannot be replaced is for the call that replaces it to say

    def release(self) -> None:
        """Let go of all, and return once that is done."""
        held, self._held = self._held, []
        if len(held) < _THREADS:
            _close_all(held)
            return
        # threads of this call only: none are left when a command is started by fork
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(_close_all, (held[start::_THREADS] for start in range(_THREADS))))

    def __del__(self) -> None:
        _close_all(self._held)  # descriptors are numbers: nothing else closes those of a host that was dropped


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
