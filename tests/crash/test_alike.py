"""Two hosts count as alike only where nothing that matters differs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .alike import Judged
from .everything import Host
from .killing import kill_at, points_of


@pytest.fixture(scope="module")
def killed(place: Path) -> Host:
    """A host whose run was killed after it had changed something."""
    return kill(Host.made(place / "fresh"), place / "first")


def kill(fresh: Host, place: Path) -> Host:
    """Return a copy of a host, killed at the same point of the same run."""
    host = fresh.copied(place)
    commits = [
        number for number, what in enumerate(points_of(host.apply, place.parent / "points"), 1) if "after" in what
    ]
    host = fresh.copied(place)
    assert kill_at(commits[len(commits) // 2], host.apply)
    return host


def test_the_same_again_is_alike(place: Path, killed: Host) -> None:
    """Another run, process and time: nothing else is different."""
    judged = Judged(place / "judged", since_ns=1_600_000_000_000_000_000)

    assert judged.is_new(killed)
    assert not judged.is_new(killed)
    assert not judged.is_new(kill(Host(place / "fresh"), killed.place))


def say_one_thing_more(host: Host) -> None:
    with closing(sqlite3.connect(host.state / "journal.db")) as journal, journal:
        journal.execute(
            "INSERT INTO event (run, step, what, wall)"
            " SELECT run, step, 'done', wall FROM event ORDER BY seq DESC LIMIT 1"
        )


def tear_the_script(host: Host) -> None:
    (script,) = (host.state / "undo").glob("*.sh")
    os.truncate(script, script.stat().st_size - 30)


CHANGES: dict[str, Callable[[Host], object]] = {
    "content": lambda host: (host.root / "etc/over").write_text("else\n"),
    "mode": lambda host: (host.root / "etc/over").chmod(0o601),
    "owner": lambda host: os.chown(host.root / "etc/over", 77, 0),
    "a time of old": lambda host: os.utime(host.root / "etc/meta", ns=(1, 1_500_000_000_000_000_001)),
    "an attribute": lambda host: os.setxattr(host.root / "etc/over", "user.else", b"1"),
    "a name more": lambda host: os.link(host.root / "etc/over", host.root / "etc/more"),
    "something half built": lambda host: (host.state / "preimages/.new-1-1").touch(),
    "the journal": say_one_thing_more,
    "a torn script": tear_the_script,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_seen(place: Path, killed: Host, what: str) -> None:
    """In the root, in the state directory, in the journal."""
    judged = Judged(place / "judged")
    assert judged.is_new(killed)
    other = killed.copied(place / "other")
    CHANGES[what](other)

    assert judged.is_new(other)
