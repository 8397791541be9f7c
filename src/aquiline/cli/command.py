"""A command as a value, and what it is given when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from aquiline.cli.terminal import Terminal

if TYPE_CHECKING:
    from aquiline.agent.session import Session

#: What each exit status says: a contract that scripts rely on.
EXIT_STATUS: dict[int, str] = {
    0: "done, or nothing to do",
    1: "error",
    2: "the command line makes no sense",
    3: "there is something to do (--exit-code), or still to do",
    10: "another process is changing this host",
    11: "an interrupted run was found, or a step is in doubt",
    12: "conflict: somebody changed what undo would restore",
    13: "a step that cannot be taken back was refused",
    14: "the plan is stale, or not the approved one",
    15: "a step or component failed, or coverage is reduced (--require-coverage)",
    16: "failed, and everything was taken back",
    17: "undo is incomplete: something stays",
    18: "applied, not yet confirmed",
    19: "reverted: nobody confirmed in time",
    20: "failed, and taking it back failed too",
    21: "the host is held or frozen",
    130: "interrupted",
}


class Example(msgspec.Struct, frozen=True):
    """A command line and what it is for."""

    line: str
    purpose: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a command is called, how it explains itself, what it does."""

    name: str
    #: Imperative, without full stop: the first line of its help.
    summary: str
    #: The hard parts, in paragraphs.
    explanation: str = ""
    examples: tuple[Example, ...] = ()
    #: The exit statuses it can have beside 0, 1, 2 and 130.
    statuses: tuple[int, ...] = ()
    add_arguments: Callable[[argparse.ArgumentParser], object] = lambda _parser: None
    #: Returns the exit status.
    run: Callable[[Invocation], int]


class Invocation:
    """One command being run."""

    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self.arguments = arguments
        self.terminal = terminal
        #: What is to be closed when the command ends.
        self.opened = ExitStack()

    @cached_property
    def session(self) -> Session:
        """The host that ``--root`` and ``--state`` say, opened on first use and closed when the command ends."""
        from aquiline.agent.session import Session
        from aquiline.changes.text import visible

        say = self.terminal.say
        return Session(self.arguments.root, self.arguments.state, say=lambda line: say(visible(line)))

    def close(self) -> None:
        """Close the session, if there is one, and whatever else was opened."""
        self.opened.close()
        if "session" in self.__dict__:
            self.session.__exit__()
