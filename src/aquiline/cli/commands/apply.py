"""``aquiline apply``: a live run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aquiline.cli.command import Command, Example, Invocation
from aquiline.cli.parsing import duration

if TYPE_CHECKING:
    from aquiline.agent.applying import RunEnded, SavedPlan
    from aquiline.agent.supervising import Supervisor
    from aquiline.changes.steps import Plan
    from aquiline.profile import Profile


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="PROFILE|PLAN", help="a profile, or a plan that `aquiline plan --out` saved")
    parser.add_argument(
        "--on-failure",
        choices=("stop", "undo"),
        default="stop",
        help="when a step fails: stop there, or take the run back",
    )
    parser.add_argument("--allow-irreversible", action="store_true", help="do steps that have no undo too")
    parser.add_argument(
        "--confirm-within", type=duration, default=0.0, metavar="TIME",
        help="take the run back unless `aquiline confirm` comes within TIME (90s, 10m, 2h)",
    )  # fmt: skip
    parser.add_argument(
        "--change-id",
        action="append",
        default=[],
        metavar="ID",
        help="the change that this run brings; may be repeated",
    )
    parser.add_argument(
        "--require-coverage", action="store_true", help="refuse a plan that does not foresee everything"
    )


def _run(invocation: Invocation) -> int:
    import msgspec

    from aquiline.agent import supervising
    from aquiline.agent.applying import apply
    from aquiline.agent.preloading import preload
    from aquiline.cli.changing import StepReporter, fire_deadlines, stand_alone
    from aquiline.cli.commands.plan import is_reduced, reduced
    from aquiline.cli.stopping import Stopping

    arguments, terminal = invocation.arguments, invocation.terminal
    profile, saved = _read(arguments.what)
    stand_alone(invocation)
    fire_deadlines(invocation)
    supervisor = supervising.start(arguments.root, arguments.state) if arguments.confirm_within else None
    report = StepReporter(terminal)
    with Stopping() as stopping:

        def on_plan(plan: Plan) -> None:
            if arguments.require_coverage and is_reduced(plan):
                raise reduced(plan)
            preload(later_stages=any(one.state == "deferred" for one in plan.components.values()))
            report.expect(len(plan.steps))
            stopping.take()

        def before_first_step(run: str) -> None:
            if supervisor is not None:
                _watch(invocation, supervisor, run)

        try:
            ended = apply(
                invocation.session, profile, saved=saved,
                on_failure=arguments.on_failure, allow_irreversible=arguments.allow_irreversible,
                confirm_within=arguments.confirm_within, change_ids=tuple(arguments.change_id),
                on_step=report, on_plan=on_plan, before_first_step=before_first_step, is_stopped=stopping,
            )  # fmt: skip
        finally:
            if supervisor is not None:
                supervisor.dismiss()
    if stopping() and ended.exit_status == 15:
        # The step failed because its command was killed on request.
        ended = msgspec.structs.replace(ended, exit_status=130)
    _say(invocation, ended)
    return ended.exit_status


#: Of a component in one of these states nothing is done, without anybody's fault.
_NOT_HERE = ("missing", "not-possible-here")


def _read(what: str) -> tuple[Profile, SavedPlan | None]:
    from aquiline.cli.saving import is_saved_plan, load_saved
    from aquiline.profile import Profile, load

    if not is_saved_plan(what):
        return load(what), None
    saved = load_saved(what)
    return Profile(tree=saved.profile, given_name=saved.name), saved


def _watch(invocation: Invocation, supervisor: Supervisor, run: str) -> None:
    from aquiline.agent.supervising import start_timer

    supervisor.watch(run)
    arguments = invocation.arguments
    start_timer(run, arguments.confirm_within, arguments.root, str(invocation.session.state.path))


def _say(invocation: Invocation, ended: RunEnded) -> None:
    terminal = invocation.terminal
    if terminal.is_json:
        terminal.answer_json(_as_json(ended))
    elif not ended.run:
        terminal.answer("\n".join(["nothing to do", *_left_out(ended), *_notes(ended)]))
    else:
        terminal.answer("\n".join(_summary(invocation, ended)))
    if ended.error is not None:
        where = f"step {ended.failed.number}, {ended.failed.description}: " if ended.failed is not None else ""
        hint = ended.error.hint or f"`aquiline show {ended.run}` says more"
        terminal.say(f"error: {where}{ended.error.message}\n\nhint: {hint}")


def _summary(invocation: Invocation, ended: RunEnded) -> list[str]:
    run = ended.run
    match ended.status:
        case "done":
            lines = [f"run {run}: done", *_left_out(ended), *_notes(ended)]
        case "partial":
            lines = [f"run {run}: done in part", *_left_out(ended), *_left(ended)]
        case "failed" if ended.exit_status == 130:
            lines = [f"run {run}: interrupted"]
        case _:
            lines = [f"run {run}: {ended.status}" + (f" by run {ended.undo_run}" if ended.undo_run else "")]
    if ended.exit_status == 16:
        return lines
    if ended.exit_status == 20:
        return [
            *lines,
            f"`aquiline undo {run}` tries again; `aquiline script {run} --undo` prints the way back by hand",
        ]
    if invocation.arguments.confirm_within:
        from aquiline.cli.changing import span

        within = span(invocation.arguments.confirm_within)
        lines.append(f"`aquiline confirm {run}` keeps it; otherwise it is taken back {within} after it began")
    lines.append(f"`aquiline undo {run}` takes it back")
    return lines


def _left_out(ended: RunEnded) -> list[str]:
    """Return the components of which nothing was done although the profile wants it, and why."""
    components = ended.plan.components if ended.plan is not None else {}
    lines: list[str] = []
    for states, title in ((("failed",), "components that failed:"), (_NOT_HERE, "components that cannot be had here:")):
        found = [
            f"  {name}: {one.detail or one.state}" for name, one in sorted(components.items()) if one.state in states
        ]
        lines += [title, *found] if found else []
    return lines


def _notes(ended: RunEnded) -> list[str]:
    """Return the notes of a plan without steps: often they say why it has none."""
    if ended.plan is None or ended.plan.steps or not ended.plan.notes:
        return []
    from aquiline.changes.text import visible

    return ["notes:", *(f"  {visible(note)}" for note in ended.plan.notes)]


def _left(ended: RunEnded) -> list[str]:
    """Return what the next run is to do, and why this one did not."""
    if not ended.left:
        return []
    return [
        "it changed aquiline itself, so it ended there; for the aquiline that is here now it leaves:",
        *(f"  {name}" for name in ended.left),
        "`aquiline apply` with the same profile goes on",
    ]


def _as_json(ended: RunEnded) -> dict[str, object]:
    failed, error = ended.failed, ended.error
    return {
        "exit_status": ended.exit_status,
        "run": ended.run,
        "status": ended.status,
        "digest": ended.plan.digests.plan if ended.plan is not None else "",
        "components": {n: r.state for n, r in sorted(ended.plan.components.items())} if ended.plan is not None else {},
        "failed": {"step": failed.number, "description": failed.description} if failed is not None else None,
        "error": error.message if error is not None else "",
        "hint": error.hint if error is not None else "",
        "undo_run": ended.undo_run,
        "left": ended.left,
    }


COMMANDS = (
    Command(
        name="apply",
        summary="Bring this host to a profile, or apply a saved plan",
        explanation="""
            The undo of every step is on disk before the step is made: in the journal, and as a plain shell script
            that needs neither this program nor Python (`aquiline script RUN --undo`).

            A step that fails stops the run; what was done stays and can be taken back. A component that fails is
            left out whole and the others are done. Ctrl-C stops between two steps: the run can be taken back like
            any other; a second one kills the command that is running.

            With --confirm-within the run is taken back by a process that outlives this one, even if this one is
            killed or the host is rebooted, unless `aquiline confirm` comes in time. Until then no other run starts.
        """,
        examples=(
            Example("aquiline apply /etc/aquiline/profile.json", "bring this host to its profile"),
            Example("aquiline apply profile.json --on-failure undo", "all or nothing"),
            Example("aquiline apply network.json --confirm-within 5m", "come back by itself when it locked you out"),
        ),
        statuses=(3, 10, 11, 13, 14, 15, 16, 18, 20, 21),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
