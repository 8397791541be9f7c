"""What stays when somebody chose, and what can then not be put back."""

from __future__ import annotations

import pytest

from aquiline.changes.kinds import Inline, MakeSymlink, Remove, WriteFile
from aquiline.errors import UndoConflict

from .site import Site


def become_a_file(site: Site) -> None:
    """Let the run make a file where a directory with a file in it was, and somebody write to it."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    site.wants(Remove(path="/d/file"), Remove(path="/d"), WriteFile(path="/d", content=Inline(b"new\n")))
    site.apply()
    site.path("/d").write_bytes(b"somebody's\n")


def test_a_file_where_a_directory_was_is_a_conflict(site: Site) -> None:
    """What was in the directory has no place while somebody's file is there: a conflict, and no crash."""
    become_a_file(site)

    with pytest.raises(UndoConflict, match="/d: content"):
        site.undo()

    assert b"somebody's\n" == site.path("/d").read_bytes()


def test_what_stood_between_two_steps_is_no_state_before_the_run(site: Site) -> None:
    """Somebody removes the file that came where a directory was: not as left, not as before, so a conflict."""
    become_a_file(site)
    site.path("/d").unlink()

    with pytest.raises(UndoConflict, match="/d: "):
        site.undo()

    assert not site.path("/d").exists()
    assert 0 == site.undo(choices={"/d": "force"}).exit_status
    assert b"old\n" == site.path("/d/file").read_bytes()


def test_what_was_in_a_skipped_directory_stays_away(site: Site) -> None:
    """Who skips the file has chosen that too: the undo is whole, and says what is not put back."""
    become_a_file(site)

    undone = site.undo(choices={"/d": "skip"})

    assert 0 == undone.exit_status
    assert b"somebody's\n" == site.path("/d").read_bytes()
    assert undone.undo is not None
    assert "there is no directory /d to put it back to" in [one.reason for one in undone.undo.stays]


def test_content_that_the_run_left_alone(site: Site) -> None:
    """Forced, the metadata of the run go; the content, which it had no part in and nobody kept, is somebody's still."""
    site.path("/file").write_bytes(b"old\n")
    site.wants(WriteFile(path="/file", content=Inline(b"old\n"), mode=0o600))
    site.apply()
    site.path("/file").write_bytes(b"somebody's\n")

    undone = site.undo(choices={"/file": "force"})

    assert 0 == undone.exit_status
    assert b"somebody's\n" == site.path("/file").read_bytes()
    assert 0o644 == site.path("/file").stat().st_mode & 0o777
    assert undone.undo is not None
    assert ("/file: only its metadata is taken back; the run had not changed its content",) == undone.undo.notes


@pytest.mark.parametrize(
    "change", [MakeSymlink(path="/here/here", target="elsewhere"), Remove(path="/here/here")], ids=["link", "remove"]
)
def test_a_path_through_what_it_replaces(site: Site, change: MakeSymlink | Remove) -> None:
    """A change by a path that it would itself cut off is refused in the plan: by that path nothing could be undone."""
    site.path("/here").symlink_to(".")
    before = site.tree()
    site.wants(change)

    plan = site.plan()

    assert () == plan.steps
    assert "leads through what would be replaced" in plan.components["one"].detail
    site.apply()
    assert before == site.tree()
