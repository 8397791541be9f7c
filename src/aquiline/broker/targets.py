"""What a change makes of the target of one host: functions of records, and nothing else.

Theory of operation

1. A target's change IDs are all that the host is to have: of the domains it was in before, and of the one it is in. A
   deployment adds its own ID where the host's profile changes, and nowhere else.
2. A host that was held out of a change gets the ID with the next one: its profile has both by then. So does a host that
   comes into a domain: with the ID of its move it gets those of all that is in effect there, and loses those of what
   was taken back there while it was away (`going_live.standing_of`).
3. Taking changes back removes their IDs and what came with them, and sets the profile that the reverted branch compiles
   to. The host's agent finds out by itself which of its runs that means (`aquiline.agent.reconciling`).
4. Generations grow by one. A target that says the same as the one before is not a new one.
5. Where changes are taken back and others laid again in one, a host is told a target for each of them, one after the
   other: so each is a run of its own, and in between it proves that undo and revert agree (D19). What comes to the host
   meanwhile sets its target anew, and that is all it is told then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from aquiline.broker.records import Change, HostTarget


def first_target(host: str) -> HostTarget:
    """Return what a host is to be that was never told anything."""
    return HostTarget(host=host, generation=0, profile="")


def with_change(
    target: HostTarget,
    change: Change,
    profile: str,
    *,
    owed: Iterable[str] = (),
    gone: Iterable[str] = (),
    effect: str = "",
) -> HostTarget:
    """Return the target of a host once `change` gives it `profile`.

    `owed` are changes that come to it only now, `gone` those that were taken back while it could not be told; `effect`
    is what was approved for it, empty where nothing had to be.
    """
    return msgspec.structs.replace(
        target,
        generation=target.generation + 1,
        profile=profile,
        change_ids=_sorted({*target.change_ids, *owed, change.id}.difference(gone)),
        change=change.id,
        way=(),
        effect=effect,
        confirm_within=change.confirm_within,
        allow_irreversible=change.allow_irreversible,
    )


def without_changes(
    target: HostTarget, change: Change, gone: Iterable[str], profile: str, *, owed: Iterable[str] = ()
) -> HostTarget:
    """Return the target of a host once `change` has taken `gone` back and left it `profile`, with what it is owed."""
    return msgspec.structs.replace(
        target,
        generation=target.generation + 1,
        profile=profile,
        change_ids=_sorted({*target.change_ids, *owed}.difference(gone)),
        change=change.id,
        way=(),
        effect="",
        confirm_within=0.0,
        allow_irreversible=False,
    )


def released(target: HostTarget, profile: str, *, owed: Iterable[str] = (), gone: Iterable[str] = ()) -> HostTarget:
    """Return the target of a host that a person lets go on: what its branch compiles to, with what it missed."""
    generation = target.generation + 1
    return msgspec.structs.replace(
        target,
        generation=generation,
        released=generation,
        profile=profile,
        change_ids=_sorted({*target.change_ids, *owed}.difference(gone)),
        effect="",
        way=(),
    )


def by_way_of(targets: Sequence[HostTarget]) -> HostTarget:
    """Return the last of these targets of one host, which is told the others first."""
    return msgspec.structs.replace(targets[-1], way=tuple(targets[:-1]))


def told(target: HostTarget, generation: int) -> HostTarget:
    """Return what a host is told that has reached, or given up on, `generation`: the next on the way to its target."""
    return next((one for one in target.way if one.generation > generation), target)


def in_effect(changes: Iterable[Change]) -> list[Change]:
    """Return the deployments and moves among `changes` that stand, in the order of their serials."""
    standing = (one for one in changes if one.kind in ("deploy", "move") and one.state in ("open", "closed"))
    return sorted(standing, key=lambda one: one.serial)


def blocking(changes: Iterable[Change], undone: Iterable[str]) -> list[Change]:
    """Return the deployments in effect that came after one that would be undone and are not undone themselves.

    A move says nothing about other hosts, so it blocks none of their changes.
    """
    gone = set(undone)
    deployed = [one for one in in_effect(changes) if one.kind == "deploy"]
    first = next((one.serial for one in deployed if one.id in gone), None)
    return [] if first is None else [one for one in deployed if one.serial > first and one.id not in gone]


def _sorted(change_ids: set[str]) -> tuple[str, ...]:
    return tuple(sorted(change_ids))
