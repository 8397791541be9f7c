"""Work in mounts of its own: small file systems and read-only ones that nobody else sees."""

from __future__ import annotations

import ctypes
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWNS = 0x00020000


def in_private_mounts(work: Callable[[], None]) -> None:
    """Do `work` in a child process with a mount namespace of its own; what fails there fails here."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        # The child only does `work`; other threads of a test runner hold no lock that it takes.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            assert not ctypes.CDLL(None).unshare(_CLONE_NEWNS)
            mount("--make-rprivate", "/")
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - told to the parent, word by word
            os.write(writable, traceback.format_exc().encode(errors="replace")[-60_000:])
        finally:
            os._exit(status)
    os.close(writable)
    with os.fdopen(readable, "rb") as file:
        told = file.read().decode()
    _, ended = os.waitpid(child, 0)
    assert ended == 0, told


def mount(*arguments: str) -> None:
    """Mount something."""
    subprocess.run(["mount", *arguments], check=True)


def small(place: Path, **options: str) -> None:
    """Mount an empty file system in memory at `place`, with ``size`` and ``nr_inodes`` as given."""
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", ",".join(f"{name}={value}" for name, value in options.items()), "small", str(place))


def make_read_only(place: Path) -> None:
    """Let nothing below `place` be written to."""
    mount("--bind", str(place), str(place))
    mount("-o", "remount,ro,bind", str(place))


def fill_up(place: Path, name: str = "filler") -> Path:
    """Take every byte that is free on the file system of `place`; return the file that holds them."""
    filler = place / name
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return filler


def use_up_inodes(place: Path) -> Path:
    """Make directories until there are no inodes left; return the one that holds them."""
    folder = place / "fillers"
    try:
        folder.mkdir()
        for number in range(1_000_000):
            (folder / str(number)).mkdir()
    except OSError:
        return folder
    raise AssertionError("there is no end of inodes")
