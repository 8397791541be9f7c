"""Files that are copies of other files, and files overwritten in place."""

from __future__ import annotations

import os

import pytest

from aquiline.changes.kinds import CopyOf, Inline, MakeSymlink, WriteFile
from aquiline.host.objects import sha256

from .site import Site


def copy_of(path: str, content: bytes) -> CopyOf:
    """Return the content of another file, which is this."""
    return CopyOf(path, sha256(content), len(content))


class TestCopies:
    def test_of_a_file_that_is_itself_made(self, site: Site) -> None:
        """A copy of what an earlier step of the plan makes is a copy of that, on plan and on disk."""
        site.wants(
            WriteFile(path="/one", content=Inline(b"new\n")),
            WriteFile(path="/two", content=copy_of("/one", b"new\n")),
        )
        site.computes(
            lambda view: [WriteFile(path="/three", content=Inline(view.read("/two") or b""))], name="two", pre=("one",)
        )

        assert 0 == site.apply().exit_status
        assert b"new\n" == site.path("/two").read_bytes() == site.path("/three").read_bytes()

    def test_of_a_file_that_is_replaced_later(self, site: Site) -> None:
        """A copy is of the content that the other had when the step was planned, not of what comes after."""
        site.path("/one").write_bytes(b"old\n")
        site.wants(
            WriteFile(path="/two", content=copy_of("/one", b"old\n")),
            WriteFile(path="/one", content=Inline(b"new\n")),
        )
        site.computes(
            lambda view: [WriteFile(path="/three", content=Inline(view.read("/two") or b""))], name="two", pre=("one",)
        )

        assert 0 == site.apply().exit_status
        assert b"old\n" == site.path("/two").read_bytes() == site.path("/three").read_bytes()


class TestInPlace:
    wanted = WriteFile(path="/it", content=Inline(b"new\n"), in_place=True)

    def test_where_nothing_is(self, site: Site) -> None:
        """A file to be overwritten that is not there is made like any other, and taken away again."""
        before = site.tree()
        site.wants(self.wanted)

        assert 0 == site.apply().exit_status
        assert b"new\n" == site.path("/it").read_bytes()
        site.undo()
        assert before == site.tree()

    def test_where_a_link_is(self, site: Site) -> None:
        """A link is replaced: what it leads to is not overwritten through it."""
        site.path("/other").write_bytes(b"other\n")
        site.path("/it").symlink_to("other")
        before = site.tree()
        site.wants(self.wanted)

        assert 0 == site.apply().exit_status
        assert b"other\n" == site.path("/other").read_bytes()
        site.undo()
        assert before == site.tree()

    def test_where_it_has_other_names(self, site: Site) -> None:
        """It would change under names that the plan does not show: refused in the plan."""
        site.path("/it").write_bytes(b"old\n")
        os.link(site.path("/it"), site.path("/other"))
        site.wants(self.wanted)

        assert "failed" == site.plan().components["one"].state
        assert "all its 2 names" in site.plan().components["one"].detail

    def test_undo_overwrites_too(self, site: Site) -> None:
        """What was overwritten keeps its inode all the way back, as a mount point must, and forth again."""
        site.path("/it").write_bytes(b"old\n")
        before, inode = site.tree(), site.path("/it").stat().st_ino
        site.wants(self.wanted)

        run = site.apply()
        assert inode == site.path("/it").stat().st_ino
        site.undo()
        assert inode == site.path("/it").stat().st_ino
        assert before == site.tree()
        site.redo(run.run)
        assert inode == site.path("/it").stat().st_ino
        assert b"new\n" == site.path("/it").read_bytes()

    def test_content_of_another_file(self, site: Site) -> None:
        """Overwriting takes its content from wherever a change may have it."""
        site.path("/it").write_bytes(b"old\n")
        site.path("/other").write_bytes(b"other\n")
        site.wants(WriteFile(path="/it", content=copy_of("/other", b"other\n"), in_place=True))

        assert 0 == site.apply().exit_status
        assert b"other\n" == site.path("/it").read_bytes()

    def test_later_components_see_it(self, site: Site) -> None:
        """What is overwritten is seen by those after it."""
        site.path("/it").write_bytes(b"old\n")
        site.wants(self.wanted)
        site.computes(
            lambda view: [WriteFile(path="/seen", content=Inline(view.read("/it") or b""))], name="two", pre=("one",)
        )

        site.apply()

        assert b"new\n" == site.path("/seen").read_bytes()


@pytest.mark.parametrize("target", ["it", "./it", "/it"])
def test_script_restores_a_link_to_itself(site: Site, target: str) -> None:
    """A link that leads to its own place is put back by the script too, where a file took that place."""
    site.path("/it").symlink_to(target)
    before = site.tree()
    site.wants(WriteFile(path="/it", content=Inline(b"new\n")))
    run = site.apply()
    site.run_undo_script(run.run)

    assert before == site.tree()


def test_script_removes_a_link_to_itself(site: Site) -> None:
    """A link that leads to its own place is no obstacle to what stood there before."""
    site.path("/it").write_bytes(b"old\n")
    before = site.tree()
    site.wants(MakeSymlink(path="/it", target="it"))
    run = site.apply()
    site.run_undo_script(run.run)

    assert before == site.tree()
