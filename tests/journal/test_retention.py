"""Retention: what old runs need is dropped, the record of them never."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.host.objects import At
from aquiline.journal.check import check
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import Intent, Outcome
from aquiline.journal.retention import Policy, drop, review
from aquiline.journal.state import StateDirectory
from aquiline.journal.store import Journal
from tests.journal.making import header, plan, regular, write
from tests.journal.test_check import a_run, preimage

LATER = 100 * 86400.0
ALL = Policy(days=1)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


def test_an_old_run_is_past_undo_and_stays_listed(state: StateDirectory) -> None:
    """What an old run needed is gone, what a newer one needs as well stays, and the old run is still in the log."""
    old, new = a_run(state, "a", "b"), a_run(state, "b", "a")
    lone, shared = a_run(state, "c"), a_run(state, "c", "a", "b")
    assert new != shared

    with Journal.open(state) as journal:
        dropped = drop(journal, ALL, now=LATER)
        runs = journal.runs(newest_first=False)

    assert (old, new, lone) == dropped.runs
    assert [True, True, True, False] == [run.past_undo for run in runs]
    assert [f"{shared}.sh"] == [path.name for path in state.undo.iterdir()]
    assert preimage(state, "a").exists()
    assert check(state).is_sound


def test_content_goes_with_its_last_user(state: StateDirectory) -> None:
    """A pre-image that only dropped runs needed is removed and counted."""
    a_run(state, "a")
    with Journal.open(state) as journal:
        last = journal.begin_run(header()).id
        journal.add_stage(last, plan(write(1, "/a")))
        journal.intend(last, Intent(steps=(1,)))
        journal.conclude(last, [Outcome(step=1, what="done", observed=(At("/a", regular(b"newer")),))])
        journal.end_run(last, "done")
        stray = PreimageStore(state).keep_many([[b"of a saved plan"]])

        dropped = drop(journal, Policy(days=None, runs=1), now=LATER)

    assert (1, len("old a")) == (dropped.preimages, dropped.bytes)
    assert not preimage(state, "a").exists()
    assert PreimageStore(state).has(stray[0].sha256)


def test_nothing_recent_is_dropped(state: StateDirectory) -> None:
    """Runs younger than the policy's days and among its number stay."""
    a_run(state, "a")
    a_run(state, "a")
    with Journal.open(state) as journal:
        assert ["recent", "recent"] == [each.reason for each in review(journal, Policy(days=2000, runs=2), now=LATER)]
        assert ["more than 1 runs", "recent"] == [
            each.reason for each in review(journal, Policy(days=None, runs=1), now=LATER)
        ]


@pytest.mark.parametrize(
    "why",
    [
        "it has not ended",
        "it waits for confirmation",
        "it is held",
        "it was the last to touch some object",
        "a step of it is in doubt",
    ],
)
def test_what_is_never_dropped(state: StateDirectory, why: str) -> None:
    """A run that is open, confirmable, held, in doubt or the last for an object stays, whatever its age."""
    held = []
    with Journal.open(state) as journal:
        run = journal.begin_run(header()).id
        journal.add_stage(run, plan(write(1, "/a")))
        journal.intend(run, Intent(steps=(1,)))
        journal.conclude(run, [Outcome(step=1, what="in-doubt" if "doubt" in why else "done")])
        if "confirmation" in why:
            journal.record(run, 0, "deadline-armed", {"seconds": 600})
        if "held" in why:
            held.append(run)
        if "ended" not in why:
            journal.end_run(run, "done")
    if "last" not in why:
        a_run(state, "a")

    with Journal.open(state) as journal:
        found = review(journal, ALL, now=LATER, held=held)[0]
        drop(journal, ALL, now=LATER, held=held)

        assert (False, why) == (found.drop, found.reason)
        assert not journal.run(run).past_undo


def test_a_confirmed_run_may_go(state: StateDirectory) -> None:
    """Once confirmed, a run is as any other."""
    run = a_run(state, "a")
    a_run(state, "a")
    with Journal.open(state) as journal:
        journal.record(run, 0, "deadline-armed", {"seconds": 600})
        assert journal.run(run).awaits_confirmation
        journal.record(run, 0, "confirmed")

        assert review(journal, ALL, now=LATER)[0].drop


def test_killed_before_the_content_went(state: StateDirectory) -> None:
    """When a run was said to be past undo and then the tool was killed, the next time removes what it needed."""
    run = a_run(state, "a")
    with Journal.open(state) as journal:
        journal.record(run, 0, "past-undo", {"reason": "killed right after this"})

        dropped = drop(journal, ALL, now=LATER)

    assert ((), 1) == (dropped.runs, dropped.preimages)
    assert [] == list(state.undo.iterdir())
