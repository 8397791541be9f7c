"""Which of two versions is the newer, as dpkg and rpm have it (deb-version(7), rpm-version(7))."""

from __future__ import annotations

import re
from itertools import zip_longest

_RPM_PARTS = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")


def is_older_deb(version: str, other: str) -> bool:
    """Return whether Debian `version` comes before `other`."""
    return _deb_key(version) < _deb_key(other)


def _deb_key(version: str) -> tuple[int, list[object], list[object]]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), _deb_parts(upstream), _deb_parts(revision)


def _deb_parts(text: str) -> list[object]:
    """Return non-digits and numbers in turn; of letters, ``~`` sorts before the end and letters before all else."""
    parts: list[object] = []
    for letters, digits in re.findall(r"([^0-9]*)([0-9]*)", text)[:-1] or [("", "")]:
        parts += [(*map(_deb_order, letters), 0), int(digits or 0)]
    return [*parts, (0,), 0]


def _deb_order(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256


def is_older_rpm(version: str, other: str) -> bool:
    """Return whether rpm's ``[EPOCH:]VERSION-RELEASE`` `version` comes before `other`."""
    for one, two in zip(_rpm_split(version), _rpm_split(other), strict=True):
        order = _rpm_compare(one, two)
        if order:
            return order < 0
    return False


def _rpm_split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, release = rest.partition("-")
    return epoch, upstream, release


def _rpm_compare(one: str, two: str) -> int:
    """Return below, at or above 0 (rpmvercmp): a number beats letters, ``~`` is before the end, ``^`` just after it."""
    for left, right in zip_longest(_RPM_PARTS.findall(one), _RPM_PARTS.findall(two), fillvalue=""):
        if left == right:
            continue
        for mark in ("~", "^"):
            if mark in (left, right):
                is_first = (left == mark) is not (mark == "^" and "" in (left, right))
                return -1 if is_first else 1
        ranks = _rpm_rank(left), _rpm_rank(right)
        if ranks != ranks[::-1]:
            return -1 if ranks[0] < ranks[1] else 1
    return 0


def _rpm_rank(part: str) -> tuple[int, int, str]:
    if not part:
        return 0, 0, ""
    return (2, int(part), "") if part.isdigit() else (1, 0, part)
