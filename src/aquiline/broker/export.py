"""The files of a commit, written to a folder as they were committed.

Not by ``git archive``: that obeys attributes which stand in the commit itself and leave files out or rewrite them. What
a commit holds is pushed by people, so nothing in it leads out of the folder: names are git's own (no ``..``), links are
written last, and a link whose target could lead out is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from aquiline.broker.git import Git, kill
from aquiline.errors import RepositoryError

#: Files in one commit.
MAX_FILES = 500_000
#: Bytes in all of them.
MAX_BYTES = 4 << 30
_LINK = "120000"
_CHUNK = 1 << 20


class _Entry(NamedTuple):
    mode: str
    blob: str
    name: str


def export(git: Git, commit: str, folder: Path, *, timeout: float) -> None:
    """Write the files of `commit` below `folder`, which must be empty or not be there yet."""
    entries = _entries(git, commit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RepositoryError(f"{folder}: expected an empty folder to export to")
        _export(git, entries, folder, timeout)
    except OSError as error:
        raise RepositoryError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None


def _export(git: Git, entries: list[_Entry], folder: Path, timeout: float) -> None:
    with git.started("cat-file", "--batch") as process:
        clock = threading.Timer(timeout, kill, (process,))
        clock.start()
        try:
            assert process.stdin
            assert process.stdout
            _write_all(entries, folder, process.stdin, process.stdout)
        except (BrokenPipeError, EOFError):
            raise RepositoryError(f"reading a commit took more than {timeout:g} seconds, or git failed") from None
        finally:
            clock.cancel()


def _entries(git: Git, commit: str) -> list[_Entry]:
    """Return the files of a commit, links last: nothing is ever written through a link."""
    found: list[_Entry] = []
    for line in filter(None, git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")):
        about, _, name = line.partition("\t")
        mode, kind, blob = about.split()
        if kind != "blob":
            raise RepositoryError(f"{name}: a submodule, expected a file", hint="commit the files themselves")
        found.append(_Entry(mode, blob, name))
    if len(found) > MAX_FILES:
        raise RepositoryError(f"{commit} holds {len(found)} files, more than {MAX_FILES}")
    return sorted(found, key=lambda entry: entry.mode == _LINK)


def _write_all(entries: list[_Entry], folder: Path, ask: IO[bytes], answer: IO[bytes]) -> None:
    left = MAX_BYTES
    for entry in entries:
        ask.write(f"{entry.blob}\n".encode())
        ask.flush()
        size = _size(answer, entry)
        left -= size
        if left < 0:
            raise RepositoryError(f"{entry.name}: more than {MAX_BYTES} bytes in one commit")
        place = folder / os.fsdecode(entry.name.encode(errors="surrogateescape"))
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode == _LINK:
            target = b"".join(_chunks(answer, size))
            place.symlink_to(os.fsdecode(_inside(entry.name, target)))
        else:
            with place.open("xb") as file:
                file.writelines(_chunks(answer, size))
        answer.read(1)


def _size(answer: IO[bytes], entry: _Entry) -> int:
    words = answer.readline().split()
    if not words:
        raise EOFError
    if len(words) != 3 or words[1] != b"blob":
        raise RepositoryError(f"{entry.name}: git has lost its content ({entry.blob})", hint="git fsck")
    return int(words[2])


def _chunks(answer: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = answer.read(min(size, _CHUNK))
        if not chunk:
            raise EOFError
        size -= len(chunk)
        yield chunk


def _inside(name: str, target: bytes) -> bytes:
    """Return the target of a link if it stays inside; raise if it might not.

    Directories of a commit are never links, so ``..`` at its beginning is what it seems. After a name it need not be:
    that name may be a link. So it is allowed at the beginning only, and no more often than there are directories.
    """
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = next((position for position, part in enumerate(parts) if part != b".."), len(parts))
    if target.startswith(b"/") or b".." in parts[up:] or up > name.count("/"):
        shown = target.decode(errors="replace")
        raise RepositoryError(f"{name}: a link to {shown!r}, which may lead out of the repository")
    return target
