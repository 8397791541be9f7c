"""A file tree in memory, alone or shown over another host's tree: what `Overlay` and `SimulatedHost` share.

Theory of operation

1. Names lead to inodes. A directory's inode holds its entries; an entry that is None says that nothing stands there.
2. A directory may *show* a directory of the base: a name it has no entry for is looked up there. So a removed
   directory hides what was below it, a moved one brings it along, and a new one starts empty.
3. An inode without an object of its own is as the base has it. It is made when somebody walks through it or is about
   to change it, and is then the place where the change is remembered; making it changes nothing that can be seen.
4. All names of one base file with several links lead to one inode, found by the base's (device, inode number).
5. Every mutation logs how to take it back, so a savepoint is a length and a rollback costs what was done since.

It promises the semantics of `Host`, not durability: syncing is nothing here.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Literal, NoReturn, TypeVar

import msgspec

from aquiline.errors import HostError, UnsafePath
from aquiline.host.objects import (
    ABSENT,
    Absent,
    Directory,
    FileObject,
    Metadata,
    Present,
    RegularFile,
    Special,
    Status,
    Symlink,
    sha256,
)
from aquiline.host.protocol import Protection, Reading, Staged

#: The content of a file: bytes, or a way to get them piece by piece when somebody asks, or None for no known content.
Source = bytes | Callable[[], Iterator[bytes]] | None

Value = TypeVar("Value")

#: As many links as Linux follows before it gives up with ELOOP.
MOST_LINKS = 40
#: Bytes in one name, on every file system of Linux that we know.
LONGEST_NAME = 255


class Undone:
    """How to take back what was done since any savepoint."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Callable[[], object]) -> None:
        """Remember how to take back what is being done now."""
        self._steps.append(step)

    def assign(self, known: dict[str, Value], key: str, value: Value) -> None:
        """Set an entry of a dict."""
        if key in known:
            self.add(partial(known.__setitem__, key, known[key]))
        else:
            self.add(partial(known.__delitem__, key))
        known[key] = value

    def set(self, inode: Inode, slot: str, value: object) -> None:
        """Set an attribute of an inode."""
        self.add(partial(setattr, inode, slot, getattr(inode, slot)))
        setattr(inode, slot, value)

    def back_to(self, savepoint: int) -> None:
        """Take back, latest first, all that was done since there were `savepoint` steps."""
        while len(self._steps) > savepoint:
            self._steps.pop()()


class Inode:
    """What a name leads to; mutated by `Tree` alone."""

    __slots__ = ("entries", "identity", "links", "object", "origin", "source", "touched", "type")

    def __init__(
        self,
        of_type: Literal["file", "directory", "symlink", "special"],
        identity: tuple[int, int],
        *,
        holds: Present | None = None,
        origin: str | None = None,
        source: Source = None,
        links: int = 1,
    ) -> None:
        self.type = of_type
        self.identity = identity
        #: None: as the base has it at `origin`.
        self.object = holds
        #: Where the base has the content of this file, or the directory that this one shows; None: nowhere.
        self.origin = origin
        self.source = source
        self.links = links
        #: Only of directories. None says that nothing stands there, whatever the base has.
        self.entries: dict[str, Inode | None] = {}
        #: The modification time, where an entry made or removed here moved it.
        self.touched: int | None = None


#: Where a path leads: the inode of its directory, its name in there, and the path without links and dots.
Place = tuple[Inode, str, str]


class Tree:
    """The files of a `Host`, in memory; over `base` where there is one, which it never changes."""

    def __init__(self, base: Reading | None, *, root: Inode) -> None:
        self._base = base
        #: Inode numbers of what is made over a base are negative: nothing there has such.
        self._numbers = count(-1, -1) if base is not None else count(2)
        self._root = root
        #: Holds the root as its only entry, so that ``/`` is a place like any other.
        self._above = Inode("directory", root.identity)
        self._above.entries[""] = root
        #: Inodes kept under a private name.
        self._kept: dict[str, Inode] = {}
        #: Base files with several names, by their identity there.
        self._shared: dict[tuple[int, int], Inode] = {}
        #: Directories found by their path as given, until one that was passed on the way is replaced.
        self._walked: dict[str, tuple[Inode, str]] = {}
        self._passed: set[str] = set()
        self._undone = Undone()

    # ---- reading --------------------------------------------------------------------------------------------------

    def status(self, path: str) -> Status | None:
        place = self._look(path)
        if place is None:
            return None
        directory, name, _ = place
        if name not in directory.entries and directory.origin is not None and self._base is not None:
            # As in `observe`: what nobody changed costs one call of the base.
            found = self._base.status(f"{directory.origin}/{name}")
            if found is None or found.type == "directory" or found.links == 1:
                return found
        inode = self._child(directory, name)
        return None if inode is None else self._status(inode)

    def protection(self, path: str) -> Protection:
        place = self._look(path)
        if place is None or self._base is None:
            return ""
        directory, name, _ = place
        if name in directory.entries:
            inode = directory.entries[name]
            return "" if inode is None or inode.origin is None else self._base.protection(inode.origin or "/")
        return "" if directory.origin is None else self._base.protection(f"{directory.origin}/{name}")

    def observe(self, path: str) -> FileObject:
        place = self._look(path)
        if place is None:
            return ABSENT
        directory, name, _ = place
        if name not in directory.entries and directory.origin is not None and self._base is not None:
            # The short way for what nobody changed: no inode is made, the base is asked once.
            found = self._base.observe(f"{directory.origin}/{name}")
            if not self._may_be_shared(found):
                return found
        inode = self._child(directory, name)
        return ABSENT if inode is None else self._object(inode)

    def observe_kept(self, name: str, path: str) -> FileObject:
        if name in self._kept:
            return self._object(self._kept[name])
        return self._base.observe_kept(name, path) if self._base is not None else ABSENT

    def read(self, path: str) -> bytes:
        return b"".join(self.chunks(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        inode = self._file(path)
        return self._content(inode.source, inode.origin, path)

    def content_now(self, path: str) -> Callable[[], Iterator[bytes]]:
        """Return what gives, whenever it is asked, the content that the regular file at `path` has at this moment."""
        inode = self._file(path)
        return partial(self._content, inode.source, inode.origin, path)

    def _file(self, path: str) -> Inode:
        place = self._look(path)
        inode = self._child(*place[:2]) if place is not None else None
        if inode is None:
            raise HostError("nothing stands there to read", path=path)
        if inode.type != "file":
            raise HostError(f"cannot read a {inode.type}", path=path)
        return inode

    def names(self, path: str) -> tuple[str, ...]:
        place = self._look(path)
        if place is None:
            return ()
        # A link to a directory is followed, here alone: it is the parent of what is asked for.
        plain = _plain(path)
        found = self._walked.get(plain) or self._walk(plain, path)
        return () if found is None else self._listed(*found)

    # ---- effects --------------------------------------------------------------------------------------------------

    def stage(self, path: str, wanted: Present, content: Iterable[bytes] | None, label: str) -> Staged:
        directory, name, at = self._parent(path)
        self._refuse_long(name, path)
        data: bytes | None = None
        if isinstance(wanted, RegularFile):
            data = b"".join(content or ())
            _refuse_other(data, wanted, path)
        temporary = _temporary(label)
        inode = self._new(directory, self._stamped(wanted), data)
        self._put(directory, temporary, _beside(at, temporary), inode)
        return Staged(path, _beside(path, temporary), self._present(inode))

    def sync(self, staged: Sequence[Staged]) -> None:
        """Return at once: nothing here survives anything."""

    def publish(self, staged: Staged) -> None:
        directory, temporary, at = self._parent(staged.temporary)
        inode = self._child(directory, temporary)
        if inode is None:
            raise HostError(f"nothing is staged under {staged.temporary}", path=staged.path)
        self._replace(staged.path, inode)
        self._put(directory, temporary, at, None)

    def discard(self, path: str, label: str) -> None:
        place = self._place(path)
        if place is None:
            return
        directory, _, at = place
        temporary = _temporary(label)
        if self._child(directory, temporary) is not None:
            self._displace(directory, temporary)
            self._put(directory, temporary, _beside(at, temporary), None)

    def write_in_place(self, path: str, content: Iterable[bytes], metadata: Metadata) -> FileObject:
        inode = self._existing(path)
        if inode.type != "file":
            raise HostError(f"found a {inode.type}, expected a regular file", path=path)
        data = b"".join(content)
        self._rewrite(inode, RegularFile(metadata, len(data), sha256(data)), data)
        return self._object(inode)

    def link(self, path: str, existing: str, label: str) -> None:  # noqa: ARG002 - nothing is temporary here
        inode = self._existing(existing)
        if inode.type == "directory":
            raise HostError("a directory cannot have a further name", path=existing)
        directory, name, _ = self._parent(path)
        self._refuse_long(name, path)
        if self._child(directory, name) is inode:
            return  # already a name of it: rename(2) does nothing then, and so do we
        self._refuse_other_file_system(inode, directory, path)
        self._replace(path, inode)
        self._undone.set(inode, "links", inode.links + 1)

    def keep(self, path: str, name: str) -> None:
        inode = self._existing(path)
        if self._kept.setdefault(name, inode) is not inode:
            raise HostError(f"another inode is already kept as {name}", path=path)
        self._undone.set(inode, "links", inode.links + 1)

    def kept_folder(self, path: str) -> str:  # noqa: ARG002 - they have no place in the tree
        return ""

    def restore_kept(self, name: str, path: str, label: str) -> None:  # noqa: ARG002 - nothing is temporary here
        inode = self._kept.get(name)
        if inode is None:
            raise HostError(f"no inode is kept as {name}", path=path)
        directory, base, _ = self._parent(path)
        if self._child(directory, base) is not inode:
            self._replace(path, inode)
            self._undone.set(inode, "links", inode.links + 1)

    def drop_kept(self, name: str, path: str) -> None:  # noqa: ARG002 - all are in one place here
        self._kept.pop(name, None)

    def move(self, source: str, destination: str) -> None:
        directory, name, at = self._parent(source)
        inode = self._child(directory, name)
        if inode is None:
            raise HostError("nothing stands there to move", path=source)
        there, new, to = self._parent(destination)
        self._refuse_long(new, destination)
        replaced = self._child(there, new)
        if replaced is inode:
            if at != to:
                self._displace(directory, name)  # two names of one file: rename(2) would leave both
                self._put(directory, name, at, None)
            return
        if to.startswith(f"{at}/"):
            raise HostError(f"cannot be moved below itself, to {destination}", path=source)
        if replaced is not None and (replaced.type == "directory") != (inode.type == "directory"):
            raise HostError(f"a {inode.type} cannot replace a {replaced.type}", path=destination)
        self._refuse_mount_point(directory, inode, source)
        self._refuse_other_file_system(inode, there, destination)
        self._replace(destination, inode)
        self._put(directory, name, at, None)

    def remove(self, path: str) -> None:
        place = self._place(path)
        inode = self._child(*place[:2]) if place is not None else None
        if place is None or inode is None:
            return
        directory, name, at = place
        self._refuse_replacing(directory, inode, path)
        self._displace(directory, name)
        self._put(directory, name, at, None)

    def set_metadata(self, path: str, metadata: Metadata) -> None:
        inode = self._existing(path)
        found = self._present(inode)
        if metadata.mtime_ns == 0:
            metadata = msgspec.structs.replace(metadata, mtime_ns=found.metadata.mtime_ns)
        self._give(inode, found, metadata)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        inode = self._existing(path)
        found = self._present(inode)
        self._give(inode, found, msgspec.structs.replace(found.metadata, mtime_ns=mtime_ns))

    def sync_directories(self, paths: Iterable[str]) -> None:
        """Return at once: nothing here survives anything."""

    def place(self, path: str) -> str | None:
        """Return `path` without links among its parents; None where there is no directory for it to stand in.

        Raises:
            HostError: its parents are links in a loop, or links that nobody may trust.
        """
        found = self._place(path)
        return None if found is None else found[2]

    # ---- remembering without effects ------------------------------------------------------------------------------

    def remember(self, path: str, wanted: FileObject, source: Source, *, in_place: bool = False) -> None:
        """Put `wanted` at `path` as if it had been staged and published, in constant time and without its content.

        `source` is asked for the content of a regular file when somebody reads it. The caller has observed what
        stands there: only what is known here is checked, and a base file's other names keep their number of links
        unless it was observed. `in_place` keeps the inode of an existing file, so that all its names change.

        Raises:
            HostError: the parent is absent or not a directory, or a directory that is not empty is in the way.
        """
        directory, name, at = self._parent(path)
        if in_place and isinstance(wanted, RegularFile):
            self._rewrite(self._existing(path), wanted, source)
            return
        known = directory.entries.get(name)
        if isinstance(wanted, Directory):
            known = self._child(directory, name)
            if known is not None and known.type == "directory":
                self._give(known, wanted, wanted.metadata)
                return
        if known is not None:
            self._refuse_replacing(directory, known, path)
            self._displace(directory, name)
        self._put(directory, name, at, None if isinstance(wanted, Absent) else self._new(directory, wanted, source))

    def savepoint(self) -> int:
        """Return a token for the tree as it is now."""
        return len(self._undone)

    def rollback(self, token: int) -> None:
        """Take back everything since `savepoint` returned `token`."""
        self._undone.back_to(token)
        self._walked.clear()

    # ---- hooks of the two hosts -----------------------------------------------------------------------------------

    def _now(self) -> int:
        """Return the modification time of what is written now."""
        raise NotImplementedError

    def _visit(self, path: str) -> None:
        """Be told that a lookup goes through `path`, which has no links and dots in it; may refuse."""

    def _reading(self, path: str) -> None:
        """Be told that somebody reads what stands at `path`, which has no links and dots in it; may refuse."""

    # ---- from path to inode ---------------------------------------------------------------------------------------

    def _look(self, path: str) -> Place | None:
        place = self._place(path)
        self._reading(path if place is None else place[2])
        return place

    def _place(self, path: str) -> Place | None:
        """Return where `path` leads, None where its parent is absent or no directory."""
        head, _, name = path.rpartition("/")
        if name in ("", ".", "..") or not path.startswith("/"):
            head, _, name = _plain(path).rpartition("/")
        if not name:
            return self._above, "", "/"
        if name == "..":
            raise HostError("ends in '..', so it does not say which object is meant", path=path)
        found = self._walked.get(head) or self._walk(head, path)
        return None if found is None else (found[0], name, f"{found[1]}/{name}")

    def _parent(self, path: str) -> Place:
        place = self._place(path)
        if place is None:
            raise HostError(f"{posixpath.dirname(path)} is absent or not a directory", path=path)
        if place[0] is self._above:
            raise HostError("the root itself cannot be replaced", path=path)
        return place

    def _existing(self, path: str) -> Inode:
        place = self._place(path)
        inode = self._child(*place[:2]) if place is not None else None
        if inode is None:
            raise HostError("nothing stands there", path=path)
        return inode

    def _walk(self, head: str, path: str) -> tuple[Inode, str] | None:
        """Return the directory at `head` and its path without links and dots; follow links as D14 allows."""
        _plain(path)
        stack = [(self._root, "")]
        pending = head.split("/")[::-1]
        links = 0
        leaders: set[int] = set()
        while pending:
            part = pending.pop()
            if part == ".." and len(stack) > 1:
                stack.pop()
            if part in ("", ".", ".."):
                continue
            here, at = stack[-1]
            at = f"{at}/{part}"
            self._visit(at)
            inode = self._child(here, part)
            if inode is None or inode.type not in ("directory", "symlink"):
                return None
            self._passed.add(at)
            if inode.type == "directory":
                stack.append((inode, at))
                continue
            links += 1
            if links > MOST_LINKS:
                raise HostError("too many levels of symbolic links", path=path)
            target = self._target(inode, here, at, leaders)
            if target.startswith("/"):
                del stack[1:]
            pending.extend(target.split("/")[::-1])
        self._check_leaders(leaders, stack[-1][0], path)
        self._walked[head] = stack[-1]
        return stack[-1]

    def _check_leaders(self, leaders: set[int], end: Inode, path: str) -> None:
        """Refuse an end that does not belong to everybody whose links led there (see `aquiline.host.walk`)."""
        if leaders and leaders != {owner := self._status(end).uid}:
            raise UnsafePath(f"a link of user {min(leaders - {owner})} leads to what user {owner} owns", path=path)

    def _target(self, link: Inode, directory: Inode, at: str, leaders: set[int]) -> str:
        found = self._object(link)
        if not isinstance(found, Symlink):
            raise HostError("changed while it was being followed", path=at)
        if found.metadata.uid not in (0, self._status(directory).uid):
            raise UnsafePath(
                f"a parent directory is a link that belongs to {found.metadata.uid}, neither root nor the owner of "
                "its directory",
                path=at,
            )
        if found.metadata.uid:
            leaders.add(found.metadata.uid)
        return found.target

    def _child(self, directory: Inode, name: str) -> Inode | None:
        entries = directory.entries
        if name in entries:
            return entries[name]
        if directory.origin is None or self._base is None:
            return None
        origin = f"{directory.origin}/{name}"
        found = self._base.status(origin)
        if found is None:
            return None
        inode = self._shared.get(found.inode) if found.type != "directory" and found.links > 1 else None
        if inode is None:
            inode = Inode(found.type, found.inode, origin=origin, links=found.links)
            if found.type != "directory" and found.links > 1:
                self._shared[found.inode] = inode
        entries[name] = inode  # not logged: it is what was seen before
        return inode

    def _listed(self, directory: Inode, at: str) -> tuple[str, ...]:  # noqa: ARG002 - the overlay asks where
        """Return the names in a directory that somebody reads, which stands at `at`."""
        return tuple(sorted(self._names(directory)))

    def _may_be_shared(self, found: FileObject) -> bool:
        """Return whether an object of the base may have another name through which it was changed here."""
        match found:
            case RegularFile():
                return found.links > 1
            case Symlink() | Special():
                return bool(self._shared)  # how many names these have is not part of the object
            case _:
                return False

    def _names(self, directory: Inode) -> set[str]:
        found: set[str] = set()
        if directory.origin is not None and self._base is not None:
            found.update(self._base.names(directory.origin or "/"))
        for name, inode in directory.entries.items():
            if inode is None:
                found.discard(name)
            else:
                found.add(name)
        return found

    # ---- from inode to value --------------------------------------------------------------------------------------

    def _object(self, inode: Inode) -> FileObject:
        found: FileObject
        if inode.object is not None:
            found = inode.object
        else:
            assert self._base is not None
            assert inode.origin is not None
            found = self._base.observe(inode.origin or "/")
        if isinstance(found, RegularFile) and found.links != inode.links:
            found = msgspec.structs.replace(found, links=inode.links)
        if isinstance(found, Directory) and inode.touched is not None:
            metadata = msgspec.structs.replace(found.metadata, mtime_ns=inode.touched)
            found = msgspec.structs.replace(found, metadata=metadata)
        return found

    def _present(self, inode: Inode) -> Present:
        found = self._object(inode)
        if isinstance(found, Absent):
            raise HostError("went away while it was being looked at", path=inode.origin or "")
        return found

    def _status(self, inode: Inode) -> Status:
        if inode.object is None:
            assert self._base is not None
            assert inode.origin is not None
            found = self._base.status(inode.origin or "/")
            if found is None:
                raise HostError("went away while it was being looked at", path=inode.origin)
            links = found.links if inode.type == "directory" else inode.links
            mtime_ns = found.mtime_ns if inode.touched is None else inode.touched
            return msgspec.structs.replace(found, links=links, mtime_ns=mtime_ns)
        found_object = self._present(inode)
        metadata = found_object.metadata
        return Status(
            type=inode.type,
            mode=metadata.mode,
            uid=metadata.uid,
            gid=metadata.gid,
            mtime_ns=metadata.mtime_ns,
            size=_size(found_object),
            links=2 if inode.type == "directory" else inode.links,
            inode=inode.identity,
            stored=_size(found_object),
        )

    def _content(self, source: Source, origin: str | None, path: str) -> Iterator[bytes]:
        match source:
            case bytes():
                return iter((source,) if source else ())
            case None if origin is not None and self._base is not None:
                return self._base.chunks(origin)
            case None:
                raise HostError("its content is not known here", path=path)
            case _:
                return source()

    # ---- mutation -------------------------------------------------------------------------------------------------

    def _new(self, directory: Inode, wanted: Present, source: Source) -> Inode:
        identity = (directory.identity[0], next(self._numbers))
        match wanted:
            case RegularFile():
                return Inode("file", identity, holds=wanted, source=source)
            case Directory():
                return Inode("directory", identity, holds=wanted)
            case Symlink():
                metadata = msgspec.structs.replace(wanted.metadata, mode=0o777)
                wanted = msgspec.structs.replace(wanted, metadata=metadata)
                return Inode("symlink", identity, holds=wanted)
            case Special():
                return Inode("special", identity, holds=wanted)

    def _stamped(self, wanted: Present) -> Present:
        if wanted.metadata.mtime_ns:
            return wanted
        return msgspec.structs.replace(wanted, metadata=msgspec.structs.replace(wanted.metadata, mtime_ns=self._now()))

    def _rewrite(self, inode: Inode, wanted: RegularFile, source: Source) -> None:
        self._undone.set(inode, "object", self._stamped(wanted))
        self._undone.set(inode, "source", source)

    def _give(self, inode: Inode, found: Present, metadata: Metadata) -> None:
        if isinstance(found, Symlink):
            metadata = msgspec.structs.replace(metadata, mode=0o777)
        self._undone.set(inode, "object", msgspec.structs.replace(found, metadata=metadata))
        self._undone.set(inode, "touched", None)
        if metadata.uid != found.metadata.uid:
            self._walked.clear()  # whether a link may be followed hangs on who owns it and its directory

    def _replace(self, path: str, inode: Inode) -> None:
        directory, name, at = self._parent(path)
        replaced = self._child(directory, name)
        if replaced is not None:
            self._refuse_replacing(directory, replaced, path)
            self._displace(directory, name)
        self._put(directory, name, at, inode)

    def _displace(self, directory: Inode, name: str) -> None:
        """Count the name that is about to go; the entry itself is overwritten by whoever calls this."""
        inode = directory.entries[name]
        if inode is not None and inode.type != "directory":
            self._undone.set(inode, "links", inode.links - 1)

    def _put(self, directory: Inode, name: str, at: str, inode: Inode | None) -> None:
        self._undone.assign(directory.entries, name, inode)
        now = self._now()
        if directory.touched != now:
            self._undone.set(directory, "touched", now)
        if at in self._passed:
            self._walked.clear()

    # ---- refusals -------------------------------------------------------------------------------------------------

    def _refuse_replacing(self, directory: Inode, inode: Inode, path: str) -> None:
        if directory is self._above:
            raise HostError("the root itself cannot be removed", path=path)
        self._refuse_mount_point(directory, inode, path)
        if inode.type == "directory":
            names = self._names(inode)
            if names:
                raise HostError(f"directory is not empty: it holds {', '.join(sorted(names)[:3])}", path=path)

    def _refuse_mount_point(self, directory: Inode, inode: Inode, path: str) -> None:
        if directory.identity[0] != inode.identity[0]:
            raise HostError("a mount point cannot be replaced, moved or removed", path=path)

    def _refuse_other_file_system(self, inode: Inode, directory: Inode, path: str) -> None:
        if directory.identity[0] != inode.identity[0]:
            raise HostError(f"{posixpath.dirname(path)} is on another file system", path=path)

    def _refuse_long(self, name: str, path: str) -> None:
        if len(os.fsencode(name)) > LONGEST_NAME:
            _refuse(errno.ENAMETOOLONG, path)


def _refuse(number: int, path: str) -> NoReturn:
    raise HostError(os.strerror(number), path=path)


def _refuse_other(data: bytes, wanted: RegularFile, path: str) -> None:
    found = (len(data), sha256(data))
    if found != (wanted.size, wanted.sha256):
        raise HostError(
            f"content is {found[0]} bytes with digest {found[1]}, expected {wanted.size} bytes with {wanted.sha256}",
            path=path,
        )


def _plain(path: str) -> str:
    """Return `path` without doubled and trailing slashes and without ``.``; the root is the empty string."""
    if not path.startswith("/"):
        raise HostError("is not an absolute path", path=path)
    return "".join(f"/{name}" for name in path.split("/") if name not in ("", "."))


def _size(found: Present) -> int:
    match found:
        case RegularFile():
            return found.size
        case Symlink():
            return len(os.fsencode(found.target))
        case _:
            return 0


def _beside(path: str, name: str) -> str:
    return f"{posixpath.dirname(path).rstrip('/')}/{name}"


def _temporary(label: str) -> str:
    """Return the name to stage under: of the label alone, for names of 255 bytes must be replaceable too."""
    return f".aq-{label}"
