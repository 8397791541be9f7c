"""From a command line to an exit status: no foreseeable error reaches a person as a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from aquiline.cli.command import Invocation
from aquiline.cli.parsing import Parser, command_named, overview, split
from aquiline.cli.terminal import Terminal
from aquiline.errors import AquilineError


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` say; return its exit status."""
    terminal = Terminal(sys.stdout, sys.stderr, is_json="--json" in arguments)
    try:
        return _run(arguments, terminal)
    except AquilineError as error:
        return refuse(terminal, error.message, error.hint, error.exit_status)
    except KeyboardInterrupt:
        return refuse(terminal, "interrupted", "", 130)
    except BrokenPipeError:
        # Whoever read us has gone: nobody is there to be told. Python would complain while it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return refuse(terminal, f"{place}{error.strerror or error}", _hint_for(error), 1)
    except Exception as error:  # noqa: BLE001  # the last resort: a bug is said to be one
        return refuse(
            terminal, f"this is a bug in aquiline: {_where(error)}", "please report it, with the command line", 1
        )


def _run(arguments: Sequence[str], terminal: Terminal) -> int:
    name, rest = split(arguments)
    if not name and "--version" not in rest:
        is_asked = "--help" in rest or "-h" in rest
        (terminal.answer if is_asked else terminal.say)(overview().rstrip())
        return 0 if is_asked else 2
    parser = Parser(command_named(name or "status"))
    try:
        parsed = parser.parse_args(rest)
    except SystemExit as exit_:  # --help and --version have been answered
        return int(exit_.code or 0)
    terminal.is_json = parsed.is_json
    invocation = Invocation(parsed, terminal)
    try:
        return parser.command.run(invocation)
    finally:
        invocation.close()


def refuse(terminal: Terminal, message: str, hint: str, exit_status: int) -> int:
    """Say what went wrong and what to do about it; return `exit_status`."""
    with contextlib.suppress(BrokenPipeError):
        terminal.say(f"error: {message}" + (f"\n\nhint: {hint}" if hint else ""))
        if terminal.is_json and not terminal.has_answered:
            terminal.answer_json({"error": message, "hint": hint, "exit_status": exit_status})
    return exit_status


def _hint_for(error: OSError) -> str:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return "the journal of a host is its owner's alone: run this as root, or give another place with --state"
    return ""


def _where(error: Exception) -> str:
    """Return what an unforeseen error says and the place in the code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
