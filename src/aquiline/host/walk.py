"""Walking paths below a root by directory descriptor, so that nobody can bend a path while we are on it.

Theory of operation

1. A path is walked one name at a time, each opened relative to the descriptor of the directory before it, without
   following it. What was looked at is therefore what is used: there is no second look-up that could go elsewhere.
2. A link that stands where a directory should be is followed only if root, or the owner of the directory it stands in,
   owns it (DESIGN D14). Whoever can plant a link in somebody else's directory (``/tmp``) leads nobody astray.
   A link that root does not own is followed only to where its owner owns the directory that the walk ends in: who owns
   a directory may say what is in it, but not send root off to change ``/etc``.
3. Absolute link targets and ``..`` resolve inside the root. At most 40 links are followed.
4. Descriptors of recent directories are kept. Before one is used, one `stat` of its path asks whether the path still
   leads to it; if not, the path is walked again. The kernel follows links in that `stat`, which is safe because it only
   compares: a wrong answer costs a walk. (Below an offline root with absolute links it always costs one.)

Descriptors are opened with ``O_PATH``, which reads nothing and does not set off an automount. So what lies below an
automount point that is not mounted yet is seen as absent; effects there are refused (`aquiline.host.mounts`).

Not safe for use by several threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict

from aquiline.errors import HostError, UnsafePath

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK_LIMIT = 40
_KEEP = 128
#: Down to this depth all directories on the way are kept, too: their neighbours are asked for next.
_SHALLOW = 16


class Walk:
    """Finds directories below `root`, and keeps descriptors of the recent ones."""

    def __init__(self, root: str) -> None:
        """Open `root`, which is trusted: links in it are followed. Raise `HostError` where it is no directory."""
        self._root = -1
        #: Directory path → descriptor, device, inode, and who led there; the most recently used last.
        self._kept: OrderedDict[str, tuple[int, int, int, frozenset[int]]] = OrderedDict()
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"cannot be used as a root: {os.strerror(error.errno or 0)}", path=root) from error
        #: Put before an absolute path to name it for the kernel.
        self.prefix = os.path.abspath(root).rstrip("/")

    @property
    def root(self) -> int:
        """The descriptor of the root."""
        return self._root

    def close(self) -> None:
        """Close every descriptor; the walk is of no use afterwards."""
        self.forget()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __del__(self) -> None:
        self.close()  # descriptors are numbers: nothing else closes those of a host that was dropped

    def forget(self) -> None:
        """Close the kept descriptors: they would hold file systems busy."""
        for descriptor, *_ in self._kept.values():
            os.close(descriptor)
        self._kept.clear()

    def forget_below(self, path: str) -> None:
        """Close the kept descriptors of the directory at `path` and of all below it."""
        below = path.rstrip("/") + "/"
        for kept in [kept for kept in self._kept if kept == path or kept.startswith(below)]:
            os.close(self._kept.pop(kept)[0])

    def parent(self, path: str) -> tuple[int, str]:
        """Return the descriptor of the directory in which `path` stands, and its name there (``.`` for the root).

        The descriptor belongs to the walk and is good until the next call of any method; duplicate it to keep it.
        Raise `UnsafePath`, `HostError` for a path that makes no sense, and `FileNotFoundError`, `NotADirectoryError`
        or another `OSError` where there is no such directory.
        """
        directory, _, name = path.rpartition("/")
        if directory in self._kept and name not in ("", ".", "..") and "\0" not in name:
            return self._recent(directory), name
        plain = _plain(path)
        directory, _, name = plain.rpartition("/")
        if name == "..":
            raise HostError("ends in '..', so it does not say which object is meant", path=path)
        return (self._recent(directory), name) if name else (self._root, ".")

    def kept(self, directory: str) -> int:
        """Return the descriptor kept for `directory`, -1 where there is none. It may no longer be what stands there."""
        kept = self._kept.get(directory)
        return -1 if kept is None else kept[0]

    def directory(self, path: str) -> int:
        """Return the descriptor of the directory at `path`, followed if it is a link; owned by the walk, as above."""
        return self._recent(_plain(path))

    def follow(self, path: str) -> int:
        """Return a new descriptor (``O_PATH``) of what `path` leads to, followed to its end; the caller closes."""
        return self._walk(_plain(path), end_may_be_anything=True)[0]

    def _recent(self, directory: str) -> int:
        if not directory:
            return self._root
        kept = self._kept.get(directory)
        if kept is not None:
            descriptor, device, inode, _ = kept
            try:
                now = os.stat(self.prefix + directory)
            except OSError:
                now = None
            if now is not None and now.st_ino == inode and now.st_dev == device:
                self._kept.move_to_end(directory)
                return descriptor
            os.close(self._kept.pop(directory)[0])
        return self._walk_and_keep(directory)

    def _walk_and_keep(self, directory: str) -> int:
        while len(self._kept) >= _KEEP:
            os.close(self._kept.popitem(last=False)[1][0])
        descriptor, leaders = self._step(directory) or self._walk(directory)
        now = os.fstat(descriptor)
        self._kept[directory] = (descriptor, now.st_dev, now.st_ino, leaders)
        return descriptor

    def _step(self, directory: str) -> tuple[int, frozenset[int]] | None:
        """Return what `_walk` does by one step from the parent, which is then kept; None where it is not that easy."""
        above, _, name = directory.rpartition("/")
        if name == ".." or (directory.count("/") > _SHALLOW and above not in self._kept):
            return None
        try:
            descriptor = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=self._recent(above))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None  # a link, perhaps
            raise
        leaders = self._kept[above][3] if above else frozenset()
        try:
            _check_leaders(leaders, descriptor, directory)
        except UnsafePath:
            os.close(descriptor)
            raise
        return descriptor, leaders

    def _walk(self, path: str, *, end_may_be_anything: bool = False) -> tuple[int, frozenset[int]]:
        """Walk from the root; return a new descriptor, and the users other than root whose links led there.

        The stack holds the way back up, for ``..``.
        """
        names = path.split("/")[::-1]
        stack = [os.dup(self._root)]
        links = 0
        leaders: set[int] = set()
        try:
            while names:
                name = names.pop()
                if name in ("", "."):
                    continue
                if name == "..":
                    _close_down_to(stack, max(1, len(stack) - 1))
                    continue
                stack.append(os.open(name, _LOOK, dir_fd=stack[-1]))
                mode = os.fstat(stack[-1]).st_mode
                if stat.S_ISLNK(mode):
                    links += 1
                    target = _target(stack[-2], stack[-1], name, path, leaders)
                    if links > _LINK_LIMIT:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    _close_down_to(stack, 1 if target.startswith("/") else len(stack) - 1)
                    names.extend(target.split("/")[::-1])
                elif not stat.S_ISDIR(mode) and (not end_may_be_anything or any(names)):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            _check_leaders(leaders, stack[-1], path)
            return stack.pop(), frozenset(leaders)
        finally:
            _close_down_to(stack, 0)


def _close_down_to(stack: list[int], height: int) -> None:
    while len(stack) > height:
        os.close(stack.pop())


def _target(directory: int, link: int, name: str, path: str, leaders: set[int]) -> str:
    """Return where `link` leads, if its owner may lead us; note an owner other than root in `leaders`."""
    owner, above = os.fstat(link).st_uid, os.fstat(directory).st_uid
    if owner not in (0, above):
        raise UnsafePath(
            f"the parent {name!r} is a link made by user {owner} in a directory of user {above}; it is not followed",
            path=path,
            hint="remove the link, or give it to root with `chown -h root`, if it is meant to be there",
        )
    if owner:
        leaders.add(owner)
    return os.readlink("", dir_fd=link)


def _check_leaders(leaders: set[int] | frozenset[int], end: int, path: str) -> None:
    """Refuse an end that does not belong to everybody who led there."""
    owner = os.fstat(end).st_uid if leaders else 0
    if strangers := leaders - {owner}:
        raise UnsafePath(
            f"a link of user {min(strangers)} leads to what user {owner} owns; it is not followed",
            path=path,
            hint="give the link to root with `chown -h root`, if it is meant to be there",
        )


def _plain(path: str) -> str:
    """Return `path` without doubled and trailing slashes and without ``.``; the root is the empty string."""
    if not path.startswith("/"):
        raise HostError("is not an absolute path", path=path)
    if "\0" in path:
        raise HostError("a path cannot hold a NUL character", path=path.replace("\0", "\\0"))
    return "".join(f"/{name}" for name in path.split("/") if name not in ("", "."))
