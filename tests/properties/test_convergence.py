"""A profile that says what a host is to be makes it so, and then there is nothing to do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.changes.kinds import MakeDirectory, MakeSpecial, MakeSymlink, WriteFile

from .worlds import Become, RemoveTree, Tree, Wish, ask, makings, trees, world

QUICK, THOROUGH = settings(max_examples=25, derandomize=True), settings(max_examples=120)
Making = WriteFile | MakeDirectory | MakeSymlink | MakeSpecial


def consistent(wanted: list[Making]) -> list[Wish]:
    """Return wishes that do not contradict each other: one for each path, parents before what is in them.

    What stands at the parent of another wish becomes a directory; what is wished for a path below no directory is left.
    """
    by_path = {change.path: change for change in wanted}
    wishes: list[Wish] = []
    for path, change in sorted(by_path.items()):
        above = [other for other in by_path if path.startswith(other + "/")]
        if all(isinstance(by_path[other], MakeDirectory) for other in above):
            wishes.append(Become(change))
    return wishes


def check(tree: Tree, states: list[list[Making]], *, on_disk: bool = False) -> None:
    """Bring a host to one state after the other, then take all of it back at once."""
    with world(tree, on_disk=on_disk) as site:
        before = site.tree()
        runs = 0
        for state in states:
            ask(site, [consistent(state)])
            ended = site.apply()
            assert ended.exit_status == 0, ended.error or (ended.plan and ended.plan.components)
            runs += bool(ended.plan and ended.plan.steps)
            assert () == site.plan().steps
        if runs:
            assert 0 == site.undo_last(len(states)).exit_status
        assert before == site.tree()


states = st.lists(st.lists(makings, max_size=6), min_size=1, max_size=3)


class TestConvergence:
    @QUICK
    @given(trees, states)
    def test_quick(self, tree: Tree, states: list[list[Making]]) -> None:
        """Whatever stood there becomes what is wanted, file to directory to file too; a second plan is empty."""

        check(tree, states)

    @pytest.mark.slow
    @THOROUGH
    @given(trees, states)
    def test_thorough(self, tree: Tree, states: list[list[Making]]) -> None:
        """The same, many times, on a disk."""

        check(tree, states, on_disk=True)


@settings(max_examples=10, derandomize=True)
@given(trees, st.lists(makings, max_size=6))
def test_all_of_it_can_go(tree: Tree, wanted: list[Making]) -> None:
    """A whole tree is removed step by step, and comes back with all that was in it."""

    with world(tree) as site:
        ask(site, [consistent(wanted)])
        site.apply()
        before = site.tree()
        ask(site, [[RemoveTree(f"/{name}") for name in ("a", "b", "\udce9")]])
        ended = site.apply()
        assert {"/"} == set(site.tree())
        if ended.plan is not None and ended.plan.steps:
            site.undo()
        assert before == site.tree()
