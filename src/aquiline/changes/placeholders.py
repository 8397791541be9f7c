"""A host's own facts in a text, replaced by placeholders and put back.

A *fact* is a value that is the host's own: its names, addresses, hardware addresses, identifiers. Texts of two hosts
that differ only in facts have one *shape*: ``listen wn.example.org`` and ``listen wn3.example.org`` are both
``listen ⟦name⟧``.

Theory of operation

1. One pass from left to right. Where a fact stands as a whole token, its placeholder ``⟦name⟧`` is written instead; of
   several facts that fit, the longest.
2. A literal ``⟦`` is doubled. No fact's name has one in it, so a shape is read back in one way only: `fill` of
   `shape` is the text, for the same facts.
3. So two texts share a shape only if each is that shape filled with its own host's facts: they differ in nothing else.
   This holds wherever rule 1 finds tokens; the token rule decides how well hosts group, never whether that is true.

The token rule: letters, digits, ``_`` and ``-`` make a token. A fact that is one short word (a short host name) is not
found next to ``.`` and another such character: ``wn`` is not found in ``wn.conf`` or ``www.wn``. Numbers joined
by ``.`` and hexadecimal numbers joined by ``:`` are one token, so ``10.0.0.1`` is not found in ``10.0.0.1.2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aquiline.changes.canonical import pack

Facts = Mapping[str, str]
"""Placeholder's name (anything without a mark) to the value that is this host's own."""

_NAME = re.compile("[^⟦⟧]+")
_MARK = re.compile("⟦⟦|⟦([^⟦⟧]+)⟧")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,15}")


class Placeholders:
    """The placeholders of one host."""

    def __init__(self, facts: Facts) -> None:
        """Take the facts; empty values are passed over. Raise `ValueError` for a name that cannot be a placeholder."""
        for name in facts:
            if not _NAME.fullmatch(name):
                raise ValueError(f"a placeholder's name is not empty and has no ⟦ or ⟧ in it; found {name!r}")
        self._values = dict(facts)
        #: Value to name; of several names for one value the first in alphabetical order.
        self._names = {value: name for name, value in sorted(facts.items(), reverse=True) if value}
        longest_first = sorted(self._names, key=lambda value: (-len(value), value))
        needles = {needle for value in [*self._names, "⟦"] for needle in _spellings(value)}
        #: A needle with another one in it finds nothing that the other would miss.
        shortest = [n for n in needles if not any(other in n for other in needles - {n})]
        self._ascii = tuple(needle for needle in shortest if needle.isascii())
        self._beyond_ascii = tuple(needle for needle in shortest if not needle.isascii())
        self._search = re.compile("|".join([*map(_token, longest_first), "⟦"]))

    def may_occur_in(self, data: bytes) -> bool:
        """Return False only where `shape` would change no text in `data`, which is UTF-8 or packed by `canonical`."""
        for needle in self._ascii:
            if needle in data:
                return True
        return not data.isascii() and any(needle in data for needle in self._beyond_ascii)

    def shape(self, text: str) -> str:
        """Return `text` with this host's facts replaced."""
        return self._search.sub(self._replacement, text)

    def fill(self, shape: str) -> str:
        """Return the text of which `shape` is the shape on this host.

        Raise `ValueError` for a placeholder that this host has no fact for, and for what is no shape.
        """
        return _MARK.sub(self._original, shape)

    def _replacement(self, match: re.Match[str]) -> str:
        found = match[0]
        name = self._names.get(found)
        return "⟦⟦" if name is None else f"⟦{name}⟧"

    def _original(self, match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "⟦"
        if name not in self._values:
            raise ValueError(f"no fact of this host is called {name!r}; it has {', '.join(sorted(self._values))}")
        return self._values[name]


def _spellings(value: str) -> tuple[bytes, bytes]:
    return value.encode("utf-8", "surrogatepass"), pack(value)[1:-1]


def _token(value: str) -> str:
    """Return the regular expression that finds `value` as a whole token."""
    if _WORD.fullmatch(value):
        return rf"(?<![\w-])(?<![\w-]\.){re.escape(value)}(?![\w-]|\.[\w-])"
    if ":" in value:
        return rf"(?<![\w-])(?<![\w-]:){re.escape(value)}(?![\w-]|:[\w-])"
    return rf"(?<![\w-])(?<!\d\.){re.escape(value)}(?![\w-]|\.\d)"
