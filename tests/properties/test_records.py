"""What a journal holds is read by versions that know less and by versions that know more (D24)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.changes.canonical import decode, encode
from aquiline.changes.steps import Plan, Step

from .worlds import Tree, Wish, ask, trees, wish_lists, world

#: A name that no version uses, and what may stand there.
unknown = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def with_unknown(record: Any, value: Any) -> Any:
    """Return `record` with a field that nobody knows in every object of it; free maps are values and have none."""
    match record:
        case dict():
            return {
                "": value,
                **{key: one if key == "environment" else with_unknown(one, value) for key, one in record.items()},
                "zz_from_the_future": value,
            }
        case list():
            return [with_unknown(one, value) for one in record]
        case _:
            return record


@settings(max_examples=25, derandomize=True)
@given(trees, wish_lists(), unknown)
def test_unknown_fields_are_harmless(tree: Tree, wanted: list[list[Wish]], value: Any) -> None:
    """Records survive encoding; fields of a later version change nothing, and stay in the raw record."""

    with world(tree) as site:
        ask(site, wanted)
        ended = site.apply()
        assert ended.plan is not None
        assert ended.plan == decode(encode(ended.plan), Plan)
        if not ended.run:
            return
        with site.session.reading() as journal:
            for record in journal.steps(ended.run):
                richer = with_unknown(record.raw, value)
                assert record.known == decode(encode(richer), Step)
                assert richer == decode(encode(richer), dict[str, Any])
                assert encode(record.raw) == encode(record.known)
