"""Names of hosts are folded short, the same each time, and ClusterShell reads them back."""

from __future__ import annotations

import random
import time

import pytest
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # type: ignore[import-untyped]  # it has no types
from hypothesis import given
from hypothesis import strategies as st

from aquiline.broker.naming import folded, unfolded
from aquiline.errors import UsageError

#: Parts that meet often, so that there is something to fold, and any others that a host's name may have.
LABEL = st.lists(
    st.one_of(
        st.sampled_from(["web", "db", "r", "n", "rack-", "x"]),
        st.integers(0, 12).map(str),
        st.integers(0, 12).map(lambda number: f"{number:02d}"),
        st.from_regex(r"[A-Za-z0-9]{1,4}", fullmatch=True),
    ),
    min_size=1,
    max_size=5,
).map("".join)
NAMES = st.lists(st.lists(LABEL, min_size=1, max_size=3).map(".".join), min_size=1, max_size=60)


def read_back(text: str) -> list[str]:
    """Return the names that ClusterShell reads."""
    return sorted(NodeSet(text, resolver=RESOLVER_NOGROUP))


@given(NAMES, st.randoms(use_true_random=False))
def test_folded_names_are_read_back(names: list[str], chance: random.Random) -> None:
    """ClusterShell's own parser finds exactly the names in the text, whatever they are; their order does not matter."""
    text = folded(names)

    assert sorted(set(names)) == read_back(text) == unfolded(text)
    chance.shuffle(names)
    assert text == folded(names)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([f"web{number:03d}" for number in range(1, 413)], "web[001-412]"),
        ([f"web{number}" for number in range(1, 413)], "web[1-412]"),
        (["web1", "db1", "www"], "db1,web1,www"),
        ([f"r{rack}n{node:02d}" for rack in range(1, 21) for node in range(1, 41)], "r[1-20]n[01-40]"),
        ([f"n{node}.dc1.example.org" for node in (1, 2, 3, 7)], "n[1-3,7].dc1.example.org"),
        (["r1n1", "r1n2", "r2n2", "r2n3"], "r1n[1-2],r2n[2-3]"),
        ([f"r{rack}n{node}" for rack in range(1, 9) for node in range(1, 9) if (rack, node) != (3, 4)],
         "r[1-2,4-8]n4,r[1-8]n[1-3,5-8]"),
    ],
)  # fmt: skip
def test_names_are_folded_short(names: list[str], text: str) -> None:
    """Along every dimension in which they are a range."""
    assert text == folded(names)


@pytest.mark.parametrize(("kept", "longest"), [(1.0, 25), (0.9, 20_000), (0.5, 40_000)])
def test_many_names_with_many_numbers_are_folded_at_once(kept: float, longest: int) -> None:
    """20,000 names with three numbers, all or some of them: as quick as with one."""
    chance = random.Random(1)
    names = [f"d{n // 4000}r{n // 40 % 100:03d}n{n % 40:02d}" for n in range(20_000) if chance.random() < kept]
    begun = time.process_time()

    text = folded(names)

    assert time.process_time() - begun < 2
    assert len(text) < longest


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "web1!web1",
        "web[",
        "web[a]",
        "web]1[",
        "web[1-99999999]",
        "r[1-999]n[1-999]",
        "web[1-1000000/3]",
        "x" * 200_000,
    ],
)
def test_what_is_no_node_set_is_refused_at_once(expression: str) -> None:
    """Nothing is made of an expression that fills the memory; what is none, or empty, is never taken for all hosts."""
    begun = time.process_time()
    with pytest.raises(UsageError):
        unfolded(expression)

    assert time.process_time() - begun < 1


@given(st.text("wb[]-,0123456789/@!&^~x", max_size=20))
def test_any_text_is_a_node_set_or_is_refused(expression: str) -> None:
    """Nobody's text ends in another error than that it is no set of hosts."""
    try:
        found = unfolded(expression)
    except UsageError:
        return
    assert found == sorted(set(found))


def test_several_large_sets_are_not_too_many() -> None:
    """What is joined is added up, not multiplied."""
    assert 3000 == len(unfolded("web[0001-1000],db[0001-1000],r[1-10]n[001-100]"))
