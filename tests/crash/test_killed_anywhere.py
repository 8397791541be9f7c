"""kill -9 at every point of a run, of an undo, of a redo and of a recovery (P6, P7, D2, D10, D12)."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from aquiline.agent import recovering
from aquiline.agent.recovering import Assumed, Recovered, interruptions
from aquiline.changes.kinds import Change, FileChange, SetPackages, SetRecord, SetUnit
from aquiline.changes.perform import OPAQUE_KINDS, REACTION_KINDS
from aquiline.errors import RunInterrupted
from aquiline.host.objects import Record
from aquiline.journal.records import Debt, StepRecord
from aquiline.planning.component import Task

from .alike import Judged
from .everything import LINKS, Host, Tree, changes
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


Choice = Callable[[list[str]], Iterable[int]]


def killed(acts: Acts, act: Act, choose: Choice) -> Iterator[tuple[str, Host]]:
    """Return the host as it is after a kill at each of the points that are chosen, with the point in words.

    A host that cannot be told from one that was returned is left out.
    """
    first = act.start.copied(acts.place / "first")
    points = points_of(lambda: act.do(first), acts.place / "points")
    judged = Judged(acts.place / "judged")
    for number in choose(points):
        host = act.start.copied(acts.place / "killed")
        if kill_at(number, lambda host=host: act.do(host)) and judged.is_new(host):  # type: ignore[misc]
            yield f"point {number}, {points[number - 1]}", host


def every(step: int, start: int = 1) -> Choice:
    """Choose every so many points."""
    return lambda points: range(start, len(points) + 1, step)


def part(share: int, shares: int) -> Choice:
    """Choose one of so many stretches of points that lie side by side."""
    return lambda points: range(len(points) * share // shares + 1, len(points) * (share + 1) // shares + 1)


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


def what_a_person_sees(act: Act, host: Host) -> list[Assumed]:
    """Say of every command whether it was done, as somebody who looks would; of all else nobody needs to be asked."""
    with host.session() as session, session.reading() as journal:
        base, *_ = open_runs = [run.id for run in journal.open_runs()]
        records = [record for run in open_runs for record in journal.steps(run)]
        in_doubt = [
            record
            for record in records
            if record.status in ("intended", "in-doubt") and isinstance(record.known.change, OPAQUE_KINDS)
        ]
    return [
        Assumed(
            record.number,
            "done" if is_done(record, act, host, takes_back=record.run != base) else "not-done",
            record.run,
        )
        for record in in_doubt
    ]


def is_done(record: StepRecord, act: Act, host: Host, *, takes_back: bool = False) -> bool:
    """Whether a step was done, told from the host alone: files, links, entries, what commands wrote.

    `takes_back` if it is one of a recovery that undoes `act`.
    """
    change = record.known.change
    if isinstance(change, SetRecord):
        wanted = record.known.after[0].object
        return host.entry(change.database, change.name) == (wanted.line if isinstance(wanted, Record) else None)
    if isinstance(change, FileChange | SetUnit):
        paths = LINKS[change.unit] if isinstance(change, SetUnit) else [at.path for at in record.known.after]
        found, after = _timeless(host.whole_tree()), _timeless(act.whole_after)
        return all(found.get(path) == after.get(path) for path in paths)
    name = next((name for name in WRITES if f"/var/{name}" in str(record.known.change)), "")
    expected = act.commands_before if takes_back else act.commands_after
    return host.written().get(name) == expected.get(name)


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
                if isinstance(record.known.change, REACTION_KINDS):
                    continue
                if len(open_runs) > 1 and record.kind in ("run_command", "run_script"):
                    continue
                if being_taken_back & {at.path for at in record.known.after}:
                    continue
                says = record.status in ("done", "assumed-done") and record.undone_by is None
                if record.status != "in-doubt" and says != is_done(record, act, host):
                    yield f"step {record.number}, {record.description}: the journal says {record.status}"
            if len(open_runs) > 1:
                continue
            yield from debts_are_true(act, host, records, journal.debts())


def debts_are_true(act: Act, host: Host, records: Sequence[StepRecord], debts: Sequence[Debt]) -> Iterator[str]:
    """Return the reactions that are owed though nothing caused them or they ran, or caused and not owed."""
    reactions = [record for record in records if isinstance(record.known.change, REACTION_KINDS)]
    if not reactions:
        yield "there is no reaction"
    for reaction in reactions:
        owed = any(debt.run == reaction.run and debt.reaction == reaction.known.change for debt in debts)
        caused = any(is_done(records[number - 1], act, host) for number in reaction.known.cause.steps)
        # What needs a running system is over when its turn came: it is *offline: not run*, and said to be.
        if owed != (caused and reaction.status not in ("done", "skipped")):
            yield f"{reaction.description} is {'owed' if owed else 'not owed'}, its cause happened: {caused}"


# ---- every kind ----------------------------------------------------------------------------------------------------


#: Needs a package manager: killed in the middle in tests/packages.
ELSEWHERE = {SetPackages}


def test_every_kind_is_killed(acts: Acts) -> None:
    """Each kind of change is in the plan, or a step of its undo: a new one has to be put there."""
    held = {type(one) for one in changes()}
    for name in ("run", "undo"):
        host = acts.named[name].start.copied(acts.place / "first")
        acts.named[name].do(host)
        with host.session() as session, session.reading() as journal:
            held |= {type(record.known.change) for record in journal.steps(next(iter(journal.runs())).id)}

    assert set(get_args(Change)) == (held | ELSEWHERE) - {Task}


# ---- proofs ---------------------------------------------------------------------------------------------------------


def prove(acts: Acts, name: str, choose: Choice) -> None:
    """Kill one act at some points, and judge each."""
    act = acts.named[name]
    broken = [f"{point}: {wrong}" for point, host in killed(acts, act, choose) for wrong in judge(acts, act, host)]

    assert [] == broken, "\n".join(broken)


@pytest.mark.parametrize("name", ["run", "undo", "redo"])
def test_killed_here_and_there(acts: Acts, name: str) -> None:
    """A few points of each, evenly spread: what the exhaustive proof below finds first."""
    prove(acts, name, every(50, 7))


@pytest.mark.slow
@pytest.mark.parametrize("share", range(6))
@pytest.mark.parametrize("name", ["run", "undo", "redo"])
def test_killed_anywhere(acts: Acts, name: str, share: int) -> None:
    """After a kill at any point: both recoveries and the script work, and journal and debts are true."""
    prove(acts, name, part(share, 6))


def recovery_points(acts: Acts, act: Act, left: Host, direction: str) -> list[str]:
    """Return the points that a recovery of `left` passes."""
    counted = left.copied(acts.place / "first")
    return points_of(lambda: recover(act, counted, direction), acts.place / "points")


def prove_recovery(acts: Acts, act: Act, first: int, direction: str, choose: Choice) -> int:
    """Kill an act at a point, its recovery at each of those that are chosen of its own; return how many these are.

    Whatever that leaves is judged as if the recovery had never been.
    """
    left = act.start.copied(acts.place / "left")
    assert kill_at(first, lambda: act.do(left))
    points = recovery_points(acts, act, left, direction)
    judged = Judged(acts.place / "judged")
    broken, count = [], 0
    for second in choose(points):
        host = left.copied(acts.place / "killed")
        kill_at(second, lambda host=host: recover(act, host, direction))  # type: ignore[misc]
        count += 1
        if judged.is_new(host):
            broken += [f"point {first}, then {second}, {points[second - 1]}: {one}" for one in judge(acts, act, host)]

    assert [] == broken, "\n".join(broken)
    return count


def until_commit(number: int, step: int) -> Choice:
    """Choose every so many points up to the so manyth transaction of the journal."""

    def choose(points: list[str]) -> Iterable[int]:
        commits = [place for place, point in enumerate(points, 1) if point == "after commit"]
        return range(1, [*commits, *[len(points)] * number][number - 1] + 1, step)

    return choose


def total_points(acts: Acts, act: Act) -> int:
    """Return how many points an act passes."""
    whole = act.start.copied(acts.place / "first")
    return len(points_of(lambda: act.do(whole), acts.place / "points"))


def prove_some_recoveries(acts: Acts, name: str, direction: str, firsts: int, step: int) -> None:
    """Kill an act at a few points, its recovery at every so many."""
    act = acts.named[name]
    total = total_points(acts, act)
    for first in range(total // (firsts + 1), total, total // firsts):
        assert 0 < prove_recovery(acts, act, first, direction, every(step, 1 + first % step))


@pytest.mark.parametrize("direction", ["undo", "finish"])
def test_killed_twice_here_and_there(acts: Acts, direction: str) -> None:
    """A recovery that is killed can be recovered again, both ways."""
    prove_some_recoveries(acts, "run", direction, 1, 40)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["undo", "finish"])
@pytest.mark.parametrize("name", ["undo", "redo"])
def test_killed_twice(acts: Acts, name: str, direction: str) -> None:
    """The same for kills at three points all over an undo and a redo, and at every 24th point of each recovery."""
    prove_some_recoveries(acts, name, direction, 3, 24)


Classes = frozenset[tuple[str, str]]


def left_open(host: Host) -> Classes:
    """Return the kinds of the steps that a kill left open, each with what is decided of it."""
    if not interrupted(host):
        return frozenset()
    with host.session() as session:
        verdicts = [one for run in interruptions(session) for one in run.verdicts.values()]
    return frozenset((one.record.kind, one.verdict) for one in verdicts)


@pytest.fixture(scope="module")
def classes(acts: Acts, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """Crash points of a run that leave, between them, kinds of steps open in the ways that every other point does.

    Looked for by one of the processes that run tests side by side.
    """
    base = tmp_path_factory.getbasetemp()
    found = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "crash-classes.json"
    with found.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            found.write_bytes(msgspec.json.encode(some_of_each_class(acts)))
    return msgspec.json.decode(found.read_bytes(), type=list[int])


def some_of_each_class(acts: Acts) -> list[int]:
    """Return a few points of a run whose crashes, between them, are of every class there is."""
    points = {
        int(what.split()[1].rstrip(",")): left_open(host) for what, host in killed(acts, acts.named["run"], every(2, 2))
    }
    lacking = {one for classes in points.values() for one in classes}
    chosen = []
    while lacking:
        best = max(points, key=lambda point: (len(points[point] & lacking), point))
        chosen.append(best)
        lacking -= points[best]
    return sorted(chosen)


def outermost_open(acts: Acts, act: Act, end: str) -> int:
    """Return the first or the last point of an act at which a kill leaves a step intended and not concluded."""
    points = range(1, total_points(acts, act) + 1)
    for point in points if end == "first" else reversed(points):
        host = act.start.copied(acts.place / "killed")
        if kill_at(point, lambda host=host: act.do(host)) and left_open(host):  # type: ignore[misc]
            return point
    raise AssertionError("no kill leaves anything open")


@pytest.mark.slow
@pytest.mark.parametrize("share", range(6))
@pytest.mark.parametrize(("direction", "end"), [("undo", "last"), ("finish", "first")])
def test_recovery_killed_anywhere(acts: Acts, direction: str, end: str, share: int) -> None:
    """Kill at *every* point of the longest recovery each way: all of a run taken back, all of a run finished.

    The run is killed where its last steps, or its first, are intended and not concluded. So each kind of step of the
    plan is undone, and done, by a recovery that dies at each of its effects and journal writes.
    """
    act = acts.named["run"]

    assert 40 < prove_recovery(acts, act, outermost_open(acts, act, end), direction, part(share, 6))


@pytest.mark.slow
@pytest.mark.parametrize("share", range(4))
@pytest.mark.parametrize("direction", ["undo", "finish"])
def test_recovery_killed_in_every_class(acts: Acts, classes: list[int], direction: str, share: int) -> None:
    """Kill a recovery on its way through what the crash left open, for each class of crash that is found.

    A class is a kind of step that was intended, with what can be told of it: not done, half way, done, to be run again,
    in doubt. This is a sample: classes are looked for at every other point of a run, and the recovery of one crash of
    each is killed at every third point up to its third transaction. What it does after that is what the test above
    kills at every point, only from elsewhere; all points of all recoveries would be a hundred thousand.
    """
    assert 8 <= len(classes)
    for first in classes[share::4]:
        assert 0 < prove_recovery(acts, acts.named["run"], first, direction, until_commit(3, 3))
