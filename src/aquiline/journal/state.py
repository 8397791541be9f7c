"""The folder in which a host remembers what was done to it.

::

    STATE/                0700, root's
        journal.db        runs, steps, events (`aquiline.journal.store`)
        preimages/ab/…    what steps replaced, by SHA-256 (`aquiline.journal.preimages`)
        links/            inodes that had several names, kept as one more (DESIGN D14)
        attributes/       empty files that carry metadata for the undo script
        undo/RUN.sh       the undo of each run as a shell script (`aquiline.journal.script`)
        packages/         package files that undo and redo need (`aquiline.host.packages`)
        profiles/         the profiles this host has had (`aquiline.profile.archive`)
        spool/            what waits to be sent
        ballast           space set aside so that bookkeeping cannot fail for lack of it
        lock              who changes this host now

Looking at a state directory never writes to it: nothing is made before `StateDirectory.create`.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import re
import socket
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from aquiline.changes.canonical import decode, encode
from aquiline.errors import HostError, HostLocked

#: Bytes set aside for bookkeeping on a full disk.
BALLAST = 1024 * 1024
#: File systems that are somebody else's disk: their locks and fsync cannot be relied upon.
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2"),
        *("glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs"),
    )
)
#: File systems that forget at reboot.
VOLATILE_FILE_SYSTEMS = frozenset(("tmpfs", "ramfs"))

_FOLDERS = ("preimages", "links", "attributes", "undo", "packages", "profiles", "spool")
_PLACE_HINT = "give another place with `--state DIR`: a local, writable, persistent file system"


class LockHolder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who changes this host."""

    #: In words: ``apply``, ``undo 1f3a…``.
    purpose: str
    pid: int
    user: str
    #: Seconds since the epoch; for show.
    since: float
    host: str


class StateDirectory:
    """The place of the journal and of all that it refers to."""

    def __init__(self, path: str | Path, *, must_persist: bool = False) -> None:
        self.path = Path(path).absolute()
        #: Refuse a file system that forgets at reboot: the journal of a running system has to survive one.
        self.must_persist = must_persist
        self.database = self.path / "journal.db"
        self.preimages = self.path / "preimages"
        self.links = self.path / "links"
        self.attributes = self.path / "attributes"
        self.undo = self.path / "undo"
        self.packages = self.path / "packages"
        self.profiles = self.path / "profiles"
        self.spool = self.path / "spool"
        self.ballast = self.path / "ballast"
        self.lock_file = self.path / "lock"

    def create(self) -> None:
        """Make the directory and its folders, or make sure that they are ours and fit to be relied upon.

        Raises `HostError` where the file system is on a network, read-only or, if it must persist, in memory only, and
        where the directory belongs to somebody else.
        """
        refuse_unreliable(self.path, must_persist=self.must_persist)
        try:
            stood = _nearest_existing(self.path)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own()
            missing = [folder for folder in _FOLDERS if not (self.path / folder).is_dir()]
            for folder in missing:
                (self.path / folder).mkdir(mode=0o700, exist_ok=True)
            if missing:
                _make_entries_durable(self.path, stood)
            self.reserve_ballast()
        except OSError as error:
            raise HostError(f"the state directory cannot be made: {error.strerror}", path=str(self.path)) from error

    def _own(self) -> None:
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            message = f"the state directory belongs to user {found.st_uid}, expected {os.geteuid()}"
            raise HostError(message, path=str(self.path), hint=_PLACE_HINT)
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.path.chmod(0o700)

    def reserve_ballast(self) -> None:
        """Set space aside again. A disk too full for that is no error here: the space check of the run says so."""
        if self.ballast.exists():
            return
        # Not a sparse file: the blocks are really taken.
        descriptor = os.open(self.ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST)
        except OSError:
            self.ballast.unlink()
        finally:
            os.close(descriptor)

    def release_ballast(self) -> bool:
        """Give the space set aside to whoever writes next; return whether there was any."""
        try:
            self.ballast.unlink()
        except FileNotFoundError:
            return False
        return True

    def lock(self, purpose: str) -> Lock:
        """Return the lock of this host, to be entered by whoever changes it or its journal."""
        return Lock(self, purpose)

    def lock_holder(self) -> LockHolder | None:
        """Return who holds the lock, None where nobody that is alive does; takes no lock itself."""
        holder = _read_holder(self.lock_file)
        return holder if holder is not None and Path(f"/proc/{holder.pid}").exists() else None

    def refuse_locked(self) -> None:
        """Raise `HostLocked`, naming the holder, where somebody that is alive holds the lock; takes no lock itself."""
        if self.lock_holder() is not None:
            raise _locked(self)


class Lock:
    """The one writer of a host: entered once, held until left or until the process is gone. Readers need none."""

    def __init__(self, state: StateDirectory, purpose: str) -> None:
        self._state = state
        self._purpose = purpose
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock; raises `HostLocked`, naming the holder, where somebody has it."""
        self._state.create()
        descriptor = os.open(self._state.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise _locked(self._state) from None
        self._descriptor = descriptor
        try:
            self._sign()
        except OSError as error:
            os.close(descriptor)
            message = f"the lock cannot be signed: {error.strerror}"
            raise HostError(message, path=str(self._state.lock_file), hint="make room") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _sign(self) -> None:
        holder = LockHolder(
            purpose=self._purpose, pid=os.getpid(), user=current_user(), since=time.time(), host=socket.gethostname()
        )
        signature = encode(holder).encode() + b"\n"
        os.ftruncate(self._descriptor, 0)
        try:
            os.pwrite(self._descriptor, signature, 0)
        except OSError as error:
            # Undo has to be possible on a full disk: this is what the ballast is for.
            if error.errno != errno.ENOSPC or not self._state.release_ballast():
                raise
            os.pwrite(self._descriptor, signature, 0)


def current_user() -> str:
    """Return the name of who runs this; the number where there is none."""
    # getpass looks at LOGNAME and the account database; in a bare container there may be neither.
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _read_holder(path: Path) -> LockHolder | None:
    try:
        holder: LockHolder = decode(path.read_text(), LockHolder)
    except (OSError, ValueError):
        # Not there, or between lock and signature: nobody to name.
        return None
    return holder


def _locked(state: StateDirectory) -> HostLocked:
    hint = "wait until it ends; `aquiline status` shows what goes on"
    holder = _read_holder(state.lock_file)
    if holder is None:
        return HostLocked(f"{state.path} is locked by a process that has not said who it is", hint=hint)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    who = f"{holder.purpose} (pid {holder.pid}, user {holder.user}, on {holder.host}, since {since})"
    return HostLocked(f"this host is locked by {who}", hint=hint)


def make_durable(path: str | Path) -> None:
    """Return once the content of a file, or the entries of a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- what the directory lies on -----------------------------------------------------------------------------------


def refuse_unreliable(path: Path, *, must_persist: bool) -> None:
    """Raise `HostError` where `path` lies, or would lie, on a file system that a journal cannot rely upon."""
    existing = _nearest_existing(path)
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise HostError("the file system of the state directory is read-only", path=str(path), hint=_PLACE_HINT)
    kind = file_system_type(existing)
    if kind in NETWORK_FILE_SYSTEMS:
        raise HostError(f"the state directory lies on a network file system ({kind})", path=str(path), hint=_PLACE_HINT)
    if must_persist and kind in VOLATILE_FILE_SYSTEMS:
        raise HostError(f"the state directory lies on {kind}, gone at reboot", path=str(path), hint=_PLACE_HINT)


def _make_entries_durable(path: Path, stood: Path) -> None:
    """Return once `path`, whose parents up to `stood` were there before, and what is in it survive a power cut."""
    for directory in (path, *path.parents):
        make_durable(directory)
        if directory == stood:
            return


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def file_system_type(path: Path) -> str:
    """Return the type of the file system that `path` lies on, as proc(5) mountinfo names it; empty where unknown."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in _mounts():
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        below = point in ("/", real) or real.startswith(point + "/")
        # Of mounts on the same point the last one listed is the one in sight.
        if below and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind


def _mounts() -> list[str]:
    try:
        return os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    except OSError:
        # No /proc, as in a bare chroot: what it lies on stays unknown.
        return []
