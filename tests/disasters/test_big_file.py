"""Files of several GiB through whole runs of the real program: in constant memory, holes staying holes (P4, D15)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aquiline.changes.kinds import Change, Inline, Move, Remove, SetMetadata, WriteFile
from tests.cli.conftest import Host

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
GIBIBYTE = 2**30
#: What a process may take more for a file of GiB than for one of MiB: buffers of a fixed size, and noise.
NOISE = 12 * MEBIBYTE
BIG, MOVED = "/srv/big", "/srv/moved"


class Case(NamedTuple):
    """A change of a big file, and how big it is; to hash a GiB takes seconds, and a run does so a few times."""

    change: Change
    size: int
    #: How much of it is no hole.
    data: int


CASES = {
    "replaced": Case(WriteFile(path=BIG, content=Inline(b"small\n")), 5 * GIBIBYTE, 256 * MEBIBYTE),
    "overwritten": Case(
        WriteFile(path=BIG, content=Inline(b"small\n"), in_place=True), 2 * GIBIBYTE + MEBIBYTE, 32 * MEBIBYTE
    ),
    "removed": Case(Remove(path=BIG), 2 * GIBIBYTE + MEBIBYTE, 32 * MEBIBYTE),
    "moved": Case(Move(source=BIG, destination=MOVED), 2 * GIBIBYTE + MEBIBYTE, 32 * MEBIBYTE),
    "chmod-ed": Case(SetMetadata(path=BIG, mode=0o600, owner=7), 2 * GIBIBYTE + MEBIBYTE, 32 * MEBIBYTE),
}


class Seen(NamedTuple):
    """What is to be the same again."""

    mode: int
    uid: int
    mtime_ns: int
    size: int
    #: SHA-256 over every block that is not all zeros, with its place: holes need not be read.
    data: str


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host that goes with all its files, so that none of them stays on disk after the test."""
    top = tmp_path / "host"
    top.mkdir()
    made = Host(top)
    made.path("/srv").mkdir()
    yield made
    shutil.rmtree(top)


def fill(path: Path, size: int, data: int) -> None:
    """Make a file of `size` bytes: `data` of them random, in three places, holes before, between and behind them."""
    choose = random.Random(size)
    with path.open("wb") as file:
        for place in (size // 9, size // 2, size - size // 2 + data):
            file.seek(place - place % 4096 + 1000)
            for start in range(0, data // 3, MEBIBYTE):
                file.write(choose.randbytes(min(MEBIBYTE, data // 3 - start)))
        file.truncate(size)
    os.utime(path, ns=(1, 1_500_000_000_123_456_789))


def seen(path: Path) -> Seen | None:
    """Return what stands at `path`, None where nothing does."""
    if not path.exists():
        return None
    found = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        place = 0
        while place < found.st_size:
            try:
                place = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: nothing but a hole is left
            block = os.pread(file.fileno(), 4096 - place % 4096, place)
            if block.strip(b"\0"):
                digest.update(b"%d:%b" % (place, block))
            place += len(block)
    return Seen(found.st_mode, found.st_uid, found.st_mtime_ns, found.st_size, digest.hexdigest())


def on_disk(top: Path) -> int:
    """Return the bytes that all files below `top` take on disk, each inode once."""
    found = [os.lstat(os.path.join(directory, name)) for directory, _, names in os.walk(top) for name in names]
    return sum({one.st_ino: one.st_blocks * 512 for one in found}.values())


class Done(NamedTuple):
    """How a process of the product ended."""

    status: int
    answer: dict[str, Any]
    said: str
    #: The most memory that it had at any time, in bytes.
    peak: int


def run(host: Host, *arguments: str) -> Done:
    """Run the program to its end, looking at its high-water mark all the while (VmHWM, proc(5))."""
    process = host.start("--json", *arguments)
    peak = 0
    deadline = time.monotonic() + 1200
    while process.poll() is None:
        assert time.monotonic() < deadline, arguments
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.005)
    out, said = process.communicate(timeout=10)
    return Done(process.returncode, json.loads(out) if out else {}, said, peak)


def peaks(host: Host, change: Change, size: int, data: int) -> dict[str, int]:
    """Plan, apply and undo; check all but memory, return the peak of each."""
    place = host.path(BIG)
    fill(place, size, data)
    before, room = seen(place), on_disk(host.top)
    profile = host.profile(change)

    done = {"plan": run(host, "plan", profile), "apply": run(host, "apply", profile)}
    applied = seen(place)
    done["undo"] = run(host, "undo")

    assert dict.fromkeys(done, 0) == {name: one.status for name, one in done.items()}, done
    assert before != applied
    assert before == seen(place)
    # Never more than the file, its pre-image, and a journal.
    assert on_disk(host.top) <= 2 * room + 16 * MEBIBYTE
    return {name: one.peak for name, one in done.items()}


def redo_peak(host: Host) -> int:
    """Redo what was undone, and take it back by the script; check all but memory, return the peak of the redo."""
    place = host.path(BIG)
    before, room = seen(place), on_disk(host.top)

    redone = run(host, "redo", "last~1")
    after = seen(place)
    script = host.state / "undo" / f"{redone.answer['run']}.sh"
    ended = subprocess.run(
        ["/bin/dash", str(script)], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )

    assert (0, 0) == (redone.status, ended.returncode), (redone, ended)
    assert before != after
    assert before == seen(place)
    assert on_disk(host.top) <= room + 16 * MEBIBYTE
    return redone.peak


@pytest.mark.parametrize("name", CASES)
def test_constant_memory(host: Host, name: str) -> None:
    """A file of GiB, most of it holes, is planned, changed and put back in the memory that one of 64 MiB takes.

    It comes back whole and sparse as it was; it is over the budget of 2 GiB by its size, and far below by what is
    stored of it. The largest is redone as well, and taken back by the script.
    """
    case = CASES[name]
    small = peaks(host, case.change, 64 * MEBIBYTE, 24 * MEBIBYTE)
    shutil.rmtree(host.state)
    large = peaks(host, case.change, case.size, case.data)
    if name == "replaced":
        large["redo"] = redo_peak(host)
        small["redo"] = small["apply"]

    assert {} == {one: (small[one], large[one]) for one in small if large[one] > small[one] + NOISE}


def test_over_the_budget(host: Host) -> None:
    """More than 2 GiB of stored bytes are irreversible (too large) in the plan, and refused with 13.

    Where that is allowed the file goes, nothing of it is kept, and `undo` says so.
    """
    place = host.path(BIG)
    with place.open("wb") as file:
        # Taken on disk, and written by nobody: as good as data to whoever counts what is stored.
        os.posix_fallocate(file.fileno(), 0, 2 * GIBIBYTE + 8 * MEBIBYTE)
    before = seen(place)
    profile = host.profile(Remove(path=BIG))

    (step,) = run(host, "plan", profile).answer["steps"]
    refused = run(host, "apply", profile)
    found = seen(place)
    allowed = run(host, "apply", profile, "--allow-irreversible")
    undone = run(host, "undo")

    assert "irreversible" == step["undo"]["class"]
    assert "too large" in step["undo"]["reason"]
    assert (13, before) == (refused.status, found)
    assert "too large" in refused.said
    assert (0, None) == (allowed.status, seen(place))
    assert 64 * MEBIBYTE > on_disk(host.top)
    assert 17 == undone.status
