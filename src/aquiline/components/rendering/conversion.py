"""Conversions of values before they are rendered: metaconfig's ``convert``.

Values are converted from the inside out: the entries of a list before it is joined, a mapping's keys with its values.
Of several conversions for one type the first in the order of the fields below counts, as in Quattor.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aquiline.components.rendering.scalars import CannotRender, text_of
from aquiline.profile import unescape


class Conversion(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "upper_yesno": "YESNO",
        "upper_truefalse": "TRUEFALSE",
        "unescape_key": "unescapekey",
        "lower_key": "lowerkey",
        "upper_key": "upperkey",
        "join_comma": "joincomma",
        "join_space": "joinspace",
    },
):
    """Which conversions are made."""

    #: Booleans as yes and no.
    yesno: bool = False
    #: Booleans as YES and NO.
    upper_yesno: bool = False
    #: Booleans as true and false.
    truefalse: bool = False
    #: Booleans as TRUE and FALSE.
    upper_truefalse: bool = False
    #: Strings in double quotes.
    doublequote: bool = False
    #: Strings in single quotes.
    singlequote: bool = False
    #: Lists of scalars as one string with commas.
    join_comma: bool = False
    #: Lists of scalars as one string with spaces.
    join_space: bool = False
    #: Keys unescaped.
    unescape_key: bool = False
    #: Keys in lower case.
    lower_key: bool = False
    #: Keys in upper case.
    upper_key: bool = False


def convert(value: Any, conversion: Conversion) -> Any:
    """Return `value` converted; raise `CannotRender` where two keys of a mapping become the same."""
    if conversion == Conversion():
        return value
    match value:
        case bool():
            return _boolean(value, conversion)
        case str():
            return _string(value, conversion)
        case list():
            return _list([convert(entry, conversion) for entry in value], conversion)
        case dict():
            return _mapping(value, conversion)
        case _:
            return value


def _boolean(value: bool, conversion: Conversion) -> bool | str:
    if conversion.yesno or conversion.upper_yesno:
        word = "yes" if value else "no"
        return word.upper() if conversion.upper_yesno else word
    if conversion.truefalse or conversion.upper_truefalse:
        word = "true" if value else "false"
        return word.upper() if conversion.upper_truefalse else word
    return value


def _string(value: str, conversion: Conversion) -> str:
    if conversion.doublequote:
        return f'"{value}"'
    return f"'{value}'" if conversion.singlequote else value


def _list(entries: list[Any], conversion: Conversion) -> list[Any] | str:
    """Join a list of scalars; one that begins with a list or mapping stays a list, and an empty one is empty text."""
    if not (conversion.join_comma or conversion.join_space):
        return entries
    if entries and isinstance(entries[0], list | dict):
        return entries
    return ("," if conversion.join_comma else " ").join(map(text_of, entries))


def _mapping(value: dict[str, Any], conversion: Conversion) -> dict[str, Any]:
    converted = {_key(key, conversion): convert(entry, conversion) for key, entry in value.items()}
    if len(converted) != len(value):
        raise CannotRender("two keys of a mapping become the same by conversion")
    return converted


def _key(key: str, conversion: Conversion) -> str:
    plain = unescape(key) if conversion.unescape_key else key
    if conversion.lower_key:
        return plain.lower()
    return plain.upper() if conversion.upper_key else plain
