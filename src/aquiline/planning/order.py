"""In which order components are planned: Quattor's topological sort, which is the same every time.

``dependencies/pre`` of a component names those before it, ``post`` those after it. Among the orders that this allows,
ncm-ncd's is taken: depth first over names in alphabetical order, each put *before* what is already there. What has to
wait for another although it does not say so (`aquiline.planning.waits`) stands after it as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from aquiline.errors import ProfileError
from aquiline.profile import ComponentSection


class Order(msgspec.Struct, frozen=True):
    """Names of the active components in the order they are planned."""

    names: tuple[str, ...]
    #: Dependencies that order nothing, one line each, for a person to see (D7).
    notes: tuple[str, ...]


def order(sections: Mapping[str, ComponentSection], waits: Collection[tuple[str, str]] = ()) -> Order:
    """Order the active ones of `sections`; raise `ProfileError` naming a loop, such as "a < b < a".

    In each pair of `waits` the first comes after the second.
    """
    active = {name: section for name, section in sections.items() if section.active}
    followers: dict[str, set[str]] = {name: set() for name in active}
    notes: list[str] = []
    for name, section in sorted(active.items()):
        for dependency, kind in [(name, "pre") for name in section.pre] + [(name, "post") for name in section.post]:
            if dependency not in active:
                state = "inactive" if dependency in sections else "missing"
                notes.append(f"{kind}-dependency {dependency} of {name} is {state}: it orders nothing")
            elif kind == "pre":
                followers[dependency].add(name)
            else:
                followers[name].add(dependency)
    for waiting, bringing in waits:
        followers[bringing].add(waiting)
    return Order(names=_sorted(followers), notes=tuple(notes))


def ancestors(
    sections: Mapping[str, ComponentSection], waits: Collection[tuple[str, str]] = ()
) -> dict[str, frozenset[str]]:
    """Return for each active component all those it depends on or waits for, directly or not; there must be no loop."""
    before: dict[str, set[str]] = {name: set() for name, section in sections.items() if section.active}
    for name, section in sections.items():
        if name not in before:
            continue
        before[name] |= {one for one in section.pre if one in before}
        for one in section.post:
            if one in before:
                before[one].add(name)
    for waiting, bringing in waits:
        before[waiting].add(bringing)
    found: dict[str, frozenset[str]] = {}
    for name in order(sections, waits).names:
        found[name] = frozenset(before[name]).union(*(found[one] for one in before[name]))
    return found


def _sorted(followers: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Return the names so that each stands before its followers, without recursion: a profile may chain thousands."""
    finished: dict[str, None] = {}
    for start in sorted(followers):
        if start in finished:
            continue
        path = {start: iter(sorted(followers[start]))}
        while path:
            name, rest = next(reversed(path.items()))
            follower = next(rest, None)
            if follower is None:
                finished[name] = None
                del path[name]
            elif follower in path:
                raise _loop(list(path), follower)
            elif follower not in finished:
                path[follower] = iter(sorted(followers[follower]))
    return tuple(reversed(finished))


def _loop(path: list[str], again: str) -> ProfileError:
    loop = [*path[path.index(again) :], again]
    return ProfileError(f"dependency loop: {' < '.join(loop)}", path="/software/components")
