"""What kind of file system a directory is on: effects on network file systems and automount points are refused (D14).

On such a file system rename and fsync promise less than everything here is built on, another host may be writing at
the same time, and one change would be made once by each host that mounts it.
"""

from __future__ import annotations

import ctypes
import os

from aquiline.errors import HostError

#: ``f_type`` of statfs(2), from linux/magic.h and the file systems' own headers.
_NETWORK = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb3",
    0x517B: "smbfs",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x5346414F: "afs",
    0x6B414653: "afs",
    0x73757245: "coda",
    0x564C: "ncpfs",
    0x0BD00BD0: "lustre",
    0x19830326: "beegfs",
    0x47504653: "gpfs",
    0x0187: "autofs",
}
_FUSE = 0x65735546
#: FUSE file systems on a local disk; every other ``fuse.*`` may be on the network.
_LOCAL_FUSE = frozenset(
    {"fuse", "fuseblk", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext2", "fuse.overlayfs", "fuse.fuse-overlayfs"}
)

_libc = ctypes.CDLL(None, use_errno=True)


def network_file_system(descriptor: int) -> str:
    """Return the name of the network file system that `descriptor` is on, empty for a local one."""
    # struct statfs begins with f_type, a machine word; 256 bytes are more than any architecture's struct
    buffer = (ctypes.c_ulong * 32)()
    if _libc.fstatfs(descriptor, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    magic = buffer[0] & 0xFFFFFFFF
    if magic == _FUSE:
        name = _mounted_type(os.fstat(descriptor).st_dev)
        return "" if name in _LOCAL_FUSE else name
    return _NETWORK.get(magic, "")


def _mounted_type(device: int) -> str:
    """Return the type that /proc/self/mountinfo (proc(5)) gives for `device`; ``fuse`` where it does not know."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                mount, _, file_system = line.partition(" - ")
                if mount.split(" ", 3)[2] == wanted:
                    return file_system.split(" ", 1)[0]
    except OSError:
        pass  # no /proc in this root: the type stays unknown, and FUSE alone says nothing
    return "fuse"


def refuse_network(descriptor: int, path: str) -> None:
    """Raise `HostError` if `descriptor`, which is where an effect on `path` would happen, is on a network."""
    name = network_file_system(descriptor)
    if name:
        raise HostError(
            f"is on a network file system or automount point ({name}), where no change can be made safely",
            path=path,
            hint="manage it on the host that owns the file system, or allow network file systems for the component",
        )
