"""The program was downgraded: its journal is of a version that came later."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from aquiline.journal.schema import FORMAT
from tests.cli.conftest import Host, write

from .conftest import Ask


@pytest.fixture
def applied(host: Host) -> str:
    """A host that has had a run; its id."""
    host.write("/etc/motd", "old\n")
    return host.apply(write("/etc/motd", "new\n")).run


def become(host: Host, major: int, minor: int, *also: str) -> None:
    """Make the journal that of another version."""
    database = sqlite3.connect(host.state / "journal.db", isolation_level=None)
    database.execute("UPDATE meta SET value = ? WHERE key = 'format'", (f"{major}.{minor}",))
    for statement in also:
        database.execute(statement)
    database.close()


def contents(place: Path) -> dict[str, str]:
    """Return the digest of every file in the state directory, the lock and its folders aside."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


COMMANDS = (
    ("apply", "PROFILE"), ("plan", "PROFILE"), ("undo",), ("undo", "--dry-run"), ("redo", "last"), ("recover",),
    ("log",), ("show",), ("status",), ("gc",), ("verify",), ("blame", "/etc/motd"), ("confirm",),
)  # fmt: skip


def test_a_newer_major_is_refused(host: Host, ask: Ask, applied: str) -> None:
    """Each command is 1 with both versions and what to do; journal and host stay as they are to the byte."""
    profile = host.profile(write("/etc/motd", "newer\n"))
    become(host, FORMAT[0] + 1, 0)
    before = contents(host.state)

    found = [ask(*(profile if word == "PROFILE" else word for word in command)) for command in COMMANDS]

    assert [1] * len(COMMANDS) == [status for status, _, _ in found], found
    words = f"has format {FORMAT[0] + 1}.0; this version knows {FORMAT[0]}.{FORMAT[1]}\n\nhint: "
    assert [] == [said for _, _, said in found if words not in said]
    assert before == contents(host.state)
    assert "new\n" == host.text("/etc/motd")


def test_fsck_of_a_newer_major(host: Host, ask: Ask, applied: str) -> None:
    """`fsck` names the version, and the undo script of each run, which works."""
    become(host, FORMAT[0] + 1, 0)

    status, out, _ = ask("fsck")

    assert 1 == status
    assert f"has format {FORMAT[0] + 1}.0" in out
    assert f"run {applied}: lost\n" in out
    assert f"`sh {host.state}/undo/{applied}.sh` takes it back" in out


def test_a_newer_minor_is_read_and_written(host: Host, ask: Ask, applied: str) -> None:
    """A table and a column that this version does not know are no obstacle, to reading as to undo; they stay."""
    become(
        host, FORMAT[0], FORMAT[1] + 7,
        "CREATE TABLE later (what TEXT)", "INSERT INTO later VALUES ('kept')",
        "ALTER TABLE run ADD COLUMN later TEXT DEFAULT 'x'",
    )  # fmt: skip

    assert [applied] == [run["id"] for run in json.loads(ask("--json", "log")[1])]
    assert [0, 0, 0] == [ask(*command)[0] for command in (("show",), ("fsck",), ("undo",))]
    assert "old\n" == host.text("/etc/motd")
    database = sqlite3.connect(host.state / "journal.db")
    assert [("kept",)] == database.execute("SELECT what FROM later").fetchall()
    assert [(f"{FORMAT[0]}.{FORMAT[1] + 7}",)] == database.execute("SELECT value FROM meta").fetchall()
    database.close()
