"""Tables for people: columns as wide as they must be, no colour."""

from __future__ import annotations

from collections.abc import Sequence

from aquiline.changes.text import visible


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` below a line of `titles`; empty where there are none."""
    if not rows:
        return ""
    cells = [list(titles), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "".join(f"{line}\n" for line in lines)
