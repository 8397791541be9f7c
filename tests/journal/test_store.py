"""The journal: what it is told comes back, and nothing is ever changed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aquiline.changes.kinds import Restore, RunCommand, Touches
from aquiline.changes.steps import Undo
from aquiline.errors import JournalError, UsageError
from aquiline.host.objects import ABSENT, At
from aquiline.journal.records import (
    OUTPUT_LIMIT,
    Intent,
    LivePointer,
    NewDebt,
    Outcome,
    PreimageReference,
    StepName,
)
from aquiline.journal.schema import TABLES
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal
from tests.journal.making import NOW, RELOAD, header, plan, regular, step, write


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


@pytest.fixture
def journal(state: StateDirectory) -> Iterator[Journal]:
    with Journal.open(state) as opened:
        yield opened


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all that a reader could have changed; access times are excluded."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_a_plan_comes_back_as_it_went_in(journal: Journal) -> None:
    """What was planned can be had back from the journal, stage by stage, names that are not UTF-8 included."""
    first, second = plan(write(1, "/etc/motd"), write(2, "/etc/n\udce4me\n")), plan(write(3, "/etc/three"), stage=2)
    run = journal.begin_run(header()).id

    journal.add_stage(run, first)
    journal.add_stage(run, second)

    assert [first, second] == journal.plans(run)


def test_the_life_of_a_step(journal: Journal) -> None:
    """A step is planned, intended, then whatever its latest conclusion says."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a"), write(2, "/b"), write(3, "/c"), write(4, "/d")))
    journal.intend(run, Intent(steps=(1, 2, 3)))
    left = At("/a", regular(b"new\n"))
    journal.conclude(run, [Outcome(step=1, what="done", observed=(left,)), Outcome(step=2, what="in-doubt")])
    journal.conclude(run, [Outcome(step=2, what="assumed-done", note="a person said so")])

    steps = journal.steps(run)

    assert ["done", "assumed-done", "intended", "planned"] == [each.status for each in steps]
    assert (left,) == steps[0].observed
    assert "a person said so" == steps[1].note


def test_runs_are_found_by_id_prefix_and_distance(journal: Journal) -> None:
    """A run is named by its id, a unique prefix, last or last~N; anything else is refused and says why."""
    runs = [journal.begin_run(header()) for _ in range(20)]
    shared = next(a.id[0] for a in runs for b in runs if a.id != b.id and a.id[0] == b.id[0])

    assert runs[3] == journal.run(runs[3].id)
    assert runs[3] == journal.run(runs[3].id[:7].upper())
    assert runs[-1] == journal.run("last")
    assert runs[-3] == journal.run("last~2")
    assert list(reversed(runs)) == journal.runs()
    with pytest.raises(UsageError, match="is the beginning of") as ambiguous:
        journal.run(shared)
    assert all(run.id in ambiguous.value.message for run in runs if run.id.startswith(shared))
    for wrong in ("", "zz", "last~20", "last~x"):
        with pytest.raises(UsageError):
            journal.run(wrong)


def test_a_debt_outlives_its_run_until_paid(journal: Journal) -> None:
    """A reaction is owed from the intent of its cause until some run pays it, and is paid once."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a")))
    owed = journal.intend(run, Intent(steps=(1,), debts=(NewDebt(1, RELOAD, "chrony"),)))
    journal.end_run(run, "failed")
    assert list(owed) == journal.debts()

    later = journal.begin_run(header("recovery", recovers=run)).id
    journal.conclude(later, [Outcome(step=1, what="done", debts_paid=(owed[0].id,))])
    journal.cancel_debts(later, [owed[0].id])

    assert [] == journal.debts()


def test_an_undone_step_names_what_undid_it(journal: Journal) -> None:
    """A step taken back names the step that did it, until that one is taken back in turn by a redo."""
    run, undo, redo = (journal.begin_run(header(kind)).id for kind in ("apply", "undo", "redo"))
    for each in (run, undo, redo):
        journal.add_stage(each, plan(write(1, "/a")))
    journal.conclude(run, [Outcome(step=1, what="done")])

    journal.conclude(undo, [Outcome(step=1, what="done", undoes=StepName(run, 1))])
    assert StepName(undo, 1) == journal.step(run, 1).undone_by

    journal.conclude(redo, [Outcome(step=1, what="done", undoes=StepName(undo, 1))])
    assert None is journal.step(run, 1).undone_by
    assert StepName(redo, 1) == journal.step(undo, 1).undone_by


def test_an_amended_undo_is_in_effect_and_the_first_one_stays(journal: Journal) -> None:
    """After amend a step's undo is the corrected one; its record still has the one it was made with."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a")))
    corrected = Undo(class_="exact", description="right", changes=(Restore(path="/a", object=regular(b"x")),))

    journal.amend(run, 1, corrected, reason="it was wrong", user="root")

    assert corrected == journal.step(run, 1).undo
    assert "restore /a" == journal.step(run, 1).known.undo.description


def test_last_values_are_what_runs_left(journal: Journal) -> None:
    """The journal knows what a run last left at each path, and nothing of paths that none touched."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a"), write(2, "/a")))
    for number, content in ((1, b"one"), (2, b"two")):
        journal.conclude(run, [Outcome(step=number, what="done", observed=(At("/a", regular(content)),))])

    assert At("/a", regular(b"two")) == journal.last_value("/a")
    assert {"/a": regular(b"two")} == journal.last_values()
    assert None is journal.last_value("/b")


def test_history_is_of_what_a_step_changes(journal: Journal) -> None:
    """Blame finds the steps that set out to change a path: not those that only build on it, or never began."""
    directory = At("/etc", ABSENT)
    command = RunCommand(argv=("touch", "/etc/made"), touches=Touches(paths=("/etc/made",)))
    run = journal.begin_run(header()).id
    first = write(1, "/etc/motd")
    journal.add_stage(
        run, plan(step(1, first.change, (directory, *first.before), (directory, *first.after)), step(2, command))
    )
    journal.add_stage(run, plan(write(3, "/etc/motd"), stage=2))

    journal.intend(run, Intent(steps=(1, 2)))

    assert [1] == [found.number for found in journal.history("/etc/motd")]
    assert [2] == [found.number for found in journal.history("/etc/made")]
    assert [] == journal.history("/etc")


def test_what_is_durable_before_a_batch(journal: Journal) -> None:
    """An intent keeps pre-images and the first seen time of each parent directory."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a"), write(2, "/b")))
    kept = PreimageReference(step=1, sha256="d" * 64, size=3, secret=True)

    journal.intend(run, Intent(steps=(1,), preimages=(kept,), directories={"/": NOW}))
    journal.conclude_and_intend(run, [Outcome(step=1, what="done")], Intent(steps=(2,), directories={"/": NOW + 9}))

    assert [kept] == journal.preimages(run)
    assert {"/": NOW} == journal.directories(run)
    assert ["done", "intended"] == [each.status for each in journal.steps(run)]


def test_the_live_pointer_moves_with_the_end_of_a_run(journal: Journal) -> None:
    """A run that changed what is live says so as it ends; earlier pointers stay in the history."""
    first, second = journal.begin_run(header()).id, journal.begin_run(header()).id
    journal.end_run(first, "done", live=("p1", ["c2", "c1"]))
    assert [second] == [run.id for run in journal.open_runs()]

    journal.end_run(second, "failed")

    assert LivePointer("p1", ("c1", "c2"), first) == journal.live()
    assert [] == journal.open_runs()
    assert "failed" == journal.run(second).status


def test_runs_since_a_date(journal: Journal) -> None:
    """Runs are found by when they began."""
    journal.begin_run(header())

    assert 1 == len(journal.runs_since(datetime.fromtimestamp(1, UTC)))
    assert [] == journal.runs_since(datetime.fromtimestamp(2, UTC))


def test_long_output_is_cut_in_the_middle(journal: Journal) -> None:
    """A record keeps the beginning and the end of what a command printed and counts what it left out."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a")))

    journal.conclude(run, [Outcome(step=1, what="failed", output="a" * OUTPUT_LIMIT + "z" * 10)])

    output = journal.step(run, 1).output
    assert "10 characters left out" in output
    assert output.startswith("a")
    assert output.endswith("z" * 10)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_append_only(journal: Journal, table: str) -> None:
    """The database itself refuses to change or remove what it holds."""
    fill(journal)

    for statement in (f"UPDATE {table} SET rowid = rowid", f"DELETE FROM {table}"):
        columns = [row[1] for row in journal._database._connection.execute(f"PRAGMA table_info({table})")]
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            journal._database._connection.execute(statement.replace("rowid", columns[0]))


def fill(journal: Journal) -> str:
    """Put at least one row in every table."""
    run = journal.begin_run(header()).id
    journal.add_stage(run, plan(write(1, "/a")))
    kept = PreimageReference(step=1, sha256="d" * 64, size=3)
    owed = NewDebt(1, RELOAD, "chrony")
    (debt,) = journal.intend(run, Intent(steps=(1,), debts=(owed,), preimages=(kept,), directories={"/": NOW}))
    done = Outcome(step=1, what="done", observed=(At("/a", regular(b"new\n")),), debts_paid=(debt.id,))
    journal.conclude(run, [done])
    journal.purge_preimage("d" * 64, "a secret")
    journal.end_run(run, "done", live=("p", ["c"]))
    return run


def test_an_absent_journal_is_empty_and_stays_absent(state: StateDirectory) -> None:
    """Reading a journal that is not there finds nothing, and makes nothing."""
    with Journal.open(state, read_only=True) as journal:
        assert [] == journal.runs()
        with pytest.raises(JournalError, match="read only"):
            journal.begin_run(header())

    assert not state.path.exists()


def test_reading_leaves_every_byte(state: StateDirectory) -> None:
    """A reader changes nothing in the state directory, not even a file time, whatever the last writer left."""
    with Journal.open(state) as journal:
        run = fill(journal)
    clean = snapshot(state.path)

    with Journal.open(state, read_only=True) as reader:
        assert "done" == reader.run(run).status

    assert clean == snapshot(state.path)


@pytest.mark.parametrize("index", ["kept", "lost"])
def test_reading_after_a_kill_leaves_every_byte(state: StateDirectory, index: str) -> None:
    """A reader sees what a killed writer had committed, and leaves recovery of the database to the next writer."""
    fill_and_die(state)
    if index == "lost":
        Path(f"{state.database}-shm").unlink()
    left = snapshot(state.path)
    assert any(name.endswith("-wal") for name in left)

    with Journal.open(state, read_only=True) as reader:
        assert ["done"] == [step.status for step in reader.steps(reader.run("last").id)]

    assert left == snapshot(state.path)


def fill_and_die(state: StateDirectory) -> None:
    """Fill the journal in a process that is then killed."""
    child = os.fork()
    if child == 0:
        fill(Journal.open(state))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_killed_inside_a_transaction(state: StateDirectory) -> None:
    """A writer killed before its transaction is complete leaves nothing of it behind."""
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
    child = os.fork()
    if child == 0:
        doomed = Journal.open(state)
        doomed._database._connection.set_trace_callback(
            lambda sql: os.kill(os.getpid(), 9) if sql.startswith("COMMIT") else None
        )
        doomed.add_stage(run, plan(write(1, "/a")))
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert signal.SIGKILL == os.WTERMSIG(status)
    with Journal.open(state) as journal:
        assert [] == journal.steps(run)
        assert [run] == [each.id for each in journal.open_runs()]


def test_a_reader_follows_a_writer(state: StateDirectory) -> None:
    """A reader that is open while runs come and go sees each of them."""
    with Journal.open(state) as journal:
        journal.begin_run(header())
    with Journal.open(state, read_only=True) as reader:
        assert 1 == len(reader.runs())

        with Journal.open(state) as journal:
            journal.begin_run(header())

        assert 2 == len(reader.runs())


def test_a_newer_major_version_is_refused(state: StateDirectory) -> None:
    """A journal of a newer major version is refused with the way out; one of a newer minor version is read."""
    with Journal.open(state) as journal:
        run = fill(journal)
    for version, refused in (("1.99", False), ("2.0", True), ("what", True)):
        with sqlite3.connect(state.database) as database:
            database.execute("UPDATE meta SET value = ?", (version,))
        database.close()
        for read_only in (True, False):
            if refused:
                with pytest.raises(JournalError):
                    Journal.open(state, read_only=read_only)
            else:
                with Journal.open(state, read_only=read_only) as journal:
                    assert run == journal.run("last").id


def test_a_kind_of_a_later_version_can_be_shown(state: StateDirectory) -> None:
    """A step of an unknown kind, or a known kind's later version, is shown from its record and cannot be undone."""
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
        journal.add_stage(run, plan(write(1, "/a"), write(2, "/b"), write(3, "/c")))
    with sqlite3.connect(state.database) as database:
        database.execute("DROP TRIGGER step_update")
        database.execute("UPDATE step SET record = replace(record, 'write_file', 'brew_tea') WHERE number = 1")
        later = '"kind":"write_file","version":9'
        database.execute(
            f"UPDATE step SET record = replace(record, '\"kind\":\"write_file\"', '{later}') WHERE number = 2"
        )
        extra = '{"remark":"kept",'
        database.execute(f"UPDATE step SET record = '{extra}' || substr(record, 2) WHERE number = 3")
    database.close()

    with Journal.open(state, read_only=True) as journal:
        tea, later_write, remarked = journal.steps(run)

    assert (None, "brew_tea", "step 1") == (tea.step, tea.raw["change"]["kind"], tea.description)
    assert None is later_write.step
    assert "kept" == remarked.raw["remark"]
    assert None is not remarked.step
    with pytest.raises(JournalError, match="does not know"):
        _ = tea.undo


def test_reading_while_others_come_and_go(state: StateDirectory) -> None:
    """Whoever reads while writers open and close the journal gets an answer, at whatever instant."""
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
    program = (
        "import sys\n"
        "from aquiline.journal.state import StateDirectory\n"
        "from aquiline.journal.store import Journal\n"
        "for _ in range(150):\n"
        "    with Journal.open(StateDirectory(sys.argv[1])) as journal:\n"
        "        journal.record(sys.argv[2], 0, 'deadline-tick', {})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(state.path), run]) as writer:
        while writer.poll() is None:
            with Journal.open(state, read_only=True) as journal:
                assert [run] == [one.id for one in journal.runs()]

    assert 0 == writer.returncode
