"""Command lines: read, and explained in help texts that end with the exit statuses."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn

from aquiline import __version__
from aquiline.cli.command import EXIT_STATUS, Command
from aquiline.cli.listing import MODULES
from aquiline.errors import UsageError

_ALWAYS = (0, 1, 2, 130)
_WITH_VALUE = ("--root", "--state", "--broker", "--token-file", "--ca-file")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """The parser of one command; raises `UsageError` where argparse would exit."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            prog=f"aquiline {command.name}",
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=_WIDTH),
        )
        self.command = command
        command.add_arguments(self)
        add_global_options(self)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(message, hint=f"`{self.prog} --help`")

    def format_help(self) -> str:
        """Return the help text: what it does first, its exit statuses last."""
        return explained(self.command, super().format_help())


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command knows, before and after its name."""
    group = parser.add_argument_group("global options")
    group.add_argument("--root", default="/", metavar="DIR", help="work on the host below this directory (default /)")
    group.add_argument(
        "--state", metavar="DIR", help="where journal and pre-images are (default /var/lib/aquiline below the root)"
    )
    group.add_argument("--json", action="store_true", dest="is_json", help="answer in JSON")
    group.add_argument("--version", action="version", version=f"aquiline {__version__}", help="say the version")


def explained(command: Command, usage: str) -> str:
    """Return a help text around what argparse says of usage and options."""
    parts = [command.summary]
    parts += [textwrap.fill(paragraph, _WIDTH) for paragraph in _paragraphs(command.explanation)]
    parts.append(usage.rstrip())
    if command.examples:
        parts.append("EXAMPLES\n" + "\n".join(f"  {one.line}\n      {one.purpose}" for one in command.examples))
    parts.append(exit_statuses(command.statuses))
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    return (" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip())


def exit_statuses(statuses: Sequence[int]) -> str:
    """Return the section that every help text ends with."""
    rows = [f"  {status:>3}  {EXIT_STATUS[status]}" for status in sorted({*_ALWAYS, *statuses})]
    return "\n".join(["EXIT STATUS", *rows])


# ---- which command --------------------------------------------------------------------------------------------------


def commands() -> dict[str, Command]:
    """Return every command by name, in the order of the help."""
    return {name: command_named(name) for group in MODULES.values() for name in group}


def command_named(name: str) -> Command:
    """Return the command of that name; raises `UsageError` where there is none."""
    modules = {name: module for group in MODULES.values() for name, module in group.items()}
    if name not in modules:
        near = difflib.get_close_matches(name, modules, n=1)
        hint = f"did you mean `aquiline {near[0]}`?" if near else "`aquiline --help` lists the commands"
        raise UsageError(f"there is no command {name!r}", hint=hint)
    found: tuple[Command, ...] = importlib.import_module(f"aquiline.cli.commands.{modules[name]}").COMMANDS
    return next(command for command in found if command.name == name)


def split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command's name and all other arguments; no name where there are only options."""
    skip = False
    for index, argument in enumerate(arguments):
        if skip:
            skip = False
        elif argument in _WITH_VALUE:
            skip = True
        elif not argument.startswith("-"):
            return argument, [*arguments[:index], *arguments[index + 1 :]]
    return "", list(arguments)


def overview() -> str:
    """Return the help of `aquiline` itself."""
    known = commands()
    parts = ["Show what a change would do to a host or to a fleet of them, do it, and take it back exactly"]
    parts.append("usage: aquiline [--root DIR] [--state DIR] [--json] COMMAND …\n       aquiline --version")
    for title, group in MODULES.items():
        parts.append("\n".join([f"{title}:", *(f"  {name:<12}{known[name].summary}" for name in group)]))
    parts.append(
        "A host by itself: `aquiline plan PROFILE`, `apply`, `undo`. A fleet: `aquiline broker` on one machine,\n"
        "`enrol` and `agent` on each host, `deploy SANDBOX --domain DOMAIN --test`, `deploy` and `undeploy` from\n"
        "anywhere; `aquiline demo` shows one."
    )
    parts.append("RUN is an id or a unique prefix of one, `last`, or `last~N`. `aquiline COMMAND --help` says more.")
    parts.append(exit_statuses(tuple(EXIT_STATUS)))
    return "\n\n".join(parts) + "\n"


# ---- values ---------------------------------------------------------------------------------------------------------


def refuse_unfit(options: Mapping[str, object], *, because: str, hint: str) -> None:
    """Raise `UsageError` where one of these options was given: it would be passed over, which nobody would see."""
    given = [name for name, value in options.items() if value not in (None, False, "", 0) and value != []]
    if given:
        raise UsageError(f"{', '.join(given)}: {because}", hint=hint)


def duration(text: str) -> float:
    """Return the seconds that ``90s``, ``10m``, ``2h`` or ``1d`` says."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: expected 90s, 10m, 2h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def date(text: str) -> datetime:
    """Return the moment that an ISO 8601 date says; without a zone it is local, without a time midnight."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "2026-03-01, 2026-03-01T14:30 or 2026-03-01T14:30:00+01:00"
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 date: expected {expected}") from None
    return found if found.tzinfo is not None else found.astimezone()


def positive(text: str) -> int:
    """Return the whole number from 1 that `text` says."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
