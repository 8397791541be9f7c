"""The state directory: where it may lie, and who may write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aquiline.errors import HostError, HostLocked
from aquiline.journal.state import BALLAST, StateDirectory, file_system_type


def test_a_state_directory_is_private(tmp_path: Path) -> None:
    """The directory and all folders in it are its owner's alone, and are made so again where somebody opened them."""
    state = StateDirectory(tmp_path / "var" / "state")
    state.create()
    state.path.chmod(0o755)

    state.create()

    assert 0o700 == stat.S_IMODE(state.path.stat().st_mode)
    assert {0o700} == {stat.S_IMODE(found.stat().st_mode) for found in state.path.iterdir() if found.is_dir()}


def test_a_foreign_state_directory_is_refused(tmp_path: Path) -> None:
    """A directory that belongs to somebody else holds no journal of ours."""
    os.chown(tmp_path, 12345, 12345)

    with pytest.raises(HostError, match="belongs to user 12345"):
        StateDirectory(tmp_path).create()


def test_memory_is_no_place_for_a_journal() -> None:
    """The journal of a running system is refused a file system that forgets at reboot; an image's is not."""
    place = Path("/dev/shm")
    if file_system_type(place) != "tmpfs":
        pytest.skip("no tmpfs at /dev/shm")

    with pytest.raises(HostError, match="gone at reboot") as refused:
        StateDirectory(place / "aquiline-test", must_persist=True).create()

    assert "--state" in refused.value.hint


def test_ballast_is_real_space_and_comes_back(tmp_path: Path) -> None:
    """Space set aside really is, can be given up, and is set aside again at the next occasion."""
    state = StateDirectory(tmp_path)
    state.create()
    assert state.ballast.stat().st_blocks * 512 >= BALLAST

    assert state.release_ballast()
    assert not state.release_ballast()
    state.create()

    assert state.ballast.exists()


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    """Who comes second is told who holds the lock and since when; once released anybody may take it."""
    state = StateDirectory(tmp_path)
    with state.lock("apply"):
        with pytest.raises(HostLocked) as refused, state.lock("undo"):
            pass
        assert f"apply (pid {os.getpid()}, user " in refused.value.message
        holder = state.lock_holder()
        assert holder is not None
        assert ("apply", os.getpid()) == (holder.purpose, holder.pid)

    assert None is state.lock_holder()
    with state.lock("undo"):
        pass


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    """The lock of a process that was killed is free."""
    state = StateDirectory(tmp_path)
    child = os.fork()
    if child == 0:
        state.lock("apply").__enter__()
        os._exit(9)
    os.waitpid(child, 0)

    assert None is state.lock_holder()
    with state.lock("recover"):
        pass
