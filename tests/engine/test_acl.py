"""A mode and an ACL hold the same permissions: changing one changes the other, in the plan as on the host."""

from __future__ import annotations

import os

import pytest

from aquiline.changes.kinds import Change, Inline, SetMetadata, WriteFile
from aquiline.host.acl import attribute, with_mode
from aquiline.host.objects import RegularFile

from .site import Site

ACL = "system.posix_acl_access"


def changes(site: Site) -> dict[str, Change]:
    """Return changes of a file that has an ACL already."""
    other = attribute("u:9:rwx,m::r-x", 0o604, site.session.host.accounts)
    return {
        "mode": SetMetadata(path="/it", mode=0o600),
        "mode-and-content": WriteFile(path="/it", content=Inline(b"new"), mode=0o4711),
        "mode-of-the-same-content": WriteFile(path="/it", content=Inline(b"old"), mode=0o640),
        "acl": SetMetadata(path="/it", xattrs=((ACL, other),)),
        "both": SetMetadata(path="/it", mode=0o640, xattrs=((ACL, other),)),
        "neither": WriteFile(path="/it", content=Inline(b"new")),
        "in-place": WriteFile(path="/it", content=Inline(b"new"), mode=0o600, in_place=True),
        "none-left": SetMetadata(path="/it", mode=0o600, xattrs=()),
    }


@pytest.mark.parametrize("name", sorted(["mode", "mode-and-content", "mode-of-the-same-content", "acl", "both",
                                         "neither", "in-place", "none-left"]))  # fmt: skip
def test_plan_and_host_agree(site: Site, name: str) -> None:
    """What is planned is what stands there afterwards; so undo finds no conflict, and gives the tree before."""
    site.path("/it").write_bytes(b"old")
    os.setxattr(site.path("/it"), ACL, attribute("u:7:rw-", 0o644, site.session.host.accounts))
    before = site.tree()
    site.wants(changes(site)[name])
    run = site.apply()
    assert run.plan is not None
    wanted, found = run.plan.steps[0].after[0].object, site.session.host.observe("/it")

    assert isinstance(wanted, RegularFile)
    assert isinstance(found, RegularFile)
    assert (wanted.metadata.mode, wanted.metadata.xattrs) == (found.metadata.mode, found.metadata.xattrs)
    assert () == site.plan().steps
    assert 0 == site.undo().exit_status
    assert before == site.tree()
    site.redo(run.run)
    site.run_undo_script(run.run)
    assert before == site.tree()


@pytest.mark.parametrize("text", ["u:7:rw-", "g:8:rwx,m::---"])
@pytest.mark.parametrize("mode", [0o600, 0o751, 0o000])
def test_as_the_kernel_does(site: Site, text: str, mode: int) -> None:
    """An ACL with another mode is what the kernel makes of it."""
    value = attribute(text, 0o644, site.session.host.accounts)
    site.path("/it").write_bytes(b"")
    os.setxattr(site.path("/it"), ACL, value)
    site.path("/it").chmod(mode)

    assert os.getxattr(site.path("/it"), ACL) == with_mode(value, mode)
