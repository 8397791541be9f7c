"""Commands: the steps that nobody can foresee, and what bounds them."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from aquiline.agent import recovering
from aquiline.agent.recovering import Assumed
from aquiline.changes.kinds import CommandUndo, Inline, Probe, RunCommand, RunScript, Touches, WriteFile
from aquiline.errors import RunInterrupted, UsageError
from tests.engine.site import Site

from .dying import killed, killed_in

LOUD = "echo ran >> /log; touch /done"
DONE = Probe(argv=("/bin/sh", "-c", "test -e /done"), reads=("/done",), timeout=20.0)


def line(text: str, **options: Any) -> RunCommand:
    """Return a shell command line; by default it runs every time and touches nothing."""
    if not {"guard", "done_when"} & set(options):
        options["always"] = True
    back = CommandUndo(changes=(RunCommand(argv=("/bin/sh", "-c", "echo undone >> /log"), always=True, timeout=20.0),))
    return RunCommand(
        **{"argv": ("/bin/sh", "-c", text), "touches": Touches(), "undo": back, "timeout": 20.0, **options}
    )


def log(site: Site) -> str:
    return site.path("/log").read_text()


def test_done_when(with_shell: Site) -> None:
    """A command whose probe says that it is done is no step; else it runs, once."""
    with_shell.wants(line(LOUD, done_when=DONE))

    assert [0, 0] == [with_shell.apply().exit_status for _ in range(2)]
    assert ("ran\n", ()) == (log(with_shell), with_shell.plan().steps)


def test_guard(with_shell: Site) -> None:
    """A command is a step only where its guard says yes."""
    with_shell.wants(line(LOUD, guard=DONE))

    assert () == with_shell.plan().steps
    with_shell.path("/done").touch()
    assert 1 == len(with_shell.plan().steps)


def test_a_probe_that_hangs(with_shell: Site) -> None:
    """A probe that does not end is ended, and its component fails: nothing runs on an answer that nobody gave."""
    with_shell.wants(line(LOUD, guard=Probe(argv=("/bin/sh", "-c", "sleep 60"), timeout=0.3)))
    began = time.monotonic()

    plan = with_shell.plan()

    assert time.monotonic() - began < 30
    assert () == plan.steps
    assert "failed" == plan.components["one"].state


def test_timeout_kills_all_it_started(with_shell: Site) -> None:
    """When its time is up a command is ended with what it started; the step failed, says so, and the run stops."""
    with_shell.wants(
        line("sleep 60 & echo $! > /pid; sleep 60", timeout=0.5), WriteFile(path="/late", content=Inline(b"x"))
    )

    ended = with_shell.apply()

    assert 15 == ended.exit_status
    assert ended.error is not None
    assert "0.5" in ended.error.message
    assert not with_shell.path("/late").exists()
    child = int(with_shell.path("/pid").read_text())
    for _ in range(100):
        if not runs(child):
            break
        time.sleep(0.05)
    assert not runs(child)


def runs(pid: int) -> bool:
    """Whether a process is there and not a zombie that its parent has still to collect."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (3, 0), (4, 15)])
def test_accepted_statuses(with_shell: Site, status: int, expected: int) -> None:
    """What a command accepts is success, all else is failure, with status and output in the message."""
    with_shell.wants(line(f"echo words >&2; exit {status}", accepts=(0, 3)))

    ended = with_shell.apply()

    assert expected == ended.exit_status
    if expected:
        assert ended.error is not None
        assert "4" in ended.error.message
        assert "words" in ended.error.message


def test_undo_of_a_command(with_shell: Site) -> None:
    """A command is taken back by the command its author gave; redo runs the first one again."""
    with_shell.wants(line("echo ran >> /log"))
    run = with_shell.apply().run

    assert 0 == with_shell.undo().exit_status
    assert "ran\nundone\n" == log(with_shell)
    assert 0 == with_shell.redo(run).exit_status
    assert "ran\nundone\nran\n" == log(with_shell)


def test_a_failed_command_is_not_undone(with_shell: Site) -> None:
    """Nobody knows how much of a failed command happened: its undo is not run, and it is said to stay."""
    with_shell.wants(WriteFile(path="/file", content=Inline(b"x")), line("echo half >> /log; exit 1"))
    assert 15 == with_shell.apply().exit_status

    undone = with_shell.undo()

    assert "half\n" == log(with_shell)
    assert not with_shell.path("/file").exists()
    assert undone.exit_status in (0, 17)


def test_a_failed_command_whose_probe_says_done(with_shell: Site) -> None:
    """Where its own probe says that it happened all the same, it is taken back like any other."""
    with_shell.wants(WriteFile(path="/file", content=Inline(b"x")), line(f"{LOUD}; exit 1", done_when=DONE))
    assert 15 == with_shell.apply().exit_status

    with_shell.undo()

    assert "ran\nundone\n" == log(with_shell)


def test_a_failing_undo(with_shell: Site) -> None:
    """An undo that fails is 17 and can be tried again, until it works."""
    back = RunCommand(argv=("/bin/sh", "-c", "test -e /may && echo undone >> /log"), always=True, timeout=20.0)
    with_shell.wants(line("true", undo=CommandUndo(changes=(back,))))
    run = with_shell.apply().run

    assert 17 == with_shell.undo().exit_status
    with_shell.path("/may").touch()
    assert (0, "undone\n") == (with_shell.undo(run).exit_status, log(with_shell))


def test_after_a_crash_an_idempotent_one_runs_again(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may run twice is run again to finish the run."""
    killed(with_shell, line("echo ran >> /log", idempotent=True), monkeypatch=monkeypatch)

    assert 0 == recovering.recover(with_shell.session, "finish").exit_status
    assert "ran\nran\n" == log(with_shell)


def test_after_a_crash_the_probe_decides(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own probe calls done is done, and is not run again."""
    killed(with_shell, line(LOUD, done_when=DONE), monkeypatch=monkeypatch)

    assert 0 == recovering.recover(with_shell.session, "finish").exit_status
    assert "ran\n" == log(with_shell)


def test_after_a_crash_nobody_guesses(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing decides is neither run again nor taken back before somebody says what is so."""
    killed(with_shell, line("echo ran >> /log"), monkeypatch=monkeypatch)

    with pytest.raises(RunInterrupted):
        recovering.recover(with_shell.session, "finish")
    assert "ran\n" == log(with_shell)
    assert 0 == recovering.recover(with_shell.session, "undo", assumptions=[Assumed(1, "done")]).exit_status
    assert "ran\nundone\n" == log(with_shell)


def test_after_two_crashes_a_bare_number_may_mean_either_run(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two open runs have the step, a person says of which run it is; nothing is done before that."""
    killed(with_shell, line("echo ran >> /log"), monkeypatch=monkeypatch)
    said = [Assumed(1, "done")]
    killed_in(with_shell, lambda: recovering.recover(with_shell.session, "undo", assumptions=said), monkeypatch)
    with with_shell.session.reading() as journal:
        base, recovery = (run.id for run in journal.open_runs())

    with pytest.raises(RunInterrupted) as doubt:
        recovering.recover(with_shell.session, "undo")
    with pytest.raises(UsageError) as refused:
        recovering.recover(with_shell.session, "undo", assumptions=said)

    assert f"--assume {recovery}/1=done|not-done" in doubt.value.hint
    assert f"2 open runs have a step 1: {base}/1, " in refused.value.message
    assert f"say which: --assume {base}/1=done or --assume {recovery}/1=done" == refused.value.hint
    assert "ran\nundone\n" == log(with_shell)
    of_the_undo = [Assumed(1, "done", recovery[:6])]
    assert 0 == recovering.recover(with_shell.session, "undo", assumptions=of_the_undo).exit_status
    assert "ran\nundone\n" == log(with_shell)


def test_an_assumption_about_no_step(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that no open run has, and a run that is not open, are refused: a slip must not pass for knowledge."""
    killed(with_shell, line("echo ran >> /log"), monkeypatch=monkeypatch)

    for assumed in (Assumed(7, "done"), Assumed(1, "done", "zzz")):
        with pytest.raises(UsageError, match="there is no step"):
            recovering.recover(with_shell.session, "undo", assumptions=[assumed])
    contradicting = [Assumed(1, "done"), Assumed(1, "not-done")]
    with pytest.raises(UsageError, match="is said to be done and not to be done"):
        recovering.recover(with_shell.session, "undo", assumptions=contradicting)
    assert "ran\n" == log(with_shell)


def test_touching_what_it_did_not_say(with_shell: Site) -> None:
    """A command that changes a file which a later step builds on stops the run there: nothing is overwritten."""
    with_shell.path("/file").write_bytes(b"old\n")
    with_shell.wants(line("echo meddled > /file"), WriteFile(path="/file", content=Inline(b"new\n")))

    ended = with_shell.apply()

    assert 14 == ended.exit_status
    assert b"meddled\n" == with_shell.path("/file").read_bytes()


def test_nothing_of_ours_is_inherited(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's arguments reach it, our environment does not."""
    monkeypatch.setitem(os.environ, "AQUILINE_TEST", "leaked")
    with_shell.wants(
        RunScript(
            language="shell",
            text='echo "$AQUILINE_ARGUMENTS$AQUILINE_TEST" >> /log',
            arguments={"a": 1},
            always=True,
            touches=Touches(),
            undo=CommandUndo(itself=True),
            timeout=20.0,
        )
    )

    assert 0 == with_shell.apply().exit_status
    assert '{"a":1}\n' == log(with_shell).replace(" ", "")


def test_a_run_of_one_failed_command_can_be_chosen(with_shell: Site) -> None:
    """A run in which nothing but a failed command stands is taken back where its probe says that it happened."""
    with_shell.wants(line(f"{LOUD}; exit 1", done_when=DONE))
    run = with_shell.apply().run

    undone = [with_shell.undo(run), with_shell.undo_last(1)]

    assert ([0, 0], "ran\nundone\n") == ([one.exit_status for one in undone], log(with_shell))


def test_a_run_of_one_failed_command_that_did_nothing(with_shell: Site) -> None:
    """Where its probe says no there is nothing to take back, and the run before it is the last one."""
    with_shell.wants(WriteFile(path="/file", content=Inline(b"x")))
    assert 0 == with_shell.apply().exit_status
    with_shell.wants(line("exit 1", done_when=DONE))
    failed = with_shell.apply().run

    with pytest.raises(UsageError, match="has nothing left to take back"):
        with_shell.undo(failed)
    assert 0 == with_shell.undo_last(1).exit_status
    assert not with_shell.path("/file").exists()


def test_undo_of_an_undo_that_stopped(with_shell: Site) -> None:
    """Who says undo again after an undo that failed is told what goes on with it."""
    back = RunCommand(argv=("/bin/sh", "-c", "exit 9"), always=True, timeout=20.0)
    with_shell.wants(line("true", undo=CommandUndo(changes=(back,))))
    run = with_shell.apply().run
    failed = with_shell.undo().run

    with pytest.raises(UsageError) as refused:
        with_shell.undo()

    assert f"the last run, {failed}, is itself an undo, which stopped on the way" == refused.value.message
    assert f"`aquiline undo {run}` goes on; `aquiline show {failed}` says why" == refused.value.hint
