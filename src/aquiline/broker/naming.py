"""Names of hosts, folded for people: ``web[001-412]``.

Theory of operation

1. A name is text and numbers in turn: ``r01n07`` is the texts ``r``, ``n`` and the numbers ``01``, ``07``. Names of the
   same texts are points in a space with one dimension for each number.
2. Points that differ in one dimension only are one box: ``r01n[01-40]``. Boxes that differ in one dimension only are
   again one: ``r[01-99]n[01-40]``. Each dimension is folded once, first the one that leaves the fewest boxes, so the
   time grows with the names and not with their square.
3. What stands in brackets is made by ClusterShell, whose tools read all of it back. There may be a shorter text for the
   same names; there is none other for the same names from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ClusterShell.NodeSet import (  # type: ignore[import-untyped]  # it has no types
    RESOLVER_NOGROUP,
    NodeSet,
    NodeSetException,
)
from ClusterShell.RangeSet import RangeSet, RangeSetException  # type: ignore[import-untyped]  # the same

from aquiline.errors import UsageError

#: How every part of the program speaks of a run.
_RUN = re.compile(r"\brun [0-9a-f]{8}\b")
_NUMBER = re.compile("([0-9]+)")
#: For each dimension a number, or numbers as ``001-412``.
_Box = tuple[str, ...]
#: Names that one node set may stand for, and characters that it may have.
_MOST_NAMES, _LONGEST = 200_000, 100_000
#: What joins patterns in a node set: outside of brackets.
_OPERATOR = re.compile(r"[,!&^\s](?![^\[\]]*\])")
_LIKE = "web001, or web[001-412]"


def folded(names: Iterable[str]) -> str:
    """Return the names as one node set, which ClusterShell and its tools read back; names are texts without ``[,]``."""
    spaces: dict[_Box, list[_Box]] = {}
    for name in sorted(set(names)):
        parts = _NUMBER.split(name)
        spaces.setdefault(tuple(parts[::2]), []).append(tuple(parts[1::2]))
    return ",".join(_text(texts, box) for texts, points in sorted(spaces.items()) for box in _boxes(points))


def _boxes(points: Sequence[_Box]) -> list[_Box]:
    boxes = list(points)
    varying = [at for at in range(len(points[0])) if len({point[at] for point in points}) > 1]
    while varying:
        at = min(varying, key=lambda one: len({_without(box, one) for box in boxes}))
        boxes = _fold(boxes, at)
        varying.remove(at)
    return sorted(boxes, key=lambda box: [(len(_first(numbers)), numbers) for numbers in box])


def _fold(boxes: Iterable[_Box], at: int) -> list[_Box]:
    """Return the boxes with those made one that differ in dimension `at` only, where each has one number still."""
    alike: dict[_Box, list[str]] = {}
    for box in boxes:
        alike.setdefault(_without(box, at), []).append(box[at])
    return [(*rest[:at], _ranges(numbers), *rest[at:]) for rest, numbers in alike.items()]


def _without(box: _Box, at: int) -> _Box:
    return box[:at] + box[at + 1 :]


def _ranges(numbers: Sequence[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    found = RangeSet()
    found.update(numbers)
    return str(found)


def _first(numbers: str) -> str:
    return re.split("[-,]", numbers, maxsplit=1)[0]


def _text(texts: Sequence[str], box: _Box) -> str:
    shown = [numbers if numbers.isdigit() else f"[{numbers}]" for numbers in box]
    return "".join(text + number for text, number in zip(texts, [*shown, ""], strict=True))


def unfolded(expression: str) -> list[str]:
    """Return the names that a node set stands for, sorted; raises `UsageError` for what is none, empty or too large."""
    if len(expression) > _LONGEST or sum(map(_size, _OPERATOR.split(expression))) > _MOST_NAMES:
        raise UsageError(f"{expression[:80]!r} stands for too many hosts", hint=f"at most {_MOST_NAMES} at once")
    try:
        found = sorted(NodeSet(expression, resolver=RESOLVER_NOGROUP))
    except (NodeSetException, RangeSetException, ValueError) as error:
        raise UsageError(f"{expression!r} is no set of hosts: {error}", hint=_LIKE) from None
    if not found:
        raise UsageError(f"{expression!r} stands for no host", hint=_LIKE)
    return found


def _size(pattern: str) -> int:
    """Return how many names a pattern without operators stands for, at most."""
    return math.prod(map(_numbers, re.findall(r"\[([^\]]*)\]", pattern)))


def _numbers(brackets: str) -> int:
    spans = re.findall(r"(\d+)-(\d+)", brackets)
    return sum(abs(int(last) - int(first)) + 1 for first, last in spans) + brackets.count(",") + 1


class Folding:
    """Folds names, every set of them once: a report speaks of the same hosts many times."""

    def __init__(self) -> None:
        self._folded: dict[frozenset[str], str] = {}

    def __call__(self, names: Iterable[str]) -> str:
        """Return the names folded."""
        some = frozenset(names)
        if some not in self._folded:
            self._folded[some] = folded(some)
        return self._folded[some]


def without_its_own(text: str, host: str) -> str:
    """Return a text about one host with placeholders for its name and runs: hosts of which the same is said group.

    Who wants to know which run it was looks at the host.
    """
    for name in dict.fromkeys([host, host.partition(".")[0]]):
        if name in text:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", "⟦name⟧", text)
    return _RUN.sub("run ⟦run⟧", text)
