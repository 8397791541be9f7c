"""Shell completion, generated from the parsers of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from aquiline.cli.command import Command
from aquiline.cli.parsing import Parser, commands

#: Prints the ids of the runs, newest first; nothing where there is no journal to read.
_RUNS = "aquiline log 2>/dev/null | cut -d' ' -f1"


def completion(shell: str) -> str:
    """Return the completion script for bash, zsh or fish."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _options(command: Command) -> list[argparse.Action]:
    return [action for action in Parser(command)._actions if action.option_strings]  # noqa: SLF001  # argparse has no other way


def _takes_run(command: Command) -> bool:
    return any(action.metavar == "RUN" for action in Parser(command)._actions)  # noqa: SLF001


def _words(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))


def _bash_cases() -> Iterator[str]:
    for name, command in commands().items():
        options = " ".join(option for action in _options(command) for option in action.option_strings)
        words = " ".join(word for action in Parser(command)._actions for word in _words(action))  # noqa: SLF001
        runs = f" $({_RUNS}) last" if _takes_run(command) else ""
        yield f'        {name}) words="{options}{" " + words if words else ""}{runs}" ;;'


def _bash() -> str:
    names = " ".join(commands())
    cases = "\n".join(_bash_cases())
    return f"""# bash completion of aquiline; made by `aquiline completion bash`
_aquiline() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command= word words
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in
            --root|--state) continue ;;
            -*) ;;
            *) case " {names} " in *" $word "*) command=$word; break ;; esac ;;
        esac
    done
    case $command in
        "") words="{names} --root --state --json --help --version" ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _aquiline aquiline
"""


def _zsh() -> str:
    return "#compdef aquiline\nautoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    return "\n".join(["# fish completion of aquiline; made by `aquiline completion fish`", *_fish_lines()]) + "\n"


def _fish_lines() -> Iterator[str]:
    for name, command in commands().items():
        yield f"complete -c aquiline -n __fish_use_subcommand -f -a {name} -d {_quoted(command.summary)}"
        for action in _options(command):
            long = next(option for option in action.option_strings if option.startswith("--"))
            value = " -r" if action.nargs != 0 else ""
            words = f" -a {_quoted(' '.join(_words(action)))}" if action.choices else ""
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            yield f"complete -c aquiline {seen} -l {long[2:]}{value}{words} -d {_quoted(action.help or '')}"
        if _takes_run(command):
            yield f"complete -c aquiline -n '__fish_seen_subcommand_from {name}' -f -a {_quoted(f'({_RUNS})')}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
