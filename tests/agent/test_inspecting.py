"""Who made it, what drifted, how things stand."""

from __future__ import annotations

import os

import pytest

from aquiline.agent.inspecting import blame, status, verify
from aquiline.agent.undoing import redo, select, undo
from aquiline.changes.kinds import (
    CommandUndo,
    Inline,
    MakeDirectory,
    MakeSymlink,
    ReactCommand,
    RunCommand,
    Touches,
    WriteFile,
)
from aquiline.errors import UsageError
from tests.agent.making import Site

MOTD = WriteFile(path="/etc/motd", content=Inline(b"new\n"))


def undo_last(site: Site) -> str:
    with site.session() as session:
        with session.reading() as journal:
            runs = select(session, journal)
        return undo(session, runs).run


# ---- blame --------------------------------------------------------------------------------------------------------


def test_blame_names_run_step_component_task_cause_and_change_ids(site: Site) -> None:
    """What made an object is told down to the change ID."""
    run = site.apply(MOTD, change_ids=("c7",)).run
    with site.session() as session:
        found = blame(session, "/etc/motd").made_by

    assert found is not None
    assert (run, 1, "anything", "what was asked for", ("c7",)) == (
        found.run, found.step, found.component, found.task, found.change_ids,
    )  # fmt: skip
    assert found.cause is not None
    assert "intentional" == found.cause.type


def test_blame_lists_steps_that_were_taken_back(site: Site) -> None:
    """The history holds an undone step with the step that undid it; then nobody made the object what it is."""
    run = site.apply(MOTD).run
    undoer = undo_last(site)
    with site.session() as session:
        found = blame(session, "/etc/motd")

    assert [(undoer, "undo"), (run, "apply")] == [(deed.run, deed.run_kind) for deed in found.history]
    assert found.history[1].undone_by is not None
    assert undoer == found.history[1].undone_by.run
    assert found.made_by is None
    assert found.put_back_by is not None
    assert undoer == found.put_back_by.run


def test_blame_after_undo_names_the_run_before(site: Site) -> None:
    """Where a later run was taken back, the earlier one made the object what it is again."""
    first = site.apply(MOTD).run
    site.apply(WriteFile(path="/etc/motd", content=Inline(b"newer\n")))
    undo_last(site)
    with site.session() as session:
        found = blame(session, "/etc/motd")

    assert found.made_by is not None
    assert first == found.made_by.run
    assert () == found.differs


def test_blame_after_redo_names_the_run_again(site: Site) -> None:
    """A step whose undo was undone made the object what it is."""
    run = site.apply(MOTD).run
    undo_last(site)
    with site.session() as session:
        with session.reading() as journal:
            record = journal.run(run)
        redo(session, record)
        found = blame(session, "/etc/motd")

    assert found.made_by is not None
    assert run == found.made_by.run


def test_blame_says_what_somebody_else_changed_since(site: Site) -> None:
    """Content and mode that differ from what the run left are named; a new time alone is said apart."""
    site.apply(MOTD)
    with site.session() as session:
        os.utime(site.path("/etc/motd"), ns=(1, 1))
        touched = blame(session, "/etc/motd")
        site.write("/etc/motd", "mine\n", 0o600)
        changed = blame(session, "/etc/motd")

    assert ((), True) == (touched.differs, touched.touched)
    assert (("content", "mode"), False) == (changed.differs, changed.touched)


def test_blame_of_what_no_run_changed_is_refused(site: Site) -> None:
    """An object that the journal does not know is an error with a hint."""
    with site.session() as session, pytest.raises(UsageError, match="no run of this host's journal changed /etc/no"):
        blame(session, "/etc/no")


def test_blame_names_commands_that_declare_a_directory_above(site: Site) -> None:
    """A command that says it touches a directory is in the history of whatever lies in it."""
    site.with_shell()
    command = RunCommand(
        argv=("sh", "-c", "echo x > /etc/d/x"), always=True, touches=Touches(paths=("/etc/d",), units=("d.service",)),
        undo=CommandUndo(irreversible="a test"),
    )  # fmt: skip
    run = site.apply(MakeDirectory(path="/etc/d"), command).run
    with site.session() as session:
        below = blame(session, "/etc/d/x").history
        unit = blame(session, "unit:d.service").history

    assert [(run, 2, "/etc/d")] == [(deed.run, deed.step, deed.touches) for deed in below]
    assert [(run, 2, "d.service")] == [(deed.run, deed.step, deed.touches) for deed in unit]


# ---- verify -------------------------------------------------------------------------------------------------------


def test_verify_of_an_untouched_host_finds_nothing(site: Site) -> None:
    """What is as the run left it is counted and not listed."""
    site.apply(MOTD, MakeSymlink(path="/etc/link", target="motd"))
    with site.session() as session:
        found = verify(session)

    assert (2, (), (), ()) == (found.unchanged, found.drift, found.no_longer_ours, found.touched)


def test_verify_tells_how_each_object_drifted(site: Site) -> None:
    """Content, mode, link target, type and absence are told apart; each names the run that left it."""
    run = site.apply(
        MOTD,
        WriteFile(path="/etc/mode", content=Inline(b"")),
        MakeSymlink(path="/etc/link", target="motd"),
        WriteFile(path="/etc/type", content=Inline(b"")),
        WriteFile(path="/etc/gone", content=Inline(b"")),
        WriteFile(path="/etc/time", content=Inline(b"")),
    ).run
    site.write("/etc/motd", "mine, mine\n")
    site.path("/etc/mode").chmod(0o664)
    site.path("/etc/link").unlink()
    site.path("/etc/link").symlink_to("elsewhere")
    site.path("/etc/type").unlink()
    site.path("/etc/type").mkdir()
    site.path("/etc/gone").unlink()
    os.utime(site.path("/etc/time"), ns=(1, 1))
    with site.session() as session:
        found = verify(session)

    assert [
        ("/etc/gone", "gone", ("it was file, it is nothing",)),
        ("/etc/link", "drifted", ("target: motd then, elsewhere now",)),
        ("/etc/mode", "drifted", ("mode: 0644 then, 0664 now",)),
        ("/etc/motd", "drifted", ("content: 4 bytes then, 11 bytes now",)),
        ("/etc/type", "drifted", ("it was file, it is directory",)),
    ] == [(one.path, one.state, one.how) for one in found.drift]
    assert {run} == {one.run for one in found.drift}
    assert ("/etc/time",) == found.touched


def test_what_was_given_back_does_not_drift(site: Site) -> None:
    """A change to an object whose runs were all taken back is its owner's business, listed apart."""
    site.write("/etc/motd", "old\n")
    site.apply(MOTD)
    undo_last(site)
    site.write("/etc/motd", "mine\n")
    with site.session() as session:
        found = verify(session)

    assert () == found.drift
    assert ["/etc/motd"] == [one.path for one in found.no_longer_ours]


def test_verify_of_a_secret_tells_sizes_only(site: Site) -> None:
    """A file that is not for everybody is marked, and nothing of its content is in the result."""
    site.apply(WriteFile(path="/etc/token", content=Inline(b"hunter2\n"), mode=0o600))
    site.write("/etc/token", "hunter33\n", 0o600)
    with site.session() as session:
        found = verify(session)

    assert [(True, ("content: 8 bytes then, 9 bytes now",))] == [(one.secret, one.how) for one in found.drift]


# ---- status -------------------------------------------------------------------------------------------------------


def test_status_of_a_host_without_a_journal(site: Site) -> None:
    """Nothing is live, nothing can be undone, and asking leaves no trace."""
    with site.session() as session:
        found = status(session)

    assert (None, 0, 0) == (found.live, found.runs, found.undo.runs)
    assert not site.state.exists()


def test_status_says_what_is_live(site: Site) -> None:
    """The run that is live, and its change IDs, are there."""
    run = site.apply(MOTD, change_ids=("c1",)).run
    with site.session() as session:
        found = status(session)

    assert found.live is not None
    assert (run, ("c1",)) == (found.live.run, found.live.change_ids)
    assert (run, 1) == (found.undo.oldest, found.undo.runs)


def test_status_lists_reactions_that_are_owed(site: Site) -> None:
    """A reaction that failed is still owed, and named with the step that caused it."""
    site.with_shell()
    run = site.apply(MOTD, reactions=(ReactCommand(argv=("sh", "-c", "exit 1"), offline_too=True),)).run
    with site.session() as session:
        found = status(session).owed

    assert [(run, 1, "anything")] == [(one.run, one.step, one.component) for one in found]


def test_undo_reaches_back_to_the_first_run_that_lacks_something(site: Site) -> None:
    """The reach ends after a run whose pre-image is not there, and says so."""
    site.write("/etc/motd", "old\n")
    first = site.apply(MOTD).run
    second = site.apply(WriteFile(path="/etc/other", content=Inline(b"x"))).run
    with site.session() as session:
        for digest in session.preimages.digests():
            session.preimages.purge(digest)
        found = status(session).undo

    assert (second, 1) == (found.oldest, found.runs)
    assert f"run {first}: the pre-image of step 1 is not there" == found.ends_because


def test_status_says_who_froze_the_host(site: Site) -> None:
    """A freeze is there with its reason."""
    with site.session() as session:
        session.freeze("the auditors are here")
        found = status(session).frozen

    assert found is not None
    assert "the auditors are here" == found.reason
