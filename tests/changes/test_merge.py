from __future__ import annotations

import subprocess
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aquiline.changes.merge import merge

#: Few lines, so that they repeat, and a last one without its end.
texts = st.builds(
    lambda lines, rest: b"".join(lines) + rest,
    st.lists(st.sampled_from((b"\n", b"a\n", b"b\n", b"c\r\n", b"a\rb\n")), max_size=12),
    st.sampled_from((b"", b"", b"a", b"\xff")),
)
#: A text of distinct lines.
BASE = [b"line %d\n" % number for number in range(12)]

Edits = list[tuple[int, int, list[bytes]]]


@st.composite
def edits(draw: st.DrawFn, mark: bytes) -> Edits:
    """Stretches of `BASE`, with lines between them, and what stands there instead: few lines, all of this mark."""
    lines = st.lists(st.integers(0, 9).map(lambda number: b"%s %d\n" % (mark, number)), max_size=3)
    bounds = sorted(draw(st.sets(st.integers(0, len(BASE)), max_size=6)))
    stretches = zip(bounds[::2], bounds[1::2], strict=False)
    return [(draw(st.sampled_from((start, end))), end, draw(lines)) for start, end in stretches]


def edited(edits: Edits, base: list[bytes]) -> list[bytes]:
    """Return `base` with `edits` made."""
    lines = list(base)
    for start, end, instead in reversed(edits):
        lines[start:end] = instead
    return lines


def is_change(edit: tuple[int, int, list[bytes]]) -> bool:
    return BASE[edit[0] : edit[1]] != edit[2]


@settings(derandomize=True)
@given(texts, texts)
def test_an_untouched_side(base: bytes, side: bytes) -> None:
    """Where one side has changed nothing, the other is the result, to the byte."""

    assert side == merge(base, base, side) == merge(base, side, base)


@settings(derandomize=True)
@given(texts, texts)
def test_both_sides_alike(base: bytes, side: bytes) -> None:
    """Where both sides made the same change, it is made once."""

    assert side == merge(base, side, side)


@settings(derandomize=True)
@given(texts, texts, texts)
def test_sides_are_equal(base: bytes, ours: bytes, theirs: bytes) -> None:
    """Whose change is whose makes no difference."""

    assert merge(base, theirs, ours) == merge(base, ours, theirs)


@settings(derandomize=True)
@given(texts, texts, texts)
def test_no_line_is_lost(base: bytes, ours: bytes, theirs: bytes) -> None:
    """What either side put in is there, and nothing is there that neither has."""

    merged = merge(base, ours, theirs)

    if merged is not None:
        before, one, other, found = (set(BytesIO(text)) for text in (base, ours, theirs, merged))
        assert (one | other) - before <= found <= one | other


@settings(derandomize=True)
@given(edits(b"ours"), edits(b"theirs"))
def test_edits_apart_are_both_made(ours: Edits, theirs: Edits) -> None:
    """Edits with a line kept between them are both made; others are a conflict, but the same edit on both sides."""

    changes = sorted(filter(is_change, ours + [edit for edit in theirs if edit not in ours]))
    are_apart = all(one[1] < other[0] for one, other in pairwise(changes))

    merged = merge(*(b"".join(edited(each, BASE)) for each in ([], ours, theirs)))

    assert merged == (b"".join(edited(changes, BASE)) if are_apart else None)


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits(b"new"), edits(b"new"))
@example([(3, 4, [b"new 1\n"])], [(3, 4, [b"new 1\n"])])
def test_as_git_does_it(tmp_path: Path, ours: Edits, theirs: Edits) -> None:
    """What is clean here is clean for git, with the same result, and what is a conflict here is one there."""

    sides = [b"".join(edited(each, BASE)) for each in (ours, [], theirs)]
    for name, side in zip(("ours", "base", "theirs"), sides, strict=True):
        tmp_path.joinpath(name).write_bytes(side)
    command = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)

    assert (found.stdout if found.returncode == 0 else None) == merge(sides[1], sides[0], sides[2])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        (b"a\nb\nc\n", b"x\nb\nc\n", b"a\nb\ny\n", b"x\nb\ny\n"),
        (b"a\nb\n", b"x\nb\n", b"a\ny\n", None),
        (b"a\nb\nc\n", b"a\nc\n", b"a\nx\nc\n", None),
        (b"a\nb\nc\n", b"b\nc\n", b"a\nb\nc", b"b\nc"),
        (b"a\nb\nc", b"a\nb\nc\n", b"x\nb\nc", b"x\nb\nc\n"),
        (b"", b"a\n", b"", b"a\n"),
        (b"", b"a\n", b"b\n", None),
    ],
)
def test_examples(base: bytes, ours: bytes, theirs: bytes, merged: bytes | None) -> None:
    """Distinct places, neighbouring lines, a line that one took out and the other changed, and a last newline."""

    assert merged == merge(base, ours, theirs)
