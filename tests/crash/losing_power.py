"""What a disk holds when the power goes: only what was made durable, and of the rest any part.

The model is what POSIX promises and no more, but for three things that every file system we know of gives:

* the content and metadata of a file are as they were at its last fsync; of a new one nothing but its name may be there;
* an entry that was made, replaced or removed in a directory since its last fsync may be there or not, each for itself;
* a rename is one thing, also between two directories; a write to SQLite is one when it was committed.
"""

from __future__ import annotations

import os
import pickle
import shutil
import stat
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from .everything import PROGRAMS, Host
from .killing import watch

#: Not followed: what SQLite keeps, what is read only, what only has to be there.
_APART = ("journal.db", "journal.db-wal", "journal.db-shm", "lock", "ballast")
Entries = dict[str, int]


class Inode(NamedTuple):
    """What is to be had of one inode."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    content: bytes
    xattrs: dict[str, bytes]


class Disk(NamedTuple):
    """A file tree by inode numbers."""

    top: int
    directories: dict[int, Entries]
    inodes: dict[int, Inode]


def scan(place: Path) -> Disk:
    """Return what the kernel shows below `place`."""
    disk = Disk(place.stat().st_ino, {}, {})
    for directory, folders, files in os.walk(place):
        relative = directory.removeprefix(str(place / "root"))
        folders[:] = [name for name in folders if f"{relative}/{name}" not in PROGRAMS]
        number = os.lstat(directory).st_ino
        disk.inodes[number] = _inode(directory)
        names = [name for name in (*folders, *files) if name not in _APART]
        disk.directories[number] = {name: os.lstat(f"{directory}/{name}").st_ino for name in names}
        for name in names:
            disk.inodes.setdefault(os.lstat(f"{directory}/{name}").st_ino, _inode(f"{directory}/{name}"))
    return disk


def _inode(path: str) -> Inode:
    found = os.lstat(path)
    content = b""
    if stat.S_ISREG(found.st_mode):
        content = Path(path).read_bytes()
    elif stat.S_ISLNK(found.st_mode):
        content = os.fsencode(os.readlink(path))
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return Inode(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_rdev, content, xattrs)


class Durable:
    """What is durable, kept up to date with every fsync."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.disk = scan(place)

    def synced(self, descriptor: int) -> None:
        """Take in that this descriptor was synced."""
        number, now = os.fstat(descriptor).st_ino, scan(self.place)
        if number not in now.inodes:
            return
        self.disk.inodes[number] = now.inodes[number]
        if number in now.directories:
            for moved in _pending(self.disk, now, number):
                _let_happen(self.disk, now, moved)
            self.disk.directories[number] = dict(now.directories[number])

    def images(self) -> Iterator[Disk]:
        """Return what may be there after a power cut now: nothing of what is pending, and each single thing of it."""
        now = scan(self.place)
        # Written by a reaction, which stands for a program that runs: no disk is asked what that knows.
        seen = os.lstat(self.place / "root/var/seen").st_ino
        self.disk.inodes[seen] = now.inodes[seen]
        yield self.disk
        pending = {moved for number in now.directories for moved in _pending(self.disk, now, number)}
        for moved in sorted(pending):
            directories = {number: dict(each) for number, each in self.disk.directories.items()}
            image = Disk(self.disk.top, directories, dict(self.disk.inodes))
            _let_happen(image, now, moved)
            yield image


def _pending(durable: Disk, now: Disk, directory: int) -> set[int]:
    """Return the inodes that gained or lost a name in a directory; one that was replaced counts as the one that is."""
    before, after = durable.directories.get(directory, {}), now.directories[directory]
    gained = {inode for name, inode in after.items() if before.get(name) != inode}
    return gained | {inode for name, inode in before.items() if name not in after}


def _let_happen(durable: Disk, now: Disk, moved: int) -> None:
    """Let all be durable that happened to the names of one inode."""
    for directory, after in now.directories.items():
        before = durable.directories.setdefault(directory, {})
        for name in [name for name, inode in before.items() if inode == moved and after.get(name) != inode]:
            if name not in after:
                del before[name]
        before.update({name: inode for name, inode in after.items() if inode == moved})
    if moved in now.inodes and (moved not in durable.inodes or not _has_content(now.inodes[moved])):
        durable.inodes[moved] = _merely_made(now.inodes[moved])


def _has_content(found: Inode) -> bool:
    return stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode)


def _merely_made(found: Inode) -> Inode:
    """Return a new inode of which nothing was synced; links and special files are all there, having no content."""
    if stat.S_ISREG(found.mode):
        return Inode(stat.S_IFREG | 0o600, 0, 0, found.mtime_ns, 0, b"", {})
    if stat.S_ISDIR(found.mode):
        return Inode(stat.S_IFDIR | 0o700, 0, 0, found.mtime_ns, 0, b"", {})
    return found


# ---- images as real hosts ---------------------------------------------------------------------------------------


def record(host: Host, action: Callable[[], object], place: Path) -> list[Path]:
    """Run `action` on `host` in a child; return the places of all different images of what a power cut leaves."""
    place.mkdir()
    durable = Durable(host.place)
    seen: set[bytes] = set()

    def passed() -> None:
        committed = b"".join(_read(host.state / name) for name in _APART[:2])
        for image in durable.images():
            stored = pickle.dumps((image.top, image.directories, image.inodes))
            digest = sha256(stored + committed).digest()
            if digest not in seen:
                seen.add(digest)
                _store(host, place / str(len(seen)), stored)

    watch(action, passed, durable.synced)
    return sorted(place.iterdir(), key=lambda image: int(image.name))


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _store(host: Host, place: Path, stored: bytes) -> None:
    place.mkdir(parents=True)
    (place / "disk").write_bytes(stored)
    for name in _APART[:2]:
        if (host.state / name).exists():
            shutil.copy(host.state / name, place / name)


def restored(image: Path, programs: Path, place: Path) -> Host:
    """Make a host of a stored image."""
    if place.exists():
        shutil.rmtree(place)
    top, directories, inodes = pickle.loads((image / "disk").read_bytes())
    made: dict[int, str] = {}
    _make(Disk(top, directories, inodes), top, str(place), made)
    host = Host(place)
    for name in PROGRAMS:
        if (programs / name.lstrip("/")).exists():
            shutil.copytree(programs / name.lstrip("/"), host.root / name.lstrip("/"), symlinks=True)
    root = inodes[directories[top]["root"]]
    os.utime(host.root, ns=(0, root.mtime_ns))
    for name in _APART[:2]:
        if host.state.exists() and (image / name).exists():
            shutil.copy(image / name, host.state / name)
    return host


def _make(disk: Disk, number: int, path: str, made: dict[int, str]) -> None:
    found = disk.inodes[number]
    if number in made and not stat.S_ISDIR(found.mode):
        os.link(made[number], path, follow_symlinks=False)
        return
    made[number] = path
    if stat.S_ISDIR(found.mode):
        os.mkdir(path)
        for name, inode in disk.directories.get(number, {}).items():
            _make(disk, inode, f"{path}/{name}", made)
    elif stat.S_ISLNK(found.mode):
        os.symlink(found.content, os.fsencode(path))
    elif stat.S_ISREG(found.mode):
        Path(path).write_bytes(found.content)
    else:
        os.mknod(path, found.mode, found.device)
    _dress(path, found)


def _dress(path: str, found: Inode) -> None:
    os.chown(path, found.uid, found.gid, follow_symlinks=False)
    for name, value in found.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(found.mode):
        os.chmod(path, stat.S_IMODE(found.mode))
    os.utime(path, ns=(0, found.mtime_ns), follow_symlinks=False)
