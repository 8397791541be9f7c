"""The pre-image store: content by digest."""

from __future__ import annotations

import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.errors import HostError, JournalError
from aquiline.host.objects import sha256
from aquiline.journal.preimages import PIECE, PreimageStore, Space, check_space, space_needed
from aquiline.journal.state import StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path / "state")
    state.create()
    return state


@pytest.fixture
def store(state: StateDirectory) -> PreimageStore:
    return PreimageStore(state)


@given(st.lists(st.binary(max_size=9) | st.integers(0, 3 * PIECE).map(bytes), max_size=4))
def test_content_comes_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    """Whatever is kept, in whatever pieces, comes back byte for byte, before and after it is durable."""
    state = StateDirectory(tmp_path_factory.mktemp("state"))
    state.create()
    store = PreimageStore(state)

    kept = store.keep(chunks)

    whole = b"".join(chunks)
    assert (sha256(whole), len(whole)) == (kept.sha256, kept.size)
    assert whole == b"".join(store.chunks(kept.sha256))
    store.sync()
    assert whole == store.path(kept.sha256).read_bytes()
    assert store.verify(kept.sha256)


def test_equal_content_is_stored_once(store: PreimageStore, state: StateDirectory) -> None:
    """The same content lies in the store once, private, with no temporary file left beside it."""
    store.keep_many([[b"same"], [b"same"]])
    store.keep_many([[b"sa", b"me"]])

    files = [path for path in state.preimages.rglob("*") if path.is_file()]
    assert [store.path(sha256(b"same"))] == files
    assert [sha256(b"same")] == list(store.digests())
    assert 0o600 == stat.S_IMODE(files[0].stat().st_mode)


def test_a_truncated_pre_image_is_replaced(store: PreimageStore) -> None:
    """Content that lost its end on disk is stored again when it comes again."""
    (kept,) = store.keep_many([[b"content"]])
    store.path(kept.sha256).write_bytes(b"con")
    assert not store.verify(kept.sha256)

    store.keep_many([[b"content"]])

    assert store.verify(kept.sha256)


def test_holes_stay_holes(store: PreimageStore) -> None:
    """A sparse file of 1 GiB takes next to no space and no memory."""
    size = 1024**3

    def mostly_nothing() -> Iterator[bytes]:
        for _ in range(size // 2**20):
            yield bytes(2**20)
        yield b"end"

    tracemalloc.start()
    (kept,) = store.keep_many([mostly_nothing()])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size + 3 == kept.size == store.path(kept.sha256).stat().st_size
    assert store.path(kept.sha256).stat().st_blocks * 512 < 2**20
    assert peak < 8 * 2**20


def test_a_failed_read_leaves_nothing(store: PreimageStore, state: StateDirectory) -> None:
    """When the source of content fails half-way, no part of it stays."""

    def failing() -> Iterator[bytes]:
        yield b"some"
        raise HostError("gone")

    with pytest.raises(HostError, match="gone"):
        store.keep(failing())

    assert [] == list(state.preimages.iterdir())


def test_leftovers_of_a_killed_run_are_swept(store: PreimageStore, state: StateDirectory) -> None:
    """What was never made durable is no content, and the next run clears it away."""
    store.keep([b"content"])

    swept = PreimageStore(state)

    assert not swept.has(sha256(b"content"))
    assert 1 == swept.sweep()
    assert [] == list(state.preimages.iterdir())


def test_purged_content_is_gone(store: PreimageStore) -> None:
    """A purged pre-image cannot be read any more, and purging it twice is no error."""
    (kept,) = store.keep_many([[b"secret"]])

    store.purge(kept.sha256)
    store.purge(kept.sha256)

    assert not store.has(kept.sha256)
    with pytest.raises(JournalError, match=kept.sha256):
        store.open(kept.sha256)


def test_room_is_checked_before(tmp_path: Path) -> None:
    """Too few bytes or inodes are refused with what is needed and what is free."""
    assert Space(bytes=4096 + 8192, inodes=3) == space_needed([1, 4097, 0])
    free = os.statvfs(tmp_path)

    check_space(tmp_path, Space(bytes=1, inodes=1), purpose="pre-images")
    with pytest.raises(HostError, match=f"{2**60} bytes needed"):
        check_space(tmp_path, Space(bytes=2**60, inodes=1), purpose="pre-images")
    with pytest.raises(HostError, match=f"inodes for pre-images: {free.f_files + 1} needed"):
        check_space(tmp_path, Space(bytes=1, inodes=free.f_files + 1), purpose="pre-images")
