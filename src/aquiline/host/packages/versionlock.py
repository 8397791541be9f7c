"""Holds of dnf hosts: the locks of its plugin versionlock.

A lock is a line of the plugin's list: a pattern of name, or of name and version in one of the forms of dnf (``tool``,
``tool.noarch``, ``tool-1.0-1``, ``tool-0:1.0-1.*``). A line that begins with ``!`` keeps versions away, and holds
nothing. The file is described in dnf-versionlock(8); which package a pattern means is decided as the plugin does it.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from aquiline.host.protocol import Reading

_SETTINGS = "/etc/dnf/plugins/versionlock.conf"


class VersionLocks:
    """The locks of `host`."""

    def __init__(self, host: Reading) -> None:
        self._host = host

    @property
    def is_here(self) -> bool:
        """Whether the plugin is on the host and switched on."""
        return bool(self._place())

    def entries(self) -> tuple[str, ...]:
        """Return the patterns that hold packages; none where there is no such plugin."""
        place = self._place()
        if not place or self._host.status(place) is None:
            return ()
        lines = map(str.strip, self._host.read(place).decode(errors="surrogateescape").splitlines())
        return tuple(line for line in lines if line and line[0] not in "#!")

    def _place(self) -> str:
        """Return the path of the list, as the plugin's own settings say; empty where the plugin is not at work."""
        if self._host.status(_SETTINGS) is None:
            return ""
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read_string(self._host.read(_SETTINGS).decode(errors="replace"))
            is_on = settings.getboolean("main", "enabled", fallback=True)
        except (configparser.Error, ValueError):
            return ""
        return settings.get("main", "locklist", fallback="") if is_on else ""


def is_locked(entries: Iterable[str], *, name: str, evr: str, arch: str) -> bool:
    """Return whether a lock holds this package at this version; `evr` without epoch is of epoch 0."""
    epoch, _, rest = evr.rpartition(":")
    version = rest.rpartition("-")[0]
    epoch = epoch or "0"
    forms = [
        name, f"{name}.{arch}",
        f"{name}-{version}", f"{name}-{rest}", f"{name}-{rest}.{arch}",
        f"{name}-{epoch}:{version}", f"{name}-{epoch}:{rest}", f"{name}-{epoch}:{rest}.{arch}",
        f"{epoch}:{name}-{rest}.{arch}",
    ]  # fmt: skip
    return any(fnmatchcase(form, entry) for entry in entries for form in forms)


def entries_of(entries: Iterable[str], name: str, arch: str) -> list[str]:
    """Return the locks of a package, whichever version they hold it at."""
    versioned = re.compile(rf"(\d+:)?{re.escape(name)}-(\d+:)?[^-]+(-[^-]+)?")
    return [one for one in entries if one in (name, f"{name}.{arch}") or versioned.fullmatch(one)]
