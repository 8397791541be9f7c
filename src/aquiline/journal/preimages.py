"""What steps replaced, kept by digest.

Theory of operation:

1. A pre-image is first written under a temporary name, 0600 from the first byte, and hashed on the way. The kernel is
   told at once to start writing it out.
2. `PreimageStore.sync` makes all new ones durable: fsync of each in a few threads (most find their data already on its
   way, and one commit of the file system's journal serves many), then rename, then fsync of the folders, once each.
3. So whatever stands under a digest's name was durable before it got that name: a file of the right size is the right
   file, short of a damaged disk, which `verify` finds. Its name need not be durable yet, where a kill came before the
   folder's fsync: who finds content there that is to be kept syncs its folder, once.

Memory does not grow with the size of a file; holes stay holes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path

import msgspec

from aquiline.errors import HostError, JournalError
from aquiline.journal.state import StateDirectory, make_durable

#: Bytes read at once, and the least run of zeros that becomes a hole.
PIECE = 64 * 1024
_BLOCK = 4096
_THREADS = 8


class Kept(msgspec.Struct, frozen=True):
    """Content in the store."""

    sha256: str
    #: Bytes.
    size: int


class Space(msgspec.Struct, frozen=True):
    """Room on a file system."""

    bytes: int
    inodes: int


class PreimageStore:
    """Content by its SHA-256. New content may be read at once and is durable after `sync`."""

    def __init__(self, state: StateDirectory) -> None:
        self._folder = state.preimages
        self._prefix = f"{state.preimages}/"
        #: Digest to temporary name, of what `sync` has still to make durable.
        self._pending: dict[str, str] = {}
        self._counter = 0
        #: Folders of published content that are known to be there.
        self._made: set[str] = set()
        #: Folders in which content stood already that is to be kept, and those whose names are known to be durable.
        self._found: set[str] = set()
        self._durable: set[str] = set()

    def path(self, sha256: str) -> Path:
        """Return where content of this digest lies, or would lie."""
        return self._folder / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether there is content of this digest; its bytes are not looked at."""
        return sha256 in self._pending or os.path.exists(self._place(sha256))

    def stored_bytes(self, sha256: str) -> int:
        """Return the bytes that the content of this digest takes on disk: fewer than its size where it has holes."""
        return os.stat(self._pending.get(sha256) or self._place(sha256)).st_blocks * 512

    def keep(self, chunks: Iterable[bytes]) -> Kept:
        """Store content, given piece by piece; raises `HostError` where it cannot be written."""
        try:
            return self._keep(chunks)
        except OSError as error:
            raise HostError(f"a pre-image cannot be kept: {error.strerror}", path=str(self._folder)) from error

    def keep_many(self, contents: Iterable[Iterable[bytes]]) -> list[Kept]:
        """Store several contents, and return once all of them are durable."""
        kept = [self.keep(chunks) for chunks in contents]
        self.sync()
        return kept

    def sync(self) -> None:
        """Make all that was kept durable. A failure is never retried: the content is dropped and the error raised."""
        pending, self._pending = self._pending, {}
        found = self._found - self._durable
        if not pending and not found:
            return
        try:
            with ThreadPoolExecutor(_THREADS) as threads:
                _make_durable(list(pending.values()), threads)
                folders = found | {self._publish(digest, temporary) for digest, temporary in pending.items()}
                _make_durable([str(self._folder), *folders], threads)
                self._durable |= folders
        except OSError as error:
            for temporary in pending.values():
                Path(temporary).unlink(missing_ok=True)
            raise HostError(f"pre-images are not durable: {error.strerror}", path=str(self._folder)) from error

    def forget(self) -> None:
        """Drop what was kept since the last `sync`: nothing is going to need it."""
        pending, self._pending = self._pending, {}
        for temporary in pending.values():
            Path(temporary).unlink(missing_ok=True)

    def open(self, sha256: str) -> BufferedReader:
        """Open content for reading; raises `JournalError` where it is not there."""
        try:
            return open(self._pending.get(sha256) or self._place(sha256), "rb")
        except FileNotFoundError:
            raise JournalError(f"pre-image {sha256} is not there", hint="`aquiline fsck` lists what is lost") from None

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """Return content piece by piece; raises `JournalError` where it is not there."""
        with self.open(sha256) as file:
            while piece := file.read(PIECE):
                yield piece

    def verify(self, sha256: str) -> bool:
        """Return whether the content is there and has its digest."""
        try:
            with self.open(sha256) as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except (JournalError, OSError):
            return False

    def purge(self, sha256: str) -> None:
        """Remove content for good. Already gone is success; the journal keeps the tombstone."""
        self.path(sha256).unlink(missing_ok=True)
        if self.path(sha256).parent.exists():
            make_durable(self.path(sha256).parent)

    def digests(self) -> Iterator[str]:
        """Return the digest of everything that is stored, sorted."""
        for path in sorted(self._folder.glob("??/*")):
            if re.fullmatch("[0-9a-f]{64}", path.name):
                yield path.name

    def sweep(self) -> int:
        """Remove temporary files that a killed run left; return how many. Only for the holder of the lock."""
        left = [path for path in self._folder.glob(".new-*") if str(path) not in self._pending.values()]
        for path in left:
            path.unlink()
        return len(left)

    def _keep(self, chunks: Iterable[bytes]) -> Kept:
        temporary = self._temporary()
        try:
            kept = _write(temporary, chunks)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        if self._already(kept):
            os.unlink(temporary)
        else:
            self._pending[kept.sha256] = temporary
        return kept

    def _already(self, kept: Kept) -> bool:
        if kept.sha256 in self._pending:
            return True
        place = self._place(kept.sha256)
        try:
            is_there = os.stat(place).st_size == kept.size
        except FileNotFoundError:
            return False
        if is_there:
            self._found.add(place.rpartition("/")[0])
        return is_there

    def _publish(self, digest: str, temporary: str) -> str:
        place = self._place(digest)
        folder = place.rpartition("/")[0]
        if folder not in self._made:
            Path(folder).mkdir(mode=0o700, exist_ok=True)
            self._made.add(folder)
        os.rename(temporary, place)
        return folder

    def _place(self, digest: str) -> str:
        return f"{self._prefix}{digest[:2]}/{digest}"

    def _temporary(self) -> str:
        self._counter += 1
        return f"{self._prefix}.new-{os.getpid()}-{self._counter}"


def _make_durable(paths: list[str], threads: ThreadPoolExecutor) -> None:
    for _ in threads.map(_make_all_durable, (paths[start::_THREADS] for start in range(_THREADS))):
        pass  # raises what failed there


def _make_all_durable(paths: list[str]) -> None:
    for path in paths:
        make_durable(path)


def _write(path: str, chunks: Iterable[bytes]) -> Kept:
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            digest.update(chunk)
            for start in range(0, len(chunk), PIECE):
                size += _write_piece(descriptor, chunk[start : start + PIECE])
        os.ftruncate(descriptor, size)
        # Starts the write-out and waits for nothing: `sync` then finds most of it done.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return Kept(sha256=digest.hexdigest(), size=size)


def _write_piece(descriptor: int, piece: bytes) -> int:
    if len(piece) >= _BLOCK and piece.count(0) == len(piece):
        os.lseek(descriptor, len(piece), os.SEEK_CUR)
        return len(piece)
    written = 0
    while written < len(piece):
        written += os.write(descriptor, piece[written:])
    return written


# ---- room ---------------------------------------------------------------------------------------------------------


def space_needed(sizes: Sequence[int]) -> Space:
    """Return the room that pre-images of these sizes in bytes take, whole blocks and one inode each."""
    return Space(bytes=sum(-(-size // _BLOCK) * _BLOCK for size in sizes), inodes=len(sizes))


def check_space(path: str | Path, needed: Space, *, purpose: str) -> None:
    """Raise `HostError` where the file system of the directory `path` has less room than `needed`; says both."""
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    hint = "make room, or see what `aquiline gc` would drop"
    if free < needed.bytes:
        raise HostError(f"no space for {purpose}: {needed.bytes} bytes needed, {free} free", path=str(path), hint=hint)
    # File systems that make inodes as they go (btrfs) say that they have none at all.
    if found.f_files and found.f_favail < needed.inodes:
        message = f"no inodes for {purpose}: {needed.inodes} needed, {found.f_favail} free"
        raise HostError(message, path=str(path), hint=hint)
