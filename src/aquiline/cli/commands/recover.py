"""``aquiline recover``: after a crash."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from aquiline.cli.command import Command, Example, Invocation

if TYPE_CHECKING:
    from aquiline.agent.recovering import Interruption

_HINT = "`aquiline recover` takes it back to how it was; `aquiline recover --finish` completes it"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from aquiline.cli.choices import add_choices

    way = parser.add_mutually_exclusive_group()
    way.add_argument("--undo", action="store_true", help="take the run back (this is the default)")
    way.add_argument("--finish", action="store_true", help="do what the run had still to do")
    way.add_argument("--dry-run", action="store_true", help="say what is known of every step and change nothing")
    parser.add_argument(
        "--assume", action="append", default=[], type=_assumption, metavar="[RUN/]STEP=done|not-done",
        help="what you know of a step that nothing here decides; RUN where several are open; may be repeated",
    )  # fmt: skip
    add_choices(parser)


def _assumption(text: str) -> tuple[str, int, Literal["done", "not-done"]]:
    name, _, said = text.partition("=")
    run, _, step = name.rpartition("/")
    if step.isdecimal() and step.isascii():
        if said == "done":
            return run, int(step), "done"
        if said == "not-done":
            return run, int(step), "not-done"
    raise argparse.ArgumentTypeError(f"{text!r}: expected STEP=done or RUN/STEP=not-done, as in 4=done")


def _run(invocation: Invocation) -> int:
    from aquiline.agent.preloading import preload
    from aquiline.agent.recovering import Assumed, interruptions, recover
    from aquiline.changes.text import visible
    from aquiline.cli.changing import StepReporter, fire_deadlines, stand_alone
    from aquiline.cli.choices import choices_of
    from aquiline.cli.parsing import refuse_unfit
    from aquiline.errors import Interrupted, RunInterrupted, UsageError

    arguments, terminal = invocation.arguments, invocation.terminal
    choices = choices_of(arguments)
    if arguments.dry_run:
        refuse_unfit(
            {"--assume": arguments.assume, "--skip, --force, --merge": [*choices]},
            because="--dry-run says what is known, and decides nothing",
            hint="leave one of them out",
        )
    session = invocation.session
    session.refuse_lost_journal()
    if arguments.dry_run:
        return _look(invocation)
    if choices and arguments.finish:
        raise UsageError("--skip, --force and --merge are for taking the run back, --finish is not")
    stand_alone(invocation)
    fire_deadlines(invocation)
    preload(later_stages=arguments.finish)
    try:
        recovered = recover(
            session, "finish" if arguments.finish else "undo",
            assumptions=[Assumed(step, what, run) for run, step, what in arguments.assume],
            choices=choices, on_step=StepReporter(terminal),
        )  # fmt: skip
    except RunInterrupted:
        for line in (line for found in interruptions(session) for line in _lines(found)):
            terminal.say(line)
        raise
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint="`aquiline recover` goes on from where it was") from None
    error = recovered.error
    if terminal.is_json:
        settled = [
            {"run": one.record.run, "step": one.record.number, "verdict": one.verdict, "why": one.why}
            for one in recovered.settled
        ]
        terminal.answer_json(
            {
                "exit_status": recovered.exit_status,
                "run": recovered.run,
                "status": recovered.status,
                "settled": settled,
                "stays": recovered.stays,
                "error": error.message if error is not None else "",
            }
        )
    else:
        terminal.answer(f"run {recovered.run}: {recovered.status}" if recovered.run else recovered.status)
        for one in recovered.stays:
            terminal.say(f"stays: step {one.step} of run {one.run}, {visible(one.description)}: {visible(one.reason)}")
    if error is not None:
        terminal.say(f"error: {error.message}\n\nhint: {error.hint or f'`aquiline show {recovered.run}` says more'}")
    return recovered.exit_status


def _look(invocation: Invocation) -> int:
    from aquiline.agent.recovering import interruptions
    from aquiline.errors import HostLocked

    terminal = invocation.terminal
    holder = invocation.session.state.lock_holder()
    if holder is not None:
        who = f"{holder.purpose} (pid {holder.pid}, user {holder.user})"
        raise HostLocked(f"{who} is under way: nothing is known before it ends", hint="`aquiline status` says more")
    found = interruptions(invocation.session)
    if terminal.is_json:
        terminal.answer_json([_as_json(one) for one in found])
    elif not found:
        terminal.answer("nothing to recover")
    else:
        terminal.answer("\n".join(line for one in found for line in _lines(one)))
        terminal.say(f"\nhint: {_HINT}")
    return 11 if found else 0


def _lines(found: Interruption) -> Iterator[str]:
    from aquiline.cli.changing import when

    done = sum(1 for one in found.steps if one.status in ("done", "assumed-done"))
    run = found.run
    yield f"run {run.id} ({run.header.kind}, {when(run.header.started)}): {done} of {run.steps} steps done"
    for one in found.steps:
        settled = found.verdicts.get(one.number)
        known = f"{settled.verdict}: {settled.why}" if settled is not None else one.status
        yield f"{one.number:>5} {one.component}: {one.description}\n      {known}"


def _as_json(found: Interruption) -> dict[str, object]:
    def known(number: int, status: str) -> dict[str, object]:
        settled = found.verdicts.get(number)
        if settled is None:
            return {"step": number, "status": status, "verdict": status, "why": ""}
        return {"step": number, "status": status, "verdict": settled.verdict, "why": settled.why}

    steps = [known(one.number, one.status) | {"description": one.description} for one in found.steps]
    return {"run": found.run.id, "kind": found.run.header.kind, "steps": steps}


COMMANDS = (
    Command(
        name="recover",
        summary="Bring an interrupted run to its end: take it back, or finish it",
        explanation="""
            After a crash every step is known as done or not done by comparing the host with what the step found and
            what it leaves. A command whose effect cannot be seen is in doubt; nothing is done then, every step is
            listed, and --assume says what you know. A crash inside recovery is recovered the same way. It leaves two
            runs open: where both have a step of that number, RUN/STEP says which is meant.

            What cannot be taken back stays and is listed; the run ends then all the same, with 17, as partly undone,
            and others may start. Where a step of the undo fails the run stays open: recover again, or finish it, or
            correct that undo with `aquiline amend`.
        """,
        examples=(
            Example("aquiline recover --dry-run", "what is known of every step"),
            Example("aquiline recover", "take the run back to how it was"),
            Example("aquiline recover --finish --assume 4=done", "complete it; step 4 had been done"),
        ),
        statuses=(10, 11, 12, 15, 17, 18),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
