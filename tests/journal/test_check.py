"""fsck: a damaged state directory gives results, not tracebacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aquiline.changes.kinds import RunCommand
from aquiline.changes.steps import Undo
from aquiline.errors import JournalError
from aquiline.host.objects import At, sha256
from aquiline.journal.check import check
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import Intent, Outcome, PreimageReference, StepName
from aquiline.journal.script import UndoScript
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal
from tests.journal.making import header, plan, regular, step, write


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


def a_run(state: StateDirectory, *names: str) -> str:
    """Record a run that replaced a file under each name, with its pre-images and its script."""
    contents = [f"old {name}".encode() for name in names]
    steps = [write(n, f"/{name}", regular(c)) for n, (name, c) in enumerate(zip(names, contents, strict=True), start=1)]
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
        journal.add_stage(run, plan(*steps))
        kept = PreimageStore(state).keep_many([[content] for content in contents])
        UndoScript(state, run).append(steps)
        references = tuple(PreimageReference(n, k.sha256, k.size) for n, k in enumerate(kept, start=1))
        journal.intend(run, Intent(steps=tuple(each.number for each in steps), preimages=references))
        outcomes = [
            Outcome(step=s.number, what="done", observed=(At(s.after[0].path, regular(b"new\n")),)) for s in steps
        ]
        journal.conclude(run, outcomes)
        journal.end_run(run, "done")
    return run


def preimage(state: StateDirectory, name: str) -> Path:
    return PreimageStore(state).path(sha256(f"old {name}".encode()))


def test_a_sound_journal(state: StateDirectory) -> None:
    """All is well with a journal that nothing happened to, also with none at all."""
    assert check(state).is_sound
    run = a_run(state, "a", "b")

    health = check(state)

    assert health.is_sound
    assert [(run, "undoable", "whole")] == [(each.run, each.verdict, each.script) for each in health.runs]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_a_pre_image(state: StateDirectory, damage: str) -> None:
    """A pre-image that is gone or has a wrong bit costs the steps that need it, by name, and no other."""
    run = a_run(state, "a", "b")
    other = a_run(state, "c")
    place = preimage(state, "a")
    content = place.read_bytes()
    match damage:
        case "flipped":
            place.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "truncated":
            place.write_bytes(content[:-1])
        case _:
            place.unlink()

    health = check(state)

    assert not health.is_sound
    assert [(run, "undoable-but-for"), (other, "undoable")] == [(each.run, each.verdict) for each in health.runs]
    assert [f"step 1, step 1: its pre-image {place.name} is lost or damaged"] == list(health.runs[0].reasons)
    preimage(state, "b").unlink()
    assert "lost" == check(state).runs[0].verdict


def test_a_purged_pre_image(state: StateDirectory) -> None:
    """A pre-image that was purged for its secret is told apart from one that was lost."""
    a_run(state, "a")
    digest = preimage(state, "a").name
    with Journal.open(state) as journal:
        journal.purge_preimage(digest, "held a password")
    PreimageStore(state).purge(digest)

    assert (f"step 1, step 1: its pre-image {digest} was purged",) == check(state).runs[0].reasons


def test_what_was_undone_needs_nothing(state: StateDirectory) -> None:
    """A step that was taken back needs its pre-image no more."""
    run = a_run(state, "a")
    with Journal.open(state) as journal:
        undo = journal.begin_run(header("undo", undoes=(run,))).id
        journal.add_stage(undo, plan(write(1, "/a")))
        journal.conclude(undo, [Outcome(step=1, what="done", undoes=StepName(run, 1))])
        journal.end_run(undo, "done")
    preimage(state, "a").unlink()

    assert "undoable" == check(state).runs[0].verdict


def test_the_irreversible_is_listed(state: StateDirectory) -> None:
    """A run with an irreversible step is undoable but for that."""
    mail = step(1, RunCommand(argv=("mail",)), undo=Undo(class_="irreversible", description="", reason="it was sent"))
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
        journal.add_stage(run, plan(mail))
        journal.conclude(run, [Outcome(step=1, what="done")])

    assert ("step 1, step 1: irreversible: it was sent",) == check(state).runs[0].reasons


def zero_pages(database: Path) -> None:
    content = bytearray(database.read_bytes())
    for page in range(3, len(content) // 4096, 2):
        content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    database.write_bytes(content)


def truncate(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:9000])


def scribble(database: Path) -> None:
    database.write_bytes(b"this is no database" * 1000)


@pytest.mark.parametrize("damage", [zero_pages, truncate, scribble, Path.unlink])
def test_a_damaged_database(state: StateDirectory, damage: Callable[[Path], None]) -> None:
    """Whatever became of the database, every run is listed with the script that takes it back."""
    runs = {a_run(state, "a", "b"), a_run(state, "c")}
    damage(state.database)

    health = check(state)

    assert not health.is_sound
    assert runs == {run.run for run in health.runs}
    assert {"whole"} == {run.script for run in health.runs}


@pytest.mark.parametrize("page", range(12))
def test_any_one_page_zeroed(state: StateDirectory, page: int) -> None:
    """Any one page of the database may be zeroed: a result comes out, and an error that is ours from the queries."""
    run = a_run(state, *"abcdefgh")
    content = bytearray(state.database.read_bytes())
    content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    state.database.write_bytes(content)

    health = check(state)

    assert run in {each.run for each in health.runs}
    assert not health.is_sound
    assert hint_of_reading(state, run) in ("", "`aquiline fsck` says what can still be undone")


def hint_of_reading(state: StateDirectory, run: str) -> str:
    """Return what a query that meets the damage says to do, empty where it meets none."""
    try:
        with Journal.open(state, read_only=True) as journal:
            journal.steps(run)
    except JournalError as error:
        return error.hint
    return ""


def test_a_torn_or_missing_script(state: StateDirectory) -> None:
    """What became of the script of a run is said beside its verdict."""
    run = a_run(state, "a")
    script = state.undo / f"{run}.sh"
    script.write_bytes(script.read_bytes()[:-10])
    assert ["torn"] == [each.script for each in check(state).runs]

    script.unlink()

    assert ["missing"] == [each.script for each in check(state).runs]
