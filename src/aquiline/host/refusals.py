"""What the kernel refused, in words for a person: which object, why, and what to do about it."""

from __future__ import annotations

import array
import errno
import fcntl
import os

from aquiline.errors import HostError
from aquiline.host.protocol import Protection

# FS_IOC_GETFLAGS of linux/fs.h: _IOR('f', 1, long)
_GET_FLAGS = 0x80086601
_IMMUTABLE = 0x10
_APPEND_ONLY = 0x20

_WORDS: dict[int, tuple[str, str]] = {
    errno.EROFS: ("is on a read-only file system", "remount it read-write, or leave it out of the profile"),
    errno.ENOSPC: ("there is no space or no inode left on its file system", "see `df` and `df -i`, then run it again"),
    errno.EDQUOT: ("the disk quota of its owner is used up", "see `quota`, then run it again"),
    errno.ELOOP: ("too many links on the way, or a link where none may be", "see `namei -l` for the chain of links"),
    errno.ENAMETOOLONG: ("its name, or its path, is longer than the file system allows", ""),
    errno.EBUSY: (
        "is a mount point, or in use, and cannot be replaced or removed",
        "ask for in_place to write through it, or unmount it first",
    ),
    errno.ETXTBSY: ("is a program that is running, and cannot be overwritten in place", ""),
    errno.EXDEV: (
        "source and destination are on different file systems or mounts",
        "write a copy and remove the source instead",
    ),
    errno.ENOTEMPTY: ("is a directory that is not empty", "remove what is in it first"),
    errno.EEXIST: ("is a directory that is not empty, or was made by somebody else meanwhile", ""),
    errno.ENOTDIR: ("a parent of it, or it itself, is not a directory", ""),
    errno.EISDIR: ("is a directory", ""),
    errno.ENOENT: ("it, or a parent of it, is not there", "make the directory it stands in first"),
    errno.EACCES: ("permission denied", "run this as root"),
    errno.EPERM: ("operation not permitted", "run this as root"),
    errno.EMLINK: ("it has as many names as its file system allows", ""),
    errno.EFBIG: ("is larger than its file system, or the limit of this process, allows", ""),
    errno.EIO: ("its disk reported an error", "see `dmesg`"),
    errno.EAGAIN: ("it was replaced again and again while it was being read", "find out who writes it, and try again"),
    errno.ENOSYS: ("that needs /proc, which is not mounted", "mount it: `mount -t proc proc /proc`"),
    errno.ESTALE: ("its network file system lost it", ""),
    errno.EOPNOTSUPP: ("its file system cannot hold such an attribute or object", ""),
}


def refused(error: OSError, path: str, doing: str, *, at: int = -1, name: str = "") -> HostError:
    """Return the `HostError` that tells of `error`, met while `doing` something to `path`.

    `at` and `name` are where it stands (directory descriptor and name there): for EPERM they tell whether it, or its
    directory, is immutable. Raise the result ``from error``.
    """
    code = error.errno or 0
    if code == errno.EPERM and at >= 0:
        flag = _protection(at, name)
        if flag:
            return HostError(
                f"cannot {doing}: {flag}", path=path, hint="take the flag away with `chattr`, if it may go"
            )
    if code == errno.ENOENT and str(error.filename).startswith("/proc/self/fd/"):
        code = errno.ENOSYS  # it is /proc that is not there: the descriptor is open
    words, hint = _WORDS.get(code, (os.strerror(code) if code else str(error), ""))
    return HostError(f"cannot {doing}: {words}", path=path, hint=hint)


def is_append_only(directory: int) -> bool:
    """Whether names can be added to a directory, and never renamed or removed."""
    return bool(_flags(directory, ".") & _APPEND_ONLY)


def protection(at: int, name: str) -> Protection:
    """Return the flag of what stands at `name` that keeps even root from changing it; empty where none does."""
    flags = _flags(at, name)
    return "immutable" if flags & _IMMUTABLE else "append-only" if flags & _APPEND_ONLY else ""


def protected(found: Protection) -> str:
    """Return what such a flag means, in words."""
    return f"is {found} (chattr +{found[0]})"


def _protection(at: int, name: str) -> str:
    for target, whose in ((name, ""), (".", "its directory ")):
        found = protection(at, target)
        if found:
            return whose + protected(found)
    return ""


def _flags(at: int, name: str) -> int:
    """Return the inode flags of a file or directory; 0 where it has none or they cannot be read."""
    try:
        if (os.lstat(name, dir_fd=at).st_mode & 0o170000) not in (0o100000, 0o040000):
            return 0  # opening a device has effects
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except OSError:
        return 0
    try:
        flags = array.array("L", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags, True)
        return flags[0]
    except OSError:
        return 0
    finally:
        os.close(descriptor)
