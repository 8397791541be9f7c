"""What happens when it is a later stage that goes wrong: one planned after a command of the run has run."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from aquiline.agent import recovering
from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, Touches, WriteFile
from aquiline.errors import IrreversibleRefused, ProfileError, StepFailed
from aquiline.planning.component import View, Yielded
from tests.engine.site import Site


def line(text: str, *paths: str, undo: str | None = "true", once: str = "/made") -> RunCommand:
    """Return a shell command line that says what it touches, and is needed until `once` is there."""
    way_back = CommandUndo(irreversible="nobody knows how")
    if undo is not None:
        way_back = CommandUndo(changes=(RunCommand(argv=("/bin/sh", "-c", undo), always=True),))
    return RunCommand(
        argv=("/bin/sh", "-c", text), always=True, touches=Touches(paths=paths), undo=way_back, timeout=20.0
    )


MAKE = line("echo made > /made", "/made", undo="rm -f /made")


def copied(view: View) -> Iterable[Yielded]:
    """Yield what depends on what the command of the first stage makes."""
    made = view.read("/made")
    if made is not None:
        yield WriteFile(path="/copy", content=Inline(made))


@pytest.fixture
def staged(with_shell: Site) -> Site:
    """A site whose component *second* has to wait for a command of *first*."""
    with_shell.wants(WriteFile(path="/a", content=Inline(b"a\n")), MAKE, name="first")
    with_shell.computes(copied, name="second", pre=("first",))
    return with_shell


def test_a_step_of_the_second_stage_fails(staged: Site) -> None:
    """The run is 15; what both stages did is taken back, to the tree before."""
    staged.computes(lambda view: [*copied(view), line("exit 7")], name="second", pre=("first",))
    before = staged.tree()

    ended = staged.apply()

    assert (15, b"made\n") == (ended.exit_status, staged.path("/copy").read_bytes())
    assert isinstance(ended.error, StepFailed)
    assert ["done", "done", "done", "failed"] == staged.statuses(ended.run)
    staged.undo()
    assert before == staged.tree()


def test_it_takes_itself_back(staged: Site) -> None:
    """With ``--on-failure undo`` a stale file in the second stage takes the first one back too."""
    late = WriteFile(path="/log", content=Inline(b"x\n"))
    # The command is a batch of its own, so that somebody can come between.
    staged.computes(lambda view: [*copied(view), line("true"), late], name="second", pre=("first",))
    before = staged.tree()

    def meddle(_step: object, _performed: object) -> None:
        if staged.path("/copy").exists():
            staged.path("/log").write_bytes(b"somebody was faster\n")

    ended = staged.apply(on_failure="undo", on_step=meddle)

    assert 16 == ended.exit_status
    assert [path for path in before if path not in ("/", "/log")] == [
        path for path in staged.tree() if path not in ("/", "/log")
    ]
    assert b"somebody was faster\n" == staged.path("/log").read_bytes()


def test_an_irreversible_step_in_a_later_stage(staged: Site) -> None:
    """It is refused with 13 before anything of its stage is done, though nobody could see it before the run."""
    staged.computes(lambda view: [*copied(view), line("true", undo=None)], name="second", pre=("first",))

    ended = staged.apply(allow_irreversible=False)

    assert 13 == ended.exit_status
    assert isinstance(ended.error, IrreversibleRefused)
    assert not staged.path("/copy").exists()
    assert 0 == staged.undo().exit_status
    assert not staged.path("/made").exists()


def test_a_component_that_fails_in_a_later_stage(staged: Site) -> None:
    """It fails alone: the others of its stage are done, the run is partial and 15, and can be taken back."""

    def fails(view: View) -> Iterable[Yielded]:
        yield from copied(view)
        raise ProfileError("this cannot be", path="/x")

    before = staged.tree()
    staged.computes(fails, name="bad", pre=("first",))
    staged.computes(copied, name="second", pre=("first",))
    staged.computes(lambda _view: [WriteFile(path="/z", content=Inline(b"z\n"))], name="third", pre=("bad",))

    ended = staged.apply()

    assert (15, "partial") == (ended.exit_status, ended.status)
    assert [True, False] == [staged.path(path).exists() for path in ("/copy", "/z")]
    assert 0 == staged.undo().exit_status
    assert before == staged.tree()


class _PowerLoss(BaseException):
    """Nothing of ours catches it."""


@pytest.mark.parametrize("way", ["finish", "undo"])
def test_a_crash_between_stages(staged: Site, way: str) -> None:
    """Killed after the last step of a stage: finished, the next stage is planned and done; taken back, all is gone."""
    before = staged.tree()

    def crash(_step: object, _performed: object) -> None:
        if staged.path("/made").exists():
            raise _PowerLoss

    with pytest.raises(_PowerLoss):
        staged.apply(on_step=crash)
    assert not staged.path("/copy").exists()
    recovered = recovering.recover(staged.session, "finish" if way == "finish" else "undo")

    assert 0 == recovered.exit_status
    if way == "finish":
        assert b"made\n" == staged.path("/copy").read_bytes()
        assert ["done"] * 3 == [status for status in staged.statuses(recovered.run) if status != "skipped"]
        assert 0 == staged.undo().exit_status
    assert before == staged.tree()
