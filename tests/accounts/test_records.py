"""Entries of account databases: do, undo, redo, by the program and by the script, over every kind of prior state."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aquiline.agent import exporting, inspecting
from aquiline.changes.digests import effect, shape
from aquiline.changes.kinds import MakeDirectory, SetRecord
from aquiline.changes.render import plan_as_json, render_plan
from aquiline.errors import HostError, UndoConflict
from aquiline.host import FaultyHost
from aquiline.host.records import system_lock
from tests.engine.site import Site

HASH = "$6$salt$" + "a" * 86
ALICE = "alice:x:1001:1001:Alice:/home/alice:/bin/sh"
#: What ``/etc/passwd`` may hold before.
PRIOR = {
    "nothing": "",
    "others": "root:x:0:0::/root:/bin/sh\nbob:x:7:7::/:\n",
    "the-same": f"root:x:0:0::/root:/bin/sh\n{ALICE}\nbob:x:7:7::/:\n",
    "another": "root:x:0:0::/root:/bin/sh\nalice:x:9:9::/:\nbob:x:7:7::/:\n",
    "first": "alice:x:9:9::/:\nbob:x:7:7::/:\n",
    "last": "root:x:0:0::/root:/bin/sh\nalice:x:9:9::/:\n",
    "alone": "alice:x:9:9::/:\n",
    "without-end": "root:x:0:0::/root:/bin/sh\nalice:x:9:9::/:",
    "alone-without-end": "alice:x:9:9::/:",
    "others-without-end": "root:x:0:0::/root:/bin/sh\nbob:x:7:7::/:",
    "comments": "# who is who\nroot:x:0:0::/root:/bin/sh\n\n# people\nalice:x:9:9::/:\n# the end\n",
    "nis": "root:x:0:0::/root:/bin/sh\nalice:x:9:9::/:\n+@staff::::::\n+::::::\n",
    "nis-without": "root:x:0:0::/root:/bin/sh\n+@staff::::::\n",
    "like-it": "alice.x:x:5:5::/:\nxalice:x:6:6::/:\nalic:x:8:8::/:\n",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site(tmp_path, monkeypatch) as site:
        site.path("/etc").mkdir()
        yield site


def looked_at(site: Site) -> dict[str, tuple[object, ...]]:
    """Return the tree without the time of the database: the entry has none, and others edit the same file."""
    return {
        path: tuple(part for number, part in enumerate(found) if number != 3 or path != "/etc/passwd")
        for path, found in site.tree().items()
    }


@pytest.mark.parametrize("line", [ALICE, None], ids=["set", "remove"])
@pytest.mark.parametrize("prior", PRIOR)
def test_do_undo_redo(site: Site, prior: str, line: str | None) -> None:
    """Whatever the database held: undo gives it back by bytes, redo does it again, and so does the script."""
    database = site.path("/etc/passwd")
    database.write_text(PRIOR[prior])
    database.chmod(0o640)
    os.chown(database, 12, 34)
    os.setxattr(database, "user.note", b"kept")
    before = looked_at(site)
    site.wants(SetRecord(database="passwd", name="alice", line=line))
    plan = site.plan()

    assert before == looked_at(site), "a dry-run changes nothing"
    run = site.apply()
    after = looked_at(site)
    assert (None, 0) == (run.error, run.exit_status)
    assert () == site.plan().steps
    if not plan.steps:
        assert before == after
        return
    kept = [one for one in database.read_text().split("\n") if not one.startswith("alice:") and one]
    assert [one for one in PRIOR[prior].split("\n") if not one.startswith("alice:") and one] == kept
    assert 0 == site.undo().exit_status
    assert before == looked_at(site)
    redone = site.redo(run.run)
    assert 0 == redone.exit_status
    assert after == looked_at(site)
    site.run_undo_script(redone.run)
    assert before == looked_at(site)


@pytest.mark.parametrize("by_script", [False, True], ids=["undo", "script"])
def test_what_others_did_since_survives_an_undo(site: Site, by_script: bool) -> None:
    """An account that somebody else added, changed or removed since is as they left it; the entry itself is back."""
    database = site.path("/etc/passwd")
    database.write_text("root:x:0:0::/root:/bin/sh\nbob:x:7:7::/:\neve:x:8:8::/:\n")
    site.wants(
        SetRecord(database="passwd", name="alice", line=ALICE), SetRecord(database="passwd", name="bob", line=None)
    )
    run = site.apply()
    lines = [line for line in database.read_text().splitlines() if not line.startswith("eve:")]
    database.write_text("\n".join(["# edited", *lines, "carol:x:10:10::/:", ""]))

    if by_script:
        site.run_undo_script(run.run)
    else:
        assert 0 == site.undo().exit_status
    expected = "# edited\nroot:x:0:0::/root:/bin/sh\nbob:x:7:7::/:\ncarol:x:10:10::/:\n"
    assert expected == database.read_text()


def test_only_the_entry_itself_is_a_conflict(site: Site) -> None:
    """Somebody changed the very entry since: undo is refused with nothing changed, --force takes it back."""
    database = site.path("/etc/passwd")
    database.write_text("root:x:0:0::/root:/bin/sh\n")
    site.wants(SetRecord(database="passwd", name="alice", line=ALICE))
    run = site.apply()
    database.write_text(database.read_text().replace("/bin/sh", "/bin/zsh"))
    changed = database.read_text()

    with pytest.raises(UndoConflict, match="passwd:alice: entry changed since"):
        site.undo()
    assert changed == database.read_text()
    site.run_undo_script(run.run, expected=12)
    assert changed == database.read_text()
    assert 0 == site.undo(choices={"passwd:alice": "force"}).exit_status
    assert "root:x:0:0::/root:/bin/zsh\n" == database.read_text()


# ---- secrets -------------------------------------------------------------------------------------------------------

OLD, NEW = "$6$old$OLDHASH", "$6$new$NEWHASH"


@pytest.fixture
def careless(site: Site) -> Iterator[None]:
    """A state directory that anybody may read, and a process whose new files anybody may write: no mode is given."""
    before = os.umask(0)
    site.state.mkdir(mode=0o777)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless")
def test_a_hash_is_shown_nowhere(site: Site) -> None:
    """Neither old nor new hash is in plan, JSON, change-set, log, export, blame, verify or undo; undo has it back."""
    site.path("/etc/passwd").write_text(f"alice:{OLD}:1:1::/:\n")
    site.path("/etc/shadow").write_text(f"root:{OLD}:1::::::\n")
    site.wants(
        SetRecord(database="passwd", name="alice", line="alice:x:1:1::/:"),
        SetRecord(database="shadow", name="root", line=f"root:{NEW}:1::::::"),
        SetRecord(database="shadow", name="alice", line=f"alice:{NEW}:1::::::", secret=True),
    )
    plan = site.plan()
    shown = [
        render_plan(plan),
        json.dumps(plan_as_json(plan)),
        json.dumps(effect(plan.steps, b"key")),
        json.dumps(shape(plan.steps, {"name": "alice"}, b"key")),
    ]
    run = site.apply()
    export = exporting.export(site.session, run.run)
    shown.append(msgspec.json.encode(export).decode())
    site.path("/etc/shadow").write_text(f"root:{OLD}x:1::::::\n")
    shown += [repr(inspecting.verify(site.session)), repr(inspecting.blame(site.session, "shadow:root"))]
    with pytest.raises(UndoConflict) as refused:
        site.undo()
    shown.append(str(refused.value))

    assert [] == [text for text in shown if "HASH" in text]
    assert [True] * 3 == [step.secret for step in plan.steps]
    # The way back, which has the old hash, is for root alone: the directory, and each file in it too.
    assert 0o700 == stat.S_IMODE(site.state.stat().st_mode)
    assert [] == [str(path) for path in site.state.rglob("*") if path.stat().st_mode & 0o077]
    assert [] != [path for path in site.state.rglob("*") if path.is_file() and OLD.encode() in path.read_bytes()]
    site.path("/etc/shadow").write_text(f"root:{NEW}:1::::::\nalice:{NEW}:1::::::\n")
    assert 0 == site.undo().exit_status
    assert f"root:{OLD}:1::::::\n" == site.path("/etc/shadow").read_text()
    assert f"alice:{OLD}:1:1::/:\n" == site.path("/etc/passwd").read_text()


def test_a_hash_of_another_entry_does_not_say_where_one_stood(site: Site) -> None:
    """Where an entry stood is told by the name above it, and by nothing else of that entry, though there are two."""
    text = f"bob:{OLD}:1::::::\nbob:{NEW}:1::::::\nzed:*:1::::::\nada:*:1::::::\n"
    site.path("/etc/shadow").write_text(text)
    site.wants(SetRecord(database="shadow", name="zed", line=None))

    plan = site.plan()
    run = site.apply()

    shown = [json.dumps(plan_as_json(plan)), msgspec.json.encode(exporting.export(site.session, run.run)).decode()]
    assert [] == [one for one in shown if "HASH" in one]
    assert [] == [str(path) for path in site.state.rglob("*") if path.is_file() and b"HASH" in path.read_bytes()]
    (back,) = plan.steps[0].undo.changes
    assert isinstance(back, SetRecord)
    assert "bob" == back.after
    site.undo()
    assert sorted(text) == sorted(site.path("/etc/shadow").read_text())


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "name", "line"),
    [
        ("passwd", "alice", "alice:x:1:1::/"),
        ("passwd", "alice", "alice:x:1:1:a:b:/:/bin/sh"),
        ("passwd", "alice", "alice:x:one:1::/:"),
        ("passwd", "alice", "alice:x:1:::/:"),
        ("passwd", "alice", "alice:x:4294967295:1::/:"),
        ("passwd", "alice", "alice:x:1:1::/:\nroot:x:0:0::/:"),
        ("passwd", "alice", "bob:x:1:1::/:"),
        ("passwd", "+alice", "+alice:x:1:1::/:"),
        ("passwd", "", ":x:1:1::/:"),
        ("shadow", "alice", "alice:*:day::::::"),
        ("group", "alice", "alice:x::"),
        ("subuid", "alice", "alice:100000"),
    ],
)
def test_what_is_no_entry_is_refused(site: Site, database: Any, name: str, line: str) -> None:
    """A value with a colon or a line end in it, a number that is none, another name: the plan says so."""
    site.path(f"/etc/{database}").write_text("")
    site.wants(SetRecord(database=database, name=name, line=line))

    assert "failed" == site.plan().components["one"].state


def test_a_database_that_is_not_there_is_no_file_of_ours(site: Site) -> None:
    """Nobody makes /etc/gshadow by the way; removing an entry from it is done already."""
    site.wants(SetRecord(database="gshadow", name="alice", line="alice:!::"))
    assert "failed" == site.plan().components["one"].state
    site.wants(SetRecord(database="gshadow", name="alice", line=None))
    assert "unchanged" == site.plan().components["one"].state


def test_an_account_expires_and_lives_again(site: Site) -> None:
    """The day on which an account expires is a field of its entry: it alone changes, and undo gives the bytes back."""
    text = f"root:{HASH}:19000:0:99999:7:::\nalice:{HASH}:19001:1:90:7:30::\n"
    site.path("/etc/shadow").write_text(text)
    site.wants(SetRecord(database="shadow", name="alice", line=f"alice:{HASH}:19001:1:90:7:30:20000:"))

    run = site.apply()

    assert text.replace(":30::", ":30:20000:") == site.path("/etc/shadow").read_text()
    assert 0 == site.undo().exit_status
    assert text == site.path("/etc/shadow").read_text()
    redone = site.redo(run.run)
    assert 0 == redone.exit_status
    site.run_undo_script(redone.run)
    assert text == site.path("/etc/shadow").read_text()


@pytest.mark.parametrize("database", ["subuid", "subgid"])
def test_ranges_of_sub_ids_come_change_and_go(database: Any, site: Site) -> None:
    """One range of each account, set, moved and removed between those of others; undo gives the bytes back."""
    text = "bob:100000:65536\nalice:165536:65536\ncarol:231072:65536"
    site.path(f"/etc/{database}").write_text(text)

    for line, left in (
        ("alice:500000:10", text.replace("alice:165536:65536", "alice:500000:10")),
        (None, text.replace("alice:165536:65536\n", "")),
    ):
        site.wants(SetRecord(database=database, name="alice", line=line))
        assert 0 == site.apply().exit_status
        assert left == site.path(f"/etc/{database}").read_text()
        assert 0 == site.undo().exit_status
        assert text == site.path(f"/etc/{database}").read_text()


RANGES = "bob:1:9\nalice:100000:65536\n# more\nalice:165536:65536\ncarol:231072:65536\nalice:300000:5"


@pytest.mark.parametrize("by_script", [False, True], ids=["undo", "script"])
@pytest.mark.parametrize("number", ["100000", "165536", "300000", "7"])
@pytest.mark.parametrize("size", ["10", None])
def test_an_account_has_several_ranges(size: str | None, number: str, by_script: bool, site: Site) -> None:
    """Each is set, added and removed by itself, by account and first number; the others, and the order, stay."""
    site.path("/etc/subuid").write_text(RANGES)
    name = f"alice:{number}"
    line = f"{name}:{size}" if size else None
    rest = [one for one in RANGES.split("\n") if not one.startswith(f"{name}:")]

    site.wants(SetRecord(database="subuid", name=name, line=line), name="one")
    run = site.apply()

    found = site.path("/etc/subuid").read_text().strip("\n").split("\n")
    assert sorted([*rest, *([line] if line else [])]) == sorted(found)
    assert [one for one in found if one != line] == rest
    assert () == site.plan().steps
    if by_script and run.run:
        site.run_undo_script(run.run)
    elif run.run:
        site.undo()
    assert RANGES == site.path("/etc/subuid").read_text()


def test_all_ranges_of_an_account_go_and_come_back(site: Site) -> None:
    """What several steps of one run do to the ranges of an account is taken back to the byte, by undo and by script."""
    site.path("/etc/subgid").write_text(RANGES)
    names = ("alice:165536", "alice:100000", "alice:300000", "bob:1")
    site.wants(*(SetRecord(database="subgid", name=name, line=None) for name in names))

    run = site.apply()

    assert "# more\ncarol:231072:65536\n" == site.path("/etc/subgid").read_text()
    site.undo()
    assert RANGES == site.path("/etc/subgid").read_text()
    redone = site.redo(run.run)
    site.run_undo_script(redone.run)
    assert RANGES == site.path("/etc/subgid").read_text()


def test_several_entries_of_one_name_are_left_to_a_person(site: Site) -> None:
    """Which of them is meant nobody can tell; the plan names them."""
    site.path("/etc/subuid").write_text("alice:1:1\nalice:2:2\n")
    site.wants(SetRecord(database="subuid", name="alice", line="alice:3:3"))

    assert "there are several entries of alice" in site.plan().components["one"].detail


# ---- together ------------------------------------------------------------------------------------------------------


def test_a_later_step_sees_a_user_of_an_earlier_one(site: Site) -> None:
    """A directory can belong to a user and group that the same plan makes; undo takes all of it back."""
    for name in ("passwd", "group"):
        site.path(f"/etc/{name}").write_text("root:x:0:0::/root:/bin/sh\n"[: -1 if name == "passwd" else None])
    site.wants(
        SetRecord(database="group", name="alice", line="alice:x:1001:"),
        SetRecord(database="passwd", name="alice", line=ALICE),
        MakeDirectory(path="/srv", owner="alice", group="alice"),
    )
    before = looked_at(site)

    assert 0 == site.apply().exit_status
    assert (1001, 1001) == (site.path("/srv").stat().st_uid, site.path("/srv").stat().st_gid)
    assert 0 == site.undo().exit_status
    assert list(before) == list(looked_at(site))


def test_many_entries_are_one_rewrite(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive entries share a batch, and each database is replaced once in it."""
    for name in ("passwd", "shadow"):
        site.path(f"/etc/{name}").write_text("root:x:0:0::/root:/bin/sh\n" if name == "passwd" else "root:*:1::::::\n")
    real = site.session.host
    counted = FaultyHost(real)
    monkeypatch.setattr(site.session, "host", counted)
    site.wants(
        *(
            one
            for number in range(200)
            for one in (
                SetRecord(database="passwd", name=f"u{number}", line=f"u{number}:x:{number}:1::/:"),
                SetRecord(database="shadow", name=f"u{number}", line=f"u{number}:*:1::::::"),
            )
        )
    )

    assert 0 == site.apply().exit_status
    monkeypatch.setattr(site.session, "host", real)
    assert 2 == len([one for one in counted.effects if one.startswith("set u0,")])
    assert 201 == len(site.path("/etc/shadow").read_text().splitlines())


def test_a_lock_that_somebody_keeps_fails_the_step_and_names_them(site: Site) -> None:
    """Whoever holds the system's lock is waited for and then named; nothing is changed."""
    site.path("/etc/passwd").write_text("")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(site.path("/etc/.pwd.lock"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with (
        pytest.raises(HostError, match=f"process {holder.pid} "),
        system_lock(os.open(site.path("/etc"), os.O_RDONLY), ".pwd.lock", 0.2),
    ):
        pass
    site.wants(SetRecord(database="passwd", name="alice", line=ALICE))
    threading.Timer(1, holder.communicate).start()

    assert 0 == site.apply().exit_status
    assert f"{ALICE}\n" == site.path("/etc/passwd").read_text()


HOLDING = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""
