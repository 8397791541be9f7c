"""When each host of a change may report, so that those that finish at once do not come at once.

Theory of operation

1. Hosts that one change asks or tells something are a *crowd*. Each has a rank in it, by the order of names, and its
   slot is its rank divided by the rate that the broker is set to: no more than that many reports come in any second
   where all finish in the same moment. An agent counts its slot from the end of its work.
2. A crowd that may come within one second has no slots: nobody waits for a small fleet.
3. Who is told when the crowd has passed, twice over, has come by itself and reports at once.
4. Who is in a crowd does not change once the change is open, so it is looked up once, and forgotten with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import msgspec

from aquiline.broker.store import Reading

#: Reports a second that a broker is ready for unless it is set otherwise.
REPORTS_PER_SECOND = 100
#: States of hosts that a change has asked or told something, whatever became of it since.
_TOLD = ("asked", "answered", "done", "failed", "clean", "drifted")
#: Crowds that are remembered: one for each of the changes that are under way.
_REMEMBERED = 16


class Crowd(msgspec.Struct, frozen=True):
    """Hosts that were asked or told something together."""

    #: Seconds since the epoch.
    since: float
    #: Host to its place among them, from 0.
    ranks: Mapping[str, int]


def crowd_of(since: float, hosts: Iterable[str]) -> Crowd:
    """Return the crowd of these hosts."""
    return Crowd(since, {name: rank for rank, name in enumerate(sorted(hosts))})


def slot(crowd: Crowd, host: str, now: float, *, rate: int) -> float:
    """Return for how many seconds `host` is to keep its report, where `rate` may come in a second."""
    size = len(crowd.ranks)
    has_passed = now > crowd.since + 2 * size / rate
    return 0.0 if size <= rate or has_passed else crowd.ranks.get(host, 0) / rate


class Slots:
    """The slots that one broker grants."""

    def __init__(self, rate: int = REPORTS_PER_SECOND) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._crowds: dict[str, Crowd] = {}

    def of(self, tx: Reading, changes: Iterable[str], host: str, now: float) -> float:
        """Return for how many seconds `host`, which works for `changes`, is to keep its report."""
        crowds = (self._crowd(tx, change) for change in changes)
        return max((slot(one, host, now, rate=self._rate) for one in crowds), default=0.0)

    def _crowd(self, tx: Reading, change_id: str) -> Crowd:
        with self._lock:
            if change_id not in self._crowds:
                while len(self._crowds) >= _REMEMBERED:
                    del self._crowds[next(iter(self._crowds))]
                self._crowds[change_id] = _read(tx, change_id)
            return self._crowds[change_id]


def _read(tx: Reading, change_id: str) -> Crowd:
    change = tx.change(change_id)
    told = [one.host for one in tx.change_hosts(change_id) if one.state in _TOLD]
    return crowd_of(change.created if change is not None else 0.0, told)
