"""Which commands of a run were taken back: ``STATE/undo/RUN.done``, one number a line.

It is for the run's undo script, which cannot see that on the host, and which adds to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from aquiline.errors import HostError
from aquiline.journal.state import StateDirectory, make_durable


class TakenBack:
    """The commands of one run that its undo script is not to take back again; nothing for a run that has no script."""

    def __init__(self, state: StateDirectory, run: str) -> None:
        self._path = state.undo / f"{run}.done"

    def add(self, step: int) -> None:
        """Add a step; returns once that is durable, raises `HostError` where it cannot be written."""
        if self._path.with_suffix(".sh").exists() and step not in (listed := self._listed()):
            self._write([*listed, step])

    def drop(self, step: int) -> None:
        """Forget that a step was taken back: it has been done again, or is about to be."""
        if step in (listed := self._listed()):
            self._write(one for one in listed if one != step)

    def _listed(self) -> list[int]:
        try:
            return [int(line) for line in self._path.read_text().splitlines() if line.isdecimal()]
        except FileNotFoundError:
            return []

    def _write(self, steps: Iterable[int]) -> None:
        temporary = self._path.with_suffix(".done.new")
        try:
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
            ) as file:
                file.writelines(f"{step}\n" for step in steps)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path)
            make_durable(self._path.parent)
        except OSError as error:
            message = f"what was taken back cannot be noted for the undo script: {error.strerror}"
            raise HostError(message, path=str(self._path)) from error
