"""A disk loses or changes what the journal keeps: what can be undone still is, the rest is named."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquiline.changes.kinds import Change
from aquiline.host.objects import sha256
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.state import StateDirectory
from tests.cli.conftest import Host, shell, write

from .conftest import Ask


def old(number: int) -> str:
    """Return what a file holds before the run."""
    return f"old {number}\n" * 50


@pytest.fixture
def runs(host: Host) -> list[str]:
    """Two runs, each of which replaced two files."""
    changes: list[tuple[Change, ...]] = []
    for first in (0, 2):
        for number in (first, first + 1):
            host.write(f"/etc/{number}", old(number))
        changes.append(tuple(write(f"/etc/{number}", f"new {number}\n") for number in (first, first + 1)))
    return [host.apply(*one).run for one in changes]


def texts(host: Host) -> list[str | None]:
    return [host.text(f"/etc/{number}") for number in range(4)]


def preimage(host: Host, number: int) -> Path:
    return PreimageStore(StateDirectory(host.state)).path(sha256(old(number).encode()))


def flip(place: Path) -> None:
    """Turn one bit."""
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.chmod(0o600)
    place.write_bytes(content)


def verdicts(ask: Ask) -> tuple[int, dict[str, str]]:
    """Return the status of fsck and what it says of each run."""
    status, out, _ = ask("--json", "fsck")
    found: dict[str, Any] = json.loads(out)
    return status, {run["run"]: run["verdict"] for run in found["runs"]}


def cut(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)


def zero_first_page(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(bytes(4096))


def empty(database: Path) -> None:
    database.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, zero_first_page, Path.unlink, empty])
def test_the_database(host: Host, ask: Ask, runs: list[str], damage: Callable[[Path], None]) -> None:
    """With the database damaged or gone fsck is 1 and names every run's script, and the scripts undo everything."""
    damage(host.state / "journal.db")

    status, out, _ = ask("fsck")

    assert 1 == status
    assert [] == [run for run in runs if f"sh {host.state}/undo/{run}.sh" not in out], out
    for run in reversed(runs):
        subprocess.run(["sh", str(host.state / "undo" / f"{run}.sh")], check=True, capture_output=True)
    assert [old(number) for number in range(4)] == texts(host)


@pytest.mark.parametrize("damage", [cut, zero_first_page])
def test_a_damaged_database_stops_commands(
    host: Host, ask: Ask, runs: list[str], damage: Callable[[Path], None]
) -> None:
    """No command goes on with a damaged journal: each is 1, names the file and fsck, and changes nothing."""
    database = host.state / "journal.db"
    damage(database)
    before = database.read_bytes()
    commands = (("undo",), ("apply", host.profile(write("/etc/0", "other\n"))), ("log",), ("recover",), ("gc",))

    found = [ask(*command) for command in commands]

    assert [1] * len(commands) == [status for status, _, _ in found], found
    assert [] == [said for _, _, said in found if "journal.db" not in said or "`aquiline fsck`" not in said]
    assert [f"new {number}\n" for number in range(4)] == texts(host)
    assert before == database.read_bytes()


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_pre_image(host: Host, ask: Ask, runs: list[str], damage: Callable[[Path], None]) -> None:
    """A lost pre-image costs its step and no other: 17, the file named and left, never filled with what is wrong."""
    damage(preimage(host, 0))

    assert (1, {runs[0]: "undoable-but-for", runs[1]: "undoable"}) == verdicts(ask)
    assert f"run {runs[0]}: undoable but for\n  step 1, " in ask("fsck")[1]
    looked, undone = ask("undo", runs[0], "--dry-run"), ask("undo", runs[0])
    assert [17, 17] == [looked[0], undone[0]], (looked, undone)
    assert "/etc/0" in looked[1]
    assert "/etc/0" in undone[2]
    assert ["new 0\n", old(1)] == texts(host)[:2]
    assert 0 == ask("undo", runs[1])[0]


def test_all_pre_images_of_a_run(host: Host, ask: Ask, runs: list[str]) -> None:
    """A run none of whose steps can be taken back is lost; undoing it changes nothing and says so."""
    for number in (2, 3):
        preimage(host, number).unlink()

    assert (1, {runs[0]: "undoable", runs[1]: "lost"}) == verdicts(ask)
    status, _, said = ask("undo")
    assert 17 == status
    assert [] == [path for path in ("/etc/2", "/etc/3") if path not in said]
    assert ["new 2\n", "new 3\n"] == texts(host)[2:]


def test_the_script_and_a_damaged_pre_image(host: Host, runs: list[str]) -> None:
    """The undo script does not write back what is not what it was: it names the file, does the rest and exits 1."""
    flip(preimage(host, 0))

    done = subprocess.run(
        ["sh", str(host.state / "undo" / f"{runs[0]}.sh")], check=False, capture_output=True, text=True
    )

    assert 1 == done.returncode
    assert "/etc/0" in done.stdout + done.stderr
    assert ["new 0\n", old(1)] == texts(host)[:2]


def test_what_has_no_undo_is_listed(host: Host, ask: Ask) -> None:
    """A run with an irreversible step is undoable but for that, also to fsck."""
    run = host.apply(write("/etc/motd", "x\n"), shell("true", undo=None)).run

    assert (1, {run: "undoable-but-for"}) == verdicts(ask)
    assert "irreversible: nobody knows how" in ask("fsck")[1]


def test_as_a_process(host: Host, runs: list[str]) -> None:
    """The same from outside: fsck answers on stdout, undo with an error, neither with a traceback."""
    cut(host.state / "journal.db")

    checked, undone = host.run("fsck"), host.run("undo")

    assert [1, 1] == [checked.returncode, undone.returncode]
    assert "Traceback" not in checked.stderr + undone.stderr
    assert "" == undone.stdout


def remove_journal(host: Host) -> None:
    """Remove the database, and nothing else."""
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (host.state / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    "question",
    [("log",), ("status",), ("verify",), ("blame", "/etc/0"), ("undo", "--last", "2"), ("recover",)],
    ids=" ".join,
)
def test_a_removed_journal_is_said(host: Host, runs: list[str], ask: Ask, question: tuple[str, ...]) -> None:
    """Where the journal was removed, nothing looks as if there had never been a run: the way out is named."""
    remove_journal(host)

    status, _, err = ask(*question)

    assert 1 == status
    assert f"the journal is gone, {len(runs)} undo scripts are there" in err
    assert "`aquiline fsck`" in err


@pytest.mark.parametrize("missing", [(), ("undo",), ("undo", "profiles")], ids=str)
def test_a_plan_without_its_journal_is_less_certain(
    host: Host, runs: list[str], ask: Ask, missing: tuple[str, ...]
) -> None:
    """Drift and wish cannot be told apart without the journal: a plan says that, and that it foresees less for it."""
    profile = host.profile(write("/etc/0", "drifted back\n"))
    assert "the journal is gone" not in ask("plan", profile)[1]
    remove_journal(host)
    for folder in missing:
        shutil.rmtree(host.state / folder)

    status, out, _ = ask("plan", profile)
    found = json.loads(ask("--json", "plan", profile)[1])

    assert 0 == status
    assert 1 == out.count("the journal is gone, ")
    assert "lowered by 1 thing" in out
    assert "what corrects drift and what is newly wanted cannot be told apart" in found["coverage"]["reduced_by"][0]
    assert 15 == ask("plan", profile, "--require-coverage")[0]


def test_nothing_to_do_without_a_journal_is_not_clean(host: Host, runs: list[str], ask: Ask) -> None:
    """Also a plan without steps says that the journal is gone; the next live run says it too, and begins anew."""
    profile = host.profile(write("/etc/0", "new 0\n"))
    remove_journal(host)

    assert "nothing to do that can be foreseen\n" == ask("plan", profile)[1].splitlines(keepends=True)[0]
    assert "the journal is gone, " in ask("apply", profile)[1]
    assert "the journal is gone" not in ask("plan", profile)[1]


def test_a_host_without_any_state_says_that_no_run_is_recorded(host: Host, runs: list[str], ask: Ask) -> None:
    """Removed with all its traces a journal looks as if there had never been one: a plan says what it cannot tell."""
    profile = host.profile(write("/etc/0", "drifted back\n"))
    shutil.rmtree(host.state)

    status, out, _ = ask("plan", profile)

    assert 0 == status
    assert "no run is recorded on this host: what corrects drift and what is newly wanted cannot be told apart" in out


def test_a_host_that_never_had_a_run_says_so(ask: Ask) -> None:
    """Without any trace of a run there is nothing to miss."""
    assert (0, "no runs\n") == ask("log")[:2]
