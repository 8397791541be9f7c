"""The account files, passwd(5) and group(5), as names with their numbers."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from aquiline.errors import HostError
from aquiline.host.objects import Status
from aquiline.host.protocol import Entry, Host
from aquiline.host.records import Databases, edit


def numbers(content: bytes) -> dict[str, int]:
    """Return the number of each name in the text of a ``passwd`` or ``group`` file.

    Lines that do not fit the format are passed over, as the C library does; of two lines with one name the first
    counts.
    """
    found: dict[str, int] = {}
    for line in content.splitlines():
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit():
            found.setdefault(os.fsdecode(fields[0]), int(fields[2]))
    return found


#: Above it is no number of an account: the last one means "as it is" to chown(2).
_LAST_NUMBER = 2**32 - 2


def number_without_files(name: str) -> int | None:
    """Return the number that `name` means where no account file has it: root's, or the one that it spells.

    An image may not have its account files yet; chown(1) takes numbers, and systemd knows root, without them.
    """
    if name == "root":
        return 0
    number = int(name) if name.isascii() and name.isdigit() and len(name) <= 10 else None
    return number if number is not None and number <= _LAST_NUMBER else None


class RootAccounts:
    """Users and groups of `host`, from the files in its own ``/etc``.

    For the running system the name services are asked for what is not in them: users may come from LDAP or SSSD. Root,
    and text that is a number, are known everywhere.
    """

    def __init__(self, host: Host, lock: Callable[[], AbstractContextManager[None]]) -> None:
        self._host = host
        self._lock = lock
        self._read: dict[str, tuple[Status | None, dict[str, int]]] = {}
        self._databases = Databases(host)

    def uid(self, user: str | int) -> int:
        """Return the number of `user`; raise `HostError` where there is none. A number is returned as it is."""
        return user if isinstance(user, int) else self._number(user, "user", "/etc/passwd", _user_of_name_services)

    def gid(self, group: str | int) -> int:
        """Return the number of `group`; raise `HostError` where there is none. A number is returned as it is."""
        return group if isinstance(group, int) else self._number(group, "group", "/etc/group", _group_of_name_services)

    def entry(self, database: str, name: str) -> Entry:
        """Return an entry of the files in ``/etc``: what name services know besides is none."""
        return self._databases.of(database).entry(name)

    def set_entries(self, database: str, entries: Sequence[Entry]) -> None:
        """Set entries under ``/etc/.pwd.lock``; raise `HostError` where somebody keeps it."""
        with self._lock():
            edit(self._host, database, entries)

    def _number(self, name: str, what: str, path: str, ask: Callable[[str], int]) -> int:
        number = self._listed(path).get(name)
        if number is not None:
            return number
        if not self._host.offline:
            try:
                return ask(name)
            except (KeyError, ValueError):
                pass  # said below, for both cases
        number = number_without_files(name)
        if number is not None:
            return number
        raise HostError(f"no such {what} {name!r}", hint=f"it must be in {path} before anything can belong to it")

    def _listed(self, path: str) -> dict[str, int]:
        now = self._host.status(path)
        kept = self._read.get(path)
        if kept is None or kept[0] != now:
            kept = (now, numbers(self._host.read(path)) if now is not None else {})
            self._read[path] = kept
        return kept[1]


def _user_of_name_services(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group_of_name_services(name: str) -> int:
    return grp.getgrnam(name).gr_gid
