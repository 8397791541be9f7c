"""Ctrl-C and SIGTERM while a host is being changed: stop between two steps, never inside one."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FIRST = b"\nstopping after the steps that are under way; once more kills the command that is running\n"


class Stopping:
    """Called, it says whether somebody asked to stop. Entered, it takes the signals; left, it gives them back."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, object] = {}

    def __call__(self) -> bool:
        """Return whether to stop before the next steps."""
        return self._asked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def take(self) -> None:
        """Take the signals from here on: until now nothing has been changed, and dying at once is right."""
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            _kill_commands()
        else:
            self._asked = True
            with contextlib.suppress(OSError):
                os.write(2, _FIRST)


def _kill_commands() -> None:
    """Kill the process groups of our children: each command of a step is one."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The fields after the name, which may hold anything, even a parenthesis: state, parent, group.
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and int(fields[2]) != os.getpgrp():
                os.killpg(int(fields[2]), signal.SIGKILL)
