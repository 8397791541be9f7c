"""The undo of a run as a plain shell script, on disk before the run changes anything (P7, D10).

Theory of operation:

1. ``STATE/undo/RUN.sh`` is a program (``undo.sh``) and, after it, chunks: one for each batch, appended and made durable
   before the batch's first effect. A chunk ends with a line that holds its SHA-256.
2. The program stands before all chunks and ends the shell itself, so no shell ever parses a chunk that a crash tore.
   It finds the last chunk whose digest is right, evaluates the text up to there and nothing after it.
3. A step's function looks at the host first: as the run left it, it is put back; as it was before, there is nothing
   to do; anything else is a conflict. So the file is right after a crash at any point, and may be run again.
4. What cannot be seen on the host (whether a command ran) is in doubt for the last chunk only: by being there, each
   chunk says that the steps before it were concluded; `UndoScript.close` says so of the last ones.

A guard compares type, content, link target, owner, group and mode; ACLs and capabilities it cannot see with coreutils.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from aquiline.changes.canonical import encode
from aquiline.changes.kinds import (
    Change,
    Opaque,
    ReactCommand,
    ReactDaemonReload,
    ReactSignal,
    ReactUnit,
    Restore,
    SetRecord,
    SetUnit,
    WriteFile,
)
from aquiline.changes.perform import keeps_inode
from aquiline.changes.steps import Step, UndoOrder
from aquiline.errors import HostError
from aquiline.host.naming import is_path
from aquiline.host.objects import (
    Absent,
    Directory,
    Object,
    Package,
    Present,
    RegularFile,
    Symlink,
    System,
    Unit,
    file_object,
    sha256,
)
from aquiline.journal import shell
from aquiline.journal.state import StateDirectory, make_durable

#: Read now: a run may replace or remove it before its undo, in the same process, needs it (D16).
_PROGRAM = Path(__file__).with_name("undo.sh").read_text("utf-8")
_END = re.compile(rb"^#end ([0-9]+) ([0-9a-f]{64})\n", re.MULTILINE)
_START = '{ aq_main "$@"; exit $?; }'
_REACTIONS = (ReactUnit, ReactSignal, ReactDaemonReload, ReactCommand)


class UndoScript:
    """The undo script of one run."""

    def __init__(
        self, state: StateDirectory, run: str, root: str = "/", *, kept: Callable[[str], str] = lambda _path: ""
    ) -> None:
        self.path = state.undo / f"{run}.sh"
        self._state = state
        self._run = run
        self._root = root
        #: Given a path: the folder below the root for inodes kept of its file system; empty: the state directory's.
        self._kept = kept
        self._shells = Shells(state)
        self._chunks = 0
        self._parents = 0
        # Read now: the program may be upgraded while the run goes on (D16).
        self._program = _PROGRAM
        if self.path.exists():
            self._drop_torn_tail()

    def append(self, steps: Sequence[Step], directories: Mapping[str, int] | None = None) -> None:
        """Add the undo of `steps`, and the times in nanoseconds of parent directories; returns once it is durable.

        A step given again replaces what was there for it: that is how an amended undo gets in.
        """
        text = [line for step in steps for line in self._step(step)]
        for path, mtime_ns in (*_restored_directories(steps), *(directories or {}).items()):
            text += self._parent(path, mtime_ns)
        doubtful = [step.number for step in steps if isinstance(step.change, Opaque)]
        self._append([*text, *_open(doubtful, [step.number for step in steps if _has_several_effects(step)])])

    def close(self, in_doubt: Iterable[int] = ()) -> None:
        """Say that all steps appended so far were concluded, but for those `in_doubt`."""
        listed = list(in_doubt)
        self._append(_open(listed, listed))

    def text(self) -> str:
        """Return the script as it is; raises `HostError` where there is none."""
        try:
            return os.fsdecode(self.path.read_bytes())
        except FileNotFoundError:
            message = "there is no undo script of this run: it changed nothing, or is past undo"
            raise HostError(message, path=str(self.path)) from None

    # ---- chunks --------------------------------------------------------------------------------------------------

    def _append(self, lines: Sequence[str]) -> None:
        self._chunks += 1
        body = os.fsencode("\n".join((f"#chunk {self._chunks}", *lines, "")))
        chunk = body + f"#end {self._chunks} {sha256(body)}\n".encode()
        try:
            if self._chunks == 1:
                self._create(os.fsencode(self._header()) + chunk)
            else:
                self._extend(chunk)
        except OSError as error:
            raise HostError(f"the undo script cannot be written: {error.strerror}", path=str(self.path)) from error

    def _create(self, content: bytes) -> None:
        temporary = self.path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o700), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.path)
        make_durable(self.path.parent)

    def _extend(self, chunk: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def _drop_torn_tail(self) -> None:
        whole, end = whole_chunks(self.path.read_bytes())
        if not whole:
            # The header and the first chunk came in one rename: this is damage, and nothing of it can be used.
            return
        self._chunks = whole
        os.truncate(self.path, end)
        self._parents = len(re.findall(rb"^aq_parent ", self.path.read_bytes(), re.MULTILINE))

    def _header(self) -> str:
        root = shell.Text()
        root.lines.append(f"AQ_ROOT={root.word(self._root)}")
        fields = {
            "RUN": self._run,
            "NAME": self.path.name,
            "ROOT": "\n".join(root.lines),
            "PATH": shell.PATH,
            "START": _START,
        }
        title = f"#!/bin/sh\n# Takes back run {self._run} of aquiline.\n#\n"
        return title + re.sub("@([A-Z]+)@", lambda found: fields[found[1]], self._program)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> list[str]:
        if not step.undo.changes and step.undo.class_ != "irreversible":
            return []
        number, text = step.number, shell.Text()
        description = shell.shown(step.undo.description or step.description)
        text.lines.append(f"u_{number}() {{")
        text.call("aq_begin", number, description)
        asked = self._gate(text, step)
        if step.undo.class_ == "irreversible":
            reason = f"it cannot be taken back: {step.undo.reason}: {step.description}"
            text.call("aq_fail", shell.shown(reason))

        for change in step.undo.changes:
            self._undo(text, step, change)
        if isinstance(step.change, Opaque):
            text.lines.append("aq_taken_back")
        text.lines.append("}")
        named = shell.quoted(f"{number} ({step.undo_order}): {description}")
        return [
            *asked,
            *text.lines,
            f"l_{number}() {{ aq_say {named}; }}",
            _listed(step, step.undo_order, step.undo.changes),
        ]

    def _gate(self, text: shell.Text, step: Step) -> list[str]:
        """Add what decides whether the step is to be taken back; return a function that this needs."""
        before = {at.path: file_object(at) for at in step.before if is_path(at.path)}
        changed = [at for at in step.after if is_path(at.path) and before.get(at.path) != at.object]
        if isinstance(step.change, SetRecord):
            for at, was in zip(step.after, step.before, strict=True):
                shell.look_at_record(text, at.path, at.object, was.object)
            text.lines.append("aq_decide || return 0")
            return []
        stood = {at.path: at.object for at in step.before}
        packages = [at for at in step.after if at.path.startswith("package:") and stood.get(at.path) != at.object]
        for at in packages:
            words = [shell.guard(one) for one in (at.object, stood[at.path]) if isinstance(one, Absent | Package)]
            text.call("aq_guard_package", at.path.removeprefix("package:"), *words)
        if packages and not changed:
            text.lines.append("aq_decide || return 0")
            return []
        if changed:
            for at in changed:
                text.call("aq_guard", at.path, shell.guard(file_object(at)), shell.guard(before.get(at.path)))
            text.lines.append("aq_decide || return 0")
            return []
        if isinstance(step.change, SetUnit):
            units = (at.object for at in (step.after[0], step.before[0]))
            words = [word for unit in units if isinstance(unit, Unit) for word in (unit.enabled, unit.active)]
            for back in step.undo.changes:
                if isinstance(back, SetUnit) and back.restores is not None:
                    shell.look_at_links(text, back.restores)
            text.call("aq_unit_guard", step.change.unit, *words)
            text.lines.append("aq_decide || return 0")
            return []
        if all(isinstance(change, _REACTIONS) for change in step.undo.changes) and step.undo.changes:
            text.call("aq_once", *map(shell.key, step.undo.changes[:1]), orelse=" || return 0")
            return []
        done_when = step.change.done_when if isinstance(step.change, Opaque) else None
        if done_when is None:
            text.lines.append("aq_command_decide '' || return 0")
            return []
        asked = shell.Text()
        shell.probe(asked, done_when)
        text.lines.append(f"aq_command_decide p_{step.number} || return 0")
        return [f"p_{step.number}() {{", *asked.lines, "}"]

    def _undo(self, text: shell.Text, step: Step, change: Change) -> None:
        if isinstance(change, Restore):
            gained = _gained(step, change)
            if gained:
                text.call("aq_strip", change.path, *gained)
            kept = self._kept_word(text, step, change)
            shell.put_back(text, change.path, change.object, kept=kept, same=_same(step), shells=self._shells.name)
        else:
            shell.do(text, change, {}, self._shells.name)

    def _kept_word(self, text: shell.Text, step: Step, change: Restore) -> str:
        if not change.kept:
            return "''"
        if change.kept.startswith("/"):
            return '"$AQ_ROOT"' + text.word(change.kept)
        name = f"{self._run}-{step.number}" if change.kept == "inode" else change.kept
        folder = self._kept(change.path)
        if folder:
            return '"$AQ_ROOT"' + text.word(f"{folder}/{name}")
        return '"$AQ_STATE/links/"' + text.word(name)

    def _parent(self, path: str, mtime_ns: int) -> list[str]:
        self._parents += 1
        text = shell.Text()
        text.lines.append(f"t_{self._parents}() {{")
        text.call("aq_time", path.rstrip("/") or "/.", shell.time_word(mtime_ns))
        return [*text.lines, "}", f"aq_parent {self._parents}"]


def whole_chunks(content: bytes) -> tuple[int, int]:
    """Return how many chunks of a script are whole, and where the last of them ends; (0, 0) where none is."""
    count, end = 0, 0
    start = content.find(b"\n#chunk 1\n") + 1
    for found in _END.finditer(content):
        if sha256(content[start : found.start()]).encode() != found[2]:
            break
        count, start = int(found[1]), found.end()
        end = start
    return count, end


def forward_script(state: StateDirectory, run: str, steps: Sequence[Step], root: str = "/") -> str:
    """Return what `steps` did as a shell script that does it again: in order, stopping at nothing, guarding nothing.

    Steps that hold a secret are named and left out. Stored content is taken from `state`.
    """
    shells = Shells(state)
    program = UndoScript(state, run, root)._header().removesuffix(f"{_START}\n")  # noqa: SLF001 - the same program
    place = shell.Text()
    place.lines.append(f"AQ_STATE={place.word(str(state.path))}")
    lines = [line for step in steps for line in _forward(step, shells)]
    body = "\n".join((*place.lines, *lines, "aq_each $aq_after", "sync", '[ "$aq_failures" = 0 ] || exit 1', ""))
    return program.replace(f"Takes back run {run} of aquiline", f"Does run {run} of aquiline again", 1) + body


def _forward(step: Step, shells: Shells) -> list[str]:
    text = shell.Text()
    text.lines.append(f"u_{step.number}() {{")
    text.call("aq_begin", step.number, shell.shown(step.description))
    if step.secret:
        text.call("aq_fail", f"it holds a secret, which is not written here: {shell.shown(step.description)}")
    else:
        text.lines.append("aq_go || return 0")
        shell.do(text, step.change, {at.path: file_object(at) for at in step.after if is_path(at.path)}, shells.name)
    return [*text.lines, "}", _listed(step, "after", () if step.secret else (step.change,))]


def _listed(step: Step, order: UndoOrder, changes: Sequence[Change]) -> str:
    """Return the line that makes a function known; it says of what does nothing but set an entry in which database."""
    match step.change, *changes:
        case SetRecord() as done, SetRecord() as given if (done.database, done.name) == (given.database, given.name):
            is_entry = step.undo.class_ != "irreversible"
            return f"aq_step {step.number} {order}{f' {done.database}' if is_entry else ''}"
        case _:
            return f"aq_step {step.number} {order}"


def _open(commands: Iterable[int], several_effects: Iterable[int]) -> list[str]:
    """Return what says which steps may not have happened, or not wholly."""
    return [
        f"aq_doubtful='{' '.join(map(str, commands))}'",
        f"aq_halfway='{' '.join(map(str, several_effects))}'",
    ]


def _has_several_effects(step: Step) -> bool:
    """Whether a crash can leave something between what was and what was to become (as `execution.recovery` has it)."""
    match step.change:
        case WriteFile(in_place=True) | Restore(in_place=True):
            return True
        case Restore(kept=kept) if kept:
            return True
        case SetUnit():
            return True
        case _:
            return keeps_inode(step)


def _restored_directories(steps: Iterable[Step]) -> Iterator[tuple[str, int]]:
    """Return the directories that undo restores: their time is set again once all that is in them is back."""
    for step in steps:
        for change in step.undo.changes:
            if isinstance(change, Restore) and isinstance(change.object, Directory):
                yield change.path, change.object.metadata.mtime_ns


def _gained(step: Step, change: Restore) -> list[str]:
    """Return the attributes that a step gave to a directory which was there before."""
    left = next((at.object for at in step.after if at.path == change.path), None)
    if not isinstance(left, Directory) or not isinstance(change.object, Directory):
        return []
    return sorted(dict(left.metadata.xattrs).keys() - dict(change.object.metadata.xattrs).keys())


def _same(step: Step) -> Literal["", "1", "strip"]:
    """Say whether the step left inode and content as they were, and whether it gave them attributes that must go."""
    match [at.object for at in step.before], [at.object for at in step.after]:
        case [RegularFile() as before], [RegularFile() as after] if keeps_inode(step):
            gained = dict(after.metadata.xattrs).keys() - dict(before.metadata.xattrs).keys()
            return "strip" if gained else "1"
        case _:
            return ""


# ---- attributes ---------------------------------------------------------------------------------------------------


class Shells:
    """Empty objects that carry the extended attributes of others, because a minimal host has no setfattr (D10)."""

    def __init__(self, state: StateDirectory) -> None:
        self._folder = state.attributes

    def name(self, found: Object) -> str:
        """Return the name of the object that carries the attributes of `found`, made durable; empty without any.

        Raises `HostError` where the file system of the state directory cannot hold them.
        """
        if isinstance(found, Absent | System) or not found.metadata.xattrs:
            return ""
        kind = type(found).__name__.lower()
        target = found.target if isinstance(found, Symlink) else ""
        owned = (kind, target, found.metadata.mode, found.metadata.uid, found.metadata.gid, found.metadata.xattrs)
        name = f"{kind}-{sha256(encode(owned).encode())[:32]}"
        place = self._folder / name
        if not os.path.lexists(place):
            try:
                self._make(place, found)
            except OSError as error:
                message = f"the state directory cannot hold the attributes of an object: {error.strerror}"
                raise HostError(message, path=str(place)) from error
        return name

    def _make(self, place: Path, found: Present) -> None:
        temporary = place.with_name(f".new-{place.name}")
        _remove(temporary)
        if isinstance(found, Symlink):
            temporary.symlink_to(found.target)
        elif isinstance(found, Directory):
            temporary.mkdir(mode=0o700)
        else:
            temporary.touch(mode=0o600)
        metadata = found.metadata
        os.chown(temporary, metadata.uid, metadata.gid, follow_symlinks=False)
        for attribute, value in metadata.xattrs:
            os.setxattr(temporary, attribute, value, follow_symlinks=False)
        if not isinstance(found, Symlink):
            temporary.chmod(metadata.mode)
            make_durable(temporary)
        temporary.rename(place)
        make_durable(place.parent)


def sweep_scripts(state: StateDirectory) -> None:
    """Remove what a killed run left half-made. Only for the holder of the lock."""
    for path in (*state.undo.glob("*.new"), *state.attributes.glob(".new-*")):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
