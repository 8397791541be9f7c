"""Random hosts and random wishes: few names, so that files, links and directories meet at the same path."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from aquiline.changes.kinds import (
    Change,
    CopyOf,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Remove,
    SetMetadata,
    WriteFile,
)
from aquiline.host.objects import Directory, RegularFile, sha256
from aquiline.planning.component import View
from tests.engine.site import Site

#: The last one is not UTF-8.
NAMES = ("a", "b", "\udce9")
PATHS = tuple(
    [f"/{one}" for one in NAMES]
    + [f"/{one}/{two}" for one in NAMES for two in NAMES]
    + [f"/a/{two}/{three}" for two in NAMES[:2] for three in NAMES[:2]]
)
paths = st.sampled_from(PATHS)
MODES = (0o644, 0o600, 0o755, 0o4711, 0o1777, 0o000)
NUMBERS = (0, 7, 65534)
CONTENTS = (b"", b"one\n", b"one\ntwo\nthree\n", b"\xff\0binary", b"x" * 5000)
TIMES = (1, 1_234_567_890_123_456_789)
XATTRS = ((), (("user.note", b"kept"),), (("user.note", b""), ("user.other", b"\0\xff")))


def acl(user: int, permissions: int) -> bytes:
    """Return an ACL that gives `user` these permissions, as Linux keeps it: rw for the owner, r for others."""
    everybody = 0xFFFFFFFF
    entries = ((1, 6, everybody), (2, permissions, user), (4, 4, everybody), (16, 7, everybody), (32, 4, everybody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# ---- trees ----------------------------------------------------------------------------------------------------------


class File(msgspec.Struct, frozen=True):
    """A regular file, or one more name of the file at `same_as` if there is one."""

    content: bytes = b"one\n"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 1
    xattrs: tuple[tuple[str, bytes], ...] = ()
    acl: bytes = b""
    same_as: str = ""


class Folder(msgspec.Struct, frozen=True):
    """A directory."""

    mode: int = 0o755
    uid: int = 0
    default_acl: bytes = b""


class Link(msgspec.Struct, frozen=True):
    """A symbolic link."""

    target: str
    uid: int = 0


class Fifo(msgspec.Struct, frozen=True):
    """A FIFO."""

    mode: int = 0o600


Node = File | Folder | Link | Fifo
Tree = Mapping[str, Node]

_acls = st.sampled_from((b"", b"", acl(7, 6), acl(65534, 0)))
files = st.builds(
    File,
    content=st.sampled_from(CONTENTS),
    mode=st.sampled_from(MODES),
    uid=st.sampled_from(NUMBERS),
    gid=st.sampled_from(NUMBERS),
    mtime_ns=st.sampled_from(TIMES),
    xattrs=st.sampled_from(XATTRS),
    acl=_acls,
    same_as=st.one_of(st.just(""), st.just(""), paths),
)
folders = st.builds(Folder, mode=st.sampled_from(MODES), uid=st.sampled_from(NUMBERS), default_acl=_acls)
links = st.builds(Link, target=st.sampled_from(("a", "no/where", "/b", "\udce9", ".")), uid=st.sampled_from(NUMBERS))
nodes = st.one_of(files, folders, folders, links, st.builds(Fifo, mode=st.sampled_from(MODES)))
trees = st.dictionaries(paths, nodes, max_size=8)


def build(root: Path, tree: Tree) -> None:
    """Make `tree` below `root`; what has no directory to stand in is left out."""
    for path in sorted(tree):
        place = f"{root}{path}"
        if os.path.lexists(place) or not _has_folder(str(root), path):
            continue
        _make(place, tree[path], str(root))
    for directory, names, _ in os.walk(root, topdown=False):
        for name in names:
            if not os.path.islink(f"{directory}/{name}"):
                os.utime(f"{directory}/{name}", ns=(1, 1_000_000_007))
    os.utime(root, ns=(1, 1_000_000_007))


def _has_folder(root: str, path: str) -> bool:
    """Make the missing parents of `path`; return False where something else is in the way."""
    parent = os.path.dirname(path)
    if parent == "/":
        return True
    if not _has_folder(root, parent):
        return False
    if not os.path.lexists(f"{root}{parent}"):
        os.mkdir(f"{root}{parent}")
    return os.path.isdir(f"{root}{parent}") and not os.path.islink(f"{root}{parent}")


def _make(place: str, node: Node, root: str) -> None:
    match node:
        case File():
            other = f"{root}{node.same_as}"
            if node.same_as and os.path.isfile(other) and not os.path.islink(other):
                os.link(other, place)
                return
            Path(place).write_bytes(node.content)
            os.chown(place, node.uid, node.gid)
            os.chmod(place, node.mode)
            for name, value in node.xattrs:
                os.setxattr(place, name, value)
            if node.acl:
                os.setxattr(place, "system.posix_acl_access", node.acl)
            os.utime(place, ns=(node.mtime_ns, node.mtime_ns))
        case Folder():
            os.mkdir(place)
            os.chown(place, node.uid, 0)
            os.chmod(place, node.mode)
            if node.default_acl:
                os.setxattr(place, "system.posix_acl_default", node.default_acl)
        case Link():
            os.symlink(node.target, place)
            os.lchown(place, node.uid, 0)
        case Fifo():
            os.mkfifo(place)
            os.chmod(place, node.mode)


# ---- wishes ---------------------------------------------------------------------------------------------------------


class Append(msgspec.Struct, frozen=True):
    """Edit a file: one more line."""

    path: str
    line: bytes


class Copy(msgspec.Struct, frozen=True):
    """Write a file with the content of another."""

    source: str
    path: str


class RemoveTree(msgspec.Struct, frozen=True):
    """Remove whatever is there, and all that is in it."""

    path: str


class Become(msgspec.Struct, frozen=True):
    """Remove whatever is in the way, then make this."""

    change: WriteFile | MakeDirectory | MakeSymlink | MakeSpecial


Wish = Change | Append | Copy | RemoveTree | Become

_metadata: dict[str, st.SearchStrategy[Any]] = {
    "mode": st.sampled_from((None, *MODES)),
    "owner": st.sampled_from((None, *NUMBERS)),
    "group": st.sampled_from((None, *NUMBERS)),
}
_more = {
    **_metadata,
    "mtime_ns": st.sampled_from((None, None, *TIMES)),
    "xattrs": st.sampled_from((None, None, *XATTRS)),
}
_contents = st.builds(Inline, st.sampled_from(CONTENTS))
writes = st.builds(
    WriteFile, path=paths, content=_contents, in_place=st.sampled_from((False, False, False, True)), **_more
)
directories = st.builds(MakeDirectory, path=paths, **_metadata)
symlinks = st.builds(
    MakeSymlink, path=paths, target=st.sampled_from(("a", "b/c", "\udce9")), owner=st.sampled_from((None, 7))
)
fifos = st.builds(MakeSpecial, path=paths, special=st.just("fifo"), **_metadata)
makings = st.one_of(writes, writes, directories, symlinks, fifos)
appends = st.builds(Append, path=paths, line=st.sampled_from((b"added\n", b"added without end")))
simple_wishes = st.one_of(
    makings,
    st.builds(Become, makings),
    st.builds(RemoveTree, paths),
    st.builds(Remove, path=paths),
    st.builds(SetMetadata, path=paths, **_more),
    appends,
)
wishes = st.one_of(
    simple_wishes,
    st.builds(MakeHardlink, path=paths, existing=paths),
    st.builds(Move, source=paths, destination=paths),
    st.builds(Copy, source=paths, path=paths),
)


def wish_lists(one: st.SearchStrategy[Wish] = wishes) -> st.SearchStrategy[list[list[Wish]]]:
    """Return components, each a list of wishes; one that cannot be fulfilled fails alone."""
    return st.lists(st.lists(one, min_size=1, max_size=4), min_size=1, max_size=3)


def fulfil(wish: Wish, view: View) -> Iterator[Change]:
    """Yield the changes that a wish takes on this host."""
    match wish:
        case Append():
            old = view.read(wish.path)
            if old is not None and not old.endswith(wish.line):
                yield EditFile(path=wish.path, content=Inline(old + wish.line), edited_sha256=sha256(old))
        case Copy():
            found = view.object(wish.source)
            if isinstance(found, RegularFile):
                yield WriteFile(path=wish.path, content=CopyOf(wish.source, found.sha256, found.size))
        case RemoveTree():
            yield from remove_all(wish.path, view)
        case Become():
            yield from clear(wish.change, view)
            yield wish.change
        case _:
            yield wish


def clear(change: WriteFile | MakeDirectory | MakeSymlink | MakeSpecial, view: View) -> Iterator[Change]:
    """Yield what removes all that is in the way of `change`: parents that are none, other types of object."""
    parts = change.path.split("/")
    for depth in range(2, len(parts)):
        parent = "/".join(parts[:depth])
        if view.exists(parent) and not isinstance(view.object(parent), Directory):
            yield Remove(path=parent)
    is_directory = isinstance(view.object(change.path), Directory)
    if is_directory != isinstance(change, MakeDirectory):
        yield from remove_all(change.path, view)


def remove_all(path: str, view: View) -> Iterator[Change]:
    """Yield a removal for each object at and below `path`, deepest first."""
    if isinstance(view.object(path), Directory):
        for name in view.names(path):
            yield from remove_all(f"{path}/{name}", view)
    yield Remove(path=path)


# ---- worlds ---------------------------------------------------------------------------------------------------------


def _fast_place() -> str | None:
    """Return a file system in memory that keeps attributes and ACLs, None where this machine has none."""
    try:
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as probe:
            os.setxattr(probe.name, "user.probe", b"1")
            os.setxattr(probe.name, "system.posix_acl_access", acl(7, 6))
    except OSError:
        return None
    return "/dev/shm"


FAST = _fast_place()


@contextmanager
def world(tree: Tree, *, on_disk: bool = False) -> Iterator[Site]:
    """A site whose root holds `tree`."""
    place = None if on_disk else FAST
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        pytest.MonkeyPatch.context() as patch,
        Site(Path(folder), patch) as site,
    ):
        build(site.root, tree)
        yield site


def ask(site: Site, components: Iterable[Iterable[Wish]]) -> None:
    """Let the site's profile want this and nothing else, a component for each list."""
    site.components.clear()
    site.dependencies.clear()
    for number, wanted in enumerate(components):
        site.computes(_configure(tuple(wanted)), name=f"c{number}")


def _configure(wanted: tuple[Wish, ...]) -> Callable[[View], Iterator[Change]]:
    def configure(view: View) -> Iterator[Change]:
        for wish in wanted:
            yield from fulfil(wish, view)

    return configure


def timeless(tree: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Return a tree without modification times."""
    return {path: (*found[:3], *found[4:]) for path, found in tree.items()}
