"""Two at once: one changes the host, the other is told who does, and looking is always possible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aquiline.agent import applying
from aquiline.changes.perform import Performed
from aquiline.changes.steps import Step
from aquiline.errors import HostLocked

from .everything import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host on which nothing was done yet."""
    return Host.made(tmp_path / "host")


def test_the_second_run_is_told_who_has_the_first(host: Host) -> None:
    """Whoever comes second gets the name of the holder, and nothing else happens."""
    refusals: list[HostLocked] = []

    def on_step(_step: Step, _performed: Performed) -> None:
        with pytest.raises(HostLocked) as refused:
            host.apply()
        refusals.append(refused.value)

    ended = host.apply(on_step=on_step)

    assert 0 == ended.exit_status
    assert ended.plan is not None
    assert len(ended.plan.steps) == len(refusals)
    assert {(10, True)} == {(one.exit_status, str(os.getpid()) in f"{one}") for one in refusals}


def test_readers_work_while_a_run_goes_on(host: Host) -> None:
    """The log, the state of things and a dry-run are to be had after every step of a run, and tell the truth then."""
    seen: list[tuple[int, int]] = []

    def on_step(step: Step, _performed: Performed) -> None:
        with host.session() as session, session.reading() as journal:
            (run,) = journal.open_runs()
            done = sum(1 for one in journal.steps(run.id) if one.status == "done")
            left = len(applying.dry_run(session, host.profile()).steps)
        seen.append((done, left))

    ended = host.apply(on_step=on_step)

    assert 0 == ended.exit_status
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [left for _, left in seen] == sorted((left for _, left in seen), reverse=True)
