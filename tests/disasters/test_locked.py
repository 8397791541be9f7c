"""Somebody else is changing this host."""

from __future__ import annotations

import getpass
import json
import os
import re
import sqlite3

import pytest

from aquiline.journal.state import StateDirectory
from tests.cli.conftest import WAITING, Host, commands_run, shell, until, write

from .conftest import Ask


@pytest.fixture
def applied(host: Host) -> str:
    """A host that has had a run; its id."""
    return host.apply(write("/etc/motd", "hello\n")).run


WRITERS = (("undo",), ("redo", "last"), ("recover",), ("gc",), ("amend", "last", "1", "--undo", "x", "--reason", "y"))
READERS = (
    ("plan", "PROFILE"), ("log",), ("show",), ("show", "--diff"), ("script", "last", "--undo"), ("status",), ("fsck",),
    ("verify",), ("blame", "/etc/motd"), ("undo", "--dry-run"), ("gc", "--dry-run"),
)  # fmt: skip


def test_every_writer_is_refused(host: Host, ask: Ask, applied: str) -> None:
    """Whoever would change something gets 10 with purpose, pid, user and since of the holder, and changes nothing."""
    other = host.profile(write("/etc/motd", "other\n"))
    (host.top / "x").write_text('{"class": "irreversible", "description": "nothing", "reason": "why not"}')
    with StateDirectory(host.state).lock("some work"):
        found = {
            command[0]: ask(*(str(host.top / "x") if word == "x" else word for word in command))
            for command in (("apply", other), *WRITERS)
        }

    assert dict.fromkeys(found, 10) == {name: status for name, (status, _, _) in found.items()}, found
    holder = rf"some work \(pid {os.getpid()}, user {getpass.getuser()}, on \S+, since \d{{4}}-\d\d-\d\d [\d:]{{8}}\)"
    assert [] == [said for _, _, said in found.values() if not re.search(holder, said)]
    assert ("hello\n", 1) == (host.text("/etc/motd"), len(json.loads(ask("--json", "log")[1])))


def test_readers_work_meanwhile(host: Host, ask: Ask, applied: str) -> None:
    """Whoever only looks is neither refused nor kept waiting."""
    profile = host.profile(write("/etc/motd", "other\n"))
    with StateDirectory(host.state).lock("some work"):
        found = [ask(*(profile if word == "PROFILE" else word for word in command)) for command in READERS]

    assert [0] * len(READERS) == [status for status, _, _ in found], found


def test_status_says_who(host: Host, ask: Ask, applied: str) -> None:
    """`status` shows who is changing the host now, for people and for machines."""
    with StateDirectory(host.state).lock("some work"):
        shown, found = ask("status")[1], json.loads(ask("--json", "status")[1])

    assert f"locked:        by some work, pid {os.getpid()}, user {getpass.getuser()}, since " in shown
    assert os.getpid() == found["locked_by"]["pid"]


def test_another_process(host: Host) -> None:
    """The same between processes while a step is under way; the lock of one that was killed is nobody's."""
    process = host.start("apply", host.profile(shell(WAITING)))
    until(lambda: commands_run(host))

    refused = host.run("undo")

    assert 10 == refused.returncode
    assert f"apply (pid {process.pid}, user " in refused.stderr
    process.kill()
    process.communicate()
    host.path("/tmp/stop").touch()
    assert 11 == host.run("apply", host.profile(write("/etc/motd", "x"))).returncode


@pytest.mark.slow
def test_a_database_that_somebody_else_holds(host: Host, ask: Ask, applied: str) -> None:
    """A stranger who has the database to himself, as a backup may, is a clear error, and nothing is changed."""
    database = sqlite3.connect(host.state / "journal.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        status, _, said = ask("undo")
    finally:
        database.close()

    assert (10, "hello\n") == (status, host.text("/etc/motd")), said
    assert 0 == ask("undo")[0]
