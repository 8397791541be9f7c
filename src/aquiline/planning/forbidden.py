"""What no profile may change: what the host's policy forbids, and what Aquiline itself lives by (D25).

A path may lead through links, so it is judged by where it leads, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aquiline.changes.kinds import Change, MakeHardlink, Move, SetRecord
from aquiline.changes.perform import FILE_KINDS
from aquiline.errors import HostError
from aquiline.host.overlay import Overlay
from aquiline.host.protocol import Reading
from aquiline.host.records import place_of


class Forbidden(msgspec.Struct, frozen=True):
    """Objects that stay as they are, with all that is below them."""

    #: Path to why; where several paths lead to one object, all that are known.
    why: Mapping[str, str] = {}

    @classmethod
    def on(cls, host: Reading, why: Mapping[str, str]) -> Forbidden:
        """Return what `why` forbids, by the paths it names and by where these lead on `host` today."""
        overlay = Overlay(host)
        return cls({**{overlay.where(path): reason for path, reason in why.items()}, **why})

    def refuse(self, change: Change, host: Overlay) -> None:
        """Raise `HostError` if `change` would change one of them on `host`."""
        for path in changed_files(change) if self.why else ():
            self._refuse(path, host.where(path), is_move=isinstance(change, Move))

    def _refuse(self, path: str, leads_to: str, *, is_move: bool) -> None:
        for forbidden, why in self.why.items():
            for at in (path, leads_to):
                # With a directory all that is below it moves.
                if _is_at_or_below(at, forbidden) or (is_move and _is_at_or_below(forbidden, at)):
                    raise HostError(why, path=path)


def changed_files(change: Change) -> tuple[str, ...]:
    """Return the paths of what `change` makes, moves, removes, edits or gives another name."""
    match change:
        case Move():
            return (change.source, change.destination)
        case MakeHardlink():
            return (change.path, change.existing)
        case SetRecord():
            return (place_of(change.database),)
        case _:
            return (change.path,) if isinstance(change, FILE_KINDS) else ()


def _is_at_or_below(path: str, other: str) -> bool:
    return path == other or path.startswith(other.rstrip("/") + "/")
