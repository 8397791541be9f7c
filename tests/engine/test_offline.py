"""What needs a running system, below a root that is none."""

from __future__ import annotations

import pytest

from aquiline.agent import undoing
from aquiline.agent.exporting import export
from aquiline.changes.kinds import Inline, ReactCommand, ReactUnit, WriteFile
from aquiline.changes.render import render_plan
from aquiline.execution.undo import UndoPlan
from aquiline.host.real import RealHost
from aquiline.planning.component import Task

from .site import Site

TASK = Task(
    description="configure",
    changes=(WriteFile(path="/etc/x", content=Inline(b"x")),),
    reactions=(ReactUnit(unit="x.service", action="restart"), ReactCommand(argv=("/bin/x",))),
)


def test_the_plan_says_that_a_reaction_is_not_run(site: Site) -> None:
    """A reaction that an offline root cannot have is said not to run, lowers coverage, and is nobody's surprise."""
    (site.root / "etc").mkdir()
    site.wants(TASK)

    plan = site.plan()

    assert [(), ("offline: not run",), ("offline: not run",)] == [step.because for step in plan.steps]
    assert ("step 2, restart x.service: offline: not run", 'step 3, run "/bin/x": offline: not run') == (
        plan.coverage.reduced_by
    )
    assert "! restarts" not in render_plan(plan)


def test_the_run_is_as_predicted(site: Site) -> None:
    """A reaction that was not run because the plan said so is no difference between prediction and effect."""
    (site.root / "etc").mkdir()
    site.wants(TASK)
    run = site.apply()

    (found,) = export(site.session, run.run).effects

    assert () == found.differ
    assert found.predicted == found.actual


def _preview(site: Site) -> UndoPlan:
    with site.session.reading() as journal:
        runs = undoing.select(site.session, journal, None)
    return undoing.preview(site.session, runs)


def test_undo_says_which_reactions_are_not_run(site: Site) -> None:
    """The preview of an undo has the reactions that an offline root cannot have, and they lower coverage there too."""
    (site.root / "etc").mkdir()
    site.wants(TASK)
    site.apply()

    plan = _preview(site).plan

    assert ["remove /etc/x", "restart x.service", 'run "/bin/x"'] == [step.description for step in plan.steps]
    assert [(), ("offline: not run",), ("offline: not run",)] == [step.because for step in plan.steps]
    assert ("step 2, restart x.service: offline: not run", 'step 3, run "/bin/x": offline: not run') == (
        plan.coverage.reduced_by
    )

    again = site.redo(site.undo().runs[0])
    assert ["done", "skipped", "skipped"] == site.statuses(again.run)


def test_an_image_that_was_started_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a root did not run while it was offline is run by an undo once it is a running system."""
    (site.root / "etc").mkdir()
    site.wants(TASK)
    site.apply()
    monkeypatch.setattr(RealHost, "offline", False)

    plan = _preview(site).plan

    assert [("remove /etc/x", ()), ("restart x.service", ()), ('run "/bin/x"', ())] == [
        (step.description, step.because) for step in plan.steps
    ]


def test_nothing_is_told_twice(site: Site) -> None:
    """Where the file was taken back already, what was not run is nobody's any more: there is nothing left to undo."""
    (site.root / "etc").mkdir()
    site.wants(TASK)
    run = site.apply()
    site.undo()

    with site.session.reading() as journal:
        left = undoing.to_take_back(journal, [journal.run(run.run)])

    assert [] == left


def test_root_and_numbers_own_files_before_there_are_account_files(site: Site) -> None:
    """An empty image has no passwd yet: root and numbers are known, a name that nobody has is refused."""
    owned: tuple[tuple[str | int, str | int], ...] = (
        ("root", "root"),
        ("0", "0"),
        ("1234", "root"),
        (1234, 5678),
    )
    site.wants(
        *(
            WriteFile(path=f"/etc/{number}", content=Inline(b"x"), owner=owner, group=group)
            for number, (owner, group) in enumerate(owned)
        )
    )
    site.wants(WriteFile(path="/etc/other", content=Inline(b"x"), owner="ada"), name="two")
    before = site.tree()

    assert "no such user 'ada'" in site.plan().components["two"].detail
    run = site.apply().run

    found = [site.path(f"/etc/{number}").stat() for number in range(len(owned))]
    assert [(0, 0), (0, 0), (1234, 0), (1234, 5678)] == [(one.st_uid, one.st_gid) for one in found]
    site.undo(run)
    assert before == site.tree()
