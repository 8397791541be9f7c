"""Effects on the objects of a real root: the half of the real host that changes something.

Everything acts on a directory descriptor and a name in it, or on a descriptor of the inode itself, never on a path a
second time. What is staged is made with no permissions for others, owned by whoever runs this, and gets its owner, then
its attributes, then its mode: what must be private is so from its first byte.

A temporary name holds the label only: names of 255 bytes must be replaceable too.

Blocks of 4096 zeros are left out of what is staged, so that a sparse file stays sparse; its content is the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice

import msgspec

from aquiline.errors import HostError, UnsafePath
from aquiline.host.attributes import SELINUX, attributes, give, metadata, set_mtime
from aquiline.host.labels import PolicyLabels
from aquiline.host.looking import Looking, open_quietly, unopened
from aquiline.host.mounts import refuse_network
from aquiline.host.objects import Directory, FileObject, Metadata, Present, RegularFile, Special, Symlink
from aquiline.host.protocol import Staged
from aquiline.host.refusals import is_append_only, refused
from aquiline.host.replaced import Replaced

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)
_THREADS = 8
#: Files whose descriptors are open at once during `sync`.
_SYNC_BATCH = 128
_NODE = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character-device": stat.S_IFCHR,
    "block-device": stat.S_IFBLK,
}
#: What the policy is asked for; it has no rules of its own for special files that anybody would manage here.
_TYPE = {RegularFile: stat.S_IFREG, Directory: stat.S_IFDIR, Symlink: stat.S_IFLNK, Special: 0}
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Changing(Looking):
    """Reads and changes the objects below `root`."""

    def __init__(self, root: str, *, allow_network_filesystems: bool = False) -> None:
        super().__init__(root)
        self._network_allowed = allow_network_filesystems
        #: Devices known to be no network file systems.
        self._local: set[int] = set()
        #: Directories (device, inode) in which a temporary name can be renamed and removed.
        self._stageable: set[tuple[int, int]] = set()
        self._labels: PolicyLabels | None = None
        self._replaced = Replaced()

    def close(self) -> None:
        self._replaced.release()
        super().close()

    def forget_directories(self) -> None:
        self._replaced.release()
        self._stageable.clear()
        super().forget_directories()

    # ---- new objects ----------------------------------------------------------------------------------------------

    def stage(self, path: str, wanted: Present, content: Iterable[bytes] | None, label: str) -> Staged:
        at, name = self._place(path, "stage it")
        temporary = _temporary(label)
        try:
            self._check_stageable(at)
            staged = _stage(at, temporary, path, self._labelled(path, wanted), content)
        except OSError as error:
            raise refused(error, path, "stage it", at=at, name=name) from error
        return Staged(path, f"{path.rstrip('/').rpartition('/')[0]}/{temporary}", staged)

    def _labelled(self, path: str, wanted: Present) -> Present:
        """Return `wanted` with the label that the policy has for `path`, if it has none and the policy has one."""
        label = self._labels.label(path, _TYPE[type(wanted)] | wanted.metadata.mode) if self._labels else b""
        if not label or any(name == SELINUX for name, _ in wanted.metadata.xattrs):
            return wanted
        xattrs = tuple(sorted((*wanted.metadata.xattrs, (SELINUX, label))))
        return msgspec.structs.replace(wanted, metadata=msgspec.structs.replace(wanted.metadata, xattrs=xattrs))

    def _check_stageable(self, at: int) -> None:
        """Refuse an append-only directory: a temporary name could be made there, and never go again."""
        found = os.fstat(at)
        key = found.st_dev, found.st_ino
        if key in self._stageable:
            return
        if is_append_only(at):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._stageable.add(key)

    def publish(self, staged: Staged) -> None:
        path = staged.path
        at, name = self._place(path, "replace it")
        temporary = staged.temporary.rpartition("/")[2]
        if isinstance(staged.object, RegularFile):
            self._replaced.hold(at, name)
        try:
            if _replace(at, temporary, name) or isinstance(staged.object, Directory):
                self._walk.forget_below(path)
            elif isinstance(staged.object, Symlink):
                self._walk.forget()  # it may lead where the one before led, and not be one to follow
        except OSError as error:
            raise refused(error, path, "replace it", at=at, name=name) from error

    def discard(self, path: str, label: str) -> None:
        try:
            at, _ = self._walk.parent(path)
            _remove_leftover(at, _temporary(label))
        except (FileNotFoundError, NotADirectoryError):
            return  # the directory has gone, and what was staged in it
        except OSError as error:
            raise refused(error, path, "remove what was staged for it") from error

    def link(self, path: str, existing: str, label: str) -> None:
        at, name = self._place(existing, "link to it")
        source = os.dup(at)
        try:
            self._link(path, source, name, _temporary(label))
        finally:
            os.close(source)

    def _link(self, path: str, source: int, source_name: str, temporary: str) -> None:
        at, name = self._place(path, "link it")
        try:
            self._check_stageable(at)
            _remove_leftover(at, temporary)
            os.link(source_name, temporary, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)
            if _same(at, temporary, name):
                os.unlink(temporary, dir_fd=at)  # rename would do nothing, and leave it
            else:
                _replace(at, temporary, name)
                self._walk.forget()  # a link's further name may lead where the one before led, and not be one to follow
        except OSError as error:
            _forget_leftover(at, temporary)
            raise refused(error, path, "make it a further name of a file", at=at, name=name) from error

    # ---- what is there already ------------------------------------------------------------------------------------

    def move(self, source: str, destination: str) -> None:
        at, name = self._place(source, "move it")
        held = os.dup(at)
        try:
            self._move(source, held, name, destination)
        finally:
            os.close(held)
            self._walk.forget()  # as for links; and what moved is found by other paths than these two as well

    def _move(self, source: str, held: int, name: str, destination: str) -> None:
        at, new_name = self._place(destination, "move something there")
        try:
            _move(held, name, at, new_name)
        except OSError as error:
            doing = f"move {source} to {destination}"
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR):
                raise refused(error, destination, doing) from error
            raise refused(error, source, doing, at=held, name=name) from error

    def remove(self, path: str) -> None:
        try:
            at, name = self._walk.parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing is there: the goal is reached
        except OSError as error:
            raise refused(error, path, "remove it") from error
        self._check_place(at, name, path, "remove it")
        try:
            # the kernel answers EBUSY for whatever is mounted on
            if stat.S_ISDIR(os.lstat(name, dir_fd=at).st_mode):
                os.rmdir(name, dir_fd=at)
                self._walk.forget_below(path)
            else:
                self._replaced.hold(at, name)
                os.unlink(name, dir_fd=at)
        except FileNotFoundError:
            return
        except OSError as error:
            raise refused(error, path, "remove it", at=at, name=name) from error

    def write_in_place(self, path: str, content: Iterable[bytes], metadata: Metadata) -> FileObject:
        """Overwrite an existing file and give it `metadata`, durably.

        Where that changes who may do what, the file is emptied and given its metadata before the new content comes, so
        that neither content is ever open to those who may only see the other.
        """
        at, name = self._place(path, "write it in place")
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            raise refused(error, path, "write it in place", at=at, name=name) from error
        try:
            self._check_local(descriptor, path)
            _check_sole_name(at, descriptor, path)
            return _write_in_place(descriptor, path, content, metadata)
        except OSError as error:
            raise refused(error, path, "write it in place", at=at, name=name) from error
        finally:
            os.close(descriptor)

    def set_metadata(self, path: str, metadata: Metadata) -> None:
        at, name = self._place(path, "change its metadata", root_too=True)
        try:
            with _held(at, name, path) as descriptor:
                before = os.fstat(descriptor)
                give(unopened(descriptor), metadata, before)
            if before.st_uid != metadata.uid:
                self._walk.forget()  # whether a link may be followed hangs on who owns it and its directory
        except OSError as error:
            raise refused(error, path, "change its metadata", at=at, name=name) from error

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        at, name = self._place(path, "set its time", root_too=True)
        try:
            with _held(at, name, path) as descriptor:
                set_mtime(unopened(descriptor), mtime_ns)
        except OSError as error:
            raise refused(error, path, "set its time", at=at, name=name) from error

    # ---- durability -----------------------------------------------------------------------------------------------

    def sync(self, staged: Sequence[Staged]) -> None:
        if not staged:
            return
        rest = iter(_distinct(staged))
        # threads of this call only: none are left when a command is started by fork
        with ThreadPoolExecutor(min(_THREADS, len(staged))) as threads:
            while batch := list(islice(rest, _SYNC_BATCH)):
                self._sync_batch(batch, threads)

    def _sync_batch(self, batch: list[Staged], threads: ThreadPoolExecutor) -> None:
        opened: list[tuple[int, str]] = []
        try:
            # one at a time, so that what is open is closed whichever of them fails
            opened.extend((self._open_to_sync(one), one.path) for one in batch)
            for descriptor, _ in opened:
                # begins to write all of them, which takes a quarter off the waiting that follows
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            _sync_side_by_side(opened, threads)
        finally:
            for descriptor, _ in opened:
                os.close(descriptor)

    def _open_to_sync(self, staged: Staged) -> int:
        """Return a descriptor whose fsync makes `staged` durable: of links and special files, the directory's."""
        at, temporary = self._place(staged.temporary, "make it durable")
        try:
            match staged.object:
                case RegularFile():
                    return open_quietly(temporary, at)
                case Directory():
                    return open_quietly(temporary, at, os.O_DIRECTORY)
                case _:
                    return open_quietly(".", at, os.O_DIRECTORY)
        except OSError as error:
            raise refused(error, staged.path, "make it durable") from error

    def sync_directories(self, paths: Iterable[str]) -> None:
        rest = iter(dict.fromkeys(paths))
        while batch := list(islice(rest, _SYNC_BATCH)):
            opened: list[tuple[int, str]] = []
            try:
                for path in batch:
                    self._open_directory_to_sync(path, opened)
                _sync_directories(opened)
            finally:
                for descriptor, _ in opened:
                    os.close(descriptor)
        self._replaced.release()

    def _open_directory_to_sync(self, path: str, opened: list[tuple[int, str]]) -> None:
        try:
            opened.append((open_quietly(".", self._walk.directory(path), os.O_DIRECTORY), path))
        except (FileNotFoundError, NotADirectoryError):
            return  # it has gone, and what was in it
        except OSError as error:
            raise refused(error, path, "make it durable") from error

    # ---- where an effect may happen -------------------------------------------------------------------------------

    def _place(self, path: str, doing: str, *, root_too: bool = False) -> tuple[int, str]:
        """Return directory and name of `path`, checked to be a place where effects are allowed."""
        try:
            at, name = self._walk.parent(path)
        except OSError as error:
            raise refused(error, path, doing) from error
        self._check_place(at, name, path, doing, root_too=root_too)
        return at, name

    def _check_place(self, at: int, name: str, path: str, doing: str, *, root_too: bool = False) -> None:
        if name == "." and not root_too:
            raise HostError(f"cannot {doing}: it is the root", path=path)
        self._check_local(at, path)

    def _check_local(self, descriptor: int, path: str) -> None:
        if self._network_allowed:
            return
        device = os.fstat(descriptor).st_dev
        if device not in self._local:
            refuse_network(descriptor, path)
            self._local.add(device)


@contextmanager
def _held(at: int, name: str, path: str) -> Iterator[int]:
    """Hold what stands at `name`, without opening it, to change it under this name."""
    descriptor = os.open(name, _LOOK, dir_fd=at)
    try:
        _check_sole_name(at, descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_sole_name(at: int, descriptor: int, path: str) -> None:
    """Refuse a file that somebody else may have given this name: changed in place, it changes under all its names.

    Where the kernel does not protect hard links (``fs.protected_hardlinks``), whoever may write to a directory can make
    it hold a further name of ``/etc/shadow``.
    """
    found = os.fstat(descriptor)
    if found.st_nlink == 1 or stat.S_ISDIR(found.st_mode):
        return
    directory = os.fstat(at)
    if directory.st_uid not in (0, found.st_uid) or directory.st_mode & 0o022:
        raise UnsafePath(
            f"has {found.st_nlink} names and stands in a directory that others than its owner, user {found.st_uid},"
            " may write to: it may be a name of any file",
            path=path,
            hint="replace the file instead of changing it in place, or remove this name of it",
        )


# ---- staging ------------------------------------------------------------------------------------------------------


def _temporary(label: str) -> str:
    if not label or "/" in label or "\0" in label:
        raise HostError(f"{label!r} cannot be part of a file name")
    return f".aq-{label}"


def _stage(at: int, temporary: str, path: str, wanted: Present, content: Iterable[bytes] | None) -> Present:
    try:
        descriptor = _create(at, temporary, path, wanted)
    except FileExistsError:
        _remove_leftover(at, temporary)
        descriptor = _create(at, temporary, path, wanted)
    try:
        return _furnish(descriptor, path, wanted, content)
    except BaseException:
        _forget_leftover(at, temporary)
        raise
    finally:
        os.close(descriptor)


def _create(at: int, temporary: str, path: str, wanted: Present) -> int:
    """Make an object that only its owner may touch, and return a descriptor of it."""
    match wanted:
        case RegularFile():
            return os.open(temporary, _CREATE, 0o600, dir_fd=at)
        case Directory():
            os.mkdir(temporary, 0o700, dir_fd=at)
        case Symlink(target=target):
            os.symlink(target, temporary, dir_fd=at)
        case Special(special=special, device=device):
            os.mknod(temporary, _NODE[special] | 0o600, device, dir_fd=at)
    try:
        return _open_created(at, temporary, path, wanted)
    except BaseException:
        _forget_leftover(at, temporary)
        raise


def _open_created(at: int, temporary: str, path: str, wanted: Present) -> int:
    """Open what was just made; whoever owns the directory may have put something else there in between."""
    descriptor = os.open(temporary, _OPEN_DIRECTORY if isinstance(wanted, Directory) else _LOOK, dir_fd=at)
    if not _is_new(descriptor, wanted):
        os.close(descriptor)
        raise UnsafePath("somebody exchanged the object while it was being made", path=path)
    return descriptor


def _is_new(descriptor: int, wanted: Present) -> bool:
    """Say whether this can be what we just made: ours, of one name, nothing in it."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        return False
    if isinstance(wanted, Directory):
        return not os.listdir(descriptor)
    expected = _NODE[wanted.special] if isinstance(wanted, Special) else stat.S_IFLNK
    return found.st_nlink == 1 and stat.S_IFMT(found.st_mode) == expected


def _furnish(descriptor: int, path: str, wanted: Present, content: Iterable[bytes] | None) -> Present:
    if isinstance(wanted, RegularFile):
        _write(descriptor, path, wanted, content or ())
    target = unopened(descriptor) if isinstance(wanted, Symlink | Special) else descriptor
    give(target, wanted.metadata, os.fstat(descriptor))
    found = metadata(os.fstat(descriptor), attributes(target))
    match wanted:
        case RegularFile(size=size, sha256=digest):
            return RegularFile(found, size, digest)
        case Directory():
            return Directory(found)
        case Symlink(target=text):
            return Symlink(found, text)
        case Special(special=special, device=device):
            return Special(found, special, device)


def _write(descriptor: int, path: str, wanted: RegularFile, content: Iterable[bytes]) -> None:
    digest = sha256()
    size = 0
    hole = False
    for piece in content:
        digest.update(piece)
        hole = _write_sparsely(descriptor, piece, size)
        size += len(piece)
    if hole:
        os.ftruncate(descriptor, size)
    _expect(path, wanted.size, wanted.sha256, size, digest.hexdigest())


def _expect(path: str, size: int, digest: str, found_size: int, found_digest: str) -> None:
    if (found_size, found_digest) != (size, digest):
        raise HostError(
            f"its content is {found_size} bytes with digest {found_digest}, expected {size} bytes with {digest}",
            path=path,
            hint="the source was changed since the plan was made, or is damaged: plan again",
        )


def _write_sparsely(descriptor: int, piece: bytes, offset: int) -> bool:
    """Write `piece` at `offset`, its blocks of zeros left out. Return whether it ends in a hole."""
    if _ZEROS not in piece:
        _write_all(descriptor, piece, offset)
        return False
    begin = None
    for block in range(0, len(piece), _BLOCK):
        # compared in place: a slice of a memoryview copies nothing
        zeros = piece[block : block + _BLOCK] == _ZEROS
        if zeros and begin is not None:
            _write_all(descriptor, piece[begin:block], offset + begin)
            begin = None
        elif not zeros and begin is None:
            begin = block
    if begin is not None:
        _write_all(descriptor, piece[begin:], offset + begin)
    return begin is None


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def _remove_leftover(at: int, temporary: str) -> None:
    """Remove what stands under a temporary name; nothing there is success."""
    try:
        os.unlink(temporary, dir_fd=at)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        os.rmdir(temporary, dir_fd=at)


def _forget_leftover(at: int, temporary: str) -> None:
    """Remove a temporary name on the way out of an error, which is the one to be told."""
    try:
        _remove_leftover(at, temporary)
    except OSError:
        return


# ---- renaming -----------------------------------------------------------------------------------------------------


def _replace(at: int, temporary: str, name: str) -> bool:
    """Rename over whatever stands at `name`. Return whether that was of another type, directory or not."""
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        # an empty directory makes way; rmdir refuses any other
        os.rmdir(name, dir_fd=at)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        return True
    except NotADirectoryError:
        _exchange(at, temporary, name)
        os.unlink(temporary, dir_fd=at)
        return True
    return False


def _exchange(at: int, temporary: str, name: str) -> None:
    """Exchange a staged directory and a file in its place at once (renameat2(2))."""
    if _libc.renameat2(at, os.fsencode(temporary), at, os.fsencode(name), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _same(at: int, temporary: str, name: str) -> bool:
    try:
        found = os.lstat(name, dir_fd=at)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.lstat(temporary, dir_fd=at))


def _move(source: int, name: str, at: int, new_name: str) -> None:
    try:
        there = os.lstat(new_name, dir_fd=at)
    except FileNotFoundError:
        there = None
    same = there is not None and os.path.samestat(there, os.lstat(name, dir_fd=source))
    if same and (os.path.samestat(os.fstat(source), os.fstat(at)) and name == new_name):
        return
    if same:
        os.unlink(name, dir_fd=source)  # two names of one file: rename would leave both
        return
    os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=at)


# ---- in place, durable --------------------------------------------------------------------------------------------


def _write_in_place(descriptor: int, path: str, content: Iterable[bytes], wanted: Metadata) -> FileObject:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise HostError("is not a regular file, so it cannot be written in place", path=path)
    if metadata(found, attributes(descriptor)) != msgspec.structs.replace(wanted, mtime_ns=found.st_mtime_ns):
        os.ftruncate(descriptor, 0)
        give(descriptor, msgspec.structs.replace(wanted, mtime_ns=0), os.fstat(descriptor))
    overwritten = os.fstat(descriptor).st_size
    digest = sha256()
    size = 0
    for piece in content:
        # only where nothing was are zeros left out
        write = _write_all if size < overwritten else _write_sparsely
        write(descriptor, piece, size)
        digest.update(piece)
        size += len(piece)
    os.ftruncate(descriptor, size)
    # once more: writing clears setuid, setgid and capabilities
    give(descriptor, wanted, os.fstat(descriptor))
    os.fsync(descriptor)
    now = os.fstat(descriptor)
    return RegularFile(metadata(now, attributes(descriptor)), size, digest.hexdigest(), now.st_nlink)


def _distinct(staged: Sequence[Staged]) -> Iterator[Staged]:
    """Return the files and directories, and of the rest, for which a directory is synced, one of each directory."""
    directories = set()
    for one in staged:
        directory = one.temporary.rpartition("/")[0]
        if isinstance(one.object, RegularFile | Directory):
            yield one
        elif directory not in directories:
            directories.add(directory)
            yield one


def _sync_directories(opened: list[tuple[int, str]]) -> None:
    if len(opened) > 1:
        with ThreadPoolExecutor(min(_THREADS, len(opened))) as threads:
            _sync_side_by_side(opened, threads)
    else:
        _refuse_unsynced(_sync_all(opened))


def _sync_side_by_side(opened: list[tuple[int, str]], threads: ThreadPoolExecutor) -> None:
    for failed in threads.map(_sync_all, (opened[start::_THREADS] for start in range(_THREADS))):
        _refuse_unsynced(failed)


def _refuse_unsynced(failed: tuple[OSError, str] | None) -> None:
    if failed is not None:
        raise refused(*failed, "make it durable") from failed[0]


def _sync_all(opened: list[tuple[int, str]]) -> tuple[OSError, str] | None:
    """Make them durable, one after the other; return the first that fails, and how."""
    for descriptor, path in opened:
        try:
            os.fsync(descriptor)
        except OSError as error:
            return error, path
    return None
