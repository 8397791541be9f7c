"""Names that share an inode, and a run that changes more than one of them (P4, D14)."""

from __future__ import annotations

import os

import pytest

from aquiline.changes.kinds import Change, Inline, MakeSymlink, Move, Remove, WriteFile

from .site import Site


def write(path: str, text: str) -> WriteFile:
    """Return a change that writes a small file."""
    return WriteFile(path=path, content=Inline(text.encode()))


@pytest.mark.parametrize(
    "changes",
    [
        (write("/a", "new a"), write("/b", "new b")),
        (write("/a", "new a"), write("/b", "new b"), write("/c", "new c")),
        (Remove(path="/a"), Remove(path="/b"), Remove(path="/c")),
        (Remove(path="/c"), MakeSymlink(path="/b", target="a"), write("/a", "new a")),
        (Move(source="/a", destination="/b"), write("/c", "new c")),
        (write("/a", "first"), write("/a", "second"), write("/b", "new b")),
    ],
    ids=lambda changes: " ".join(type(change).__name__ for change in changes),
)
@pytest.mark.parametrize("by_script", [False, True])
def test_all_names_of_a_file_are_brought_together_again(
    site: Site, changes: tuple[Change, ...], by_script: bool
) -> None:
    """However many names of one file a run replaces, undo gives them back one inode, and redo and undo do so again."""
    site.path("/a").write_text("shared")
    for name in ("/b", "/c"):
        os.link(site.path("/a"), site.path(name))
    before = site.tree()
    site.wants(*changes)
    run = site.apply().run
    after = site.tree()

    if by_script:
        site.run_undo_script(run)
        assert before == site.tree()
        return
    assert 0 == site.undo().exit_status
    assert before == site.tree()
    site.redo(run)
    assert without_times(after) == without_times(site.tree())
    site.undo()
    assert before == site.tree()


def without_times(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Return a tree without modification times: redoing happens later."""
    return {path: (*found[:3], *found[4:]) for path, found in tree.items()}
