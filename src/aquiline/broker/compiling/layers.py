"""Profiles from layers of YAML: the compiler of sites without Pan.

``hosts/NAME.yaml`` is what one host has of its own, ``layers/NAME.yaml`` what several share. A file names the layers it
builds on under ``include``; everything else in it is laid over them. The reference is docs/reference/layers.md.

Theory of operation:

1. The files of a host stand in one order: before each file what it includes, in the order it is written there. A layer
   that is met again counts where it was first, so it is always before whatever includes it.
2. They are merged in that order. A mapping merges key by key; anything else replaces; ``key+``, ``key-`` and ``key=``
   append, remove and replace; null removes the key.
3. Nothing merged is ever changed, so hosts share what they have in common, and YAML aliases are safe.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aquiline.broker.compiling.outcome import Compiled, CompileFailed, compiled, failed, is_host, misnamed
from aquiline.errors import ProfileError
from aquiline.profile import Profile
from aquiline.profile.loading import checked
from aquiline.profile.paths import child
from aquiline.profile.yamltree import tree_of

#: Bytes of one file.
MAX_BYTES = 4 << 20
#: Values of one file, each use of an alias counted in full; and of one host's files together.
MAX_VALUES = 500_000
#: Mappings and lists in each other.
MAX_DEPTH = 60
#: Layers of one host.
MAX_LAYERS = 500
#: Layers that include each other in a row.
MAX_INCLUDES = 50

_TOP_KEYS = ("hardware", "include", "metadata", "software", "system")
_LAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_OPERATORS = "=-+"


class _File(NamedTuple):
    name: str
    includes: tuple[str, ...]
    tree: dict[str, Any]
    #: How many values the tree has.
    size: int


class _Fault(Exception):
    """What is wrong with a file, for every host that has it."""

    def __init__(self, path: str, *, found: str, expected: str) -> None:
        super().__init__(path, found, expected)
        self.path = path
        self.found = found
        self.expected = expected


class Layers:
    """The compiler for layers of YAML. It keeps nothing between two calls."""

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        """Return for each of `hosts` its profile, or what is wrong with it."""
        site = _Site(source)
        return {host: site.compile(host) for host in hosts}

    def hosts(self, source: Path) -> tuple[str, ...]:
        """Return the names of the files in ``hosts``, sorted."""
        names = (file.name.removesuffix(".yaml") for file in (source / "hosts").glob("*.yaml"))
        return tuple(sorted(filter(is_host, names)))


class _Site:
    """The files of one source, each read once, and what was merged of them so far."""

    def __init__(self, source: Path) -> None:
        self._source = source.resolve()
        self._files: dict[str, _File | _Fault] = {}
        self._merged: dict[tuple[str, ...], dict[str, Any]] = {(): {}}

    def compile(self, host: str) -> Compiled | CompileFailed:
        if not is_host(host):
            return failed(host, "/", found=f"the name {host!r}", expected="a host's name")
        try:
            order = self._order(f"hosts/{host}")
            tree = self._merge(order)
        except _Fault as fault:
            return failed(host, fault.path, found=fault.found, expected=fault.expected)
        # Kept once only: nobody else has this host's own file.
        del self._files[order[-1]], self._merged[order]
        if not Profile(tree).name:
            tree = _laid(tree, {"metadata": {"name": host}}, "/", order[-1])
        return misnamed(host, tree) or compiled(tree)

    def _order(self, first: str) -> tuple[str, ...]:
        """Return the names of a host's files in the order in which they are merged."""
        order: dict[str, None] = {}
        size = 0
        for file in self._visited(first, (), order):
            order[file.name] = None
            size += file.size
            if size > MAX_VALUES or len(order) > MAX_LAYERS:
                raise _Fault(
                    f"{file.name}.yaml",
                    found=f"more than {MAX_VALUES} values or {MAX_LAYERS} layers so far",
                    expected="less in one host",
                )
        return tuple(order)

    def _visited(self, name: str, above: tuple[str, ...], order: Mapping[str, None]) -> Iterator[_File]:
        """Yield the file `name` after all that it includes, but for what is in `order` already."""
        if name in above:
            loop = " < ".join((*above[above.index(name) :], name))
            raise _Fault(f"{above[-1]}.yaml", found=f"an include loop: {loop}", expected="layers that end")
        if len(above) > MAX_INCLUDES:
            raise _Fault(f"{name}.yaml", found=f"more than {MAX_INCLUDES} includes in a row", expected="fewer")
        file = self._file(name, above[-1] if above else "")
        for layer in file.includes:
            if f"layers/{layer}" not in order:
                yield from self._visited(f"layers/{layer}", (*above, name), order)
        yield file

    def _merge(self, order: tuple[str, ...]) -> dict[str, Any]:
        """Return what the files in `order` say together."""
        known = len(order)
        while order[:known] not in self._merged:
            known -= 1
        for end in range(known + 1, len(order) + 1):
            file = self._file(order[end - 1], "")
            self._merged[order[:end]] = _laid(self._merged[order[: end - 1]], file.tree, "/", file.name)
        return self._merged[order]

    def _file(self, name: str, included_by: str) -> _File:
        if name not in self._files:
            try:
                self._files[name] = self._read(name)
            except _Fault as fault:
                self._files[name] = fault
            except FileNotFoundError:
                # Not kept: the next one to include it is the one to be named then.
                raise self._missing(name, included_by) from None
            except (OSError, RuntimeError):
                # Links in a circle are a RuntimeError.
                self._files[name] = _Fault(f"{name}.yaml", found="what cannot be read", expected="a file")
        found = self._files[name]
        if isinstance(found, _Fault):
            raise found
        return found

    def _read(self, name: str) -> _File:
        file = f"{name}.yaml"
        place = (self._source / file).resolve()
        if not place.is_file():
            raise FileNotFoundError
        if not place.is_relative_to(self._source):
            raise _Fault(file, found="a link that leads out of the repository", expected="a file")
        with place.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _Fault(file, found=f"more than {MAX_BYTES >> 20} MiB", expected="a smaller file")
        try:
            tree = tree_of(data.decode("utf-8-sig"), max_depth=MAX_DEPTH, max_values=MAX_VALUES)
            tree = checked({} if tree is None else tree)
        except UnicodeDecodeError as error:
            raise _Fault(file, found=f"no UTF-8 at byte {error.start}", expected="UTF-8") from None
        except ProfileError as error:
            raise _Fault(file, found=str(error).removeprefix("/: "), expected="plain YAML, a mapping") from None
        for key in tree:
            if _split(key)[0] not in _TOP_KEYS or (key != "include" and _split(key)[0] == "include"):
                raise _Fault(file, found=f"the key {key}", expected=f"one of {', '.join(_TOP_KEYS)}")
        includes = _includes(tree.pop("include", []), file)
        return _File(name, includes, tree, _size(tree))

    def _missing(self, name: str, included_by: str) -> _Fault:
        if not included_by:
            return _Fault(f"{name}.yaml", found="no such file", expected="one for each host")
        layers = [str(path.relative_to(self._source))[:-5] for path in (self._source / "layers").rglob("*.yaml")]
        near = difflib.get_close_matches(name, layers, n=1)
        hint = f" (there is {near[0].removeprefix('layers/')})" if near else ""
        layer = name.removeprefix("layers/")
        return _Fault(f"{included_by}.yaml", found=f"include of {layer}{hint}", expected=f"a file {name}.yaml")


def _includes(value: Any, file: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Fault(file, found=f"{_kind(value)} as include", expected="a list of layers")
    for name in value:
        if not isinstance(name, str) or not _LAYER.fullmatch(name) or ".." in name or name.endswith(".yaml"):
            raise _Fault(
                file, found=f"include of {name!r}"[:200], expected="the path of a layer below layers/, without .yaml"
            )
    return tuple(value)


def _laid(below: dict[str, Any], over: dict[str, Any], path: str, file: str) -> dict[str, Any]:
    """Return mapping `over`, of `file`, laid on mapping `below`. Neither is changed."""
    result = dict(below)
    operations = sorted(((*_split(key), value) for key, value in over.items()), key=_turn)
    plain = ""
    for key, operator, value in operations:
        at = child(path, key)
        if not key:
            raise _Fault(at, found=f"the key {operator} in {file}.yaml", expected="a key before the operator")
        if operator == "=" and plain == key:
            raise _Fault(at, found=f"{key} and {key}= in {file}.yaml", expected="one of them")
        plain = key if not operator else plain
        match operator:
            case "+":
                result[key] = _list(result.get(key, []), at, "") + _list(value, at, file)
            case "-":
                result[key] = _without(_list(result.get(key), at, ""), _list(value, at, file), at, file)
            case _ if value is None:
                result.pop(key, None)
            case "=":
                result[key] = _laid({}, value, at, file) if isinstance(value, dict) else value
            case _:
                result[key] = _replaced(result.get(key), value, at, file)
    return result


def _replaced(below: Any, value: Any, at: str, file: str) -> Any:
    if below is not None and isinstance(value, dict) != isinstance(below, dict):
        raise _Fault(
            at, found=f"{_kind(value)} in {file}.yaml", expected=f"{_kind(below)}, as in the layers below; or key="
        )
    return _laid(below or {}, value, at, file) if isinstance(value, dict) else value


def _without(below: list[Any], items: list[Any], at: str, file: str) -> list[Any]:
    """Return list `below` without what is like one of `items`; each must be like something."""
    for position, item in enumerate(items):
        left = [one for one in below if not _is_like(one, item)]
        if len(left) == len(below):
            raise _Fault(at, found=f"item {position} to remove in {file}.yaml", expected="an item of the layers below")
        below = left
    return below


def _is_like(one: Any, item: Any) -> bool:
    """Tell whether `one` is `item`, or a mapping that has all of its entries."""
    if isinstance(one, dict) and isinstance(item, dict) and item:
        return all(key in one and _is_same(one[key], value) for key, value in item.items())
    return _is_same(one, item)


def _is_same(one: Any, other: Any) -> bool:
    # For Python, true is 1.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _list(value: Any, at: str, file: str) -> list[Any]:
    if isinstance(value, list):
        return value
    where = f"in {file}.yaml" if file else "in the layers below"
    raise _Fault(at, found=f"{_kind(value)} {where}", expected="a list")


def _split(key: str) -> tuple[str, str]:
    """Return a key without its operator, and the operator; a backslash before it makes it part of the key."""
    if key[-1:] not in _OPERATORS or not key:
        return key, ""
    return (key[:-2] + key[-1], "") if key[-2:-1] == "\\" else (key[:-1], key[-1])


def _turn(operation: tuple[str, str, Any]) -> tuple[str, int]:
    """Sort the operations on one key: set it, replace it, remove from it, append to it."""
    key, operator, _ = operation
    return key, _OPERATORS.find(operator) if operator else -1


def _kind(value: Any) -> str:
    """Return what a value is without saying it: nobody knows yet whether it is a secret."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case _:
            return "a single value"


def _size(tree: dict[str, Any]) -> int:
    count = 0
    level: list[Any] = [tree]
    while level:
        entry = level.pop()
        count += 1
        level.extend(entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ())
    return count
