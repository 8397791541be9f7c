"""Room for a run, looked at before its first step, on every file system that it writes to (D15).

A journal needs room for the pre-images. The host needs room for the new objects of one batch beside those they replace;
what a batch has replaced is free for the next one. A file that a stage copies, moves or links takes no room of its own
until it is written, and a directory counts as one inode and one block. Holes take no room, and what is copied keeps its
own: a file is counted by the bytes that are stored of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from aquiline.changes.kinds import MakeHardlink, Move, Restore, SetPackages
from aquiline.changes.perform import FILE_KINDS, copied_file, keeps_inode
from aquiline.changes.steps import Step
from aquiline.host.holes import SMALL, stored_bytes
from aquiline.host.objects import Absent, Directory, Object, RegularFile
from aquiline.host.protocol import Reading
from aquiline.journal.preimages import PreimageStore, Space, check_space, space_needed

_BLOCK = 4096


class _Peak(msgspec.Struct):
    """What is in use on one file system, and the most that was at any time; less than nothing where room was made."""

    place: Path
    bytes: int = 0
    inodes: int = 0
    most_bytes: int = 0
    most_inodes: int = 0

    def add(self, size: int, sign: int) -> None:
        """Count an object of `size` bytes that is made (1) or goes (-1)."""
        self.bytes += sign * size
        self.inodes += sign
        self.most_bytes = max(self.most_bytes, self.bytes)
        self.most_inodes = max(self.most_inodes, self.inodes)


def refuse_without_room(
    batches: Sequence[Sequence[Step]], host: Reading, state: Path, preimages: PreimageStore
) -> None:
    """Raise `HostError` where these batches would run out of bytes or inodes half way; says what is missing where.

    Args:
        batches: In the order in which they will be performed.
        host: The host they change; one whose root does not exist on this machine is pretended and has room.
        state: The state directory.
        preimages: Has what undo and redo put back.
    """
    kept = [
        stored_bytes(host, path, restored.size)
        for batch in batches
        for step in batch
        for path, restored in restored_files(step)
    ]
    check_space(state, space_needed(kept), purpose="the pre-images of this run")
    for peak in _peaks(batches, host, preimages):
        needed = Space(bytes=peak.most_bytes, inodes=peak.most_inodes)
        check_space(peak.place, needed, purpose="what this run makes")


def restored_files(step: Step) -> Iterator[tuple[str, RegularFile]]:
    """Return path and object of the files whose content the exact undo of `step` puts back."""
    if step.undo.class_ == "exact" and not keeps_inode(step):
        for change in step.undo.changes:
            if isinstance(change, SetPackages):
                yield from ((at.path, at.object) for at in change.leaves if isinstance(at.object, RegularFile))
            if isinstance(change, Restore) and isinstance(change.object, RegularFile):
                yield change.path, change.object


def _peaks(batches: Sequence[Sequence[Step]], host: Reading, preimages: PreimageStore) -> list[_Peak]:
    """Return the most that the batches need at any time, by file system."""
    peaks: dict[int, _Peak] = {}
    folders: dict[str, Path] = {}
    for batch in batches:
        made = [(step, _peak(step.after[0].path, host.root, folders, peaks)) for step in batch if _makes(step)]
        for step, peak in made:
            if peak is not None and not isinstance(step.after[0].object, Absent):
                peak.add(_made(step, host, preimages), 1)
        for step, peak in made:
            if peak is not None and not isinstance(step.before[0].object, Absent) and not _has_other_names(step):
                peak.add(_gone(step, host), -1)
    return list(peaks.values())


def _makes(step: Step) -> bool:
    """Whether an object is made or goes."""
    return (
        isinstance(step.change, FILE_KINDS)
        and not isinstance(step.change, Move | MakeHardlink)
        and not keeps_inode(step)
    )


def _has_other_names(step: Step) -> bool:
    """Whether what goes stays under another name, and gives nothing back."""
    before = step.before[0].object
    return isinstance(before, RegularFile) and before.links > 1


def _made(step: Step, host: Reading, preimages: PreimageStore) -> int:
    """Return the bytes that the new object takes."""
    made, copied = step.after[0].object, copied_file(step)
    if not isinstance(made, RegularFile) or made.size < SMALL:
        return _size(made)
    if copied is not None:
        return stored_bytes(host, copied.path, made.size)
    return min(made.size, preimages.stored_bytes(made.sha256)) if preimages.has(made.sha256) else made.size


def _gone(step: Step, host: Reading) -> int:
    """Return the bytes that the replaced object gives back."""
    gone = step.before[0].object
    return (
        _in_blocks(stored_bytes(host, step.before[0].path, gone.size)) if isinstance(gone, RegularFile) else _size(gone)
    )


def _peak(path: str, root: str, folders: dict[str, Path], peaks: dict[int, _Peak]) -> _Peak | None:
    parent = path.rpartition("/")[0]
    if parent not in folders:
        folders[parent] = _existing(Path(root + parent), Path(root))
    place = folders[parent]
    try:
        device = place.stat().st_dev
    except OSError:
        return None
    return peaks.setdefault(device, _Peak(place))


def _existing(place: Path, root: Path) -> Path:
    """Return `place`, or the nearest directory above it that is there already."""
    while place != root and not place.is_dir():
        place = place.parent
    return place


def _size(found: Object) -> int:
    """Return the bytes that an object takes, in whole blocks."""
    if isinstance(found, RegularFile):
        return _in_blocks(found.size)
    return _BLOCK if isinstance(found, Directory) else 0


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
