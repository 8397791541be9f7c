"""kill -9 at every point of an edit of account databases, and recovery both ways."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aquiline.agent import applying
from aquiline.agent.recovering import Direction, recover
from aquiline.agent.session import Session
from aquiline.changes.kinds import SetRecord
from aquiline.profile import Profile
from tests.crash.killing import kill_at, points_of
from tests.engine.site import component

PASSWD = "root:x:0:0::/root:/bin/sh\nbob:x:7:7::/:\n"
SHADOW = "root:$6$HASH:1::::::\nbob:*:1::::::\n"
WANTED = (
    SetRecord(database="passwd", name="alice", line="alice:x:1:1::/:"),
    SetRecord(database="shadow", name="alice", line="alice:$6$HASH:1::::::"),
    SetRecord(database="passwd", name="bob", line=None),
    SetRecord(database="shadow", name="root", line="root:$6$OTHER:1::::::"),
)
AFTER = (
    "root:x:0:0::/root:/bin/sh\nalice:x:1:1::/:\n",
    "root:$6$OTHER:1::::::\nbob:*:1::::::\nalice:$6$HASH:1::::::\n",
)
PROFILE = Profile({"software": {"components": {"one": {}}}}, "host.example.org")


def fresh(place: Path) -> Path:
    """Return a place with a root that has the databases, and no journal."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "root/etc").mkdir(parents=True)
    (place / "root/etc/passwd").write_text(PASSWD)
    (place / "root/etc/shadow").write_text(SHADOW)
    (place / "root/etc/shadow").chmod(0o600)
    return place


def apply(place: Path) -> None:
    with Session(str(place / "root"), str(place / "state")) as session:
        applying.apply(session, PROFILE, allow_irreversible=True)


def found(place: Path) -> tuple[tuple[str, str], list[str], int]:
    """Return the databases, the names beside them but the lock, and the mode of shadow."""
    etc = place / "root/etc"
    names = sorted(one.name for one in etc.iterdir() if one.name != ".pwd.lock")
    return ((etc / "passwd").read_text(), (etc / "shadow").read_text()), names, (etc / "shadow").stat().st_mode & 0o777


@pytest.mark.slow
@pytest.mark.parametrize("way", ["finish", "undo"])
def test_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Direction) -> None:
    """At every point each database is whole, and recovery ends as if nothing had happened, or as if all had."""
    monkeypatch.setattr(applying, "registry_for", lambda _profile: {"one": component("one", WANTED)})
    first = fresh(tmp_path / "first")
    points = points_of(lambda: apply(first), tmp_path / "points")
    assert AFTER == found(first)[0]
    wrong = []
    for number, point in enumerate(points, 1):
        place = fresh(tmp_path / "killed")
        if not kill_at(number, lambda place=place: apply(place)):  # type: ignore[misc]
            continue
        passwd, shadow = found(place)[0]
        if passwd not in (PASSWD, AFTER[0]) or shadow not in (SHADOW, AFTER[1]):
            wrong.append(f"{number}, {point}: torn")
        if not (place / "state").exists():
            continue
        with Session(str(place / "root"), str(place / "state")) as session, session.reading() as journal:
            is_open = bool(journal.open_runs())
        if not is_open:
            continue
        with Session(str(place / "root"), str(place / "state")) as session:
            recover(session, way)
        expected = AFTER if way == "finish" else (PASSWD, SHADOW)
        if found(place) != (expected, ["passwd", "shadow"], 0o600):
            wrong.append(f"{number}, {point}: {found(place)}")

    assert [] == wrong
