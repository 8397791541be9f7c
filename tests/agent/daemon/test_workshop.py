"""Work is handed to a process of its own, whoever is killed meanwhile."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest

from aquiline.agent.daemon import workshop as module
from aquiline.agent.daemon.jobs import Outcome, Reach
from aquiline.agent.daemon.workshop import Workshop
from aquiline.errors import HostLocked
from aquiline.journal.state import StateDirectory
from aquiline.protocol.messages import Target
from tests.crash.killing import kill_at, points_of

JOB = Reach(Target(generation=1, profile="p"))
#: Does the job of a state directory: writes a line, and says that it is done.
WORKER = """
    import sys
    from pathlib import Path
    from aquiline.agent.daemon.jobs import Outcome
    from aquiline.agent.daemon.workshop import Workshop
    from aquiline.journal.state import StateDirectory

    place = Path(sys.argv[-1])
    while (place / "wait").exists():
        pass
    shop = Workshop(StateDirectory(place))
    with (place / "done").open("a") as done:
        done.write("once\\n")
    shop.finish(shop.taken(), Outcome("reached"))
"""


@pytest.fixture(autouse=True)
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the work be done by the program above."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "site_worker.py").write_text(textwrap.dedent(WORKER))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setattr(module, "_MODULE", "site_worker")


def workshop_in(place: Path) -> Workshop:
    state = StateDirectory(place)
    state.create()
    return Workshop(state, arguments=(str(place),))


def done(place: Path) -> list[str]:
    return (place / "done").read_text().splitlines() if (place / "done").exists() else []


def test_work_is_done(tmp_path: Path) -> None:
    """A job is done once, its outcome is there when it has ended, and is forgotten when it was taken note of."""
    place = tmp_path / "state"
    shop = workshop_in(place)
    (place / "wait").touch()
    working = shop.start(JOB)
    with pytest.raises(HostLocked):
        shop.start(JOB)
    assert (JOB, None) == (working.job, shop.outcome())
    (place / "wait").unlink()
    working.wait()

    assert (Outcome("reached"), ["once"]) == (shop.outcome(), done(place))
    shop.forget()
    assert (None, None) == (shop.found(), shop.outcome())


@pytest.mark.slow
def test_the_agent_is_killed_while_it_hands_work_over(tmp_path: Path) -> None:
    """The next agent finds either no work, or work that died before it did anything, or work that is done once."""

    def one_job(place: Path) -> None:
        shop = workshop_in(place)
        shop.start(JOB).wait()
        assert shop.outcome() == Outcome("reached")
        shop.forget()

    whole = tmp_path / "whole"
    points = points_of(lambda: one_job(whole), tmp_path / "points")
    assert ["once"] == done(whole)
    outcomes = set()
    for number in range(1, len(points) + 1):
        place = tmp_path / f"hurt-{number}"
        assert kill_at(number, lambda place=place: one_job(place))  # type: ignore[misc]
        shop = workshop_in(place)
        found = shop.found()
        if found is not None:
            found.wait()
        outcome = shop.outcome()
        outcomes.add(outcome)
        if found is not None:
            assert [JOB, len(done(place))] == [found.job, 0 if outcome is None else 1]
        assert len(done(place)) <= 1
        shutil.rmtree(place)
    assert {None, Outcome("reached")} == outcomes
