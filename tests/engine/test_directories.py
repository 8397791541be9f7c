"""Directories: their times, and what moves with them."""

from __future__ import annotations

import os

import pytest

from aquiline.changes.kinds import Inline, MakeDirectory, MakeSpecial, MakeSymlink, Move, SetMetadata, WriteFile

from .site import Site


def test_time_of_a_directory_that_is_changed_twice(site: Site) -> None:
    """A directory that gets a time of its own, and then an entry, has its first time back after undo."""
    site.path("/d").mkdir()
    os.utime(site.path("/d"), ns=(1, 1_000_000_007))
    before = site.tree()
    site.wants(SetMetadata(path="/d", mtime_ns=5), WriteFile(path="/d/new", content=Inline(b"x")))
    run = site.apply()
    after = site.tree()

    site.undo()
    assert before == site.tree()
    site.redo(run.run)
    assert after == site.tree()
    site.run_undo_script(run.run)
    assert before == site.tree()


def test_a_moved_directory_goes_back_with_what_is_in_it(site: Site) -> None:
    """What somebody put into a moved directory since goes back with it: nothing of it is touched."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"x")
    before = site.tree()
    site.wants(Move(source="/d", destination="/e"))
    site.apply()
    site.path("/e/theirs").write_bytes(b"theirs")

    assert 0 == site.undo().exit_status
    assert b"theirs" == site.path("/d/theirs").read_bytes()
    site.path("/d/theirs").unlink()
    os.utime(site.path("/d"), ns=(1, before["/d"][3]))
    assert before == site.tree()


@pytest.mark.parametrize("what", ["link", "fifo", "new"])
def test_attributes_where_there_can_be_none(site: Site, what: str) -> None:
    """Links and special files have no user attributes: the plan says so, not the run."""
    site.path("/link").symlink_to("elsewhere")
    os.mkfifo(site.path("/fifo"))
    attributes = (("user.note", b"x"),)
    site.wants(
        MakeSpecial(path="/new", special="fifo", xattrs=attributes)
        if what == "new"
        else SetMetadata(path=f"/{what}", xattrs=attributes)
    )

    assert "failed" == site.plan().components["one"].state
    assert "user.note" in site.plan().components["one"].detail


def test_one_directory_under_two_names(site: Site) -> None:
    """Steps that reach the same file through a link in a parent directory build on each other, as planned."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    site.path("/e").symlink_to("d")
    before = site.tree()
    site.wants(WriteFile(path="/d/file", content=Inline(b"new\n")), WriteFile(path="/e/file", content=Inline(b"newer")))
    run = site.apply()

    assert 0 == run.exit_status
    assert b"newer" == site.path("/d/file").read_bytes()
    site.undo()
    assert before == site.tree()
    site.redo(run.run)
    assert b"newer" == site.path("/d/file").read_bytes()
    site.run_undo_script(run.run)
    assert before == site.tree()


def test_time_of_a_directory_that_came_later(site: Site) -> None:
    """A directory that moved back keeps its time, whatever later runs did in another one at its old path."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    os.utime(site.path("/d"), ns=(1, 1_000_000_007))
    before = site.tree()
    site.wants(Move(source="/d", destination="/e"), WriteFile(path="/d/file", content=Inline(b"x\n")))
    site.apply()
    site.wants(WriteFile(path="/d/file", content=Inline(b"y\n")))
    site.apply()

    assert 0 == site.undo_last(2).exit_status
    assert before == site.tree()


def test_time_of_a_directory_reached_through_a_link(site: Site) -> None:
    """The directory behind a link in a path has its time back too, as the root behind many a merged directory."""
    site.path("/usr").mkdir()
    site.path("/lib").symlink_to("usr")
    os.utime(site.path("/usr"), ns=(1, 1_000_000_007))
    before = site.tree()
    site.wants(WriteFile(path="/lib/new", content=Inline(b"x")))
    run = site.apply()
    after = site.tree()

    site.undo()
    assert before == site.tree()
    site.redo(run.run)
    assert after == site.tree()
    site.run_undo_script(run.run)
    assert before == site.tree()


def test_a_link_that_is_replaced_after_it_was_used(site: Site) -> None:
    """What was written through a link is durable before the link leads elsewhere, be it to itself."""
    site.path("/d").mkdir()
    site.path("/e").symlink_to("d")
    before = site.tree()
    site.wants(WriteFile(path="/e/file", content=Inline(b"x")), MakeSymlink(path="/e", target="e"))

    assert 0 == site.apply().exit_status
    assert b"x" == site.path("/d/file").read_bytes()
    assert 0 == site.undo().exit_status
    assert before == site.tree()


def test_the_script_takes_setuid_off_a_directory(site: Site) -> None:
    """The undo script gives a directory its mode exactly: bits that ``chmod 755`` would leave go too."""
    site.path("/d").mkdir(0o755)
    before = site.tree()
    site.wants(MakeDirectory(path="/d", mode=0o6755))

    site.run_undo_script(site.apply().run)

    assert before == site.tree()
