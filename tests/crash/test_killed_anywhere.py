"""kill -9 at every point of a run, of an undo, of a redo and of a recovery (P6, P7, D2, D10, D12)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aquiline.agent import recovering
from aquiline.agent.recovering import Recovered
from aquiline.changes.perform import FILE_KINDS, OPAQUE_KINDS
from aquiline.errors import RunInterrupted
from aquiline.execution.recovery import Assumption
from aquiline.journal.records import StepRecord

from .everything import SEES, Host, Tree
from .killing import kill_at, points_of

#: What each command wrote once it ran.
WRITES = {"settled": "on", "again": "on", "script": "on"}
BEFORE = {"seen": "old over"}
AFTER = {"seen": "new over", **WRITES}


class Act(msgspec.Struct, frozen=True):
    """Something that is killed: from what, to what."""

    start: Host
    do: Callable[[Host], Any]
    before: Tree
    after: Tree
    #: The same with what commands wrote.
    whole_after: Tree
    commands_before: Mapping[str, str]
    commands_after: Mapping[str, str]
    #: Whether times are the same each time it is done.
    is_exact: bool


class Acts:
    """A run, the undo of it and the redo of that, each with the host from which it starts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        fresh = Host.made(place / "fresh")
        applied = fresh.copied(place / "applied")
        assert 0 == applied.apply().exit_status
        undone = applied.copied(place / "undone")
        assert 0 == undone.undo().exit_status
        before, after = fresh.tree(), applied.tree()
        whole_before, whole_after = fresh.whole_tree(), applied.whole_tree()
        self.named = {
            "run": Act(fresh, Host.apply, before, after, whole_after, BEFORE, AFTER, is_exact=False),
            "undo": Act(applied, Host.undo, after, before, whole_before, AFTER, BEFORE, is_exact=True),
            "redo": Act(undone, Host.redo, before, after, whole_after, BEFORE, AFTER, is_exact=True),
        }


@pytest.fixture(scope="module")
def acts(place: Path) -> Acts:
    """Everything that is killed, made once."""
    return Acts(place)


def killed(acts: Acts, act: Act, share: int, shares: int) -> Iterator[tuple[str, Host]]:
    """Return the host as it is after a kill at each point of this share, with the point in words."""
    first = act.start.copied(acts.place / "first")
    points = points_of(lambda: act.do(first), acts.place / "points")
    for number, point in enumerate(points, 1):
        if number % shares != share:
            continue
        host = act.start.copied(acts.place / "killed")
        if kill_at(number, lambda host=host: act.do(host)):  # type: ignore[misc]
            yield f"point {number}, {point}", host


# ---- what must hold after a kill ------------------------------------------------------------------------------------


def judge(acts: Acts, act: Act, host: Host) -> Iterator[str]:
    """Return what of the promises does not hold for a host on which `act` was killed."""
    run = interrupted(host)
    if not run:
        if host.tree() == act.before:
            act.do(host)
        yield from _with("again", iter(differences(act.after, host.tree(), exact=act.is_exact)))
        yield from host.left_over()
        return
    yield from _with("journal", journal_is_true(act, host.copied(acts.place / "judged")))
    yield from _with("undo", recovers(act, host.copied(acts.place / "judged"), "undo"))
    yield from _with("finish", recovers(act, host.copied(acts.place / "judged"), "finish"))
    yield from _with("script", script_undoes(act, host.copied(acts.place / "judged"), run))


def _with(name: str, found: Iterator[str]) -> Iterator[str]:
    try:
        for one in found:
            yield f"{name}: {one}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what does not hold
        yield f"{name}: {type(error).__name__}: {error}"


def interrupted(host: Host) -> str:
    """Return the oldest run that did not end, empty where none is."""
    if not host.state.exists():
        return ""
    with host.session() as session, session.reading() as journal:
        return next((run.id for run in journal.open_runs()), "")


def same(one: Tree, other: Tree, *, exact: bool) -> bool:
    """Whether two trees are alike; unless `exact`, but for times."""
    return one == other if exact else _timeless(one) == _timeless(other)


def _timeless(tree: Tree) -> Tree:
    return {path: (*found[:3], *found[4:]) for path, found in tree.items()}


def differences(expected: Tree, found: Tree, *, exact: bool) -> Iterator[str]:
    """Return where two trees differ."""
    one, other = (expected, found) if exact else (_timeless(expected), _timeless(found))
    for path in sorted({*one, *other}):
        if one.get(path) != other.get(path):
            yield f"{path}: expected {one.get(path)}, found {other.get(path)}"


def what_a_person_sees(act: Act, host: Host) -> dict[int, Assumption]:
    """Say of every command step whether it was done, as somebody who looks at the host would."""
    with host.session() as session, session.reading() as journal:
        records = [record for run in journal.open_runs() for record in journal.steps(run.id)]
        in_doubt = [record for record in records if record.status in ("intended", "in-doubt")]
        return {record.number: "done" if is_done(record, act, host) else "not-done" for record in in_doubt}


def is_done(record: StepRecord, act: Act, host: Host) -> bool:
    """Whether a step was done, told from the host alone."""
    if isinstance(record.known.change, FILE_KINDS):
        paths = [at.path for at in record.known.after]
        found, after = _timeless(host.whole_tree()), _timeless(act.whole_after)
        return all(found.get(path) == after.get(path) for path in paths)
    name = next((name for name in WRITES if f"/var/{name}" in str(record.known.change)), "")
    return host.written().get(name) == act.commands_after.get(name)


def recover(act: Act, host: Host, direction: str) -> Recovered:
    """Recover; say what a person sees where that is asked."""
    try:
        return host.recover(direction)
    except RunInterrupted:
        return host.recover(direction, what_a_person_sees(act, host))


def recovers(act: Act, host: Host, direction: str) -> Iterator[str]:
    """Return what is wrong after a recovery in one direction."""
    recovered = recover(act, host, direction)
    if recovered.exit_status:
        yield f"exit status {recovered.exit_status}: {recovered.status}, {recovered.error}"
    is_undone = direction == "undo"
    expected, commands = (act.before, act.commands_before) if is_undone else (act.after, act.commands_after)
    yield from differences(expected, host.tree(), exact=is_undone or act.is_exact)
    if commands != host.written():
        yield f"commands: expected {commands}, found {host.written()}"
    yield from host.left_over()
    with host.session() as session, session.reading() as journal:
        yield from (f"owed: {debt}" for debt in journal.debts())
        yield from (f"open: {run.id}" for run in journal.open_runs())
        status = journal.run(recovered.run).status
        if status != ("undone" if is_undone else "done"):
            yield f"run {recovered.run} is {status}"


def script_undoes(act: Act, host: Host, run: str) -> Iterator[str]:
    """Return what is wrong after the undo script, as the kill left it, was run without anything of ours."""
    if not (host.state / "undo" / f"{run}.sh").exists():
        yield from differences(act.before, host.tree(), exact=True)
        return
    with host.session() as session, session.reading() as journal:
        recoveries = [one.id for one in journal.open_runs()[1:]]
    for path in host.left_over_in_root():
        # A recovery has a script of its own, which knows what that left half-built.
        if f"/.aq-{run}" not in path:
            os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    is_twice = False
    completed = host.run_script(run)
    if completed.returncode == 12 and "was changed since" in completed.stderr and recoveries:
        # An object that the recovery left half way: its own script takes that back first.
        host.run_script(recoveries[0])
        completed = host.run_script(run)
        is_twice = True
    doubtful = re.findall(r"step ([0-9]+): conflict: it may not have run", completed.stderr)
    if completed.returncode == 12 and doubtful:
        # As `recover` would, it asks; a person looks and says so.
        with host.session() as session, session.reading() as journal:
            records = [journal.step(run, int(number)) for number in doubtful]
        done = [str(record.number) for record in records if is_done(record, act, host)]
        if done:
            completed = host.run_script(run, "--force", "--only", *done)
        else:
            completed.returncode = 0
    if completed.returncode:
        yield f"exit status {completed.returncode}: {completed.stderr}"
    # A time that a recovery was about to set is known to the recovery's own script alone.
    yield from differences(act.before, host.tree(), exact=not recoveries)
    # What the first script took back and the other did again stays: docs/explanation/crashes.md says so.
    if act.commands_before != host.written() and not is_twice:
        yield f"commands: expected {act.commands_before}, found {host.written()}"
    yield from host.left_over_in_root()


def intended(records: Sequence[StepRecord]) -> Iterator[str]:
    """Return the paths of steps that a kill left open."""
    for record in records:
        if record.status == "intended":
            yield from (at.path for at in record.known.after)


def journal_is_true(act: Act, host: Host) -> Iterator[str]:
    """Return where the journal, once settled, and the host say different things."""
    told = what_a_person_sees(act, host)
    with host.session() as session, session.changing("test") as journal:
        open_runs = journal.open_runs()
        being_taken_back = {path for run in open_runs[1:] for path in intended(journal.steps(run.id))}
        recovering._settle_all(session, journal, open_runs, told)
        # Of a recovery's own steps the account of the base is enough: they are what took its steps back.
        for run in open_runs[:1]:
            records = journal.steps(run.id)
            for record in records:
                if record.known.change == SEES or (len(open_runs) > 1 and record.kind in ("run_command", "run_script")):
                    continue
                if being_taken_back & {at.path for at in record.known.after}:
                    continue
                says = record.status in ("done", "assumed-done") and record.undone_by is None
                if record.status != "in-doubt" and says != is_done(record, act, host):
                    yield f"step {record.number}, {record.description}: the journal says {record.status}"
            if len(open_runs) > 1:
                continue
            reaction = next(record for record in records if record.known.change == SEES)
            owed = any(debt.run == run.id for debt in journal.debts())
            caused = is_done(records[reaction.known.cause.steps[0] - 1], act, host)
            if owed != (caused and reaction.status != "done"):
                yield f"the reaction is {'owed' if owed else 'not owed'}, its cause happened: {caused}"


# ---- proofs ---------------------------------------------------------------------------------------------------------


def prove(acts: Acts, name: str, share: int, shares: int) -> None:
    """Kill one act at every point of a share, and judge each."""
    act = acts.named[name]
    broken = [
        f"{point}: {wrong}" for point, host in killed(acts, act, share, shares) for wrong in judge(acts, act, host)
    ]

    assert [] == broken, "\n".join(broken)


@pytest.mark.parametrize("name", ["run", "undo", "redo"])
def test_killed_here_and_there(acts: Acts, name: str) -> None:
    """A few points of each, evenly spread: what the exhaustive proof below finds first."""
    prove(acts, name, 7, 50)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(6))
@pytest.mark.parametrize("name", ["run", "undo", "redo"])
def test_killed_anywhere(acts: Acts, name: str, share: int) -> None:
    """After a kill at any point: both recoveries and the script work, and journal and debts are true."""
    prove(acts, name, share, 6)


def asks_of_a_recovery(host: Host) -> bool:
    """Whether it is a command of the recovery itself that nobody but a person can settle."""
    with host.session() as session, session.reading() as journal:
        records = [record for run in journal.open_runs()[1:] for record in journal.steps(run.id)]
    open_commands = [one.known.change for one in records if one.status in ("intended", "in-doubt")]
    return any(isinstance(one, OPAQUE_KINDS) and not one.idempotent and one.done_when is None for one in open_commands)


def prove_recovery(acts: Acts, name: str, direction: str, firsts: int, every: int) -> None:
    """Kill an act at a few points, its recovery at every so many, and judge what that leaves."""
    act = acts.named[name]
    whole = act.start.copied(acts.place / "first")
    total = len(points_of(lambda: act.do(whole), acts.place / "points"))
    broken = []
    for first in range(total // (firsts + 1), total, total // firsts):
        left = act.start.copied(acts.place / "left")
        assert kill_at(first, lambda left=left: act.do(left))  # type: ignore[misc]
        counted = left.copied(acts.place / "first")
        points = points_of(lambda host=counted: recover(act, host, direction), acts.place / "points")  # type: ignore[misc]
        for second in range(1 + first % every, len(points), every):
            host = left.copied(acts.place / "killed")
            kill_at(second, lambda host=host: recover(act, host, direction))  # type: ignore[misc]
            if asks_of_a_recovery(host):
                continue  # a person's answer is by step number, and this one is about another run than the account here
            broken += [f"point {first}, then {second}, {points[second - 1]}: {one}" for one in judge(acts, act, host)]

    assert [] == broken, "\n".join(broken)


@pytest.mark.parametrize("direction", ["undo", "finish"])
def test_killed_twice_here_and_there(acts: Acts, direction: str) -> None:
    """A recovery that is killed can be recovered again, both ways."""
    prove_recovery(acts, "run", direction, 1, 40)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["undo", "finish"])
@pytest.mark.parametrize("name", ["run", "undo", "redo"])
def test_killed_twice(acts: Acts, name: str, direction: str) -> None:
    """The same for kills all over a run, an undo and a redo, and for every twelfth point of each recovery."""
    prove_recovery(acts, name, direction, 3, 12)
