"""``aquiline confirm``: keep a run that waits for confirmation."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("selector", nargs="?", metavar="RUN", help="the run to keep (default: the one that waits)")
    parser.add_argument(
        "--expired",
        action="store_true",
        help="confirm nothing: take back what is over time, and write down how much is",
    )


def _run(invocation: Invocation) -> int:
    from aquiline.agent.recovering import confirm, reverted_already
    from aquiline.cli.changing import fire_deadlines, say_reverted

    arguments, terminal = invocation.arguments, invocation.terminal
    if arguments.expired:
        return _fire(invocation)
    reverted = fire_deadlines(invocation)
    if arguments.selector is not None:
        reverted = [one for one in reverted if one.run.startswith(arguments.selector)]
    if not reverted:
        reverted = reverted_already(invocation.session, arguments.selector)
        say_reverted(invocation, reverted)
    if reverted:
        if terminal.is_json:
            terminal.answer_json({"exit_status": 19, "reverted": reverted})
        return 19
    run = confirm(invocation.session, arguments.selector)
    if terminal.is_json:
        terminal.answer_json({"exit_status": 0, "run": run})
    else:
        terminal.answer(f"run {run}: confirmed\n`aquiline undo {run}` takes it back")
    return 0


def _fire(invocation: Invocation) -> int:
    from aquiline.agent.recovering import revert_expired

    reverted = revert_expired(invocation.session)
    if invocation.terminal.is_json:
        invocation.terminal.answer_json({"exit_status": 19 if reverted else 0, "reverted": reverted})
    else:
        lines = [f"run {one.run} was not confirmed in time: it has been taken back" for one in reverted]
        lines += [f"left as somebody changed it since: {path}" for one in reverted for path in one.skipped]
        invocation.terminal.answer("\n".join(lines))
    return 19 if reverted else 0


COMMANDS = (
    Command(
        name="confirm",
        summary="Keep a run that waits for confirmation",
        explanation="""
            A run that was applied with --confirm-within is taken back unless this comes in time. Who comes too late
            is told so: the run has been taken back, and the exit status is 19. `aquiline undo RUN` takes it back at
            once.

            With --expired nothing is confirmed: what is over time is taken back, for a timer or a boot unit. Time
            is counted while the machine is up, over reboots, and no clock that jumps changes that.
        """,
        examples=(
            Example("aquiline confirm", "keep it"),
            Example("aquiline confirm --expired", "as the units in packaging/systemd do, at boot and now and then"),
        ),
        statuses=(10, 11, 19),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
