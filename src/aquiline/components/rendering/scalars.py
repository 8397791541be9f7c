"""Scalars as Perl prints them."""

from __future__ import annotations

from typing import Any


class CannotRender(Exception):
    """The contents do not fit the form they are to be rendered in."""


def text_of(value: Any) -> str:
    """Return the text of a scalar: booleans as 1 and 0, null as nothing; raise `CannotRender` for anything else."""
    match value:
        case None:
            return ""
        case bool():
            return "1" if value else "0"
        case float():
            return double(value)
        case int() | str():
            return str(value)
        case _:
            raise CannotRender(f"found a {'list' if isinstance(value, list) else 'mapping'}, expected a single value")


def double(value: float) -> str:
    """Return a double with the fifteen digits that Perl prints."""
    return format(value, ".15g")
