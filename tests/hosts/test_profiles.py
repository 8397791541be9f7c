"""Every real profile, whatever components there are: plans, applies, plans empty, and is taken back without a trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aquiline.agent import undoing
from aquiline.agent.applying import apply, dry_run
from aquiline.agent.session import Session
from aquiline.changes.canonical import encode
from aquiline.profile import Profile, load
from tests.engine.site import tree_but_database_times as tree

from .real import each_host, where_they_are, with_accounts, with_older_versions

ROOTS = pytest.mark.parametrize("populated", [False, True], ids=["empty", "populated"])

#: Plans in a process of its own and prints the plan.
PLANNER = """
import sys
from pathlib import Path
from aquiline.agent.applying import dry_run
from aquiline.agent.session import Session
from aquiline.changes.canonical import encode
from aquiline.profile import load
with Session(sys.argv[1], sys.argv[2]) as session:
    print(encode(dry_run(session, load(Path(sys.argv[3])))))
"""


def prepared(path: Path, place: Path, populated: bool) -> tuple[Profile, Path, Path]:
    """Return the profile, a root for it and a place for the state."""
    profile, root = load(path), place / "root"
    with_accounts(root, profile)
    if populated:
        with_older_versions(root, profile, place / "unused")
    return profile, root, place / "state"


def planned_elsewhere(path: Path, root: Path, state: Path, *before: str, **environment: str) -> str:
    """Return the plan that another process makes, as it prints it."""
    completed = subprocess.run(
        [*before, sys.executable, "-c", PLANNER, str(root), str(state), str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == completed.returncode, completed.stderr
    return completed.stdout.strip()


@where_they_are
@ROOTS
@each_host
def test_there_and_back(path: Path, populated: bool, tmp_path: Path) -> None:
    """The plan is what ran, plans end empty, undo gives the tree before and redo the tree after."""
    profile, root, state = prepared(path, tmp_path, populated)
    before = tree(root)
    with Session(str(root), str(state)) as session:
        plan = dry_run(session, profile)
        assert before == tree(root)

        ended = apply(session, profile)
        after = tree(root)

        assert ended.error is None
        assert "failed" not in {report.state for report in plan.components.values()}
        assert 0 == ended.exit_status
        assert plan == ended.plan
        assert () == dry_run(session, profile).steps
        if not plan.steps:
            assert before == after
            return
        with session.reading() as journal:
            assert [plan] == journal.plans(ended.run)
            (run,) = undoing.select(session, journal, last=1)
        assert 0 == undoing.undo(session, (run,)).exit_status
        assert before == tree(root)
        assert 0 == undoing.redo(session, run).exit_status
        assert after == tree(root)


@where_they_are
@ROOTS
@each_host
def test_script_undoes_it(path: Path, populated: bool, tmp_path: Path) -> None:
    """The undo script of a real run, under dash, gives the tree before."""
    profile, root, state = prepared(path, tmp_path, populated)
    before = tree(root)
    with Session(str(root), str(state)) as session:
        ended = apply(session, profile)
    if ended.plan is not None and ended.plan.steps:
        command = ["/bin/dash", str(state / "undo" / f"{ended.run}.sh")]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, cwd="/", check=True, capture_output=True)
    assert before == tree(root)


@where_they_are
@each_host
def test_same_bytes(path: Path, tmp_path: Path) -> None:
    """Two plans are the same to the byte: again, in another process, with other hashes of strings."""
    profile, root, state = prepared(path, tmp_path, populated=True)
    with Session(str(root), str(state)) as session:
        plan = encode(dry_run(session, profile))
        assert plan == encode(dry_run(session, profile))

    assert plan == planned_elsewhere(path, root, state, PYTHONHASHSEED="1")
    assert plan == planned_elsewhere(path, root, state, PYTHONHASHSEED="4711", LC_ALL="C", TZ="Asia/Tokyo")


def read_only(root: Path, state: Path) -> tuple[str, ...]:
    """Return what runs a command where neither root nor state can be written to."""
    mounts = "; ".join(
        f"mount --bind '{place}' '{place}'; mount -o remount,ro,bind '{place}'" for place in (root, state)
    )
    return ("unshare", "-m", "sh", "-ec", f"{mounts}; ! touch '{root}/x' 2>/dev/null; exec \"$@\"", "sh")


@where_they_are
@each_host
def test_nothing_is_written(path: Path, tmp_path: Path) -> None:
    """A dry-run works where nothing can be written, and gives the same plan: no component can have cheated."""
    profile, root, state = prepared(path, tmp_path, populated=True)
    state.mkdir()
    with Session(str(root), str(state)) as session:
        plan = encode(dry_run(session, profile))

    assert plan == planned_elsewhere(path, root, state, *read_only(root, state))
