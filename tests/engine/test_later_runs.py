"""Undo of a run in the middle, where a later run left the same at a path."""

from __future__ import annotations

import pytest

from aquiline.changes.kinds import Inline, WriteFile
from aquiline.errors import UndoConflict

from .site import Site


def write(text: str) -> WriteFile:
    """Return a change of the one file there is."""
    return WriteFile(path="/file", content=Inline(text.encode()))


@pytest.fixture
def runs(site: Site) -> list[str]:
    """Three runs; the last brings back what the first left."""
    found = []
    for text in ("one", "two", "one"):
        site.wants(write(text))
        found.append(site.apply().run)
    return found


def test_a_later_run_has_the_last_word(site: Site, runs: list[str]) -> None:
    """What a later run wants is not taken away with an earlier one that wanted the same: a conflict that names it."""
    with pytest.raises(UndoConflict, match=runs[2]):
        site.undo(runs[0])
    assert "one" == site.path("/file").read_text()


def test_forced(site: Site, runs: list[str]) -> None:
    """Somebody may want just that."""
    assert 0 == site.undo(runs[0], choices={"/file": "force"}).exit_status
    assert not site.path("/file").exists()


def test_together(site: Site, runs: list[str]) -> None:
    """Runs that are taken back together do not stand in each other's way."""
    assert 0 == site.undo_last(3).exit_status
    assert not site.path("/file").exists()
    assert runs


def test_a_later_run_that_was_taken_back_is_none(site: Site, runs: list[str]) -> None:
    """Neither does a later run that has been taken back, nor the undo of it; once redone it does."""
    for run in (runs[2], runs[1]):
        assert 0 == site.undo(run).exit_status
    assert 0 == site.undo(runs[0]).exit_status
    assert not site.path("/file").exists()


def test_as_before_by_a_later_run(site: Site) -> None:
    """Where a later run brought back what was there before, taking the earlier one back first would be lost."""
    site.path("/file").write_text("old")
    site.wants(write("new"))
    first = site.apply().run
    site.wants(write("old"))
    second = site.apply().run

    with pytest.raises(UndoConflict, match=second):
        site.undo(first)
    assert 0 == site.undo(second).exit_status
    assert 0 == site.undo(first).exit_status
    assert "old" == site.path("/file").read_text()
