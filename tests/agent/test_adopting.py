"""The journal is gone: a run is taken back from what `show --json` printed, and the pre-images."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aquiline.agent.adopting import adopt, load_export, looking_at
from aquiline.agent.amending import amend
from aquiline.agent.exporting import export
from aquiline.agent.session import Session
from aquiline.agent.undoing import preview_of, redo, undo
from aquiline.changes.kinds import (
    CommandUndo,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSymlink,
    RunCommand,
    WriteFile,
)
from aquiline.changes.steps import Undo
from aquiline.errors import JournalError, UndoConflict, UsageError
from aquiline.execution.undo import UndoPlan
from aquiline.journal.check import check
from tests.agent.making import Site

SECRET = "correct horse battery staple"


def exported(site: Site, run: str, place: Path, **more: Any) -> Path:
    """Return the file that `aquiline show RUN --json > FILE` leaves, with fields of a newer version added."""
    with site.session() as session:
        found: dict[str, Any] = msgspec.to_builtins(export(session, run), str_keys=True)
    path = place / "run.json"
    path.write_text(json.dumps(found | more))
    return path


def lose_journal(site: Site) -> None:
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (site.state / name).unlink(missing_ok=True)


def undo_from(site: Site, path: Path) -> int:
    with site.session() as session:
        return undo(session, [adopt(session, load_export(path), str(path))]).exit_status


def preview(session: Session, path: Path) -> UndoPlan:
    with looking_at(session, load_export(path)) as (journal, run):
        return preview_of(session, journal, [run])


def a_bit_of_everything(site: Site) -> str:
    site.write("/etc/motd", "old\n")
    site.write("/etc/token", "old secret\n", 0o600)
    site.write("/etc/twice", "shared\n")
    site.path("/etc/again").hardlink_to(site.path("/etc/twice"))
    return site.apply(
        WriteFile(path="/etc/motd", content=Inline(b"new\n"), mode=0o600, owner=7),
        WriteFile(path="/etc/token", content=Inline(SECRET.encode()), secret=True),
        MakeDirectory(path="/etc/d", mode=0o700),
        MakeSymlink(path="/etc/d/link", target="../motd"),
        MakeHardlink(path="/etc/motd2", existing="/etc/motd"),
        WriteFile(path="/etc/twice", content=Inline(b"alone\n")),
    ).run


def test_undo_without_a_journal_gives_the_tree_before(site: Site, tmp_path: Path) -> None:
    """With journal.db deleted, the export and the pre-images bring back every object, times and links included."""
    site.write("/etc/motd", "old\n")
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    lose_journal(site)

    assert 0 == undo_from(site, path)
    assert ["again", "motd", "token", "twice"] == sorted(one.name for one in site.path("/etc").iterdir())
    assert ("old\n", "old secret\n", "shared\n") == tuple(map(site.text, ("/etc/motd", "/etc/token", "/etc/twice")))
    assert 0o600 == site.path("/etc/token").stat().st_mode & 0o777
    assert site.path("/etc/twice").samefile(site.path("/etc/again"))


def test_undo_without_a_journal_puts_the_times_of_directories_back(site: Site, tmp_path: Path) -> None:
    """The modification time of a directory in which the run made entries is as before."""
    before = site.path("/etc").stat().st_mtime_ns
    run = site.apply(WriteFile(path="/etc/motd", content=Inline(b"new\n"))).run
    path = exported(site, run, tmp_path)
    lose_journal(site)
    undo_from(site, path)

    assert before == site.path("/etc").stat().st_mtime_ns


def test_a_new_journal_knows_the_run_and_its_undo(site: Site, tmp_path: Path) -> None:
    """The run is adopted with its id, its undo is recorded, and redo works from then on."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    lose_journal(site)
    undo_from(site, path)
    with site.session() as session:
        with session.reading() as journal:
            adopted, undoer = journal.runs(newest_first=False)
            event = journal.events(run, 0)[0]
        redone = redo(session, adopted)

    assert (run, "apply", "done") == (adopted.id, adopted.header.kind, adopted.status)
    assert ("undo", (run,)) == (undoer.header.kind, undoer.header.undoes)
    assert ("adopted", str(path)) == (event.what, event.data["source"])
    assert 0 == redone.exit_status
    assert (SECRET, "alone\n") == (site.text("/etc/token"), site.text("/etc/twice"))


def test_a_preview_writes_nothing(site: Site, tmp_path: Path) -> None:
    """The dry-run of `undo --from` shows the same plan, and no journal is made."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    with site.session() as session:
        known = preview(session, path)
        lose_journal(site)
        shown = preview(session, path)

    assert [step.description for step in known.plan.steps] == [step.description for step in shown.plan.steps]
    assert not (site.state / "journal.db").exists()


def test_where_the_journal_knows_the_run_it_counts(site: Site, tmp_path: Path) -> None:
    """An export that was written before the run was taken back does not take it back again."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    undo_from(site, path)
    with site.session() as session:
        shown = preview(session, path)

    assert () == shown.plan.steps


def test_fields_of_a_newer_version_are_no_obstacle(site: Site, tmp_path: Path) -> None:
    """An export with fields that this version does not know, at any depth, is read and undone."""
    run = a_bit_of_everything(site)
    with site.session() as session:
        found: dict[str, Any] = msgspec.to_builtins(export(session, run), str_keys=True)
    for step in found["steps"]:
        step["mood"] = "sunny"
        step["raw"]["mood"] = {"today": "sunny"}
        step["raw"]["change"]["mood"] = 1
    path = tmp_path / "run.json"
    path.write_text(json.dumps(found | {"mood": "sunny"}))
    lose_journal(site)

    assert 0 == undo_from(site, path)
    assert "old\n" == site.text("/etc/motd")


def test_a_kind_of_a_newer_version_is_refused_by_name(site: Site, tmp_path: Path) -> None:
    """A step that this version cannot take back stops the undo before anything is changed, and says what to do."""
    run = a_bit_of_everything(site)
    with site.session() as session:
        found: dict[str, Any] = msgspec.to_builtins(export(session, run), str_keys=True)
    found["steps"][0]["kind"] = found["steps"][0]["raw"]["change"]["kind"] = "levitate"
    path = tmp_path / "run.json"
    path.write_text(json.dumps(found))
    lose_journal(site)
    with pytest.raises(JournalError, match="this version does not know levitate"):
        undo_from(site, path)

    assert "new\n" == site.text("/etc/motd")


def test_conflicts_are_found_without_a_journal(site: Site, tmp_path: Path) -> None:
    """What somebody changed since is not overwritten."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    lose_journal(site)
    site.write("/etc/twice", "mine\n")
    with pytest.raises(UndoConflict, match="/etc/twice: content"):
        undo_from(site, path)

    assert "mine\n" == site.text("/etc/twice")


def test_no_secret_is_in_an_export(site: Site, tmp_path: Path) -> None:
    """Content, arguments, environment and undo of what holds a secret are left out; the undo of files still works."""
    site.with_shell()
    secret_command = RunCommand(
        argv=("sh", "-c", "exit 0", SECRET), environment={"TOKEN": SECRET}, stdin=SECRET.encode(), always=True,
        secret=True, undo=CommandUndo(changes=(RunCommand(argv=("sh", "-c", "exit 0", SECRET), always=True),)),
    )  # fmt: skip
    run = site.apply(WriteFile(path="/etc/token", content=Inline(SECRET.encode()), secret=True), secret_command).run
    text = exported(site, run, tmp_path).read_text()

    assert [] == [one for one in traces(SECRET) if one in text]


def traces(secret: str) -> list[str]:
    return [secret, base64.b64encode(secret.encode()).decode()]


def test_an_undo_that_was_left_out_is_said_to_be(site: Site, tmp_path: Path) -> None:
    """The undo of a secret command is not in the export: the step stays, and the reason says where its undo is."""
    site.with_shell()
    command = RunCommand(
        argv=("sh", "-c", "exit 0"), always=True, secret=True,
        undo=CommandUndo(changes=(RunCommand(argv=("sh", "-c", "exit 0"), always=True),)),
    )  # fmt: skip
    run = site.apply(command).run
    path = exported(site, run, tmp_path)
    lose_journal(site)

    assert 17 == undo_from(site, path)


def test_an_amended_undo_is_in_the_export(site: Site, tmp_path: Path) -> None:
    """A run whose undo was amended is taken back by the amended undo, journal or not."""
    run = site.apply(WriteFile(path="/etc/motd", content=Inline(b"new\n"))).run
    right = Undo("exact", "write what is right", (WriteFile(path="/etc/motd", content=Inline(b"right\n")),))
    with site.session() as session:
        amend(session, run, 1, right, reason="x")
    path = exported(site, run, tmp_path)
    lose_journal(site)
    undo_from(site, path)

    assert "right\n" == site.text("/etc/motd")


def test_a_run_that_was_partly_undone_is_adopted_so(site: Site, tmp_path: Path) -> None:
    """Steps that had been taken back before the journal was lost are not taken back again."""
    run = a_bit_of_everything(site)
    with site.session() as session:
        with session.reading() as journal:
            record = journal.run(run)
        undo(session, [record])
    path = exported(site, run, tmp_path)
    lose_journal(site)
    with site.session() as session:
        shown = preview(session, path)

    assert () == shown.plan.steps


def test_an_adopted_run_is_sound(site: Site, tmp_path: Path) -> None:
    """`fsck` finds the adopted run undoable: its pre-images are accounted for."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    lose_journal(site)
    with site.session() as session:
        adopt(session, load_export(path), str(path))
        found = check(session.state)

    assert [(run, "undoable")] == [(one.run, one.verdict) for one in found.runs]


def test_a_damaged_journal_is_not_written_to(site: Site, tmp_path: Path) -> None:
    """Where the database is damaged rather than gone, the error says to move it away."""
    run = a_bit_of_everything(site)
    path = exported(site, run, tmp_path)
    (site.state / "journal.db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(JournalError) as caught:
        undo_from(site, path)

    assert "move" in caught.value.hint
    assert str(site.state / "journal.db") in caught.value.hint


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    """A missing file and one that holds something else are told apart."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(UsageError, match="No such file"):
        load_export(tmp_path / "missing.json")
    with pytest.raises(JournalError, match="not what `aquiline show RUN --json` prints"):
        load_export(other)


def test_pre_images_may_have_been_moved(site: Site, tmp_path: Path) -> None:
    """The export and a copy of the pre-images are enough: another state directory will do."""
    site.write("/etc/motd", "old\n")
    run = site.apply(WriteFile(path="/etc/motd", content=Inline(b"new\n"))).run
    path = exported(site, run, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    shutil.copytree(site.state / "preimages", elsewhere / "preimages")
    shutil.rmtree(site.state)
    site.state = elsewhere
    with site.session() as session:
        undo(session, [adopt(session, load_export(path), str(path))])

    assert "old\n" == site.text("/etc/motd")
