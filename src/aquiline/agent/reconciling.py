"""What a host must do next to be what its target says (D17): a function of two values, and nothing else.

Theory of operation

1. The journal says which runs stand, newest first, with the change IDs that each brought. The target says which change
   IDs the host is to have, and which profile it then is.
2. A run that did not end comes first: it is finished where all it brings is still wanted, else taken back.
3. A run stands in the way if it brought a change that the target does not have, whether it succeeded or not. All such
   runs are taken back together. One that brought wanted changes too goes with them (D18): those are then missing, and
   are brought again by planning the target's profile.
4. Changes that the target has and the host lacks are brought in one run, by planning the target's profile.
5. With the same changes and another profile, something must be proved: that what is left after an undo is what the
   reverted branch compiles to. An empty plan proves it (D19). Anything else holds the host until a person releases it.
6. A generation that failed is not tried again: a host never converges by itself. A new generation, or a person who
   releases the host, makes it try again.
"""

from __future__ import annotations

import msgspec

from aquiline.protocol.messages import Live, Target


class Standing(msgspec.Struct, frozen=True):
    """A run that has brought something and has not been taken back."""

    run: str
    change_ids: tuple[str, ...]


class Standpoint(msgspec.Struct, frozen=True):
    """Where a host stands, by its journal."""

    live: Live
    #: Newest first.
    standing: tuple[Standing, ...] = ()
    #: The run that did not end, with the change IDs it brings; None where every run ended.
    interrupted: Standing | None = None


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """Settle the run that did not end."""

    run: str
    finish: bool


class TakeBack(msgspec.Struct, frozen=True, tag="take_back"):
    """Undo these runs, newest first."""

    runs: tuple[str, ...]
    #: The change IDs that go for good.
    change_ids: tuple[str, ...]
    #: Wanted changes that go with them and must be brought again.
    by_replanning: tuple[str, ...] = ()


class Bring(msgspec.Struct, frozen=True, tag="bring"):
    """Plan the target's profile and apply it: it brings these change IDs."""

    change_ids: tuple[str, ...]


class Prove(msgspec.Struct, frozen=True, tag="prove"):
    """Plan the target's profile: an empty plan makes it live, any other holds the host."""


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """The host is what its target says."""


Move = Recover | TakeBack | Bring | Prove | Arrived


def next_move(at: Standpoint, target: Target) -> Move:
    """Return the next thing that brings the host that stands `at` nearer to `target`."""
    wanted = frozenset(target.change_ids)
    if at.interrupted is not None:
        return Recover(at.interrupted.run, finish=wanted.issuperset(at.interrupted.change_ids))
    in_the_way = [one for one in at.standing if not wanted.issuperset(one.change_ids)]
    if in_the_way:
        brought = {change for one in in_the_way for change in one.change_ids}
        return TakeBack(
            tuple(one.run for one in in_the_way), _sorted(brought - wanted), by_replanning=_sorted(brought & wanted)
        )
    missing = wanted.difference(at.live.change_ids)
    if missing:
        return Bring(_sorted(missing))
    if at.live.profile != target.profile:
        return Prove()
    return Arrived()


def _sorted(change_ids: set[str] | frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(change_ids))
