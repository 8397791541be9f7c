"""``aquiline plan``: a dry-run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.changes.steps import Plan
    from aquiline.errors import AquilineError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile: .json, .json.gz, .yaml or .yml")
    parser.add_argument(
        "--out", metavar="FILE", help="save the plan; `aquiline apply FILE` does exactly this or refuses"
    )
    parser.add_argument(
        "--component", action="append", default=[], metavar="NAME", help="plan only this component; may be repeated"
    )
    parser.add_argument("--exit-code", action="store_true", help="exit with 3 when there is something to do")
    parser.add_argument("--require-coverage", action="store_true", help="exit with 15 when not all can be foreseen")


def _run(invocation: Invocation) -> int:
    from aquiline.agent.applying import plan_to_save
    from aquiline.changes.render import plan_as_json, render_plan
    from aquiline.profile import load

    arguments, terminal, session = invocation.arguments, invocation.terminal, invocation.session
    saved = plan_to_save(session, load(arguments.profile), only=arguments.component)
    plan = saved.plan
    if arguments.out:
        from aquiline.cli.saving import save

        save(saved, arguments.out)
        terminal.say(f"saved to {arguments.out}: it holds the content to be written, secrets included")
    if terminal.is_json:
        terminal.answer_json(plan_as_json(plan))
    else:
        terminal.answer(render_plan(plan, contents=session.content))
    if any(report.state == "failed" for report in plan.components.values()):
        return 15
    if arguments.require_coverage and is_reduced(plan):
        terminal.say(f"error: {reduced(plan).message}")
        return 15
    return 3 if arguments.exit_code and has_work(plan) else 0


def has_work(plan: Plan) -> bool:
    """Return whether there is something to do, foreseen or not."""
    return bool(plan.steps) or any(report.state == "deferred" for report in plan.components.values())


def is_reduced(plan: Plan) -> bool:
    """Return whether the plan does not foresee everything."""
    return bool(plan.coverage.reduced_by) or plan.coverage.predicted < plan.coverage.steps


def reduced(plan: Plan) -> AquilineError:
    """Return the refusal of a plan that does not foresee everything."""
    from aquiline.errors import StepFailed

    reasons = "; ".join(plan.coverage.reduced_by[:3])
    return StepFailed(
        f"{plan.coverage.predicted} of {plan.coverage.steps} steps are predicted" + (f": {reasons}" if reasons else ""),
        hint="without --require-coverage this is no error",
    )


COMMANDS = (
    Command(
        name="plan",
        summary="Show what a profile would do to this host",
        explanation="""
            A dry-run is the same plan that a live run executes; nothing is written anywhere. What cannot be
            foreseen (the effect of a command, say) is marked unknown and counted under coverage, with what depends
            on it: a plan with unknowns never looks clean.

            Every plan is of the whole profile. A component with dispatch: false is planned only when it is named.

            A saved plan holds what is to be written, secrets included, so its file can be read by its owner alone.
            It is good once: after any other run, or where the host differs from what was planned for, it is refused
            as stale.
        """,
        examples=(
            Example(
                "aquiline plan /etc/aquiline/profile.json", "what would happen, with diffs and the undo of every step"
            ),
            Example("aquiline plan profile.yaml --out plan && aquiline apply plan", "look first, then do exactly that"),
            Example("aquiline plan profile.json --exit-code >/dev/null || echo drift", "for a monitoring check"),
        ),
        statuses=(3, 15),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
