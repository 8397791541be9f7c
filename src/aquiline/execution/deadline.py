"""Confirm or revert: a deadline on disk, armed before step 1, that outlives the process and a reboot (D22).

Time is counted, not dated: a deadline is so many seconds of the machine being up, added over boots, so that a clock
that jumps neither fires it nor holds it back. While it waits, a supervisor process writes down now and then how much of
it is over; after a reboot counting goes on from there.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from aquiline.journal.store import Journal


class Tick(msgspec.Struct, frozen=True):
    """How much of a deadline was over at some instant."""

    #: Seconds that were over.
    elapsed: float
    boot: str
    #: Seconds since that boot, suspend included.
    uptime: float


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def arm(journal: Journal, run: str, seconds: float) -> None:
    """Start counting for `run`; durable when it returns."""
    journal.record(run, 0, "deadline-armed", {"seconds": seconds, "tick": Tick(0.0, _boot_id(), _uptime())})


def tick(journal: Journal, run: str) -> None:
    """Write down how much is over, so that a reboot does not lose it."""
    journal.record(run, 0, "deadline-tick", Tick(_elapsed(journal, run), _boot_id(), _uptime()))


def remaining(journal: Journal, run: str) -> float:
    """Return how many seconds are left for `run`; negative where its time is over."""
    armed = next(event for event in journal.events(run, 0) if event.what == "deadline-armed")
    return float(armed.data["seconds"]) - _elapsed(journal, run)


def _elapsed(journal: Journal, run: str) -> float:
    last = Tick(0.0, _boot_id(), _uptime())
    for event in journal.events(run, 0):
        if event.what == "deadline-armed":
            last = msgspec.convert(event.data["tick"], Tick)
        elif event.what == "deadline-tick":
            last = msgspec.convert(event.data, Tick)
    if last.boot == _boot_id():
        return last.elapsed + _uptime() - last.uptime
    return last.elapsed + _uptime()
