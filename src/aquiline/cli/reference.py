"""The reference of the command line, from the same parsers as the help: ``python -m aquiline.cli.reference FILE``.

FILE ending in ``.1`` is a manual page, else it is Markdown.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aquiline.cli.command import EXIT_STATUS
from aquiline.cli.parsing import Parser, commands, overview


def markdown() -> str:
    """Return ``docs/reference/cli.md``."""
    parts = ["# Command line", "Made by `python -m aquiline.cli.reference docs/reference/cli.md`; do not edit."]
    parts.append(f"```text\n{overview()}```")
    parts += [
        f"## aquiline {name}\n\n```text\n{Parser(command).format_help()}```" for name, command in commands().items()
    ]
    statuses = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUS.items()]
    parts.append("\n".join(["## Exit statuses\n", "| status | meaning |", "|---|---|", *statuses]))
    parts.append(
        "With `--json` an error is besides a JSON object on stdout, where the answer would have been:\n"
        '`{"error": …, "hint": …, "exit_status": …}`.'
    )
    return "\n\n".join(parts) + "\n"


def manual_page() -> str:
    """Return ``aquiline.1``."""
    lines = [
        '.TH AQUILINE 1 "" "aquiline" "Aquiline"',
        ".SH NAME",
        "aquiline \\- dry-runs and back-outs for fleets of Linux hosts",
    ]
    lines += [".SH SYNOPSIS", ".B aquiline", "[global options] COMMAND …", ".SH DESCRIPTION", *_verbatim(overview())]
    for name, command in commands().items():
        lines += [f'.SH "AQUILINE {name.upper()}"', *_verbatim(Parser(command).format_help())]
    return "\n".join(lines) + "\n"


def _verbatim(text: str) -> list[str]:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return [".nf", *(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped), ".fi"]


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    place = Path(sys.argv[1])
    place.write_text(manual_page() if place.suffix == ".1" else markdown(), "utf-8")
