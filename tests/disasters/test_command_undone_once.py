"""The undo of a command runs once, whoever is killed in between: its script is told before the journal is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from aquiline.agent import recovering
from aquiline.agent.recovering import Assumed
from aquiline.changes.kinds import CommandUndo, RunCommand, Touches
from aquiline.journal.records import Outcome
from aquiline.journal.store import Journal
from tests.engine.site import Site

from .dying import Killed, killed_in


def command(name: str, *more: str) -> RunCommand:
    """Return a command that says that it ran, and is taken back by one that says so, and by more."""
    back = tuple(
        RunCommand(argv=("/bin/sh", "-c", f"echo un{word} >> /log"), always=True, touches=Touches(), timeout=20.0)
        for word in (name, *more)
    )
    return RunCommand(
        argv=("/bin/sh", "-c", f"echo {name} >> /log"),
        always=True, touches=Touches(), undo=CommandUndo(changes=back), timeout=20.0,
    )  # fmt: skip


def log(site: Site) -> list[str]:
    return site.path("/log").read_text().split()


def killed_before_the_journal_knows(site: Site, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Be killed after the undo of a command was done and its script told, before that is in the journal."""
    conclude = Journal.conclude

    def die(journal: Journal, run: str, outcomes: Sequence[Outcome]) -> None:
        if any(outcome.undoes is not None and outcome.what == "done" for outcome in outcomes):
            raise Killed
        conclude(journal, run, outcomes)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "conclude", die)
        with pytest.raises(Killed):
            act()


@pytest.fixture
def applied(with_shell: Site) -> str:
    """A run of two commands."""
    with_shell.wants(command("one"), command("two"))
    return with_shell.apply().run


def test_the_script_after_a_killed_undo(with_shell: Site, applied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an undo took back before it was killed its script does not take back again; the rest it does."""
    killed_before_the_journal_knows(with_shell, with_shell.undo, monkeypatch)

    with_shell.run_undo_script(applied)

    assert ["one", "two", "untwo", "unone"] == log(with_shell)


def test_the_script_after_an_undo_that_stopped(with_shell: Site, applied: str) -> None:
    """The same where the undo ended in between."""
    asked = iter([False, True])
    assert 130 == with_shell.undo(is_stopped=lambda: next(asked)).exit_status

    with_shell.run_undo_script(applied)

    assert ["one", "two", "untwo", "unone"] == log(with_shell)


def test_an_undo_of_several_commands(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only with the last of several commands a step has been taken back: before that the script does all of them."""
    with_shell.wants(command("one", "more"))
    run = with_shell.apply().run
    killed_before_the_journal_knows(with_shell, with_shell.undo, monkeypatch)

    with_shell.run_undo_script(run)

    assert ["one", "unone", "unone", "unmore"] == log(with_shell)


def test_the_script_after_what_a_person_says(with_shell: Site, applied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody says was taken back the script knows too, though the recovery is killed right then."""
    killed_in(with_shell, with_shell.undo, monkeypatch)

    def finish() -> None:
        recovering.recover(with_shell.session, "finish", assumptions=[Assumed(1, "done")])

    killed_before_the_journal_knows(with_shell, finish, monkeypatch)
    with_shell.run_undo_script(applied)

    assert ["one", "two", "untwo", "unone"] == log(with_shell)


def test_the_script_after_a_redo(with_shell: Site, applied: str) -> None:
    """A command that was done again is taken back again."""
    with_shell.undo()
    with_shell.redo(applied)
    with_shell.path("/log").write_text("")

    with_shell.run_undo_script(applied)

    assert ["untwo", "unone"] == log(with_shell)


def test_the_script_after_finishing_what_was_being_taken_back(
    with_shell: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that a recovery took back, and that finishing the run did again, is taken back by the script."""
    with_shell.wants(command("one"), command("two"))
    killed_in(with_shell, with_shell.apply, monkeypatch)

    def undo() -> None:
        recovering.recover(with_shell.session, "undo", assumptions=[Assumed(1, "done")])

    killed_before_the_journal_knows(with_shell, undo, monkeypatch)
    with with_shell.session.reading() as journal:
        base, recovery = (run.id for run in journal.open_runs())
    assert ["one", "unone"] == log(with_shell)

    finished = recovering.recover(with_shell.session, "finish", assumptions=[Assumed(1, "done", recovery)])

    assert (0, ["one", "unone", "one", "two"]) == (finished.exit_status, log(with_shell))
    with_shell.path("/log").write_text("")
    with_shell.run_undo_script(base)
    assert ["untwo", "unone"] == log(with_shell)
