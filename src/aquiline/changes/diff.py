"""What a change does to content, as a unified diff where that may be shown (DESIGN D9, D15)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from aquiline.changes.redact import is_known_secret, is_secret_content
from aquiline.changes.text import text_of, visible


def diff(path: str, before: bytes | None, after: bytes | None, *, secret: bool = False) -> str:
    """Return how the content at `path` changes, as lines that each end in a line end; empty where it does not.

    A unified diff with three lines of context where both sides are text under 1 MiB (None: no file), else sizes and
    that it differs. The same goes for a secret: `secret` says so, or its name or content does. Control characters but
    tabs are escaped.
    """
    if before == after:
        return ""
    secret = secret or is_known_secret(path) or any(is_secret_content(side) for side in (before, after) if side)
    if secret:
        return f"secret content {_sizes(before, after)}, differs\n"
    old, new = text_of(before or b""), text_of(after or b"")
    if old is None or new is None:
        return f"content that is no text or too large {_sizes(before, after)}, differs\n"
    return "".join(_unified(path, old, new, is_new=before is None, is_gone=after is None))


def size_only(before: int | None, after: int | None, *, differs: bool) -> str:
    """Return the line that stands for a content that is not shown; sizes in bytes, None where there is no file."""
    return f"content {_change(before, after)}, {'differs' if differs else 'same'}\n"


def _sizes(before: bytes | None, after: bytes | None) -> str:
    return _change(None if before is None else len(before), None if after is None else len(after))


def _change(before: int | None, after: int | None) -> str:
    old, new = ("none" if size is None else f"{size} bytes" for size in (before, after))
    return f"({old} -> {new})"


def _unified(path: str, old: str, new: str, *, is_new: bool, is_gone: bool) -> Iterator[str]:
    shown = visible(path)
    if not old and not new:
        yield "new empty file\n" if is_new else "empty file gone\n"
        return
    yield from map(
        _shown,
        difflib.unified_diff(
            _lines(old),
            _lines(new),
            "/dev/null" if is_new else f"a{shown}",
            "/dev/null" if is_gone else f"b{shown}",
            lineterm="",
        ),
    )


def _lines(text: str) -> list[str]:
    """Return the lines of `text` without their ends; a last one that has none is marked by a NUL, which no text has."""
    *lines, rest = text.split("\n")
    return [*lines, rest + "\0"] if rest else lines


def _shown(line: str) -> str:
    if line.endswith("\0"):
        return visible(line[:-1], keep="\t\\") + "\n\\ No newline at end of file\n"
    return visible(line, keep="\t\\") + "\n"
