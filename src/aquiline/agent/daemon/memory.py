"""What an agent must not forget: small files in ``STATE/agent``, each replaced whole and durable before it counts.

::

    STATE/agent/              0700
        attempts.json         the target that was last tried, and what came of it
        held.json             why no target is tried
        waiting.json          the run that waits for a confirmer to be reached
        reported.json         up to which run the broker knows everything
        poll.json             what the broker last said, for `aquiline status`
        credential            what shows the broker who this host is
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from aquiline.changes.canonical import decode, encode
from aquiline.errors import HostError, JournalError
from aquiline.journal.state import StateDirectory, make_durable
from aquiline.protocol.messages import Target

#: ``reached``; ``failed``, ``held``: not tried again until the target changes; ``frozen``, ``in-doubt``, ``locked``,
#: ``away``: tried again with the next poll; ``again``: goes on at once, with the code that is there now (D16); empty:
#: it is under way, or died.
Result = Literal["", "reached", "failed", "held", "frozen", "in-doubt", "locked", "away", "again"]
FINAL: frozenset[Result] = frozenset({"reached", "failed", "held"})

_Kept = TypeVar("_Kept")


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was made of a target."""

    generation: int = 0
    released: int = 0
    result: Result = ""
    exit_status: int = 0
    because: str = ""
    #: Sequence of the last run in the journal when it began.
    after: int = 0
    #: How often it began without an end.
    begun: int = 0
    #: The last generation that was reached or given up on.
    settled: int = 0
    #: The version of the program that could not read the target: another one tries it. Empty: it was read.
    unread_by: str = ""

    def is_about(self, target: Target) -> bool:
        """Return whether it is this target that was tried, and nobody has asked for another try since."""
        return (self.generation, self.released) == (target.generation, target.released)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """No target is tried until a person releases the host, or undo and revert agree after all (D19)."""

    generation: int
    because: str
    #: Seconds since the epoch, for show.
    since: float


class Waiting(msgspec.Struct, frozen=True):
    """A run that the agent confirms as soon as it has reached a confirmer."""

    run: str


class Reported(msgspec.Struct, frozen=True):
    """Up to which run of which journal everything was accepted."""

    journal: str
    sequence: int = 0


class LastPoll(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the broker last said; for show."""

    #: Seconds since the epoch.
    when: float
    generation: int = 0
    change_ids: tuple[str, ...] = ()
    error: str = ""


class Memory:
    """The files of one host's agent."""

    def __init__(self, state: StateDirectory) -> None:
        self.path = state.path / "agent"

    def attempt(self) -> Attempt:
        """Return what was made of the last target."""
        return self._read("attempts.json", Attempt) or Attempt()

    def keep_attempt(self, attempt: Attempt) -> None:
        """Remember what was made of a target; durable when it returns."""
        self._keep("attempts.json", attempt)

    def held(self) -> Held | None:
        """Return why the host is held, None where it is not."""
        return self._read("held.json", Held)

    def hold(self, held: Held) -> None:
        """Hold the host."""
        self._keep("held.json", held)

    def let_go(self) -> None:
        """End the hold; none there is success."""
        self._forget("held.json")

    def waiting(self) -> str:
        """Return the run that waits for a confirmer to be reached; empty where none does."""
        found = self._read("waiting.json", Waiting)
        return found.run if found is not None else ""

    def keep_waiting(self, run: str) -> None:
        """Remember that the agent is to confirm `run`."""
        self._keep("waiting.json", Waiting(run))

    def end_waiting(self) -> None:
        """Forget it: the run is confirmed, or taken back."""
        self._forget("waiting.json")

    def reported(self, journal: str) -> int:
        """Return the sequence up to which the runs of `journal` were accepted; 0 of any other journal."""
        found = self._read("reported.json", Reported)
        return found.sequence if found is not None and found.journal == journal else 0

    def keep_reported(self, journal: str, sequence: int) -> None:
        """Remember that the broker has everything up to `sequence`."""
        self._keep("reported.json", Reported(journal, sequence))

    def last_poll(self) -> LastPoll | None:
        """Return what the broker last said."""
        return self._read("poll.json", LastPoll)

    def keep_last_poll(self, last: LastPoll) -> None:
        """Remember what the broker said."""
        self._keep("poll.json", last)

    def _read(self, name: str, kind: type[_Kept]) -> _Kept | None:
        return read_record(self.path / name, kind)

    def _keep(self, name: str, value: Any) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self.path / name, encode(value).encode("ascii"))

    def _forget(self, name: str) -> None:
        remove_durably(self.path / name)


def read_record(path: Path, kind: type[_Kept]) -> _Kept | None:
    """Return the record in a file, None where there is no file; raises `JournalError` where it holds something else."""
    try:
        return decode(path.read_bytes(), kind)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalError(
            f"{path} cannot be read: {error}", hint="remove it: the agent asks its broker again"
        ) from None


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file, readable by its owner only, so that after a crash the old or the new one stands there, whole."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        make_durable(path.parent)
    except OSError as error:
        raise HostError(f"it cannot be written: {error.strerror}", path=str(path), hint="make room") from error


def remove_durably(path: Path) -> None:
    """Remove a file; none there is success."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        make_durable(path.parent)
