"""Reading objects of a real root: the half of the real host that changes nothing.

The end of a path is never followed. Regular files are opened without blocking, without following and, where the caller
owns them or is root, without moving their access time (elsewhere the kernel moves it as its mount options say, and
nothing here puts it back: that would be a write). To read where a link leads moves the link's own access time, for us
as for everybody; the kernel has no way to ask without. Sockets, FIFOs and devices are never opened.

Extended attributes of links and special files are read through ``/proc/self/fd``, so /proc must be mounted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from types import TracebackType
from typing import Literal, Self

from aquiline.errors import HostError
from aquiline.host.attributes import attributes, metadata
from aquiline.host.objects import (
    ABSENT,
    Directory,
    FileObject,
    Metadata,
    RegularFile,
    Special,
    SpecialType,
    Status,
    Symlink,
)
from aquiline.host.protocol import Protection
from aquiline.host.refusals import protection, refused
from aquiline.host.walk import Walk

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_QUIETLY = _OPEN | os.O_NOATIME
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes read at once.
CHUNK = 1 << 20
#: What it looks like when an object is replaced by one of another type between the look and the opening.
_REPLACED = frozenset({errno.EAGAIN, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
#: How often to look again then.
_TRIES = 5
_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)

_SPECIAL: dict[int, SpecialType] = {
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character-device",
    stat.S_IFBLK: "block-device",
}


class Looking:
    """Reads the objects below `root`; holds descriptors of recent directories until `close`."""

    def __init__(self, root: str) -> None:
        self._walk = Walk(root)

    def close(self) -> None:
        """Close all descriptors."""
        self._walk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def forget_directories(self) -> None:
        """Close the descriptors of recent directories, which hold their file systems busy."""
        self._walk.forget()

    def status(self, path: str) -> Status | None:
        try:
            at, name = self._walk.parent(path)
            found = os.lstat(name, dir_fd=at)
        except _NOTHING_THERE:
            return None
        except OSError as error:
            raise refused(error, path, "look at it") from error
        return Status(
            type=_type(found.st_mode),
            mode=found.st_mode & 0o7777,
            uid=found.st_uid,
            gid=found.st_gid,
            mtime_ns=found.st_mtime_ns,
            size=found.st_size,
            links=found.st_nlink,
            inode=(found.st_dev, found.st_ino),
            stored=found.st_blocks * 512,  # stat(3type): its unit is 512 bytes whatever a block is
        )

    def protection(self, path: str) -> Protection:
        try:
            return protection(*self._walk.parent(path))
        except _NOTHING_THERE:
            return ""
        except OSError as error:
            raise refused(error, path, "look at it") from error

    def observe(self, path: str) -> FileObject:
        found = self._observe_in_kept_directory(path)
        if found is not None:
            return found
        try:
            at, name = self._walk.parent(path)
            return observed(at, name)
        except _NOTHING_THERE:
            return ABSENT
        except OSError as error:
            raise refused(error, path, "read it") from error

    def _observe_in_kept_directory(self, path: str) -> RegularFile | None:
        """Return the regular file at `path` if it is one and its directory's descriptor is kept: the quick way.

        The kernel's own look-up of the whole path says whether the descriptor still leads there: both must find one
        inode. Where anything is in doubt the answer is None, and the path is walked.
        """
        directory, _, name = path.rpartition("/")
        at = self._walk.kept(directory)
        if at < 0:
            return None
        try:
            there = os.lstat(self._walk.prefix + path)
            if there.st_mode & 0o170000 != stat.S_IFREG:
                return None
            descriptor = os.open(name, _OPEN_QUIETLY, dir_fd=at)
        except (OSError, ValueError):
            return None
        try:
            found = os.fstat(descriptor)
            if found.st_ino != there.st_ino or found.st_dev != there.st_dev:
                return None
            return _observed_file(descriptor, found)
        except OSError as error:
            raise refused(error, path, "read it") from error
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        descriptor, size = self._open(path)
        try:
            data = os.read(descriptor, size + 1)
            if len(data) == size:
                return data
            return b"".join([data, *_pieces(descriptor)])
        except OSError as error:
            raise refused(error, path, "read it") from error
        finally:
            os.close(descriptor)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Return the pieces of the file; a missing or unreadable one is an error here, not at the first piece."""
        return self._chunks(path, self._open(path)[0])

    def _chunks(self, path: str, descriptor: int) -> Iterator[bytes]:
        try:
            yield from _pieces(descriptor)
        except OSError as error:
            raise refused(error, path, "read it") from error
        finally:
            os.close(descriptor)

    def names(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in the directory at `path`; empty where there is none. A link to one is followed."""
        try:
            at = self._walk.directory(path)
            return tuple(sorted(_listed(at)))
        except _NOTHING_THERE:
            return ()
        except OSError as error:
            raise refused(error, path, "list it") from error

    def _open(self, path: str) -> tuple[int, int]:
        """Return a descriptor of the regular file at `path`, and its size."""
        try:
            at, name = self._walk.parent(path)
            found = os.lstat(name, dir_fd=at)
            if stat.S_ISREG(found.st_mode):
                return open_quietly(name, at), found.st_size
        except OSError as error:
            raise refused(error, path, "read it") from error
        raise HostError(f"is a {_type(found.st_mode)}, not a regular file", path=path)


def observed(at: int, name: str) -> FileObject:
    """Return what stands at `name` in the directory `at`. Raise `FileNotFoundError` where nothing does."""
    for _ in range(_TRIES):
        try:
            return _observed(at, name)
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _observed(at: int, name: str) -> FileObject:
    found = os.lstat(name, dir_fd=at)
    kind = found.st_mode & 0o170000
    if kind == stat.S_IFREG:
        descriptor = open_quietly(name, at)
        try:
            now = os.fstat(descriptor)
            if not stat.S_ISREG(now.st_mode):
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return _observed_file(descriptor, now)
        finally:
            os.close(descriptor)
    if kind == stat.S_IFDIR:
        descriptor = open_quietly(name, at, os.O_DIRECTORY)
        try:
            return Directory(metadata(os.fstat(descriptor), attributes(descriptor)))
        finally:
            os.close(descriptor)
    descriptor = os.open(name, _LOOK, dir_fd=at)
    try:
        return _observed_unopened(descriptor)
    finally:
        os.close(descriptor)


def _observed_file(descriptor: int, found: os.stat_result) -> RegularFile:
    size = found.st_size
    xattrs = attributes(descriptor)
    data = os.read(descriptor, min(size, CHUNK) + 1)
    if len(data) == size and size:
        digest = sha256(data).hexdigest()
    else:
        # larger than a piece, still growing, or a file of /proc, whose size is not known before it is read
        digest, size = _digest(data, descriptor)
    owned = Metadata(found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime_ns, xattrs)
    return RegularFile(owned, size, digest, found.st_nlink)


def _digest(begin: bytes, descriptor: int) -> tuple[str, int]:
    """Return digest and size of `begin` and all that can still be read."""
    digest = sha256(begin)
    size = len(begin)
    for piece in _pieces(descriptor):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _observed_unopened(descriptor: int) -> Symlink | Special:
    found = os.fstat(descriptor)
    try:
        described = metadata(found, attributes(unopened(descriptor)))
    except FileNotFoundError as error:
        # it is /proc that is not there; the object must not pass for absent
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if stat.S_ISLNK(found.st_mode):
        return Symlink(described, os.readlink("", dir_fd=descriptor))
    special = _SPECIAL.get(stat.S_IFMT(found.st_mode))
    if special is None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return Special(described, special, found.st_rdev)


def unopened(descriptor: int) -> str:
    """Return a path of the inode behind an ``O_PATH`` descriptor, for calls that need one (proc(5))."""
    return f"/proc/self/fd/{descriptor}"


def open_quietly(name: str, at: int | None = None, flags: int = 0) -> int:
    """Open for reading; without moving the access time where that is permitted."""
    try:
        return os.open(name, _OPEN_QUIETLY | flags, dir_fd=at)
    except PermissionError:
        return os.open(name, _OPEN | flags, dir_fd=at)


def _pieces(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, CHUNK):
        yield data


def _listed(at: int) -> list[str]:
    descriptor = open_quietly(".", at, os.O_DIRECTORY)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _type(mode: int) -> Literal["file", "directory", "symlink", "special"]:
    kind = mode & 0o170000
    if kind == stat.S_IFREG:
        return "file"
    if kind == stat.S_IFDIR:
        return "directory"
    return "symlink" if kind == stat.S_IFLNK else "special"
