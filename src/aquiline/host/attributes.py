"""Owner, mode, times and extended attributes of one inode: read exactly, given exactly.

A *target* is a descriptor, or ``/proc/self/fd/N`` of an ``O_PATH`` descriptor where the inode cannot be opened (links,
special files): either names one inode for as long as it is held, whatever happens to its name.

Order matters when giving (`give`):

1. where owner or ACL change, permission bits shrink to those that both old and new allow, so that at no instant anybody
   may do what neither allows;
2. owner and group: this clears setuid, setgid and capabilities;
3. extended attributes, ACLs among them: setting an ACL rewrites the group bits of the mode;
4. the mode; 5. the modification time.

``security.ima`` and ``security.evm`` are left alone: the kernel derives them from the content. ``security.selinux`` is
left alone unless it is asked for.
"""

from __future__ import annotations

import errno
import os
import stat

from aquiline.host.objects import Metadata

ACCESS_ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
SELINUX = "security.selinux"
_DERIVED = frozenset({"security.ima", "security.evm"})
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})


def attributes(target: int | str) -> tuple[tuple[str, bytes], ...]:
    """Return the extended attributes of `target`, sorted by name; none where its file system has no such thing."""
    try:
        names = os.listxattr(target)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return ()
        raise
    return _values(target, names) if names else ()


def _values(target: int | str, names: list[str]) -> tuple[tuple[str, bytes], ...]:
    found = []
    for name in sorted(names):
        if name in _DERIVED:
            continue
        try:
            found.append((name, os.getxattr(target, name)))
        except OSError as error:
            if error.errno != errno.ENODATA and error.errno not in _NO_ATTRIBUTES:
                raise  # gone since it was listed, or never given to us: not part of what can be restored
    return tuple(found)


def metadata(found: os.stat_result, xattrs: tuple[tuple[str, bytes], ...]) -> Metadata:
    """Return what `found` says of an inode."""
    return Metadata(found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime_ns, xattrs)


def give(target: int | str, wanted: Metadata, found: os.stat_result) -> None:
    """Give the inode exactly the `wanted` metadata, `found` being what it has now. ``mtime_ns`` 0 leaves the time."""
    link = stat.S_ISLNK(found.st_mode)
    mode = stat.S_IMODE(found.st_mode)
    xattrs_now = attributes(target)
    moves = (found.st_uid, found.st_gid) != (wanted.uid, wanted.gid)
    if not link and (moves or _acl(xattrs_now) != _acl(wanted.xattrs)) and mode & ~wanted.mode & 0o777:
        mode &= wanted.mode & 0o777
        os.chmod(target, mode)
    if moves:
        os.chown(target, wanted.uid, wanted.gid)
    if moves or xattrs_now != wanted.xattrs:
        # read again after chown, which clears capabilities
        _give_attributes(target, wanted.xattrs, dict(attributes(target)) if moves else dict(xattrs_now))
    if not link and (moves or xattrs_now != wanted.xattrs or mode != wanted.mode):
        # even where the mode was right: chown and ACLs change bits of it
        os.chmod(target, wanted.mode)
    if wanted.mtime_ns:
        set_mtime(target, wanted.mtime_ns)


def _give_attributes(target: int | str, wanted: tuple[tuple[str, bytes], ...], found: dict[str, bytes]) -> None:
    keep = {name for name, _ in wanted} | {SELINUX}
    for name in found:
        if name not in keep:
            os.removexattr(target, name)
    for name, value in wanted:
        if found.get(name) != value and name not in _DERIVED:
            os.setxattr(target, name, value)


def _acl(xattrs: tuple[tuple[str, bytes], ...]) -> bytes:
    return next((value for name, value in xattrs if name == ACCESS_ACL), b"")


def set_mtime(target: int | str, mtime_ns: int) -> None:
    """Set the modification time and leave the access time."""
    os.utime(target, ns=(os.stat(target).st_atime_ns, mtime_ns))
