"""Several runs: the last of them at once, or any of them in any order that has no conflict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.agent import undoing
from aquiline.changes.kinds import Change
from aquiline.errors import UndoConflict

from .worlds import Tree, Wish, ask, simple_wishes, timeless, trees, wish_lists, world

QUICK, THOROUGH = settings(max_examples=20, derandomize=True), settings(max_examples=150)
histories = st.lists(wish_lists(), min_size=2, max_size=4)
simple_histories = st.lists(wish_lists(simple_wishes), min_size=2, max_size=4)
Tree_ = dict[str, tuple[Any, ...]]


def check_last(tree: Tree, history: list[list[list[Wish]]], count: int) -> None:
    """Run all of `history`, then take the last `count` runs back at once, and make them again."""
    with world(tree) as site:
        snapshots = [site.tree()]
        moments: list[float] = []
        for wanted in history:
            ask(site, wanted)
            ended = site.apply()
            assert ended.error is None
            if ended.run:
                snapshots.append(site.tree())
                with site.session.reading() as journal:
                    moments.append(journal.run("last").header.started)
        count = min(count, len(snapshots) - 1)
        if not count:
            return
        with site.session.reading() as journal:
            runs = undoing.select(site.session, journal, last=count)
            just_before = datetime.fromtimestamp(moments[-count] - 1e-5, UTC)
            assert runs == undoing.select(site.session, journal, to=just_before)
        undone = undoing.undo(site.session, runs)
        if undone.error is not None and "it may be a name of any file" in undone.error.message:
            # A file with several names, in a directory that the runs have given to a stranger: its metadata is not
            # set through a name that the stranger may have made. That is refused, and said.
            assert 17 == undone.exit_status
            return
        assert 0 == undone.exit_status
        assert snapshots[-1 - count] == site.tree()


def replayed(tree: Tree, history: Iterable[Sequence[Change]]) -> Tree_ | None:
    """Return the tree that the steps of these runs alone give; None where one builds on what is not there."""
    with world(tree) as site:
        for changes in history:
            ask(site, [changes])
            if site.apply().exit_status:
                return None
        return timeless(site.tree())


def check_any_order(tree: Tree, history: list[list[list[Wish]]], order: list[int]) -> None:
    """Run all of `history`, then take back run after run in `order`: each is refused whole, or gives what is left."""
    with world(tree) as site:
        runs: dict[int, str] = {}
        standing: dict[int, list[Change]] = {}
        for number, wanted in enumerate(history):
            ask(site, wanted)
            ended = site.apply()
            assert ended.error is None
            if ended.plan is not None and ended.plan.steps:
                runs[number] = ended.run
                standing[number] = [step.change for step in ended.plan.steps]
        for number in order:
            if number not in runs:
                continue
            before = site.tree()
            try:
                undone = site.undo(runs[number])
            except UndoConflict:
                assert before == site.tree()
                continue
            assert 0 == undone.exit_status, undone.undo and undone.undo.stays
            del standing[number]
            expected = replayed(tree, standing.values())
            if expected is None:
                return
            assert expected == timeless(site.tree())


class TestTheLast:
    @QUICK
    @given(trees, histories, st.integers(1, 4))
    def test_quick(self, tree: Tree, history: list[list[list[Wish]]], count: int) -> None:
        """The last N runs, by number or by date, are taken back at once: the tree is as it was before them."""

        check_last(tree, history, count)

    @pytest.mark.slow
    @THOROUGH
    @given(trees, histories, st.integers(1, 4))
    def test_thorough(self, tree: Tree, history: list[list[list[Wish]]], count: int) -> None:
        """The same, many times."""

        check_last(tree, history, count)


class TestAnyOrder:
    @QUICK
    @given(trees, simple_histories, st.permutations(range(4)))
    def test_quick(self, tree: Tree, history: list[list[list[Wish]]], order: list[int]) -> None:
        """A run in the middle is either refused, and nothing changes, or the tree is as if it had never been."""

        check_any_order(tree, history, order)

    @pytest.mark.slow
    @THOROUGH
    @given(trees, simple_histories, st.permutations(range(4)))
    def test_thorough(self, tree: Tree, history: list[list[list[Wish]]], order: list[int]) -> None:
        """The same, many times."""

        check_any_order(tree, history, order)
