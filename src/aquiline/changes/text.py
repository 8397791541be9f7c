"""Bytes and strings of a host as people may read them."""

from __future__ import annotations

import unicodedata

#: Content of this many bytes or more is never treated as text (DESIGN D15).
TEXT_LIMIT = 1 << 20

#: Categories of characters that change how a terminal shows the rest, or that UTF-8 cannot carry.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def text_of(content: bytes) -> str | None:
    """Return `content` as text; None where it is none: not UTF-8, holding a NUL, or 1 MiB and more."""
    if len(content) >= TEXT_LIMIT or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def visible(text: str, *, keep: str = "") -> str:
    r"""Return `text` with every character that a terminal would obey, and every byte that is not UTF-8, escaped.

    Control and formatting characters become ``\n``, ``\x1b`` or ``\u202e``, a surrogate-escaped byte ``\xe9``, and a
    backslash two, so that no two texts look the same. Characters in `keep` stay. The result is always UTF-8.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(character if character in keep else _visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in _HARMFUL:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
