"""What is durable when a call returns, also where a kill came before: all that a power cut may leave has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock

import pytest

from aquiline.journal import preimages
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.state import StateDirectory
from aquiline.journal.takenback import TakenBack

from .everything import Host
from .losing_power import Disk, Durable


class Killed(BaseException):
    """Nothing of ours catches it."""


@contextmanager
def watched(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    """Keep account of what is durable from now on."""
    durable, lock, fsync = Durable(host.place), Lock(), os.fsync

    def synced(descriptor: int) -> None:
        with lock:
            fsync(descriptor)
            durable.synced(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        yield durable


def content(disk: Disk, path: str) -> bytes | None:
    """Return what a disk holds at a path below the host's place, None where nothing is there."""
    number = disk.top
    for name in path.split("/"):
        if name not in disk.directories.get(number, {}):
            return None
        number = disk.directories[number][name]
    return disk.inodes[number].content


def contents(durable: Durable, path: str) -> set[bytes | None]:
    """Return what a power cut now may leave at a path."""
    return {content(image, path) for image in durable.images()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that had a run, so that its state directory is there."""
    made = Host.made(tmp_path / "host")
    with made.session() as session, session.changing("test"):
        pass
    return made


def test_a_freeze(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told that the host is frozen finds it so after a power cut; the same goes for thawing."""
    with watched(host, monkeypatch) as durable, host.session() as session:
        session.freeze("disk swap")
        frozen = contents(durable, "state/frozen")
        session.thaw()
        thawed = contents(durable, "state/frozen")

    (text,) = frozen
    assert b"disk swap" in (text or b"")
    assert {None} == thawed


def test_what_was_taken_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The undo script still knows after a power cut which commands were taken back."""
    (host.state / "undo/0123abcd.sh").touch()
    with watched(host, monkeypatch) as durable:
        TakenBack(StateDirectory(host.state), "0123abcd").add(7)

        assert {b"7\n"} == contents(durable, "state/undo/0123abcd.done")


def test_a_pre_image_whose_folder_was_not_synced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that a killed run had given its name is durable for the next run that needs it, once that has synced."""
    data = b"old\n"
    digest = sha256(data).hexdigest()
    place = f"state/preimages/{digest[:2]}/{digest}"
    with watched(host, monkeypatch) as durable:
        killed_before_the_folders_are_synced(host, data, monkeypatch)
        assert (host.place / place).exists()
        assert None in contents(durable, place)

        store = PreimageStore(StateDirectory(host.state))
        store.keep([data])
        store.sync()

        assert {data} == contents(durable, place)


def killed_before_the_folders_are_synced(host: Host, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store content, and be killed when it has its name and its folder has not been synced."""
    make_durable = preimages._make_durable

    def die(paths: list[str], threads: Callable[..., object]) -> None:
        if any(Path(path).is_dir() for path in paths):
            raise Killed
        make_durable(paths, threads)  # type: ignore[arg-type]

    store = PreimageStore(StateDirectory(host.state))
    store.keep([data])
    with monkeypatch.context() as patch:
        patch.setattr(preimages, "_make_durable", die)
        with pytest.raises(Killed):
            store.sync()


def test_content_that_is_durable_is_not_synced_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store syncs the folder of what it finds there once, and then no more."""
    store = PreimageStore(StateDirectory(host.state))
    store.keep([b"old\n"])
    store.sync()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    store.keep([b"old\n"])
    store.sync()

    assert [] == synced
