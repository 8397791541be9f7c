"""Files that others write to once they are there: log files, databases."""

from __future__ import annotations

from aquiline.changes.kinds import Inline, WriteFile

from .site import Site

SEED = WriteFile(path="/var/log/job.log", content=Inline(b""), mode=0o640, seed=True)


def test_its_content_is_made_once(site: Site) -> None:
    """A seeded file is made where it is absent; what others wrote to it since is no drift."""
    site.wants(SEED)
    site.apply()
    site.path("/var/log/job.log").write_text("a line\n")

    assert () == site.plan().steps
    assert "a line\n" == site.path("/var/log/job.log").read_text()


def test_its_metadata_is_kept_right(site: Site) -> None:
    """Owner and mode are the component's business, content is not."""
    site.wants(SEED)
    site.apply()
    site.path("/var/log/job.log").write_text("a line\n")
    site.path("/var/log/job.log").chmod(0o644)

    site.apply()

    assert 0o100640 == site.path("/var/log/job.log").stat().st_mode
    assert "a line\n" == site.path("/var/log/job.log").read_text()


def test_undo_leaves_what_others_wrote(site: Site) -> None:
    """A file that has grown is left and named; nothing else of the run is held up by it."""
    site.wants(SEED, WriteFile(path="/etc/job", content=Inline(b"x")))
    site.apply()
    site.path("/var/log/job.log").write_text("a line\n")

    undone = site.undo()

    assert 0 == undone.exit_status
    assert undone.undo is not None
    assert ["write /var/log/job.log (mode 0640, root:root)"] == [one.description for one in undone.undo.stays][:1]
    assert "a line\n" == site.path("/var/log/job.log").read_text()
    assert not site.path("/etc/job").exists()


def test_undo_removes_it_where_nobody_wrote(site: Site) -> None:
    """A file that is still as it was made goes."""
    site.wants(SEED)
    before = site.tree()
    site.apply()

    assert 0 == site.undo().exit_status
    assert before == site.tree()


def test_a_run_without_steps_can_be_undone(site: Site) -> None:
    """A run that only made another profile live is taken back like any other: the one before is live again."""
    site.wants(name="one")
    site.apply()
    first = site.live()
    site.wants(name="two")
    run = site.apply()

    assert run.run
    assert first != site.live()
    assert 0 == site.undo().exit_status
    assert first == site.live()
    assert 0 == site.redo(run.run).exit_status
    assert first != site.live()
