"""When a job of cron runs: the fields of crontab(5), checked, and moved by a number of minutes.

A moved job may pass midnight; then the fields for day, month and weekday are moved with it, as Quattor does. That needs
fields written as numbers: ``*`` stays what it is, lists and ranges are moved number by number.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from aquiline.errors import ProfileError

#: A number may be written as such, too: people do so in YAML.
Field = int | Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9/*,-]+$")]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of crontab(5), each ``*`` by default."""

    minute: Field = "*"
    hour: Field = "*"
    day: Field = "*"
    month: Field = "*"
    weekday: Field = "*"
    #: Minutes, within which each host has a time of its own.
    smear: Annotated[int, msgspec.Meta(ge=0, le=1440)] = 0


_AT = frozenset({"@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_WEEKDAYS = frozenset(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
#: Name, lowest and highest number, names; in the order of the line.
_FIELDS: tuple[tuple[str, int, int, frozenset[str]], ...] = (
    ("minute", 0, 59, frozenset()),
    ("hour", 0, 23, frozenset()),
    ("day", 1, 31, frozenset()),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _WEEKDAYS),
)
_NUMBERS = re.compile(r"[0-9]+")
_NAMES = re.compile(r"[a-z]+")
_FIELD = re.compile(r"(?:(?:\*|[a-z0-9]+(?:-[a-z0-9]+)?)(?:/[0-9]+)?(?:,(?!\Z)|\Z))+")
_PART = re.compile(r"([0-9]+)(?:-([0-9]+)(?:/([0-9]+))?)?")


def frequency_of(frequency: str, automatic: int, where: str) -> str:
    """Return a frequency with its AUTO replaced by the minute `automatic`; raise `ProfileError` where it is none."""
    frequency = frequency.strip("\n")
    if frequency in _AT:
        return frequency
    if len(frequency.splitlines()) > 1:
        raise ProfileError("found several lines, expected one", path=where)
    fields = frequency.split()
    if len(fields) != len(_FIELDS):
        raise ProfileError(f"found {len(fields)} fields in {frequency!r}, expected {len(_FIELDS)}", path=where)
    for (name, *_), field in zip(_FIELDS, fields, strict=True):
        if not (name == "minute" and field == "AUTO"):
            _check(name, field, where)
    # Replaced in place: the line keeps the spaces that its author put between the fields.
    return frequency.replace("AUTO", str(automatic), 1)


def smeared(timing: Timing, by: int, where: str) -> str:
    """Return the five fields of `timing`, moved by `by` minutes; raise `ProfileError` where they cannot be."""
    fields = {name: str(getattr(timing, name)) for name, *_ in _FIELDS}
    for name, field in fields.items():
        _check(name, field, f"{where}/{name}")
    if timing.smear:
        _check_movable(fields, timing.smear, where)
        fields = _moved(fields, by)
    return " ".join(fields.values())


def _moved(fields: dict[str, str], by: int) -> dict[str, str]:
    minute, hours = _add(fields["minute"], by, 0, 59)
    hour, days = _add(fields["hour"], hours, 0, 23)
    weekday, _ = _add(fields["weekday"], days, 0, 6)
    day, months = _add(fields["day"], days, 1, 31)
    month, _ = _add(fields["month"], months, 1, 12)
    return {"minute": minute, "hour": hour, "day": day, "month": month, "weekday": weekday}


def _check_movable(fields: dict[str, str], smear: int, where: str) -> None:
    """Refuse what some host could not have, on every host: not by the luck of its name."""
    minute, hour = fields["minute"], fields["hour"]
    if not minute.isdigit():
        raise ProfileError(f"found {minute!r}, expected one number, because of smear", path=f"{where}/minute")
    if smear > 60 and not hour.isdigit():
        raise ProfileError(f"found {hour!r}, expected one number, because smear is above 60", path=f"{where}/hour")
    last = int(minute) + smear - 1
    last_hour = max(map(int, _NUMBERS.findall(hour)), default=0)
    passed = ["hour"] if last > 59 else []
    if hour != "*" and last_hour * 60 + last >= 24 * 60:
        passed += ["day", "month", "weekday"]
    for name in passed:
        if fields[name] != "*" and not all(_PART.fullmatch(part) for part in fields[name].split(",")):
            message = f"found {fields[name]!r}, expected numbers, because smear may carry into it"
            raise ProfileError(message, path=f"{where}/{name}")


def _add(field: str, amount: int, lowest: int, highest: int) -> tuple[str, int]:
    """Return a field with `amount` added to each of its numbers, and how often the last of them went round."""
    parts = [_PART.fullmatch(part) for part in field.split(",")]
    if field == "*" or not all(parts):
        return field, 0
    numbers: list[int] = []
    carried = 0
    for part in parts:
        assert part is not None
        first, last, step = part.groups()
        numbers += range(int(first), int(last or first) + 1, int(step or 1) or 1)
    moved = []
    for number in sorted(set(numbers)):
        wanted = number + amount
        if wanted > highest:
            carried = wanted // (highest + 1)
            wanted = wanted % (highest + 1) + lowest
        moved.append(wanted)
    return ",".join(map(str, moved)), carried


def _check(name: str, field: str, where: str) -> None:
    """Raise `ProfileError` for a field that cron would not read: odd characters, numbers and names out of range."""
    _, lowest, highest, names = next(known for known in _FIELDS if known[0] == name)
    text = field.lower()
    wrong = [number for number in _NUMBERS.findall(text) if not lowest <= int(number) <= highest]
    wrong += [word for word in _NAMES.findall(text) if word not in names]
    if wrong or not _FIELD.fullmatch(text):
        raise ProfileError(f"found {field!r}, expected a {name} from {lowest} to {highest}", path=where)
