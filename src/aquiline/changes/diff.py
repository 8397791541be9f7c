"""What a change does to content, as a unified diff where that may be shown (DESIGN D9, D15)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from aquiline.changes.redact import Hidden, is_known_secret, is_secret_content
from aquiline.changes.text import bytes_of, text_of, visible


def diff(path: str, before: bytes | None, after: bytes | None, *, hidden: Hidden = "") -> str:
    """Return how the content at `path` changes, as lines that each end in a line end; empty where it does not.

    A unified diff with three lines of context where both sides are text under 1 MiB (None: no file), else sizes and
    that it differs. The same goes for what must not be shown: `hidden` says why, or its name or content does. Control
    characters but tabs are escaped.
    """
    if before == after:
        return ""
    if is_known_secret(path) or any(is_secret_content(side) for side in (before, after) if side):
        hidden = "secret"
    if hidden:
        return f"{hidden} {size_only(_size(before), _size(after))}\n"
    old, new = text_of(before or b""), text_of(after or b"")
    if old is None or new is None:
        return "binary or large " + size_only(_size(before), _size(after)) + "\n"
    return _unified(path, old, new, is_new=before is None, is_gone=after is None)


def size_only(before: int | None, after: int | None) -> str:
    """Return what is told of a content that differs and is not shown; sizes in bytes, None where there is no file."""
    old, new = ("none" if size is None else bytes_of(size) for size in (before, after))
    return f"content differs ({old} -> {new})"


def _size(content: bytes | None) -> int | None:
    return None if content is None else len(content)


def _unified(path: str, old: str, new: str, *, is_new: bool, is_gone: bool) -> str:
    if not old and not new:
        return "new empty file\n" if is_new else "empty file gone\n"
    shown = visible(path)
    header = ("/dev/null" if is_new else f"a{shown}", "/dev/null" if is_gone else f"b{shown}")
    text = "\n".join([*_hunks(_lines(old), _lines(new), header), ""])
    return visible(text.replace("\0\n", "\n\\ No newline at end of file\n"), keep="\t\n\\")


def _hunks(old: list[str], new: list[str], header: tuple[str, str]) -> Iterable[str]:
    if set(old).isdisjoint(new):  # new, gone or rewritten: there is nothing to match, which difflib takes long to find
        ranges = f"@@ -{_range(len(old))} +{_range(len(new))} @@"
        removed, added = ["-" + line for line in old], ["+" + line for line in new]
        return [f"--- {header[0]}", f"+++ {header[1]}", ranges, *removed, *added]
    return difflib.unified_diff(old, new, *header, lineterm="")


def _range(count: int) -> str:
    return "1" if count == 1 else f"{min(count, 1)},{count}"


def _lines(text: str) -> list[str]:
    """Return the lines of `text` without their ends; a last one that has none is marked by a NUL, which no text has."""
    *lines, rest = text.split("\n")
    return [*lines, rest + "\0"] if rest else lines
