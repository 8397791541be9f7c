"""The tree of a YAML document, built from the parser's events one by one.

Neither depth nor aliases can exhaust anything: nothing here recurses, and an alias is counted with all that it stands
for before it is used. `yaml.load` offers neither, nor does it notice a key that stands twice.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from aquiline.errors import ProfileError
from aquiline.profile.profile import number

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Without the leading zeros that the YAML 1.2 core schema allows: see the module that calls this one.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_DOUBLE = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 400
_STRING_TAG = "tag:yaml.org,2002:str"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Open:
    """A mapping or list whose end has not come yet."""

    __slots__ = ("anchor", "container", "count", "has_key", "key")

    def __init__(self, container: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self.container = container
        self.anchor = anchor
        self.count = 1
        self.key = ""
        self.has_key = False


class _Builder:
    """Puts values into the innermost open container, and keeps count."""

    def __init__(self, max_depth: int, max_values: int) -> None:
        self.root: Any = None
        self._max_depth = max_depth
        self._max_values = max_values
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._has_document = False

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._start({}, event)
            case yaml.SequenceStartEvent():
                self._start([], event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._document(event)

    def _document(self, event: Any) -> None:
        if self._has_document:
            raise _fault(event, "a profile is one document, found another")
        self._has_document = True

    def _start(self, container: dict[str, Any] | list[Any], event: Any) -> None:
        self._refuse_tag(event, container)
        if self._expects_key():
            raise _fault(event, "a key must be plain text, found a mapping or list")
        if len(self._open) >= self._max_depth:
            raise _fault(event, f"more than {self._max_depth} mappings and lists in each other")
        self._open.append(_Open(container, event.anchor))

    def _end(self, event: Any) -> None:
        closed = self._open.pop()
        self._put(closed.container, closed.count, closed.anchor, event)

    def _scalar(self, event: Any) -> None:
        if self._expects_key():
            self._key(event)
            return
        self._refuse_tag(event, None)
        is_plain = event.style is None or event.style == ""
        value = event.value if event.tag == _STRING_TAG or not is_plain else _plain(event)
        self._put(value, 1, event.anchor, event)

    def _alias(self, event: Any) -> None:
        if self._expects_key():
            raise _fault(event, "an alias cannot be a key")
        if event.anchor not in self._anchors:
            raise _fault(event, f"the alias {event.anchor!r} stands for nothing before it")
        value, count = self._anchors[event.anchor]
        self._put(value, count, None, event)

    def _put(self, value: Any, count: int, anchor: str | None, event: Any) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, count)
        if not self._open:
            self.root = value
            return
        inner = self._open[-1]
        inner.count += count
        if inner.count > self._max_values:
            raise _fault(event, f"more than {self._max_values} values")
        if isinstance(inner.container, list):
            inner.container.append(value)
        else:
            inner.container[inner.key] = value
            inner.has_key = False

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].container, dict) and not self._open[-1].has_key

    def _key(self, event: Any) -> None:
        inner = self._open[-1]
        if event.value in inner.container:
            raise _fault(event, f"the key {event.value!r} stands twice in its mapping")
        if event.value == "<<" and not event.style:
            raise _fault(event, "merge keys are not supported")
        inner.key = event.value
        inner.has_key = True

    def _refuse_tag(self, event: Any, container: Any) -> None:
        kind = "map" if isinstance(container, dict) else "seq" if isinstance(container, list) else "str"
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            raise _fault(event, f"tags are not supported, found {event.tag!r}")


def tree_of(text: str, *, max_depth: int, max_values: int) -> Any:
    """Return what the one document in `text` says; raise `ProfileError` with the line of a fault."""
    builder = _Builder(max_depth, max_values)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ProfileError(f"{line}{error.problem or error.context}", path="") from None
    except yaml.YAMLError as error:
        raise ProfileError(str(error).replace("\n", " "), path="") from None
    return builder.root


def _plain(event: Any) -> Any:
    text: str = event.value
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    # Most text begins with a letter: no need to try the four patterns of numbers on it.
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        if _DOUBLE.fullmatch(text):
            return number(text)
    if _SPECIAL.fullmatch(text):
        raise _fault(event, f"found {text}, expected a finite number")
    return text


def _fault(event: Any, what: str) -> ProfileError:
    return ProfileError(f"line {event.start_mark.line + 1}: {what}", path="")
