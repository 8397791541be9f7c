"""A file with several names that loses all of them in one run."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from aquiline.changes.kinds import Change, Inline, Remove, WriteFile

from .site import Site

NAMES = ("/one", "/two", "/three")


@pytest.mark.parametrize(
    "change",
    [lambda path: Remove(path=path), lambda path: WriteFile(path=path, content=Inline(path.encode()))],
    ids=["removed", "replaced"],
)
def test_all_names_are_one_file_again(site: Site, change: Callable[[str], Change]) -> None:
    """Undo, the undo of a redo, and the undo script give one file with all its names, not as many files."""
    site.path("/one").write_bytes(b"x")
    for other in NAMES[1:]:
        os.link(site.path("/one"), site.path(other))
    before = site.tree()
    site.wants(*(change(path) for path in NAMES))
    run = site.apply().run

    site.undo()

    assert before == site.tree()
    redone = site.redo(run)
    site.undo(redone.run)
    assert before == site.tree()
    site.run_undo_script(site.apply().run)
    assert before == site.tree()
