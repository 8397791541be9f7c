"""The first run of a host that never had one."""

from __future__ import annotations

import os

from aquiline.agent.session import Session
from aquiline.changes.kinds import Inline, WriteFile

from .site import Site


def test_the_state_directory_is_no_surprise(site: Site) -> None:
    """What making the state directory brings along is no step, in the first dry-run as in the run: plan == journal."""
    site.session = Session(str(site.root))
    site.wants(WriteFile(path="/var/log/x", content=Inline(b"x")))
    plan = site.plan()

    run = site.apply()

    assert ["make directory /var/log (mode 0755, root:root)", "write /var/log/x (mode 0644, root:root)"] == [
        step.description for step in plan.steps
    ]
    assert run.plan is not None
    assert plan.steps == run.plan.steps
    assert plan.digests == run.plan.digests


def test_a_secret_changes_no_digest_in_the_first_run(site: Site) -> None:
    """The first run of a host has the digests of the dry-run before it, also where its plan holds a secret."""
    site.session = Session(str(site.root))
    site.path("/etc").mkdir()
    site.path("/etc/shadow").write_text("root:$6$salt$hash:1::::::\n")
    site.wants(WriteFile(path="/etc/x.key", content=Inline(b"hush"), mode=0o600))
    plan = site.plan()

    run = site.apply()

    assert run.plan is not None
    assert plan.digests == run.plan.digests


def test_a_secret_changes_no_digest_in_an_empty_root(site: Site) -> None:
    """The same holds for a root that an image builder has just begun, which has no secret of its own."""
    site.wants(WriteFile(path="/x.key", content=Inline(b"hush"), mode=0o600))
    plan = site.plan()

    run = site.apply()

    assert run.plan is not None
    assert plan.digests == run.plan.digests


def test_a_dry_run_makes_no_state_directory(site: Site) -> None:
    """A dry-run leaves a host that never had a run as it is, metadata included."""
    site.session = Session(str(site.root))
    site.wants(WriteFile(path="/var/log/x", content=Inline(b"x")))
    before = site.tree()

    site.plan()

    assert before == site.tree()


def test_reading_a_template_leaves_its_access_time(site: Site) -> None:
    """A dry-run looks at the site's templates without leaving a trace in their access times."""
    place = site.path("/etc/aquiline/templates/motd")
    place.parent.mkdir(parents=True)
    place.write_text("hello")
    os.utime(place, ns=(1, 2))  # older than the last change: an ordinary reading would move it
    session = Session(str(site.root))

    found = session.template("motd")

    assert ("hello", 1) == (found, place.stat().st_atime_ns)
