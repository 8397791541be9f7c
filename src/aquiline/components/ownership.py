"""Owners and groups as profiles write them, and whether a host has them."""

from __future__ import annotations

from collections.abc import Callable

from aquiline.planning.component import View


def split_owner(owner: str | None, group: str | None = None) -> tuple[str | None, str | None]:
    """Return user and group of ``user`` or ``user:group``; a `group` given apart wins, as in Quattor."""
    if not owner or ":" not in owner:
        return owner or None, group or None
    user, _, of_owner = owner.partition(":")
    return user or None, group or of_owner or None


def number_or_name(account: str | None) -> str | int | None:
    """Return an account as the kinds of change take it: text of digits is a number, and root is 0.

    Root is known on a root directory without account files too.
    """
    if account == "root":
        return 0
    return int(account) if account is not None and account.isascii() and account.isdigit() else account


class Accounts:
    """Which users and groups a host has, each asked for once."""

    def __init__(self, host: View) -> None:
        self._host = host
        self._known: dict[tuple[str, str], bool] = {}

    def missing(self, user: str | None, group: str | None) -> str:
        """Return the first of the two that the host does not have, in words; empty where it has both."""
        if user is not None and not self._has("user", user, self._host.has_user):
            return f"no user {user}"
        if group is not None and not self._has("group", group, self._host.has_group):
            return f"no group {group}"
        return ""

    def _has(self, kind: str, name: str, look_up: Callable[[str], bool]) -> bool:
        if (kind, name) not in self._known:
            self._known[kind, name] = isinstance(number_or_name(name), int) or look_up(name)
        return self._known[kind, name]
