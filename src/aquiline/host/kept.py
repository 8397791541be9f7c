"""Inodes kept alive under a private name, so that undo can bring back links between names (DESIGN D14).

A file with several names that is replaced or removed stays reachable: it gets one more name in a folder of ours. The
folder must be on the same file system: the one in the state directory where it is, else one at the file system's root.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from aquiline.errors import HostError, UnsafePath
from aquiline.host.changing import Changing
from aquiline.host.looking import observed
from aquiline.host.objects import ABSENT, Directory, FileObject, Metadata

#: Where kept inodes lie on a file system that the state directory is not on.
FOLDER = ".aquiline-links"


class Keeping(Changing):
    """A real root whose effects can keep the inodes they replace."""

    def __init__(self, root: str, *, kept: Path | None = None, allow_network_filesystems: bool = False) -> None:
        super().__init__(root, allow_network_filesystems=allow_network_filesystems)
        self._kept = kept

    def keep(self, path: str, name: str) -> None:
        at, base = self._place(path, "keep its inode")
        held = os.dup(at)
        try:
            folder = self._folder(path, make=True)
            try:
                os.link(base, name, src_dir_fd=held, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if not os.path.samestat(_lstat(base, held), _lstat(name, folder)):
                    raise HostError(f"another inode is already kept as {name}", path=path) from None
            _sync(folder)
        except OSError as error:
            raise HostError(f"its inode cannot be kept: {error.strerror}", path=path) from error
        finally:
            os.close(held)

    def restore_kept(self, name: str, path: str, label: str) -> None:
        folder = os.dup(self._folder(path, make=False))
        try:
            _lstat(name, folder)
            self._link(path, folder, name, f".aq-{label}")
        except OSError as error:
            raise HostError(f"no inode is kept as {name}: {error.strerror}", path=path) from error
        finally:
            os.close(folder)

    def observe_kept(self, name: str, path: str) -> FileObject:
        try:
            return observed(self._folder(path, make=False), name)
        except (FileNotFoundError, HostError):
            return ABSENT

    def drop_kept(self, name: str, path: str) -> None:
        try:
            os.unlink(name, dir_fd=self._folder(path, make=False))
        except (FileNotFoundError, HostError):
            return

    def kept_folder(self, path: str) -> str:
        return "" if self._is_ours(path) else posixpath.join(self._top(path), FOLDER)

    def _is_ours(self, path: str) -> bool:
        """Whether the host's own folder is on the file system of `path`."""
        kept = self._kept
        return kept is not None and kept.is_dir() and self._device(posixpath.dirname(path)) == kept.stat().st_dev

    def _folder(self, path: str, *, make: bool) -> int:
        """Return the descriptor of the folder for inodes of the file system of `path`; the walk owns it."""
        if self._is_ours(path):
            return self._open_kept()
        top = posixpath.join(self._top(path), FOLDER)
        if make and self.status(top) is None:
            self.publish(self.stage(top, Directory(Metadata(0o700, 0, 0)), None, "links"))
        try:
            folder = self._walk.directory(top)
        except OSError as error:
            raise HostError(f"there is no folder of kept inodes: {error.strerror}", path=top) from error
        _check_private(folder, top)
        return folder

    def _open_kept(self) -> int:
        if self._kept_descriptor < 0:
            assert self._kept is not None
            self._kept_descriptor = os.open(self._kept, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._kept_descriptor

    _kept_descriptor = -1

    def close(self) -> None:
        if self._kept_descriptor >= 0:
            os.close(self._kept_descriptor)
            self._kept_descriptor = -1
        super().close()

    def _device(self, path: str) -> int:
        return os.fstat(self._walk.directory(path)).st_dev

    def _top(self, path: str) -> str:
        """Return the highest directory on the file system of `path`: its mount point, or the root."""
        place = posixpath.dirname(path)
        device = self._device(place)
        while place != "/" and self._device(posixpath.dirname(place)) == device:
            place = posixpath.dirname(place)
        return place


def _check_private(folder: int, path: str) -> None:
    """Refuse a folder that somebody else may have made: they could exchange what is kept in it."""
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise UnsafePath(
            f"is to hold kept inodes, but belongs to user {found.st_uid} with mode {found.st_mode & 0o7777:o}",
            path=path,
            hint="remove it, or give it to root with mode 0700",
        )


def _sync(folder: int) -> None:
    # the walk's descriptors are for looking only
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lstat(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)
