"""The machine, real or pretended, behind one narrow interface.

A *host* is a tree of objects below a root, commands that can be run in it, and its units, packages and accounts.
Four implementations pass one conformance suite (``tests/host/conformance.py``):

* `RealHost`: any root directory of this machine;
* `SimulatedHost`: a dict, drawn as a tree in tests;
* `Overlay`: reads through to another host, remembers what would be written;
* `FaultyHost`: wraps another host, fails or dies at the n-th effect.

Effects on files come in two phases so that a batch can be made durable at once: `stage` builds the new object under a
temporary name beside its place, with its final metadata from the first byte; `publish` moves it there. Nothing is
promised to survive a power cut before `sync` and `sync_directories` returned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from aquiline.host.objects import Absent, Enablement, FileObject, Metadata, Package, Present, Status

#: The word of a command that stands for the path of its copy.
COPY = "{}"


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process to run to its end."""

    #: Program and arguments; never given to a shell. argv[0] is looked up in the fixed PATH below the root.
    argv: tuple[str, ...]
    stdin: bytes = b""
    #: Added to the fixed environment: PATH, HOME=/, LC_ALL=C.
    environment: Mapping[str, str] = {}
    #: Seconds until its process group is killed; 0 is no limit.
    timeout: float = 300.0
    #: Bytes kept of each end of what it prints, errors apart; what is between them is left out.
    keep: int = 64 * 1024
    #: What a file holds that this command alone sees; its path stands for `COPY` among the words. None: no such file.
    copy: bytes | None = None


class Completed(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a command ended. It is over when its main process ends, even if a daemon it left holds its output open."""

    #: Exit status; 128 + n where signal n ended it.
    status: int
    stdout: bytes
    stderr: bytes
    #: It was killed because its time was up.
    timed_out: bool = False


class Staged(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object under its temporary name, ready to be published."""

    #: Where it will stand.
    path: str
    #: Where it stands now, in the same directory.
    temporary: str
    #: What it is, times included.
    object: Present


class UnitState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What systemd knows of one unit."""

    exists: bool
    #: As `systemctl is-enabled` says: enabled, disabled, masked, static, …
    enabled: str
    #: As `systemctl is-active` says: active, inactive, failed, …
    #: Empty where nothing runs.
    active: str
    #: It runs to its end and is inactive after that: oneshot without RemainAfterExit.
    runs_once: bool = False
    #: Units that stop when it is stopped, for they require it, are bound to it or are part of it; of these alone, not
    #: of those that stop with them. Empty where nothing runs.
    stops: tuple[str, ...] = ()
    #: Units that are started when it is, for it requires or wants them or is bound to them; of it alone, too.
    starts: tuple[str, ...] = ()
    #: Units that stop when it is started.
    conflicts: tuple[str, ...] = ()
    #: A condition kept it from starting when that was last tried.
    unmet: bool = False


class Units(Protocol):
    """Units of a host. What needs a running service manager raises `NotPossibleHere` where there is none."""

    def state(self, unit: str) -> UnitState: ...

    def states(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        """Return the states of several units, for little more than the price of one."""
        ...

    def set_enabled(self, unit: str, enabled: str) -> None:
        """Make a unit `enabled`, `disabled` or `masked`; the first two unmask it."""
        ...

    def restore(self, unit: str, enablement: Enablement) -> None:
        """Make the links that enable and mask a unit exactly those of `enablement` again."""
        ...

    def set_active(self, unit: str, active: bool) -> None:
        """Start or stop a unit; MUST raise `StepFailed` where it does not come to that state and stay there."""
        ...

    def settle(self, units: Iterable[str]) -> None:
        """Return once none of these units is on its way from one state to another, or after some minutes."""
        ...

    def react(self, unit: str, action: str) -> None:
        """Do one of the actions of `ReactUnit`; raises as `set_active` does."""
        ...

    def daemon_reload(self) -> None: ...


class Packages(Protocol):
    """Packages of a host, by name (`Package` says how they are named). Every method may raise `NotPossibleHere`."""

    @property
    def manager(self) -> str:
        """The package manager: ``apt``, ``dnf``; empty where it is pretended."""
        ...

    def installed(self) -> Mapping[str, Package]:
        """Return every package that the package manager knows, sorted; those with nothing but configuration left too.

        MUST be the truth after a crash of the package manager as well.
        """
        ...

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        """Return what each package would become that would be touched, dependencies included, as its manager says.

        `install` gives a version to each name; empty: stay at whatever is installed, else the newest. MUST raise
        `HostError` where the manager refuses.
        """
        ...

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        """Return the installed packages that are neither `named` nor needed by those, nor what every host needs."""
        ...

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Return those names and versions that can be had nowhere: not kept, not in a cache, not in a repository."""
        ...

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        """Keep the files of these names and versions, durably, for undo and redo; raise `HostError` where it cannot."""
        ...

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        """Return for each name and version the paths, directories too, that the package brings.

        None where nobody can tell without fetching it. All are asked of the package manager at once.
        """
        ...

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        """Return the sorted names of the installed packages that brought what stands at these paths."""
        ...

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the paths of the configuration files of installed packages."""
        ...

    def wait(self) -> None:
        """Return once nobody is changing packages; MUST raise `HostError`, naming who, after some minutes."""
        ...

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        """Bring exactly these packages to exactly these states, and no other; return what was printed.

        Takes up what an interrupted or failed transaction left. Configuration files that are there stay. MUST raise
        `HostError` where the manager would touch more than `targets`, then with nothing changed, and where a script of
        a package fails or the outcome is another than `targets`, whatever the manager says.
        """
        ...

    def is_older(self, version: str, other: str) -> bool:
        """Return whether the package manager would call going from `other` to `version` a downgrade."""
        ...


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of an account database, and where a new one goes."""

    #: The account it is of: its first field.
    name: str
    #: The whole line, its end left out; None where there is none, or none is to be.
    line: str | None
    #: The entry that it stands below: empty is at the top, None below all others but for the lines of NIS.
    after: str | None = None
    #: How many lines that are no entries are between the two.
    below: int = 0
    #: The database's last line has no line end; kept so where this entry comes to stand last, or was last.
    unended: bool = False


class Accounts(Protocol):
    """Users and groups of a host."""

    def uid(self, user: str | int) -> int:
        """Return the number of `user`, which may be one already, or spell one; root is 0 without account files too.

        MUST raise `HostError` where no such user exists.
        """
        ...

    def gid(self, group: str | int) -> int: ...

    def entry(self, database: str, name: str) -> Entry:
        """Return the entry of `name` in passwd, shadow, group, gshadow, subuid or subgid, and where it stands.

        MUST raise `HostError` where there are several.
        """
        ...

    def set_entries(self, database: str, entries: Sequence[Entry]) -> None:
        """Set, add and remove entries of one database in one atomic and durable effect; other lines stay as they are.

        MUST hold the system's own lock meanwhile, and raise `HostError` where somebody else does not let go of it.
        """
        ...


Protection = Literal["", "immutable", "append-only"]
"""What ``chattr`` forbids: nothing, ``+i``, ``+a``."""


class Reading(Protocol):
    """What planning may do to a host: look. Links in parent directories are followed under the rule of D14."""

    @property
    def root(self) -> str:
        """The directory that is ``/`` to everything else here."""
        ...

    @property
    def offline(self) -> bool:
        """Whether the root is not that of the running system: no units to start, no processes to signal."""
        ...

    @property
    def accounts(self) -> Accounts: ...
    @property
    def units(self) -> Units: ...
    @property
    def packages(self) -> Packages: ...

    def status(self, path: str) -> Status | None:
        """Return the cheap part of what stands at `path` itself (links are not followed), None where nothing does."""
        ...

    def observe(self, path: str) -> FileObject:
        """Return what stands at `path` itself, content digest and extended attributes included.

        MUST NOT change the atime of what it reads. A missing parent, or one that is no directory, is `Absent`.
        """
        ...

    def protection(self, path: str) -> Protection:
        """Return the flag that keeps even root from changing what stands at `path` itself; empty where none does.

        Only regular files and directories have one; of a directory it is its names that are kept as they are.
        """
        ...

    def read(self, path: str) -> bytes:
        """Return the content of the regular file at `path`; MUST raise `HostError` for anything else."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """Return the content of the regular file at `path` piece by piece, in memory that does not grow with it."""
        ...

    def kept_folder(self, path: str) -> str:
        """Return the folder, below the root, for inodes kept of the file system of `path`.

        Empty where they lie in the host's own place for them, outside of its tree.
        """
        ...

    def observe_kept(self, name: str, path: str) -> FileObject:
        """Return the inode kept as `name` for `path`, `Absent` where none is kept."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in the directory at `path`; empty where it is absent."""
        ...

    def run(self, command: Command) -> Completed:
        """Run `command` to its end below the root. MUST raise `NotPossibleHere` where the program is not there."""
        ...


class Host(Reading, Protocol):
    """A host that can also be changed. Each method is one effect, atomic unless it says otherwise."""

    def stage(self, path: str, wanted: Present, content: Iterable[bytes] | None, label: str) -> Staged:
        """Build `wanted` under a temporary name made of `label` beside `path`.

        `content` is given for regular files only. It is never readable by more people than `wanted` allows, not for an
        instant. ``mtime_ns`` 0 means now; the result carries the real one. MUST raise `HostError` where the content
        does not have the digest of `wanted`, leaving nothing behind.
        """
        ...

    def sync(self, staged: Sequence[Staged]) -> None:
        """Return once the content and metadata of all of `staged` survive a power cut. A failure is never retried."""
        ...

    def publish(self, staged: Staged) -> None:
        """Move a staged object to its place, replacing what stands there.

        A directory in the way MUST be empty; it is removed first, which is the one case that is not atomic.
        """
        ...

    def discard(self, path: str, label: str) -> None:
        """Remove what `stage(path, …, label)` may have left. Nothing there is success."""
        ...

    def write_in_place(self, path: str, content: Iterable[bytes], metadata: Metadata) -> FileObject:
        """Overwrite an existing file without replacing its inode: for mount points and where asked. Not atomic."""
        ...

    def link(self, path: str, existing: str, label: str) -> None:
        """Make `path` a further name of the file at `existing`, replacing what stands there by rename."""
        ...

    def move(self, source: str, destination: str) -> None:
        """Rename within one file system; MUST refuse to replace a directory that is not empty."""
        ...

    def remove(self, path: str) -> None:
        """Remove the file, link, special file or empty directory at `path`. Absent is success.

        MUST refuse a mount point.
        """
        ...

    def set_metadata(self, path: str, metadata: Metadata) -> None:
        """Give what stands at `path` exactly this owner, mode, mtime and attributes. ``mtime_ns`` 0 leaves it."""
        ...

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Set a modification time and nothing else."""
        ...

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Return once the entries of these directories survive a power cut. One that has gone is passed over."""
        ...

    def keep(self, path: str, name: str) -> None:
        """Give the inode at `path` one more name, `name`, in a private folder on the same file system (D14).

        Keeping under a name that is taken by the same inode is success.
        """
        ...

    def restore_kept(self, name: str, path: str, label: str) -> None:
        """Make `path` a name of the inode kept as `name` again, replacing what stands there by rename.

        MUST raise `HostError` where nothing is kept under that name. The kept name stays.
        """
        ...

    def drop_kept(self, name: str, path: str) -> None:
        """Forget the inode kept as `name` for `path`. None there is success."""
        ...
