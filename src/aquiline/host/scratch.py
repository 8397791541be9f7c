"""A private copy of would-be content, for a checker that wants a path; nothing of the host's tree changes.

On the running system the copy is an anonymous file of memory, named through ``/proc``. Below an offline root, whose
commands run chrooted and rarely see a ``/proc``, it is in a file system of memory that is mounted in a mount namespace
of the checker's own, over a directory that checkers do without. Nobody else sees it, a root that cannot be written
serves as well, and nothing is left of it by whoever is killed.

Where there is no such directory, or we may not mount (in most containers), it is a file on disk in a private directory
that is removed again, with the parent's modification time put back.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from aquiline.errors import NoCopyHere

#: Of private directories; then who made it, and the time of the directory that it is in.
_PREFIX = ".aquiline-"
#: Directories of an image that the copy may hide from a checker: they are there for what comes and goes.
_MOUNT_POINTS = ("tmp", "mnt", "media", "run", "srv", "home", "boot")
_NAME = "aquiline-check"

_libc = ctypes.CDLL(None, use_errno=True)
# <asm-generic/unistd.h>: of the same number on every architecture, since Linux 5.2.
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
# <linux/mount.h>, <sched.h>
_CLOEXEC, _SET_STRING, _CREATE, _NOSUID_NODEV_NOEXEC = 1, 1, 6, 2 | 4 | 8
_PRIVATE_BELOW, _NEW_MOUNTS = 1 << 18 | 1 << 14, 0x20000
_FROM_DESCRIPTOR, _AT_CWD = 4, -100


class Copy(msgspec.Struct, frozen=True):
    """Where a copy is, and how a child of this process comes to see it."""

    #: Below the root.
    path: str
    #: To be called in the child, in the root as its directory, before it enters it.
    attach: Callable[[], None]


@contextmanager
def private_copy(
    content: bytes, root: str, descriptor: int, *, offline: bool, may_mount: bool = True
) -> Iterator[Copy]:
    """Give a copy of `content` that only root can read; `descriptor` is of the directory `root`.

    Unless it `may_mount`, the copy is one on disk: for another try, where `attach` failed.

    Raises `NoCopyHere` where none can be made.
    """
    with ExitStack() as held:
        if not offline:
            yield _in_memory(content, held)
        else:
            mounted = _mounted(content, descriptor, held) if may_mount else None
            yield mounted or _on_disk(content, Path(root), held)


def sweep(root: str) -> None:
    """Remove the copies on disk of killed processes below `root`, and put back the time of their directory."""
    if root == "/":
        return  # they were in memory
    for parent in {Path(root), _folder(Path(root))}:
        for left in sorted(parent.glob(f"{_PREFIX}*")):
            made = re.fullmatch(r"([0-9]+)-([0-9]+)-\w+", left.name.removeprefix(_PREFIX))
            if made and left.lstat().st_uid == os.geteuid() and not Path("/proc", made[1]).exists():
                access = parent.stat().st_atime_ns
                shutil.rmtree(left)
                os.utime(parent, ns=(access, int(made[2])))


def _in_memory(content: bytes, held: ExitStack) -> Copy:
    descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
    held.enter_context(os.fdopen(descriptor, "wb", buffering=0)).write(content)
    return Copy(f"/proc/{os.getpid()}/fd/{descriptor}", lambda: None)


def _mounted(content: bytes, root: int, held: ExitStack) -> Copy | None:
    """Return a copy in a file system of memory, None where it has no place or we may not mount."""
    point = next((name for name in _MOUNT_POINTS if _is_directory(name, root)), None)
    if point is None:
        return None
    try:
        memory = _file_system_of_memory()
    except OSError:
        return None
    held.callback(os.close, memory)
    descriptor = os.open(_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=memory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

    def attach() -> None:
        # The directory of the process moves into the new namespace with it; a descriptor of the root would not.
        _call(_libc.unshare, _NEW_MOUNTS)
        _call(_libc.mount, None, b"/", None, ctypes.c_ulong(_PRIVATE_BELOW), None)
        _system_call(_SYS_MOVE_MOUNT, memory, b"", _AT_CWD, os.fsencode(point), _FROM_DESCRIPTOR)

    return Copy(f"/{point}/{_NAME}", attach)


def _is_directory(name: str, root: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _file_system_of_memory() -> int:
    """Return a descriptor of an empty file system that is mounted nowhere: it goes when the last one is closed."""
    configured = _system_call(_SYS_FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        _system_call(_SYS_FSCONFIG, configured, _SET_STRING, b"mode", b"1777", 0)
        _system_call(_SYS_FSCONFIG, configured, _CREATE, None, None, 0)
        return _system_call(_SYS_FSMOUNT, configured, _CLOEXEC, _NOSUID_NODEV_NOEXEC)
    finally:
        os.close(configured)


def _system_call(number: int, *arguments: int | bytes | None) -> int:
    words = (ctypes.c_long(one) if isinstance(one, int) else one for one in (number, *arguments))
    return _call(_libc.syscall, *words)


def _call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _folder(root: Path) -> Path:
    """Return where copies on disk are made: not behind a link in the place of ``/tmp``, which may lead elsewhere."""
    temporary = root / "tmp"
    return temporary if temporary.is_dir() and not temporary.is_symlink() else root


def _on_disk(content: bytes, root: Path, held: ExitStack) -> Copy:
    parent = _folder(root)
    before = parent.stat()
    prefix = f"{_PREFIX}{os.getpid()}-{before.st_mtime_ns}-"
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
        held.callback(os.utime, parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        copy = Path(held.enter_context(made), "copy")
        copy.write_bytes(content)
    except OSError as error:
        raise NoCopyHere(f"no copy can be written there: {error.strerror}") from error
    return Copy("/" + str(copy.relative_to(root)), lambda: None)
