"""What planning is told beside profile and host: by the journal, by the host's policy and by the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from aquiline.changes.itself import Itself
from aquiline.changes.kinds import Reaction
from aquiline.host.objects import At
from aquiline.planning.forbidden import Forbidden
from aquiline.planning.view import Templates

#: In bytes.
MEBIBYTE = 2**20


class Owed(msgspec.Struct, frozen=True):
    """A reaction that an earlier run left undone."""

    reaction: Reaction
    component: str
    run: str


class Budget(msgspec.Struct, frozen=True):
    """How much replaced content may be kept for undo, in bytes (D15)."""

    step: int
    run: int


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What planning is told besides profile and host."""

    #: What the journal last left at a path, None where it has no word of it.
    last_value: Callable[[str], At | None] = lambda _path: None
    owed: Sequence[Owed] = ()
    templates: Templates = lambda _relative: None
    #: What no component may change.
    forbidden: Forbidden = Forbidden()
    #: Whether policy says that this path is never taken back.
    never_undone: Callable[[str], bool] = lambda _path: False
    #: Whether policy says that a package is never downgraded.
    never_downgraded: Callable[[str], bool] = lambda _package: False
    #: Why undo must not downgrade a package; empty where it may.
    why_not_downgraded: Callable[[str], str] = lambda _package: ""
    #: None is no limit.
    budget: Budget | None = None
    #: Placeholder name to value: the host's own facts (D8).
    facts: Mapping[str, str] = {}
    #: Keys the digests of secret values (D9).
    secret_key: bytes = b""
    #: Commands, encoded, that earlier stages of this run have run: each runs once in a run.
    ran: frozenset[str] = frozenset()
    #: The program that plans and will run this.
    itself: Itself = Itself()
    #: Bytes that earlier stages of this run keep for undo: a run has one budget.
    kept_bytes: int = 0
    #: Where the journal is on the host, empty where it is outside of it: a live run makes it before it plans.
    state: str = ""
    #: What tells of earlier runs that no journal knows, in words; empty where nothing does.
    lost_journal: str = ""
