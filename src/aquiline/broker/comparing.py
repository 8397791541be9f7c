"""How one group of a fleet report differs from the reference: by steps, and within a step by the lines of its text.

Theory of operation

1. Two sequences are matched item by item, the first of one to the first equal one of the other, and so on; of the
   matches the longest run is kept that is in order in both. What is between them differs. The time grows with their
   length (and its logarithm), never with its square: what hosts send decides how long they are.
2. Steps are equal if nothing that a person is told of them differs, but for their numbers and their texts: an added
   step moves numbers everywhere.
3. A step that one has more and one in the same words that it has less are one step that differs (``~``), and its lines
   that differ are shown; where no line does, its data do, and digests say that.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence

import msgspec

from aquiline.changes.canonical import pack
from aquiline.protocol.changesets import ChangeSetStep

#: Lines of one step that are shown as different before the rest is only counted.
_LINES = 12


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that a group has more (``+``) or less (``-``) than the reference, or that differs (``~``)."""

    sign: str
    step: ChangeSetStep
    #: Of one that differs: lines of the reference's after ``- ``, its own after ``+ ``, or how they differ in words.
    differs: tuple[str, ...] = ()


def deltas(reference: Sequence[ChangeSetStep], steps: Sequence[ChangeSetStep]) -> tuple[Delta, ...]:
    """Return by what `steps` differ from the reference; nothing where they have too little in common to say it so."""
    found = _by(reference, steps, [list(map(_identity, some)) for some in (reference, steps)])
    if not found:
        found = _by(reference, steps, [[pack(step) for step in some] for some in (reference, steps)])
    new = sum(one.sign == "+" for one in found)
    is_alike = new * 2 <= len(steps) and len(found) <= len(steps)
    return tuple(found) if is_alike else ()


def gaps(theirs: Sequence[Hashable], ours: Sequence[Hashable]) -> Iterator[tuple[range, range]]:
    """Return where two sequences differ: places in the one, and what stands there in the other."""
    after, begun = 0, 0
    for there, here in [*_common(theirs, ours), (len(theirs), len(ours))]:
        if there > after or here > begun:
            yield range(after, there), range(begun, here)
        after, begun = there + 1, here + 1


def _common(theirs: Sequence[Hashable], ours: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return places of equal items, rising in both."""
    places: dict[Hashable, deque[int]] = defaultdict(deque)
    for there, item in enumerate(theirs):
        places[item].append(there)
    matches = [(places[item].popleft(), here) for here, item in enumerate(ours) if places.get(item)]
    # The longest rising run: for each length the match with the lowest end, and what stands before each match.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (there, _) in enumerate(matches):
        length = bisect_left(ends, there)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [there]
        last[length : length + 1] = [number]
    found = []
    at = last[-1] if last else -1
    while at >= 0:
        found.append(matches[at])
        at = before[at]
    return found[::-1]


def _by(
    reference: Sequence[ChangeSetStep], steps: Sequence[ChangeSetStep], keys: Sequence[Sequence[bytes]]
) -> list[Delta]:
    places = list(gaps(*keys))
    less: dict[tuple[str, str, str], deque[int]] = defaultdict(deque)
    for there, _ in places:
        for at in there:
            less[_words(reference[at])].append(at)
    more = {at: less[words].popleft() for _, here in places for at in here if less.get(words := _words(steps[at]))}
    paired = set(more.values())
    found = []
    for there, here in places:
        found += [Delta("-", reference[at]) for at in there if at not in paired]
        found += [
            Delta("~", steps[at], _differing(reference[more[at]], steps[at])) if at in more else Delta("+", steps[at])
            for at in here
        ]
    return found


def _identity(step: ChangeSetStep) -> bytes:
    return pack(msgspec.structs.replace(step, number=0, text=""))


def _words(step: ChangeSetStep) -> tuple[str, str, str]:
    return step.component, step.kind, step.description


def _differing(theirs: ChangeSetStep, ours: ChangeSetStep) -> tuple[str, ...]:
    """Return the lines by which two steps of the same words differ."""
    # The first line has the number and the words.
    before, after = _lines(theirs.text), _lines(ours.text)
    lines = []
    for there, here in gaps(before, after):
        lines += [f"- {before[at]}" for at in there] + [f"+ {after[at]}" for at in here]
    if not lines:
        was, found = _digest(theirs), _digest(ours)
        lines = [f"other content: {found}, there {was}" if was != found else "at another place in the order"]
    more = len(lines) - _LINES
    return tuple(lines) if more <= 1 else (*lines[:_LINES], f"and {more} more lines")


def _lines(text: str) -> list[str]:
    return [line.removeprefix("   ").removeprefix("| ") for line in text.split("\n")[1:]]


def _digest(step: ChangeSetStep) -> str:
    return hashlib.sha256(pack(step.row)).hexdigest()[:12]
