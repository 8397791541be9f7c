"""What a host should be after a day of runs, edits by hand and undos: a model that knows nothing of how it is done.

The host is a handful of named things, each with a value. A run changes some; what takes runs back gives each thing the
value that it had before, unless somebody changed it since: then it asks, and nothing is done before it got its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: None: it is not there.
Value = str | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run that stands."""

    id: str
    #: What it changed: thing to value before and after.
    changes: Mapping[str, tuple[Value, Value]]


@dataclass(slots=True)
class History:
    """The host as it should be, and the runs that brought it there."""

    now: dict[str, Value]
    runs: list[Run] = field(default_factory=list)

    def ran(self, run: str, wanted: Mapping[str, Value]) -> None:
        """A run brought these values."""
        changes = {thing: (self.now[thing], value) for thing, value in wanted.items() if self.now[thing] != value}
        self.runs.append(Run(run, changes))
        self.now |= wanted

    def conflicts(self, going: Sequence[Run]) -> set[str]:
        """Return what taking back `going`, newest first, would have to ask about."""
        found: set[str] = set()
        now = dict(self.now)
        for run in going:
            later = [other for other in self.runs[self.runs.index(run) + 1 :] if other not in going]
            for thing, (before, after) in run.changes.items():
                if any(thing in other.changes for other in later) or now[thing] not in (before, after):
                    found.add(thing)
                now[thing] = before
        return found

    def took_back(self, going: Sequence[Run], kept: set[str]) -> None:
        """These runs, newest first, were taken back, but for the things that were `kept` as they were.

        A run stands as long as anything of it was not taken back: kept, or found as it was before already.
        """
        for run in going:
            rest = {
                thing: change for thing, change in run.changes.items() if thing in kept or self.now[thing] == change[0]
            }
            self.now |= {thing: before for thing, (before, _) in run.changes.items() if thing not in rest}
            place = self.runs.index(run)
            self.runs[place : place + 1] = [Run(run.id, rest)] if rest else []
