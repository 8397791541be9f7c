"""``aquiline freeze`` and ``aquiline thaw``: no run starts on this host."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever meets it")


def _freeze(invocation: Invocation) -> int:
    invocation.session.freeze(invocation.arguments.reason)
    _answer(invocation, "frozen: no run starts here\n`aquiline thaw` lifts it", is_frozen=True)
    return 0


def _thaw(invocation: Invocation) -> int:
    invocation.session.thaw()
    _answer(invocation, "not frozen", is_frozen=False)
    return 0


def _answer(invocation: Invocation, text: str, *, is_frozen: bool) -> None:
    if invocation.terminal.is_json:
        invocation.terminal.answer_json({"frozen": is_frozen})
    else:
        invocation.terminal.answer(text)


COMMANDS = (
    Command(
        name="freeze",
        summary="Let no run start on this host",
        explanation="""
            apply, undo and redo are refused with exit status 21 until `aquiline thaw`, and say who froze the host,
            since when and why. A run that is under way goes on. A run that nobody confirms in time is taken back
            all the same, and recovery after a crash works.
        """,
        examples=(Example('aquiline freeze --reason "disk being replaced, ask Ada"', "keep the host as it is"),),
        add_arguments=_add_reason,
        run=_freeze,
    ),
    Command(
        name="thaw",
        summary="Lift a freeze",
        explanation="Not being frozen is success. A freeze in the host's policy file is lifted there.",
        examples=(Example("aquiline thaw", "let runs start again"),),
        run=_thaw,
    ),
)
