"""Recovering what cannot wholly be taken back ends all the same: nobody is kept from working by what nobody can do."""

from __future__ import annotations

import msgspec
import pytest

from aquiline.agent import inspecting, recovering
from aquiline.agent.amending import amend
from aquiline.agent.recovering import Assumed
from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, Touches, WriteFile
from aquiline.changes.steps import Undo
from aquiline.errors import UndoConflict
from aquiline.execution import deadline
from tests.engine.site import Site

from .dying import killed, killed_in

FILE = WriteFile(path="/file", content=Inline(b"new\n"))


def command(text: str, undo: CommandUndo, *, idempotent: bool = False) -> RunCommand:
    """Return a shell command line that touches nothing."""
    return RunCommand(
        argv=("/bin/sh", "-c", text), always=True, touches=Touches(), undo=undo, idempotent=idempotent, timeout=20.0
    )


def back(text: str) -> CommandUndo:
    """Return the undo that is this command line."""
    return CommandUndo(changes=(RunCommand(argv=("/bin/sh", "-c", text), always=True, timeout=20.0),))


RAN = command("echo ran >> /log", back("echo undone >> /log"))


def open_runs(site: Site) -> int:
    with site.session.reading() as journal:
        return len(journal.open_runs())


def ended_as(site: Site, run: str) -> str:
    with site.session.reading() as journal:
        return journal.run(run).status


def test_an_irreversible_step(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be undone stays and is said, with 17, once; all else is undone, the host is free, status says why."""
    killed(
        with_shell, FILE, command("true", CommandUndo(irreversible="nobody knows how")), RAN, monkeypatch=monkeypatch
    )

    recovered = recovering.recover(with_shell.session, "undo", assumptions=[Assumed(3, "done")])

    assert (17, "partly undone", 0) == (recovered.exit_status, recovered.status, open_runs(with_shell))
    assert [(2, "nobody knows how")] == [(one.step, one.reason) for one in recovered.stays]
    assert "ran\nundone\n" == with_shell.path("/log").read_text()
    assert not with_shell.path("/file").exists()
    assert "partly undone" == ended_as(with_shell, recovered.run)
    why = inspecting.status(with_shell.session).undo.ends_because
    assert f"run {recovered.run}: step 2 cannot be taken back: nobody knows how" == why
    assert (0, "nothing to recover") == tuple(
        getattr(recovering.recover(with_shell.session, "undo"), name) for name in ("exit_status", "status")
    )
    with_shell.wants(FILE)
    assert 0 == with_shell.apply().exit_status


def test_a_run_that_nobody_confirmed(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline takes back what can be of a run that was killed, once, and then no longer waits."""
    stays = command("true", CommandUndo(irreversible="nobody knows how"))
    again = command("echo ran >> /log", back("echo undone >> /log"), idempotent=True)
    with_shell.wants(FILE, stays, again)
    killed_in(with_shell, lambda: with_shell.apply(confirm_within=1.0), monkeypatch)
    late = msgspec.structs.replace(deadline.uptime(), seconds=deadline.uptime().seconds + 60)

    reverted = [len(recovering.revert_expired(with_shell.session, now=lambda: late)) for _ in range(2)]

    assert ([1, 0], 0) == (reverted, open_runs(with_shell))
    assert "ran\nran\nundone\n" == with_shell.path("/log").read_text()
    assert not with_shell.path("/file").exists()
    with with_shell.session.reading() as journal:
        assert ["recovery", "apply"] == [run.header.kind for run in journal.runs()]


def test_what_cannot_be_brought_to_an_end(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that may run twice and fails the second time keeps nothing else from being taken back."""
    once = command("test ! -e /once || exit 1; touch /once; echo ran >> /log", back("true"), idempotent=True)
    killed(with_shell, FILE, once, monkeypatch=monkeypatch)

    recovered = recovering.recover(with_shell.session, "undo")

    assert (0, "partly undone", 0) == (recovered.exit_status, recovered.status, open_runs(with_shell))
    assert ["it failed, and nothing tells how much of it happened"] == [one.reason for one in recovered.stays]
    assert not with_shell.path("/file").exists()


def test_a_conflict(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody changed since is decided path by path, as when undoing; what is skipped ends the run too."""
    killed(with_shell, FILE, WriteFile(path="/other", content=Inline(b"x")), RAN, monkeypatch=monkeypatch)
    with_shell.path("/file").write_text("mine\n")
    said = [Assumed(3, "done")]

    with pytest.raises(UndoConflict):
        recovering.recover(with_shell.session, "undo", assumptions=said)
    assert (1, True) == (open_runs(with_shell), with_shell.path("/other").exists())
    recovered = recovering.recover(with_shell.session, "undo", assumptions=said, choices={"/file": "skip"})

    assert (0, "partly undone", 0) == (recovered.exit_status, recovered.status, open_runs(with_shell))
    assert ("mine\n", False) == (with_shell.path("/file").read_text(), with_shell.path("/other").exists())
    assert 0 == with_shell.undo(recovered.run, choices={"/file": "force"}).exit_status
    assert not with_shell.path("/file").exists()


def test_an_undo_that_never_works(with_shell: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose undo fails stays open, to be tried again; amending that undo is the way out."""
    killed(with_shell, FILE, command("echo ran >> /log", back("exit 9")), monkeypatch=monkeypatch)
    said = [Assumed(2, "done")]

    failed = [recovering.recover(with_shell.session, "undo", assumptions=said).exit_status for _ in range(2)]
    assert ([17, 17], 1, True) == (failed, open_runs(with_shell), with_shell.path("/file").exists())
    with with_shell.session.reading() as journal:
        (run,) = journal.open_runs()
    amend(with_shell.session, run.id, 2, Undo("irreversible", "nothing", (), "it cannot be"), reason="it fails")
    recovered = recovering.recover(with_shell.session, "undo")

    assert (17, "partly undone", 0) == (recovered.exit_status, recovered.status, open_runs(with_shell))
    assert not with_shell.path("/file").exists()
