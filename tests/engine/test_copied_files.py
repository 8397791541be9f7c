"""Files that are copies of other files of the host."""

from __future__ import annotations

import pytest

from aquiline.agent import applying
from aquiline.changes.kinds import CopyOf, Inline, Remove, WriteFile
from aquiline.errors import PlanStale
from aquiline.host.objects import RegularFile
from aquiline.planning.component import View, Yielded

from .site import Site


def write(path: str, text: str) -> WriteFile:
    """Return a change that writes a small file."""
    return WriteFile(path=path, content=Inline(text.encode()))


def copy(view: View, source: str, path: str) -> WriteFile:
    """Return a change that makes `path` a copy of what will stand at `source`."""
    found = view.object(source)
    assert isinstance(found, RegularFile)
    return WriteFile(path=path, content=CopyOf(path=source, sha256=found.sha256, size=found.size))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_copy_of_what_the_same_plan_writes(site: Site, is_there: bool) -> None:
    """A copy holds what its source holds when it is made: what an earlier step of the plan wrote."""
    if is_there:
        site.path("/source").write_text("old")

    def yields(view: View) -> list[Yielded]:
        return [write("/source", "new"), write("/d/source", "newer")]

    site.computes(yields, name="one")
    site.computes(lambda view: [copy(view, "/source", "/a"), copy(view, "/d/source", "/b")], name="two", pre=("one",))
    before = site.tree()

    assert 0 == site.apply().exit_status
    assert ("new", "newer") == (site.path("/a").read_text(), site.path("/b").read_text())
    assert () == site.plan().steps
    site.undo()
    assert before == site.tree()


def test_a_copy_of_what_the_same_plan_changes_later(site: Site) -> None:
    """A copy holds what its source held before a later step wrote or removed it, for components after it too."""
    site.path("/source").write_text("old")
    site.path("/other").write_text("old")
    site.computes(lambda view: [copy(view, "/source", "/a"), copy(view, "/other", "/b")], name="one")
    site.wants(write("/source", "new"), Remove(path="/other"), name="two", pre=("one",))
    site.computes(lambda view: [write("/c", f"{view.read('/a')!r}")], name="three", pre=("two",))

    assert 0 == site.apply().exit_status
    assert ["old", "old", "b'old'"] == [site.path(path).read_text() for path in ("/a", "/b", "/c")]


def test_a_saved_plan_whose_source_changed_is_stale(site: Site) -> None:
    """A plan that copies a file is refused, whole, where that file is another since."""
    site.path("/source").write_text("old")
    site.computes(lambda view: [write("/first", "x"), copy(view, "/source", "/a")], name="one")
    saved = applying.plan_to_save(site.session, site.profile())
    site.path("/source").write_text("new")

    with pytest.raises(PlanStale, match="/source"):
        site.apply(saved=saved)
    assert not site.path("/first").exists()
