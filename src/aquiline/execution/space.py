"""Room for a run, looked at before its first step, on every file system that it writes to (D15).

A journal needs room for the pre-images. The host needs room for the new objects of one batch beside those they replace;
what a batch has replaced is free for the next one. A file that a stage copies, moves or links takes no room of its own
until it is written, and a directory counts as one inode and one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from aquiline.changes.kinds import FileChange, MakeHardlink, Move, Restore, SetPackages
from aquiline.changes.perform import FILE_KINDS, keeps_inode
from aquiline.changes.steps import Step
from aquiline.host.objects import Absent, Directory, Object, RegularFile
from aquiline.journal.preimages import Space, check_space, space_needed

_BLOCK = 4096


class _Peak(msgspec.Struct):
    """What is in use on one file system, and the most that was at any time; less than nothing where room was made."""

    place: Path
    bytes: int = 0
    inodes: int = 0
    most_bytes: int = 0
    most_inodes: int = 0

    def add(self, found: Object, sign: int) -> None:
        """Count an object that is made (1) or goes (-1)."""
        self.bytes += sign * _size(found)
        self.inodes += sign * (not isinstance(found, Absent))
        self.most_bytes = max(self.most_bytes, self.bytes)
        self.most_inodes = max(self.most_inodes, self.inodes)


def refuse_without_room(batches: Sequence[Sequence[Step]], root: str, state: Path) -> None:
    """Raise `HostError` where these batches would run out of bytes or inodes half way; says what is missing where.

    Args:
        batches: In the order in which they will be performed.
        root: The host's root directory; one that does not exist on this machine is pretended and has room.
        state: The state directory.
    """
    kept = [restored.size for batch in batches for step in batch for restored in restored_files(step)]
    check_space(state, space_needed(kept), purpose="the pre-images of this run")
    for peak in _peaks(batches, root):
        needed = Space(bytes=peak.most_bytes, inodes=peak.most_inodes)
        check_space(peak.place, needed, purpose="what this run makes")


def restored_files(step: Step) -> Iterator[RegularFile]:
    """Return the files whose content the exact undo of `step` puts back."""
    if step.undo.class_ == "exact" and not keeps_inode(step):
        for change in step.undo.changes:
            if isinstance(change, SetPackages):
                yield from (at.object for at in change.leaves if isinstance(at.object, RegularFile))
            if isinstance(change, Restore) and isinstance(change.object, RegularFile):
                yield change.object


def _peaks(batches: Sequence[Sequence[Step]], root: str) -> list[_Peak]:
    """Return the most that the batches need at any time, by file system."""
    peaks: dict[int, _Peak] = {}
    folders: dict[str, Path] = {}
    for batch in batches:
        steps = [step for step in batch if isinstance(step.change, FILE_KINDS) and _replaces(step.change, step)]
        for sign in (1, -1):
            for step in steps:
                peak = _peak(step.after[0].path, root, folders, peaks)
                if peak is not None:
                    peak.add((step.after if sign == 1 else step.before)[0].object, sign)
    return list(peaks.values())


def _replaces(change: FileChange, step: Step) -> bool:
    """Whether an object is made or goes; one with several names that goes gives nothing back."""
    if isinstance(change, Move | MakeHardlink) or keeps_inode(step):
        return False
    before = step.before[0].object
    return not (isinstance(before, RegularFile) and before.links > 1)


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
        return -(-found.size // _BLOCK) * _BLOCK
    return _BLOCK if isinstance(found, Directory) else 0
