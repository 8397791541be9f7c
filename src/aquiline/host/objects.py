"""What can stand at a path of a host, as values.

An *object* is a regular file, directory, symbolic link, special file, or nothing. Two objects are compared by what
undo promises to restore (DESIGN P4): type, content, owner, group, mode, mtime, extended attributes (which hold ACLs,
capabilities and the SELinux label) and link target. Inode numbers, atime, ctime and birth time are not part of it.

Paths are absolute ``str`` below the host's root; bytes that are not UTF-8 are surrogate-escaped as `os.fsdecode` does.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

SpecialType = Literal["fifo", "socket", "character-device", "block-device"]


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """Owner, mode, time and attributes of an object."""

    #: Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    mode: int
    uid: int
    gid: int
    #: Modification time in nanoseconds since the epoch.
    mtime_ns: int = 0
    #: Extended attributes sorted by name; ACLs are ``system.posix_acl_access`` and ``system.posix_acl_default``.
    xattrs: tuple[tuple[str, bytes], ...] = ()


class Absent(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="absent"):
    """Nothing stands there."""


class RegularFile(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="file"):
    """A regular file, its content known by size and digest."""

    metadata: Metadata
    #: Bytes.
    size: int
    #: SHA-256 of the content, lowercase hexadecimal.
    sha256: str
    #: How many names the inode has.
    links: int = 1


class Directory(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="directory"):
    """A directory; what is in it is other objects' business."""

    metadata: Metadata


class Symlink(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="symlink"):
    """A symbolic link; its mode is always 0o777 on Linux."""

    metadata: Metadata
    target: str


class Special(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="special"):
    """A FIFO, socket or device node."""

    metadata: Metadata
    special: SpecialType
    #: Device number as `os.makedev` builds it; 0 for FIFOs and sockets.
    device: int = 0


class Unit(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="unit"):
    """A unit of the service manager, named ``unit:NAME``."""

    #: As `systemctl is-enabled` says: enabled, disabled, masked, static, …; empty where nobody asks.
    enabled: str
    #: As `systemctl is-active` says: active, inactive, failed, …; empty where nobody asks, or where nothing runs: below
    #: an offline root.
    active: str = ""


class Record(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="record"):
    """An entry of an account database, named ``passwd:alice`` or ``group:wheel``."""

    #: The whole line, its end left out.
    line: str


class Package(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="package"):
    """A package that the package manager knows, named ``package:NAME`` (dpkg: ``package:NAME:ARCHITECTURE``)."""

    #: Full version; empty where only its configuration files are left.
    version: str
    #: As dpkg says: installed, config-files, half-configured, …; rpm knows installed only.
    status: str = "installed"
    #: It came as somebody's dependency, and goes when nobody needs it.
    auto: bool = False
    #: It is kept at its version.
    hold: bool = False


System = Unit | Record | Package
FileObject = Absent | RegularFile | Directory | Symlink | Special
#: What may stand at a path, or be known by a kind and a name.
Object = FileObject | System
Present = RegularFile | Directory | Symlink | Special

ABSENT = Absent()


class At(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object by its name."""

    #: An absolute path, or a kind and a name: ``unit:nginx.service``, ``passwd:alice``, ``package:curl``.
    path: str
    object: Object


class Enablement(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a unit is enabled or masked, as the links say that make it so: what undo of it is made of."""

    #: As `systemctl is-enabled` says.
    state: str
    #: It, and those that enabling it takes along (``Also=``).
    units: tuple[str, ...]
    #: Every link to one of `units`, in the folders where links enable; all others of theirs are not to be there.
    links: tuple[At, ...] = ()
    #: Folders of links that are not there: one that was made for a link goes again once it is empty.
    absent_folders: tuple[str, ...] = ()


def file_object(at: At) -> FileObject:
    """Return the object at a path; `at` must not name a unit, record or package."""
    if isinstance(at.object, System):
        raise TypeError(f"{at.path} is not in the file tree")
    return at.object


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cheap part of an object: one lstat, no content."""

    type: Literal["file", "directory", "symlink", "special"]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    links: int
    #: Identity of the inode while it lives: (device, inode number).
    inode: tuple[int, int]
    #: Bytes that its content takes on its file system: fewer than `size` where it has holes.
    stored: int


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in lowercase hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def same_but_times(one: Object, other: Object) -> bool:
    """Return whether `without_times` of both is equal; of two files without making either, for that is asked a lot."""
    if isinstance(one, Unit) and isinstance(other, Unit):
        return _same_unit(one, other)
    if not isinstance(one, RegularFile) or not isinstance(other, RegularFile):
        return without_times(one) == without_times(other)
    owned, others = one.metadata, other.metadata
    return (
        one.sha256 == other.sha256
        and one.size == other.size
        and owned.mode == others.mode
        and owned.uid == others.uid
        and owned.gid == others.gid
        and owned.xattrs == others.xattrs
    )


def _same_unit(one: Unit, other: Unit) -> bool:
    """Whether two units are the same in what is known of both: a step may be about one side only."""
    return (not one.enabled or not other.enabled or one.enabled == other.enabled) and (
        not one.active or not other.active or one.active == other.active
    )


def has_died(left: Object, found: Object) -> bool:
    """Return whether `found` is a unit that ran as `left` says, and ended or is being started again by itself.

    Somebody who stops a unit leaves it inactive; this is nobody's change.
    """
    if not isinstance(left, Unit) or not isinstance(found, Unit) or left.active != "active":
        return False
    return found.active in ("failed", "activating") and _same_unit(left, Unit(found.enabled))


def without_times(found: Object) -> Object:
    """Return `found` as conflicts compare it (DESIGN D13): modification time and number of links left out.

    A directory's mtime changes with every entry made in it, so no comparison of directories may look at it.
    """
    match found:
        case Absent() | Unit() | Record() | Package():
            return found
        case RegularFile():
            return msgspec.structs.replace(found, metadata=_timeless(found.metadata), links=1)
        case _:
            return msgspec.structs.replace(found, metadata=_timeless(found.metadata))


def _timeless(metadata: Metadata) -> Metadata:
    return msgspec.structs.replace(metadata, mtime_ns=0)
