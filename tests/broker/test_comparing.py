"""How groups differ from the reference: short, true, and in time that does not grow with its square."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aquiline.broker.comparing import deltas, gaps
from aquiline.protocol.changesets import ChangeSetStep

ITEMS = st.lists(st.integers(0, 6), max_size=14)


def step(number: int, name: str, *, content: str = "", **more: Any) -> ChangeSetStep:
    """Return a step that writes a file."""
    text = f"{number}. filecopy: write /etc/{name}\n   cause: wanted\n" + "".join(
        f"   | {line}\n" for line in content.split("\n") if line
    )
    values: dict[str, Any] = {
        "number": number, "component": "filecopy", "kind": "write-file", "kind_version": 1, "cause": "intentional",
        "description": f"write /etc/{name}", "undo_class": "exact", "undo": "restore", "text": text,
        "row": ["write-file", name, content],
    }  # fmt: skip
    return ChangeSetStep(**(values | more))


def shown(reference: list[ChangeSetStep], steps: list[ChangeSetStep]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the deltas in short."""
    return [(one.sign, one.step.description, one.differs) for one in deltas(reference, steps)]


@given(ITEMS, ITEMS)
def test_gaps_make_the_one_of_the_other(theirs: list[int], ours: list[int]) -> None:
    """Whoever puts what is in the gaps in the place of what was there has the other sequence."""
    made: list[int] = []
    at = 0
    for there, here in gaps(theirs, ours):
        made += theirs[at : there.start] + [ours[one] for one in here]
        at = there.stop

    assert ours == made + theirs[at:]
    assert (theirs == ours) == (not list(gaps(theirs, ours)))


@given(st.permutations(range(9)))
def test_of_different_items_the_most_are_kept(ours: list[int]) -> None:
    """Where no item comes twice, what is left of the sequence is as long as any rising part of it."""
    longest = [1] * len(ours)
    for here, item in enumerate(ours):
        longest[here] += max((longest[at] for at in range(here) if ours[at] < item), default=0)

    assert 9 - max(longest) == sum(len(here) for _, here in gaps(range(9), ours))


def test_the_worst_takes_no_longer_than_the_rest() -> None:
    """Twenty thousand steps in another order, each looking like another one: done in seconds."""
    ours = [step(number, f"f{number % 100}", content=f"line {number}") for number in range(20_000)]
    begun = time.process_time()

    deltas(ours[::-1], ours)
    list(gaps([number % 3 for number in range(100_000)], [number % 5 for number in range(100_000)]))

    assert time.process_time() - begun < 15


def test_a_step_more_or_less() -> None:
    """It is named, and those that only have another number for it are not."""
    reference = [step(1, "a"), step(2, "b"), step(3, "c"), step(4, "d")]

    more = [step(number, name) for number, name in enumerate("xabcd", 1)]
    assert [("+", "write /etc/x", ())] == shown(reference, more)
    assert [("-", "write /etc/b", ())] == shown(reference, [step(1, "a"), step(2, "c"), step(3, "d")])


def test_other_content_is_shown_by_its_lines() -> None:
    """A file that is written with other content is one step that differs, with the lines that do."""
    reference = [step(1, "a", content="@@ -1 +1 @@\n-old\n+server one\n same")]

    found = shown(reference, [step(1, "a", content="@@ -1 +1 @@\n-old\n+server two\n same")])

    assert [("~", "write /etc/a", ("- +server one", "+ +server two"))] == found


def test_content_that_is_not_shown_differs_by_digest() -> None:
    """What no text shows, as of a large file, is told apart by digests of what is known of it."""
    one = step(1, "a")

    found = shown([one], [step(1, "a", row=["write-file", "a", {"sha256": "b"}])])

    assert [("~", "write /etc/a")] == [found[0][:2]]
    assert found[0][2][0].startswith("other content: ")


def test_long_differences_are_cut() -> None:
    """Twelve lines say that a file is another one; the rest is counted."""
    many = [step(1, "a", content="\n".join(f"+{number}" for number in range(100)))]

    found = shown([step(1, "a", content="+x")], many)

    assert (13, "and 89 more lines") == (len(found[0][2]), found[0][2][-1])


def test_steps_in_another_order_are_said() -> None:
    """The same steps in another order are not the same."""
    reference = [step(1, "a"), step(2, "b"), step(3, "c"), step(4, "d")]

    found = shown(reference, [step(1, "d"), step(2, "a"), step(3, "b"), step(4, "c")])

    assert [("~", "write /etc/d", ("at another place in the order",))] == found


def test_why_a_step_is_there_differs() -> None:
    """Steps that are equal but for text that a person reads are not shown as if there were no difference."""
    found = shown([step(1, "a")], [step(1, "a", text="1. filecopy: write /etc/a\n   cause: drift\n")])

    assert [("~", "write /etc/a", ("- cause: wanted", "+ cause: drift"))] == found


def test_what_has_little_in_common_is_shown_whole() -> None:
    """A group that is mostly other steps, or a small part of the reference, has no deltas: its steps are shown."""
    reference = [step(number, f"f{number}") for number in range(1, 11)]
    other = [step(number, f"g{number}") for number in range(1, 11)]

    assert [] == shown(reference, other)
    assert [] == shown(reference, reference[:3])
    assert [] == shown(reference, [*reference[:4], *other[:5]])
    assert 2 == len(shown(reference, [*reference[:9], *other[:1]]))
