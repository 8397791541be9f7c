"""The flags that decide conflicts, path by path."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Literal

from aquiline.errors import UsageError

_MEANINGS: dict[Literal["skip", "force", "merge"], str] = {
    "skip": "leave PATH as it is now, in conflict or not",
    "force": "put PATH back all the same; what stands there now is kept, so that redo brings it again",
    "merge": "take out of PATH what the run put in, keep what was edited since",
}


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    for choice, meaning in _MEANINGS.items():
        parser.add_argument(f"--{choice}", action="append", default=[], metavar="PATH", help=meaning)


def choices_of(arguments: argparse.Namespace) -> Mapping[str, Literal["skip", "force", "merge"]]:
    """Return the choice for each path; raises `UsageError` where there are two."""
    chosen: dict[str, Literal["skip", "force", "merge"]] = {}
    for choice in _MEANINGS:
        for path in getattr(arguments, choice):
            if chosen.setdefault(path, choice) != choice:
                raise UsageError(f"{path}: both --{chosen[path]} and --{choice}")
    return chosen
