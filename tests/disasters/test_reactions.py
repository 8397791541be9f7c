"""Reactions that were called for and did not come about: a debt is neither forgotten nor paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.changes.kinds import CommandUndo, Inline, ReactCommand, ReactUnit, RunCommand, Touches, WriteFile
from aquiline.planning.component import Task
from tests.engine.site import Site

REACTION = ReactCommand(
    argv=("/bin/sh", "-c", "echo reacted to $(cat /file) >> /log; test ! -e /fail"), offline_too=True, timeout=20.0
)
FAILING = RunCommand(
    argv=("/bin/sh", "-c", "test ! -e /stop"),
    always=True,
    touches=Touches(),
    undo=CommandUndo(itself=True),
    timeout=20.0,
)


def wanting(text: str, *, reaction: ReactCommand = REACTION) -> Task:
    """Return the task of writing the file to which something reacts."""
    return Task(
        description="",
        changes=(WriteFile(path="/file", content=Inline(text.encode())),),
        reactions=(reaction,),
    )


@pytest.fixture
def owing(with_shell: Site) -> Site:
    """A site whose last run failed after the cause of a reaction and before the reaction."""
    with_shell.path("/file").write_bytes(b"old")
    with_shell.path("/stop").touch()
    with_shell.wants(wanting("new"))
    with_shell.wants(FAILING, name="another")
    with_shell.components = dict(sorted(with_shell.components.items(), reverse=True))
    ended = with_shell.apply()
    assert (15, "", b"new") == (ended.exit_status, log(with_shell), with_shell.path("/file").read_bytes())
    return with_shell


def log(site: Site) -> str:
    return Path(site.path("/log")).read_text()


def owed(site: Site) -> int:
    with site.session.reading() as journal:
        return len(journal.debts())


def test_a_debt_outlives_a_failed_run(owing: Site) -> None:
    """It is in the next plan as owed, with the run that owes it, though its cause needs nothing any more."""
    with owing.session.reading() as journal:
        failed = journal.run("last").id

    steps = [step for step in owing.plan().steps if step.change == REACTION]

    assert [("owed", failed, f"owed since run {failed}")] == [
        (step.cause.type, step.cause.run, step.cause.detail) for step in steps
    ]


def test_it_is_paid_once(owing: Site) -> None:
    """The next run pays it; those after it do not."""
    owing.path("/stop").unlink()

    for _ in range(2):
        assert 0 == owing.apply().exit_status

    assert ("reacted to new\n", 0) == (log(owing), owed(owing))


def test_a_new_cause_pays_it_too(owing: Site) -> None:
    """Where the next run calls for the same reaction itself, it runs once for both."""
    owing.path("/stop").unlink()
    owing.wants(wanting("newer"))

    assert 0 == owing.apply().exit_status
    assert ("reacted to newer\n", 0) == (log(owing), owed(owing))


def test_undo_pays_it(owing: Site) -> None:
    """Undoing the failed run reacts once, to what is there again, and nothing is owed then."""
    assert 0 == owing.undo().exit_status
    assert ("reacted to old\n", 0) == (log(owing), owed(owing))


def test_a_failing_reaction_stays_owed(with_shell: Site) -> None:
    """A reaction that fails is 15 and owed until it works, however many runs that takes."""
    with_shell.path("/file").write_bytes(b"old")
    with_shell.path("/fail").touch()
    with_shell.wants(wanting("new"))

    assert [15, 15] == [with_shell.apply().exit_status for _ in range(2)]
    assert 0 < owed(with_shell)
    with_shell.path("/fail").unlink()
    assert (0, 0) == (with_shell.apply().exit_status, owed(with_shell))
    assert "reacted to new\n" * 3 == log(with_shell)


def test_one_that_may_fail(with_shell: Site) -> None:
    """A reaction whose failure is accepted fails no run and is not owed."""
    with_shell.path("/fail").touch()
    reaction = ReactCommand(argv=REACTION.argv, offline_too=True, may_fail=True, timeout=20.0)
    with_shell.wants(wanting("new", reaction=reaction))

    assert (0, 0) == (with_shell.apply().exit_status, owed(with_shell))


def test_undo_reacts_once_after_all_is_back(with_shell: Site) -> None:
    """Several causes, one reaction, when doing and when undoing: after the last object is in place (D4)."""
    sees = ReactCommand(argv=("/bin/sh", "-c", "echo $(cat /one) $(cat /two) >> /log"), offline_too=True, timeout=20.0)
    for name in ("one", "two"):
        with_shell.path(f"/{name}").write_bytes(b"old")
        change = WriteFile(path=f"/{name}", content=Inline(b"new"))
        with_shell.wants(Task(description="", changes=(change,), reactions=(sees,)), name=name)

    with_shell.apply()
    assert 0 == with_shell.undo().exit_status

    assert ("new new\nold old\n", 0) == (log(with_shell), owed(with_shell))


def test_offline_it_is_not_run(with_shell: Site) -> None:
    """What needs a running system is not run in an image, said to be, and owed to nobody, when undoing too."""
    reaction = ReactUnit(unit="x.service", action="restart")
    with_shell.wants(
        Task(description="", changes=(WriteFile(path="/file", content=Inline(b"x")),), reactions=(reaction,))
    )

    ended = with_shell.apply()

    assert (0, 0) == (ended.exit_status, owed(with_shell))
    assert ["done", "skipped"] == with_shell.statuses(ended.run)
    assert (0, 0) == (with_shell.undo().exit_status, owed(with_shell))
