"""What an entry of an account database may look like, and what of it is a secret."""

from __future__ import annotations

import re

from aquiline.errors import HostError
from aquiline.host.records import RANGES, range_name

#: Fields of an entry, and which of them are numbers.
_FIELDS = {
    "passwd": (7, (2, 3)),
    "shadow": (9, ()),
    "group": (4, (2,)),
    "gshadow": (4, ()),
    "subuid": (3, (1, 2)),
    "subgid": (3, (1, 2)),
}
#: Numbers that may be left out: shadow(5).
_MAY_BE_EMPTY = {"shadow": (2, 3, 4, 5, 6, 7)}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: What stands in for a password: it is in shadow, there is none, or nobody may use one.
_NO_HASH = re.compile(r"x|[*!]*|!?\*?[A-Z]{0,3}\*?")
#: The largest number of an account; 2**32 - 1 means none.
_LARGEST = 2**32 - 2


def check_record(database: str, name: str, line: str) -> None:
    """Refuse an entry that is not one of this name.

    Raises:
        HostError: it has another name, another number of fields, control characters, or words where numbers go.
    """
    where = f"the entry of {name!r} in /etc/{database}"
    fields = line.split(":")
    named = (fields[0], range_name(line)) if database in RANGES else (fields[0],)
    if not name or name.startswith(("+", "-", "#")) or name not in named:
        raise HostError(f"{where} is not one of that name")
    if _CONTROL.search(line):
        raise HostError(f"{where} has control characters in it")
    count, numbers = _FIELDS[database]
    if len(fields) != count:
        raise HostError(f"{where} has {len(fields)} fields, expected {count}: no value may have a colon in it")
    for position in numbers:
        _check_number(fields[position], where, may_be_empty=False)
    for position in _MAY_BE_EMPTY.get(database, ()):
        _check_number(fields[position], where, may_be_empty=True)


def _check_number(text: str, where: str, *, may_be_empty: bool) -> None:
    if may_be_empty and text in ("", "-1"):
        return
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST):
        raise HostError(f"{where} has {text!r} where a number goes")


def is_secret_record(database: str, line: str) -> bool:
    """Return whether an entry must not be shown: it is one of shadow or gshadow, or has a password hash in it."""
    if database in ("shadow", "gshadow"):
        return True
    fields = line.split(":")
    return database in ("passwd", "group") and len(fields) > 1 and _NO_HASH.fullmatch(fields[1]) is None
