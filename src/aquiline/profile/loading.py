"""Reading profiles: Pan's JSON, and YAML or JSON of the same shape.

A file is data from elsewhere: whatever is in it, the result is a profile or a `ProfileError` that says where and why,
in bounded memory. Numbers follow Quattor's reader, which turns a double with an integral value into an integer, so that
``1000.0`` reads ``1000`` (CCM's typed JSON).

In YAML a plain scalar is what the YAML 1.2 core schema says, with one difference: a number with a leading zero is text,
because it is a file mode or a phone number and both readings as a number surprise somebody. Anchors and aliases work;
tags, merge keys and several documents are refused.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from aquiline.errors import ProfileError
from aquiline.profile.paths import child
from aquiline.profile.profile import Profile, describe, number

#: Bytes of text, after decompression.
MAX_BYTES = 256 << 20
#: Mappings and lists in each other.
MAX_DEPTH = 100
#: Values, each use of a YAML alias counted in full.
MAX_VALUES = 5_000_000

_NO_UNICODE = "found text that is not Unicode (a lone surrogate)"
_SUFFIXES = (".json", ".json.gz", ".yaml", ".yml")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)


def load(path: str | Path, name: str = "") -> Profile:
    """Read the profile at `path`, its form told by its suffix: .json, .json.gz, .yaml or .yml.

    `name` is the host's where the profile does not say; by default the file's name without suffix.
    """
    file = Path(path)
    suffix = next((suffix for suffix in _SUFFIXES if file.name.endswith(suffix)), None)
    if suffix is None:
        raise ProfileError(f"{file}: not a profile by its name, expected one of {', '.join(_SUFFIXES)}", path="")
    text = _text(file, compressed=suffix.endswith(".gz"))
    try:
        tree = parse_json(text) if ".json" in suffix else parse_yaml(text)
    except ProfileError as error:
        raise ProfileError(f"{file}: {error.message}", path="", hint=error.hint) from None
    return Profile(tree=tree, given_name=name or file.name.removesuffix(suffix))


def parse_json(text: str) -> dict[str, Any]:
    """Return the tree that JSON `text` says, doubles and integers as Quattor reads them."""
    # Counted before parsing: "[[],[],…" would otherwise take twenty times its size in memory.
    if text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        raise ProfileError(f"more than {MAX_VALUES} values", path="")
    try:
        tree = json.loads(text, parse_float=number, parse_constant=_no_constant, object_pairs_hook=_unique)
    except _DuplicateKey:
        _raise_duplicate(text)
    except json.JSONDecodeError as error:
        raise ProfileError(f"line {error.lineno}, column {error.colno}: {error.msg}", path="") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        # An integer of more digits than Python converts.
        raise ProfileError(str(error), path="") from None
    return checked(tree)


def parse_yaml(text: str) -> dict[str, Any]:
    """Return the tree that YAML `text` says."""
    # Only sites without Pan write YAML: the others need not wait for its parser to be imported.
    from aquiline.profile.yamltree import tree_of  # noqa: PLC0415 (lazily on purpose)

    return checked(tree_of(text, max_depth=MAX_DEPTH, max_values=MAX_VALUES))


def checked(tree: Any) -> dict[str, Any]:
    """Return `tree` if it is a profile's: a mapping, not too deep, of finite numbers and text that UTF-8 can hold."""
    if not isinstance(tree, dict):
        raise ProfileError(f"found {describe(tree)}, expected a mapping")
    level: list[dict[str, Any] | list[Any]] = [tree]
    for _ in range(MAX_DEPTH):
        deeper: list[dict[str, Any] | list[Any]] = []
        for container in level:
            _check(container, deeper, tree)
        if not deeper:
            return tree
        level = deeper
    raise _too_deep()


def _check(container: dict[str, Any] | list[Any], deeper: list[dict[str, Any] | list[Any]], tree: Any) -> None:
    """Check what is directly in `container`, and add those that hold more to `deeper`."""
    values: Iterable[Any] = container
    if isinstance(container, dict):
        for key in container:
            if not key.isascii() and _has_surrogates(key):
                raise ProfileError(_NO_UNICODE, path=_path_of(tree, key))
        values = container.values()
    for value in values:
        if isinstance(value, str):
            if not value.isascii() and _has_surrogates(value):
                raise ProfileError(_NO_UNICODE, path=_path_of(tree, value))
        elif isinstance(value, dict | list):
            deeper.append(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ProfileError(f"found {describe(value)}, expected a finite number", path=_path_of(tree, value))
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ProfileError(f"found {describe(value)}, expected one of 64 bits", path=_path_of(tree, value))


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _path_of(value: Any, wanted: Any, path: str = "/") -> str:
    """Return the path at which the very object `wanted` stands, the path of its mapping if it is a key."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        if inner is wanted:
            return child(path, key)
        if key is wanted:
            return path
        if isinstance(inner, dict | list) and (found := _path_of(inner, wanted, child(path, key))):
            return found
    return ""


def _text(file: Path, *, compressed: bool) -> str:
    try:
        with file.open("rb") as raw:
            stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if compressed else raw
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProfileError(f"{file}: no such file", path="") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ProfileError(f"{file}: cannot be read: {error}", path="") from None
    if len(data) > MAX_BYTES:
        raise ProfileError(f"{file}: larger than {MAX_BYTES >> 20} MiB", path="")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file}: not UTF-8 at byte {error.start}", path="") from None


class _DuplicateKey(Exception):
    """Raised inside the parser, which does not know where it is."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise _DuplicateKey
    return mapping


def _raise_duplicate(text: str) -> NoReturn:
    """Find the first key that stands twice in its mapping; `text` is known to hold one, and to be sound up to it."""
    keys: list[set[str] | None] = []
    before = ""
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "{":
                keys.append(set())
            case "[":
                keys.append(None)
            case "}" | "]":
                keys.pop()
            case ":" if (known := keys[-1]) is not None:
                key = json.loads(before)
                if key in known:
                    line = text.count("\n", 0, token.start()) + 1
                    raise ProfileError(f"line {line}: the key {key!r} stands twice in its mapping", path="")
                known.add(key)
        before = token[0]
    raise ProfileError("a key stands twice in its mapping", path="")


def _no_constant(text: str) -> NoReturn:
    raise ProfileError(f"found {text}, expected a finite number", path="")


def _too_deep() -> ProfileError:
    return ProfileError(f"more than {MAX_DEPTH} mappings and lists in each other", path="")
