"""Locks that a git has left which was killed, or whose machine lost its power."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from pathlib import Path

import pytest

from aquiline.broker.repository import Repository
from aquiline.errors import RepositoryError
from tests.broker.repository.conftest import GRACE, Person

#: Seconds for which a lock has been there, where nobody can have it any more.
OLD = 3600.0
LOCKS = ("refs/heads/prod.lock", "HEAD.lock", "config.lock", "packed-refs.lock")


def left(repository: Repository, name: str, *, seconds: float = OLD) -> Path:
    """Leave a lock that was made so many seconds ago."""
    lock = repository.path / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    os.utime(lock, (time.time() - seconds, time.time() - seconds))
    return lock


def deployed(repository: Repository, ada: Person) -> str:
    """Deploy something that nobody has deployed yet; return the commit."""
    commit = ada.works("ada/work", {"README": f"{time.time()}\n"})
    made = repository.merge("prod", commit, message="work", trailers={}, author=GRACE)
    repository.move("prod", expected=repository.head("prod"), to=made)
    return made


@pytest.mark.parametrize("name", LOCKS)
def test_what_was_left_is_swept_at_the_start(
    repository: Repository, ada: Person, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that starts removes such a lock, says so, and works."""
    lock = left(repository, name)

    with caplog.at_level(logging.WARNING):
        again = Repository(repository.path)

    assert not lock.exists()
    assert f"{lock} was left by a git that is gone" in caplog.text
    assert deployed(again, ada) == again.head("prod")


def test_what_is_in_the_way_is_looked_at_again(repository: Repository, ada: Person) -> None:
    """A lock that turns out to be nobody's only later stops nothing either."""
    commit = ada.works("ada/work", {"README": "new\n"})
    made = repository.merge("prod", commit, message="work", trailers={}, author=GRACE)
    lock = left(repository, "refs/heads/prod.lock")

    repository.move("prod", expected=repository.head("prod"), to=made)

    assert (made, False) == (repository.head("prod"), lock.exists())


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_a_young_lock_is_somebodys(repository: Repository, seconds: float) -> None:
    """Whoever may be at it is waited for, and then the lock is named: nothing of theirs is touched."""
    subprocess.run(["git", "config", "core.filesRefLockTimeout", "50"], cwd=repository.path, check=True)
    lock = left(repository, "refs/heads/prod.lock", seconds=seconds)
    again = Repository(repository.path)
    to = again.commit(repository.path / "hooks", message="another", author=GRACE)

    with pytest.raises(RepositoryError, match=r"prod\.lock") as refused:
        again.move("prod", expected=again.head("prod"), to=to)

    assert lock.exists()
    assert "if no git is running there, remove the file" == refused.value.hint


@pytest.mark.parametrize("how", ["cwd", "file"])
def test_a_lock_of_a_process_that_is_there_stays(
    repository: Repository, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old it is: while a process is at work in the repository, it may be that one's. Afterwards it is not."""
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: 2 * OLD)
    lock = left(repository, "refs/heads/prod.lock")
    with (repository.path / "config").open() as file:
        at_work = subprocess.Popen(
            ["sleep", "60"], cwd=repository.path if how == "cwd" else "/", stdin=file if how == "file" else None
        )
    try:
        Repository(repository.path)
        assert lock.exists()
    finally:
        at_work.kill()
        at_work.wait()

    Repository(repository.path)

    assert not lock.exists()


def test_a_lock_from_before_the_machine_started(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's, however young: its power went with it."""
    lock = left(repository, "refs/heads/prod.lock", seconds=10.0)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: 5.0)

    Repository(repository.path)

    assert not lock.exists()
