"""Bytes and strings of a host as people may read them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

#: Content of this many bytes or more is never treated as text (DESIGN D15).
TEXT_LIMIT = 1 << 20


#: What is shown as it is, of ASCII: all that can be printed, but for the backslash.
_PLAIN = bytes(code for code in range(0x20, 0x7F) if code != ord("\\"))


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

    Control, formatting and unassigned characters become ``\n``, ``\x1b`` or ``\u202e``, a surrogate-escaped byte
    ``\xe9``, and a backslash two, so that no two texts look the same. Characters in `keep` stay. The result is always
    UTF-8.
    """
    if _is_plain(text, keep):
        return text
    return "".join(character if character in keep else _visible(character) for character in text)


def _is_plain(text: str, keep: str) -> bool:
    if text.isprintable() and ("\\" not in text or "\\" in keep):
        return True
    if not keep:
        return False
    if text.isascii():  # as whole diffs mostly are; of bytes, all that need no escape are dropped in one pass
        return not text.encode("ascii").translate(None, _PLAIN + keep.encode())
    bare = text.translate(dict.fromkeys(map(ord, keep)))
    return bare.isprintable() and "\\" not in bare


def _visible(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable():
        return character
    if character.isascii():
        return character.encode("unicode_escape").decode()
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def quoted(text: str) -> str:
    """Return `text` visible, in double quotes where blanks or quotes would hide where it ends."""
    shown = visible(text)
    # of the characters that are printable, only the blank is space
    if shown and " " not in shown and '"' not in shown and "'" not in shown:
        return shown
    return '"' + shown.replace('"', '\\"') + '"'


def bytes_of(size: int) -> str:
    """Return a number of bytes in words."""
    return "1 byte" if size == 1 else f"{size} bytes"


def command_line(argv: Iterable[str]) -> str:
    """Return `argv` as a person would type it in a shell, exact to the byte and safe to show."""
    return " ".join(map(_argument, argv))


def _argument(argument: str) -> str:
    if visible(argument, keep="\\") == argument:
        return shlex.quote(argument)
    return "$'" + visible(argument).replace("'", "\\'") + "'"
