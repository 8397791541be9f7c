"""What can be done to a host: a closed, versioned set of frozen values.

A *change* says what to do, whole, as data: it can be stored, sent, shown and performed by code that has never met the
component that made it. Components compose kinds; they do not add kinds (DESIGN section 4).

Three families:

* *state kinds* bring an object, unit, package set or account to a state; whether they happened can be seen on the host;
* *command kinds* run something opaque; what they do is known only from what they declare;
* *reactions* tell a running program that its files changed; each is a debt until it ran (D2).

`Validate` is none of these: it checks a would-be file and changes nothing.

The field ``kind`` names the class in every record; ``version`` (D24) grows when the meaning of a kind does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from aquiline.host.objects import At, Enablement, FileObject, SpecialType, sha256

# ---- content ------------------------------------------------------------------------------------------------------


class Inline(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="from", tag="inline"):
    """Content that travels with the change."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, lowercase hexadecimal."""
        return sha256(self.data)


class Stored(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="from", tag="stored"):
    """Content that lies in the pre-image store under its digest."""

    sha256: str
    size: int


class CopyOf(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="from", tag="copy"):
    """Content of another file of the same host, as it was when the plan was made."""

    path: str
    sha256: str
    size: int


Content = Inline | Stored | CopyOf

# ---- what a command declares --------------------------------------------------------------------------------------


class Touches(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a command may change. All empty says: nothing that any component reads."""

    paths: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


class Probe(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command that looks and does not touch."""

    argv: tuple[str, ...]
    #: Exit statuses that mean yes.
    accepts: tuple[int, ...] = (0,)
    timeout: float = 60.0
    #: Paths it looks at: it is not run while a pending change would alter one of them.
    reads: tuple[str, ...] = ()


class CommandUndo(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a command is taken back: by changes, by itself, or not at all."""

    changes: tuple[Change, ...] = ()
    description: str = ""
    #: Running it once more is its undo.
    itself: bool = False
    #: Why there is none; empty where there is one.
    irreversible: str = ""


class Kind(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", kw_only=True):
    """What all kinds share."""

    #: Version of the kind's meaning (D24).
    version: int = 1


# ---- state kinds: files -------------------------------------------------------------------------------------------


class _Owned(Kind, frozen=True, kw_only=True):
    """Metadata that may be left open: None keeps what is there, else root, the kind's default mode, now."""

    mode: int | None = None
    #: Name or number; a name is resolved on the host, and may be of a user that an earlier step makes.
    owner: str | int | None = None
    group: str | int | None = None
    mtime_ns: int | None = None
    #: The complete set, sorted by name; None keeps.
    xattrs: tuple[tuple[str, bytes], ...] | None = None


class WriteFile(_Owned, frozen=True, tag="write_file", kw_only=True):
    """Make a regular file with exactly this content. Default mode 0644."""

    path: str
    content: Content
    #: Its content is a secret (D9): never shown, never diffed.
    secret: bool = False
    #: Overwrite the inode instead of replacing it: for mount points and where asked. Not atomic, and shown so.
    in_place: bool = False
    #: Others write to it once it is there, as to a log: its content is made once, is no drift, and undo leaves a file
    #: that has changed since.
    seed: bool = False


class EditFile(Kind, frozen=True, tag="edit_file", kw_only=True):
    """Give an existing file the content that editing it gave; all its metadata stays."""

    path: str
    content: Content
    #: SHA-256 of the content that was edited: anything else there now makes the plan stale.
    edited_sha256: str
    secret: bool = False


class Remove(Kind, frozen=True, tag="remove", kw_only=True):
    """Remove a file, link, special file or empty directory. A tree is one step for each object, deepest first."""

    path: str


class MakeDirectory(_Owned, frozen=True, tag="make_directory", kw_only=True):
    """Make a directory, or give an existing one this metadata. Default mode 0755. Parents are steps of their own."""

    path: str
    #: Others use it once it is there, as a home: one that stands there stays as it is, and undo removes it, with what
    #: the same run made in it, only while all of that is as it was made and nothing else is in it.
    seed: bool = False


class MakeSymlink(Kind, frozen=True, tag="make_symlink", kw_only=True):
    """Make a symbolic link."""

    path: str
    target: str
    owner: str | int | None = None
    group: str | int | None = None


class MakeHardlink(Kind, frozen=True, tag="make_hardlink", kw_only=True):
    """Make `path` a further name of the file at `existing`."""

    path: str
    existing: str


class MakeSpecial(_Owned, frozen=True, tag="make_special", kw_only=True):
    """Make a FIFO or device node. Default mode 0600."""

    path: str
    special: SpecialType
    device: int = 0


class Move(Kind, frozen=True, tag="move", kw_only=True):
    """Rename `source` to `destination`, within one file system."""

    source: str
    destination: str


class SetMetadata(_Owned, frozen=True, tag="set_metadata", kw_only=True):
    """Change owner, group, mode, times or attributes of what exists; what is left open stays."""

    path: str


class Restore(Kind, frozen=True, tag="restore", kw_only=True):
    """Put back exactly the object that stood at `path`: what undo is made of."""

    path: str
    object: FileObject
    #: Where the old inode was kept as a link because it had several names (D14); empty where its content is enough.
    kept: str = ""
    #: It stood alone there: a file that now shares its inode with another name is parted from it.
    apart: bool = False
    #: The content was overwritten in place and is put back the same way: a mount point cannot be replaced.
    in_place: bool = False
    secret: bool = False


# ---- state kinds: units, packages, accounts ------------------------------------------------------------------------


UnitFileState = Literal["enabled", "disabled", "masked"]


class SetUnit(Kind, frozen=True, tag="set_unit", kw_only=True):
    """Enable, disable, mask, start or stop a unit; None leaves that side as it is."""

    unit: str
    enabled: UnitFileState | None = None
    active: bool | None = None
    #: Instead of `enabled`: enabled or masked by exactly these links again, which is what undo is made of.
    restores: Enablement | None = None
    #: Started after it: units that had stopped along with it, which is what undo is made of.
    along: tuple[str, ...] = ()
    #: Stopped after it, where `active` is false and nothing else that runs needs them, and then started: units that had
    #: started, and stopped, along with it, which is what undo is made of.
    stops_too: tuple[str, ...] = ()
    starts_again: tuple[str, ...] = ()
    #: That it has failed is forgotten too, where `active` is false: it had not before, which is what undo is made of.
    resets_failed: bool = False


class SetPackages(Kind, frozen=True, tag="set_packages", kw_only=True):
    """Install, change and remove packages in one transaction of the host's package manager.

    Either a request, which the manager's own simulation makes exact when it is planned: the step's `after` names every
    package that is touched. Or exact from the start, which is what undo is made of.
    """

    #: The request: name to version; an empty version is any, the newest where none is installed.
    install: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    #: Every package it touches as it leaves it; and the files, units and account entries that are to be as given once
    #: the packages' own scripts have run.
    leaves: tuple[At, ...] = ()


class SetRecord(Kind, frozen=True, tag="set_record", kw_only=True):
    """Set, add or remove one entry of an account database; every other line stays as it is."""

    database: Literal["passwd", "shadow", "group", "gshadow", "subuid", "subgid"]
    #: The account it is of: the entry's first field.
    name: str
    #: The whole entry without its line end; None removes it.
    line: str | None
    #: Where a new one goes: below this entry; empty is at the top, None below all others but for the lines of NIS.
    after: str | None = None
    #: How many lines that are no entries are between the two.
    below: int = 0
    #: The database's last line has no line end; kept so where this entry comes to stand last, or was last.
    unended: bool = False
    #: It holds a password hash (D9). Entries of shadow and gshadow are secret whatever this says.
    secret: bool = False


# ---- commands -----------------------------------------------------------------------------------------------------


class _Opaque(Kind, frozen=True, kw_only=True):
    """What command and script share (D5)."""

    #: What it does, in the author's words; empty shows the command itself.
    description: str = ""
    #: Exit statuses that are success.
    accepts: tuple[int, ...] = (0,)
    #: None: it declares nothing, and later reads by other components are assumptions (D6).
    touches: Touches | None = None
    #: Run only where this says yes.
    guard: Probe | None = None
    #: Says yes once it has been done; also settles a command in doubt after a crash (D12).
    done_when: Probe | None = None
    #: Run only where a state step of the same task is needed.
    with_task: bool = False
    #: Run every time; reported as never converging.
    always: bool = False
    #: Running it twice is the same as running it once (D12).
    idempotent: bool = False
    #: Seconds until its process group is killed.
    timeout: float = 300.0
    environment: Mapping[str, str] = {}
    undo: CommandUndo = CommandUndo(irreversible="its author gave no way to take it back")
    #: The proposal's ``reverse``: None is the default of the kind (D4).
    undo_order: Literal["reversed", "after"] | None = None
    #: Its arguments, input or output hold a secret (D9).
    secret: bool = False


class RunCommand(_Opaque, frozen=True, tag="run_command", kw_only=True):
    """Run a program with arguments; never through a shell."""

    argv: tuple[str, ...]
    stdin: bytes = b""


class RunScript(_Opaque, frozen=True, tag="run_script", kw_only=True):
    """Run a script whose *text* is in the journal, in a fresh process, with JSON arguments; never a closure."""

    language: Literal["python", "shell"]
    text: str
    #: Python gets it as ``arguments``; shell as the JSON text in ``$AQUILINE_ARGUMENTS``.
    arguments: Any = None


# ---- reactions ----------------------------------------------------------------------------------------------------


class ReactUnit(Kind, frozen=True, tag="react_unit", kw_only=True):
    """Reload or restart a unit because something it reads changed."""

    unit: str
    action: Literal["reload", "restart", "try-restart", "reload-or-restart", "stop-sleep-start"]


class ReactSignal(Kind, frozen=True, tag="react_signal", kw_only=True):
    """Send a signal to every process of this name (as ``pkill -x``); none running is success."""

    process: str
    #: Name without SIG: HUP, USR1, …
    signal: str


class ReactDaemonReload(Kind, frozen=True, tag="react_daemon_reload", kw_only=True):
    """Make the service manager read its unit files again."""


class ReactCommand(Kind, frozen=True, tag="react_command", kw_only=True):
    """Any command, as a reaction: run once, after the objects are in place, when doing and when undoing."""

    argv: tuple[str, ...]
    description: str = ""
    accepts: tuple[int, ...] = (0,)
    timeout: float = 300.0
    #: A failure is shown and does not fail the run.
    may_fail: bool = False
    #: Run it below an offline root too; by default a reaction needs a running system and is *offline: not run*.
    offline_too: bool = False


# ---- validation ---------------------------------------------------------------------------------------------------


class Validate(Kind, frozen=True, tag="validate", kw_only=True):
    """Check would-be content by a command on a temporary private copy. Changes nothing."""

    #: The file it will become; named in messages.
    path: str
    content: Content
    #: ``{}`` stands for the path of the copy.
    argv: tuple[str, ...]
    #: The content is its standard input too, for checkers that take no file.
    stdin: bool = False
    accepts: tuple[int, ...] = (0,)
    timeout: float = 60.0
    secret: bool = False


FileChange = (
    WriteFile
    | EditFile
    | Remove
    | MakeDirectory
    | MakeSymlink
    | MakeHardlink
    | MakeSpecial
    | Move
    | SetMetadata
    | Restore
)
Opaque = RunCommand | RunScript
Reaction = ReactUnit | ReactSignal | ReactDaemonReload | ReactCommand
Change = FileChange | SetUnit | SetPackages | SetRecord | Opaque | Reaction | Validate
