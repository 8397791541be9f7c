"""In which respects two objects of one name differ, in words."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from aquiline.changes.describe import object_name, owner_and_group
from aquiline.changes.text import quoted, visible
from aquiline.host.objects import Absent, Object, Package, Record, RegularFile, Special, Symlink, Unit


class Difference(msgspec.Struct, frozen=True):
    """One respect in which two objects differ."""

    #: What differs: type, content, owner, mode, attributes, …
    what: str
    was: str = ""
    now: str = ""


def differences(was: Object, now: Object) -> Iterator[Difference]:
    """Yield every respect in which `now` is not what `was` was; times and numbers of links are none (D13)."""
    match was, now:
        case Absent(), Absent():
            return
        case Unit(), Unit():
            yield from _fields(was, now, "enabled", "active")
        case Package(), Package():
            yield from _fields(was, now, "version", "status", "auto", "hold")
        case Record(), Record():
            if was != now:
                yield Difference("entry")
        case _ if type(was) is not type(now):
            yield Difference("type", object_name(was), object_name(now))
        case _:
            yield from _of_files(was, now)


def _fields(was: Unit | Package, now: Unit | Package, *names: str) -> Iterator[Difference]:
    for name in names:
        old, new = getattr(was, name), getattr(now, name)
        unknown = isinstance(was, Unit) and "" in (old, new)
        if old != new and not unknown:
            yield Difference(name, str(old).lower(), str(new).lower())


def _of_files(was: Object, now: Object) -> Iterator[Difference]:
    if isinstance(was, RegularFile) and isinstance(now, RegularFile) and was.sha256 != now.sha256:
        yield Difference("content", f"{was.size} bytes", f"{now.size} bytes")
    if isinstance(was, Symlink) and isinstance(now, Symlink) and was.target != now.target:
        yield Difference("target", quoted(was.target), quoted(now.target))
    if isinstance(was, Special) and isinstance(now, Special):
        yield from _of_names(object_name(was), object_name(now))
    if isinstance(was, Absent | Unit | Record | Package) or isinstance(now, Absent | Unit | Record | Package):
        return
    old, new = was.metadata, now.metadata
    if old.mode != new.mode and not isinstance(was, Symlink):
        yield Difference("mode", f"{old.mode:04o}", f"{new.mode:04o}")
    if (old.uid, old.gid) != (new.uid, new.gid):
        yield Difference("owner", owner_and_group(old.uid, old.gid), owner_and_group(new.uid, new.gid))
    if old.xattrs != new.xattrs:
        names = sorted({name for name, _ in set(old.xattrs) ^ set(new.xattrs)})
        yield Difference("attributes", "", ", ".join(visible(name) for name in names))


def _of_names(was: str, now: str) -> Iterator[Difference]:
    if was != now:
        yield Difference("device number", was, now)
