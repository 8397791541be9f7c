"""What any object is called, and how to look at it by that name.

A file is called by its path. What is not in the file tree is called by its kind and its name: ``unit:nginx.service``,
``passwd:alice``, ``group:wheel``, ``package:curl``. So a step, a conflict, `blame` and `verify` treat all alike.
"""

from __future__ import annotations

import os
import posixpath

from aquiline.host.objects import ABSENT, Object, Record, Unit
from aquiline.host.protocol import Reading
from aquiline.host.records import DATABASES, place_of

#: Of Linux, with the NUL at the end.
_PATH_MAX = 4096


def is_path(name: str) -> bool:
    """Return whether `name` is that of an object in the file tree."""
    return name.startswith("/")


def is_plain(path: str) -> bool:
    """Return whether `path` is the one way to write an absolute path of at most PATH_MAX bytes.

    ``/etc/../x`` and ``//x`` are not: whoever compares paths, as policy and undo do, would take them for other objects.
    """
    is_normal = path.startswith("/") and not path.startswith("//") and path == posixpath.normpath(path)
    return is_normal and "\0" not in path and len(os.fsencode(path)) < _PATH_MAX


def unit_name(unit: str) -> str:
    """Return what the unit is called among all objects."""
    return f"unit:{unit}"


def package_name(package: str) -> str:
    """Return what the package is called among all objects."""
    return f"package:{package}"


def record_name(database: str, account: str) -> str:
    """Return what an entry of an account database is called among all objects."""
    return f"{database}:{account}"


def path_of(name: str) -> str:
    """Return the path of the file that an object is, or is in; empty where it is in none."""
    kind = name.partition(":")[0]
    return name if is_path(name) else place_of(kind) if kind in DATABASES else ""


def observe(host: Reading, name: str) -> Object:
    """Return the object that is called `name`; raises what looking at it raises, `ValueError` for no such kind."""
    if is_path(name):
        return host.observe(name)
    kind, _, rest = name.partition(":")
    match kind:
        case "unit":
            state = host.units.state(rest)
            return Unit(state.enabled, state.active) if state.exists else ABSENT
        case "package":
            return host.packages.installed().get(rest, ABSENT)
        case _ if kind in DATABASES:
            line = host.accounts.entry(kind, rest).line
            return Record(line) if line is not None else ABSENT
        case _:
            raise ValueError(f"there is no kind of object {kind!r}: {name}")
