"""Undo of a run with later runs on top of it."""

from __future__ import annotations

import pytest

from aquiline.changes.kinds import Inline, WriteFile
from aquiline.errors import UndoConflict

from .site import Site


def write(path: str, text: str) -> WriteFile:
    """Return a change that writes a small file."""
    return WriteFile(path=path, content=Inline(text.encode()))


def test_a_later_run_is_named(site: Site) -> None:
    """Where a later run changed what undo would restore, the refusal names that run, not a person."""
    site.wants(write("/one", "1"), write("/two", "1"))
    first = site.apply()
    site.wants(write("/one", "2"))
    second = site.apply()

    with pytest.raises(UndoConflict, match=f"changed by run {second.run} since run {first.run} left it") as refused:
        site.undo(first.run)

    assert f"undo {second.run} first" in refused.value.hint


def test_a_person_is_no_run(site: Site) -> None:
    """Where somebody else changed it, no run is blamed."""
    site.wants(write("/one", "1"))
    site.apply()
    site.path("/one").write_text("by hand")

    with pytest.raises(UndoConflict, match="/one: content changed since"):
        site.undo()


def test_runs_that_touched_other_things_do_not_matter(site: Site) -> None:
    """A run in the middle is taken back where no later run touched the same objects."""
    site.wants(write("/one", "1"))
    first = site.apply()
    site.wants(write("/two", "2"))
    site.apply()

    assert 0 == site.undo(first.run).exit_status
    assert (False, True) == (site.path("/one").exists(), site.path("/two").exists())
