"""What needs a running system, below a root that is none."""

from __future__ import annotations

from aquiline.agent.exporting import export
from aquiline.changes.kinds import Inline, ReactCommand, ReactUnit, WriteFile
from aquiline.changes.render import render_plan
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
