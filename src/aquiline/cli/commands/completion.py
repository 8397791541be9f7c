"""``aquiline completion``: what a shell needs to complete command lines."""

from __future__ import annotations

import argparse

from aquiline.cli.command import Command, Example, Invocation


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _run(invocation: Invocation) -> int:
    from aquiline.cli.shells import completion

    invocation.terminal.answer(completion(invocation.arguments.shell))
    return 0


COMMANDS = (
    Command(
        name="completion",
        summary="Print what a shell needs to complete command lines",
        explanation="Commands, options and, where a command takes one, the ids of the runs in this host's journal.",
        examples=(
            Example("aquiline completion bash > /etc/bash_completion.d/aquiline", "for every user of bash"),
            Example("aquiline completion fish > ~/.config/fish/completions/aquiline.fish", "for one user of fish"),
        ),
        add_arguments=_add_arguments,
        run=_run,
    ),
)
