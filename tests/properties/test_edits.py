"""Somebody else edits between a run and its undo: nothing of theirs is lost unless they say so (P5)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.agent import undoing
from aquiline.agent.undoing import Undone
from aquiline.changes.kinds import Inline, WriteFile
from aquiline.errors import UndoConflict
from aquiline.execution.undo import Choice, Conflict
from tests.engine.site import Site

from .worlds import Tree, Wish, ask, paths, simple_wishes, timeless, trees, wish_lists, world

QUICK, THOROUGH = settings(max_examples=25, derandomize=True), settings(max_examples=250)


class Edit(msgspec.Struct, frozen=True):
    """What somebody does with other tools."""

    path: str
    deed: str


edits = st.lists(
    st.builds(
        Edit,
        path=paths,
        deed=st.sampled_from(("append", "write", "remove", "chmod", "chown", "mkdir", "link", "rename-over")),
    ),
    min_size=1,
    max_size=4,
)


def edit(root: Path, one: Edit) -> None:
    """Do it where it is possible."""
    place = f"{root}{one.path}"
    try:
        match one.deed:
            case "append":
                with open(place, "ab") if os.path.isfile(place) else open(os.devnull, "wb") as file:
                    file.write(b"edited\n")
            case "write":
                if not os.path.lexists(place) or os.path.isfile(place):
                    Path(place).write_bytes(b"somebody's\n")
            case "remove":
                shutil.rmtree(place) if os.path.isdir(place) and not os.path.islink(place) else os.unlink(place)
            case "chmod":
                os.chmod(place, 0o705, follow_symlinks=True) if not os.path.islink(place) else None
            case "chown":
                os.lchown(place, 99, 98)
            case "mkdir":
                os.mkdir(place)
            case "link":
                os.symlink("somebody's", place)
            case "rename-over":
                Path(f"{root}/.new").write_bytes(b"renamed\n")
                os.rename(f"{root}/.new", place)
    except OSError:
        Path(f"{root}/.new").unlink(missing_ok=True)


def check_refuses_or_leaves(tree: Tree, wanted: list[list[Wish]], somebody: list[Edit]) -> None:
    """Apply, edit, undo without a word on conflicts."""
    with world(tree) as site:
        before = timeless(site.tree())
        ask(site, wanted)
        ended = site.apply()
        assert ended.error is None
        if ended.plan is None or not ended.plan.steps:
            return
        left = timeless(site.tree())
        for one in somebody:
            edit(site.root, one)
        edited = site.tree()
        changed = {path for path in left.keys() | edited.keys() if left.get(path) != timeless(edited).get(path)}
        try:
            undone = site.undo()
        except UndoConflict:
            assert edited == site.tree()
            with site.session.reading() as journal:
                conflicts = undoing.preview(site.session, undoing.select(site.session, journal)).conflicts
            names = [{one.path, _without_links(site.root, one.path)} for one in conflicts]
            assert all(any(_around(path) & changed or _below(path, changed) for path in both) for both in names)
            return
        assert 0 == undone.exit_status
        after = timeless(site.tree())
        assert {path: timeless(edited).get(path) for path in changed} == {path: after.get(path) for path in changed}
        assert {path: before.get(path) for path in before.keys() - changed} == {
            path: after.get(path) for path in before.keys() - changed
        }


def _without_links(root: Path, path: str) -> str:
    """Return what the tree calls an object that the run reached through a link."""
    directory, _, name = path.rpartition("/")
    return f"{os.path.realpath(f'{root}{directory}')[len(os.path.realpath(root)) :]}/{name}"


def _around(path: str) -> set[str]:
    """Return a path and all above it: one that was a link is as good as what is reached through it."""
    parts = path.split("/")
    return {"/".join(parts[:depth]) or "/" for depth in range(1, len(parts) + 1)} - {"/"}


def _below(path: str, changed: set[str]) -> bool:
    """Whether something in this directory was changed: one that the run made cannot go while something is in it."""
    return any(one.startswith(path + "/") for one in changed)


def check_choices(tree: Tree, wanted: list[list[Wish]], somebody: list[Edit], picks: list[Choice]) -> None:
    """Apply, edit, decide each conflict, undo; a path has what was decided for it."""
    with world(tree) as site:
        before = timeless(site.tree())
        ask(site, wanted)
        ended = site.apply()
        if ended.plan is None or not ended.plan.steps:
            return
        left = timeless(site.tree())
        for one in somebody:
            edit(site.root, one)
        edited = timeless(site.tree())
        choices: dict[str, Choice] = {}
        undone = _decided(site, choices, picks)
        after = timeless(site.tree())
        assert undone.error is None
        for path, choice in choices.items():
            if choice == "skip":
                assert edited.get(path) == after.get(path), path
            elif choice == "force" and not any(
                # What holds it, or what it holds, was to be left as it is.
                other.startswith(path + "/") or path.startswith(other + "/")
                for other, chosen in choices.items()
                if chosen == "skip"
            ):
                assert _forced(before.get(path), left.get(path), after.get(path)), path


def _forced(before: tuple[Any, ...] | None, left: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> bool:
    """Whether an object is as before the run; content that the run did not change was not kept, so others' stays."""
    if before and left and after and before[0][0] == left[0][0] == "-" and before[4] == left[4]:
        return before[:4] + before[5:] == after[:4] + after[5:] or after[0][0] != "-"
    return before == after


def _decided(site: Site, choices: dict[str, Choice], picks: list[Choice]) -> Undone:
    """Decide every conflict by the next of `picks`; a choice may bring up conflicts that were not there before."""
    for _ in range(50):
        try:
            return site.undo(choices=choices)
        except UndoConflict:
            with site.session.reading() as journal:
                conflicts = undoing.preview(site.session, undoing.select(site.session, journal), choices).conflicts
            for one in conflicts:
                choices[one.path] = _choice(one, choices, picks[len(choices) % len(picks)])
    raise AssertionError(f"no choice settles it: {choices}")


def _choice(conflict: Conflict, choices: dict[str, Choice], pick: Choice) -> Choice:
    """Return `pick` where it can be had and has not been tried, else skip."""
    is_tried = conflict.path in choices
    return "skip" if is_tried or (pick == "merge" and conflict.no_merge) else pick


class TestRefusing:
    @QUICK
    @given(trees, wish_lists(simple_wishes), edits)
    def test_quick(self, tree: Tree, wanted: list[list[Wish]], somebody: list[Edit]) -> None:
        """Every path that somebody edited is a conflict, and then nothing at all changes, or is left as it is."""

        check_refuses_or_leaves(tree, wanted, somebody)

    @pytest.mark.slow
    @THOROUGH
    @given(trees, wish_lists(simple_wishes), edits)
    def test_thorough(self, tree: Tree, wanted: list[list[Wish]], somebody: list[Edit]) -> None:
        """The same, many times."""

        check_refuses_or_leaves(tree, wanted, somebody)


picks = st.lists(st.sampled_from(("skip", "force", "merge")), min_size=1, max_size=4)


class TestChoosing:
    @QUICK
    @given(trees, wish_lists(simple_wishes), edits, picks)
    def test_quick(self, tree: Tree, wanted: list[list[Wish]], somebody: list[Edit], picks: list[Choice]) -> None:
        """What is skipped stays as somebody left it; what is forced is as it was before the run."""

        check_choices(tree, wanted, somebody, picks)

    @pytest.mark.slow
    @THOROUGH
    @given(trees, wish_lists(simple_wishes), edits, picks)
    def test_thorough(self, tree: Tree, wanted: list[list[Wish]], somebody: list[Edit], picks: list[Choice]) -> None:
        """The same, many times."""

        check_choices(tree, wanted, somebody, picks)


# ---- merging --------------------------------------------------------------------------------------------------------


class Hunk(msgspec.Struct, frozen=True):
    """Lines put in the place of others."""

    start: int
    count: int
    lines: tuple[str, ...]


LINES = 24
hunks = st.builds(
    Hunk,
    start=st.integers(0, LINES - 1),
    count=st.integers(0, 3),
    lines=st.lists(st.sampled_from(("x", "y", "", "z z")), max_size=3).map(tuple),
)


def lines_of(changed: list[Hunk], mark: str) -> list[str]:
    """Return the base lines with hunks put in; each has lines of its own."""
    lines = [f"line {number}\n" for number in range(LINES)]
    for number, hunk in sorted(enumerate(changed), key=lambda one: -one[1].start):
        lines[hunk.start : hunk.start + hunk.count] = [f"{mark} {number} {line}\n" for line in hunk.lines]
    return lines


def apart(first: Hunk, second: Hunk) -> bool:
    """Whether at least one untouched line lies between two hunks."""
    return first.start + first.count < second.start or second.start + second.count < first.start


@settings(max_examples=50, derandomize=True)
@given(hunks, hunks)
def test_edits_in_distinct_hunks_merge(ours: Hunk, theirs: Hunk) -> None:
    """The run's hunk is taken out, somebody's stays, to the byte; the same lines on both sides are refused."""

    with world({}) as site:
        file = site.path("/file")
        file.write_text("".join(lines_of([], "")))
        base, run = lines_of([], ""), lines_of([ours], "run")
        ask(site, [[WriteFile(path="/file", content=Inline("".join(run).encode()))]])
        ended = site.apply()
        if ended.plan is None or not ended.plan.steps:
            return
        both = _both(ours, theirs)
        file.write_text("".join(both))
        file.chmod(0o604)
        with site.session.reading() as journal:
            (conflict,) = undoing.preview(site.session, undoing.select(site.session, journal)).conflicts
        expected = lines_of([theirs], "edit")
        if apart(ours, theirs):
            assert "" == conflict.no_merge
        if conflict.no_merge:
            with pytest.raises(UndoConflict):
                site.undo(choices={"/file": "merge"})
            assert "".join(both) == file.read_text()
            return
        assert 0 == site.undo(choices={"/file": "merge"}).exit_status
        if apart(ours, theirs):
            assert "".join(expected) == file.read_text()
        for line in theirs.lines:
            assert f"edit 0 {line}\n" in file.read_text()
        assert 0o604 == file.stat().st_mode & 0o777
        assert base == lines_of([], "")


def _both(ours: Hunk, theirs: Hunk) -> list[str]:
    """Return the file with the run's hunk, edited by somebody at the place where `theirs` is in the base."""
    moved = len(ours.lines) - ours.count if theirs.start >= ours.start + ours.count else 0
    lines = lines_of([ours], "run")
    start = theirs.start + moved
    lines[start : start + theirs.count] = [f"edit 0 {line}\n" for line in theirs.lines]
    return lines
