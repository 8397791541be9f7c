"""Two edits of one text, brought together line by line; or none, where both changed the same lines.

The three-way merge of diff3 (Khanna, Kunal and Pierce, "A Formal Investigation of Diff3", 2007): lines of the base
that both sides still have, in order, hold the three texts together. Between them lie chunks. A chunk that only one side
changed, or both in the same way, is as that side has it; any other is a conflict, and so are changes with no line kept
between them, as in git.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import Match, SequenceMatcher
from io import BytesIO

_Lines = list[bytes]


def merge(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Return `base` with the changes of both sides, None where they are in conflict.

    Which side is which makes no difference. A line ends with a newline; a last line without one is another line than
    the same with one.
    """
    merged: _Lines = []
    for before, one, other in _chunks(*(BytesIO(text).readlines() for text in (base, ours, theirs))):
        if before == one:
            merged += other
        elif other in (before, one):
            merged += one
        else:
            return None
    return b"".join(merged)


def _chunks(base: _Lines, ours: _Lines, theirs: _Lines) -> Iterator[tuple[_Lines, _Lines, _Lines]]:
    """Yield the three texts in pieces that belong together: in turn what may differ, and what all have."""
    at = in_ours = in_theirs = 0
    for start, our_start, their_start, length in _kept(base, ours, theirs):
        yield base[at:start], ours[in_ours:our_start], theirs[in_theirs:their_start]
        at, in_ours, in_theirs = start + length, our_start + length, their_start + length
        yield base[start:at], base[start:at], base[start:at]
    yield base[at:], ours[in_ours:], theirs[in_theirs:]


def _kept(base: _Lines, ours: _Lines, theirs: _Lines) -> Iterator[tuple[int, int, int, int]]:
    """Yield what all three have, in order: where it begins in each, and how many lines it has."""
    our_blocks, their_blocks = _blocks(base, ours), _blocks(base, theirs)
    one, other = next(our_blocks, None), next(their_blocks, None)
    while one is not None and other is not None:
        start = max(one.b, other.b)
        end = min(one.b + one.size, other.b + other.size)
        if start < end:
            yield start, one.a + start - one.b, other.a + start - other.b, end - start
        if one.b + one.size <= other.b + other.size:
            one = next(our_blocks, None)
        else:
            other = next(their_blocks, None)


def _blocks(base: _Lines, side: _Lines) -> Iterator[Match]:
    return iter(SequenceMatcher(a=side, b=base).get_matching_blocks())
