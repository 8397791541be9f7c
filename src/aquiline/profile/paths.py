"""Profile paths and escaped keys, as Pan writes them.

A profile path is ``/`` and terms joined by ``/``. A key that is no plain term, such as a file name, stands in the tree
*escaped*: every character that is no ASCII letter or digit, and a leading digit, becomes ``_`` and two lowercase
hexadecimal digits, so ``/etc/motd`` is ``_2fetc_2fmotd``. In a path it may be written in braces, unescaped:
``/a/{/etc/motd}/b``.
Source of the rule: Pan's ``escape()``.
"""

from __future__ import annotations

import re

_NOT_PLAIN = re.compile(r"^[0-9]|[^A-Za-z0-9]")
_ESCAPED = re.compile(rb"_([0-9a-f]{2})")
_TERM = re.compile(r"/(?:\{([^{}]*)\}|([^/{}]+))")


def escape(text: str) -> str:
    """Return `text` as a key of the tree; characters beyond ASCII are escaped byte by byte of their UTF-8."""
    return _NOT_PLAIN.sub(_hexadecimal, text) if text else "_"


def unescape(key: str) -> str:
    """Return what `escape` was given.

    What is no valid UTF-8 after unescaping becomes surrogates, as file names do in `os.fsdecode`.
    """
    if "_" not in key:
        return key
    if key == "_":
        return ""
    return _ESCAPED.sub(_byte, key.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def unescape_path(key: str) -> str:
    """Return the file name that `key` stands for; one that begins with ``/`` is plain, as YAML profiles write it."""
    return key if key.startswith("/") else unescape(key)


def split(path: str) -> list[tuple[str, str]]:
    """Return the terms of a profile path, each as it is written and as the key it stands for.

    They differ for terms in braces only. Raise `ValueError` for what is no profile path.
    """
    terms: list[tuple[str, str]] = []
    if path == "/":
        return terms
    position = 0
    while position < len(path):
        found = _TERM.match(path, position)
        if found is None:
            raise ValueError(f"not a profile path: {path!r}: found {path[position:]!r}, expected / and a term")
        braced, plain = found.groups()
        terms.append((plain, plain) if braced is None else (braced, escape(braced)))
        position = found.end()
    if not terms:
        raise ValueError("not a profile path: it is empty")
    return terms


def child(path: str, key: str | int) -> str:
    """Return the path of an entry of the value at `path`; a key that is a file name is shown in braces."""
    term = str(key)
    if "/" in term:
        term = "{" + term + "}"
    elif term.startswith("_2f"):
        term = "{" + unescape(term) + "}"
    return f"/{term}" if path == "/" else f"{path}/{term}"


def _hexadecimal(found: re.Match[str]) -> str:
    return "".join(f"_{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))
