"""Confirm or revert: a deadline on disk, armed before step 1, that outlives the process and a reboot (D22).

Time is counted, not dated: a deadline is so many seconds of the machine being up, added over boots, so that a clock
that jumps neither fires it nor holds it back. While it waits, a supervisor process writes down now and then how much of
it is over; after a reboot counting goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from aquiline.journal.store import Journal


class Uptime(msgspec.Struct, frozen=True):
    """A moment, as a machine counts that has no clock."""

    #: Changes with every boot.
    boot: str
    #: Seconds since that boot, suspend included.
    seconds: float


class Tick(msgspec.Struct, frozen=True):
    """How much of a deadline was over at some moment."""

    #: Seconds that were over.
    elapsed: float
    boot: str
    #: Seconds since that boot, suspend included.
    uptime: float


def uptime() -> Uptime:
    """Return how long this machine has been up."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return Uptime(boot, time.clock_gettime(time.CLOCK_BOOTTIME))


Now = Callable[[], Uptime]


def arm(journal: Journal, run: str, seconds: float, *, now: Now = uptime) -> None:
    """Start counting for `run`; durable when it returns."""
    journal.record(run, 0, "deadline-armed", {"seconds": seconds, "tick": _tick(0.0, now())})


def tick(journal: Journal, run: str, *, now: Now = uptime) -> None:
    """Write down how much is over, so that a reboot does not lose it."""
    moment = now()
    journal.record(run, 0, "deadline-tick", _tick(_elapsed(journal, run, moment), moment))


def remaining(journal: Journal, run: str, *, now: Now = uptime) -> float:
    """Return how many seconds are left for `run`; negative where its time is over."""
    armed = next(event for event in journal.events(run, 0) if event.what == "deadline-armed")
    return float(armed.data["seconds"]) - _elapsed(journal, run, now())


def _tick(elapsed: float, moment: Uptime) -> Tick:
    return Tick(elapsed, moment.boot, moment.seconds)


def _elapsed(journal: Journal, run: str, moment: Uptime) -> float:
    last = _tick(0.0, moment)
    for event in journal.events(run, 0):
        if event.what == "deadline-armed":
            last = msgspec.convert(event.data["tick"], Tick)
        elif event.what == "deadline-tick":
            last = msgspec.convert(event.data, Tick)
    if last.boot == moment.boot:
        return last.elapsed + moment.seconds - last.uptime
    return last.elapsed + moment.seconds
