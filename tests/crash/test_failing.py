"""An effect fails, for want of space or for any other reason: the run stops, and can be taken back (D11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from aquiline.changes.kinds import Reaction
from aquiline.errors import AquilineError, HostError
from aquiline.host.faulty import FaultyHost
from aquiline.host.objects import FileObject, Status

from .everything import SEES, Host, Tree

When = Literal["before", "torn", "after"]
UNTOUCHED = {"seen": "old over"}
NO_SPACE = HostError("no space left on device", path="/etc")
READ_ONLY = HostError("read-only file system", path="/etc")
GONE = HostError("its disk reported an error", path="/etc")


@pytest.fixture(scope="module")
def fresh(place: Path) -> Host:
    """A host on which nothing was done yet."""
    return Host.made(place / "fresh")


@pytest.fixture(scope="module")
def applied(fresh: Host) -> Host:
    """A host on which the plan was applied."""
    host = fresh.copied(fresh.place.with_name("applied"))
    assert 0 == host.apply().exit_status
    return host


def effects_of(host: Host, action: str) -> list[str]:
    """Return the effects of an action, in words, from a copy of `host`."""
    copy = host.copied(host.place.with_name("counted"))
    faulty: list[FaultyHost] = []

    def watched(real: FaultyHost) -> FaultyHost:
        faulty.append(FaultyHost(real))
        return faulty[-1]

    copy.fault = watched
    getattr(copy, action)()
    return faulty[-1].effects


def failing(host: Host, action: str, when: When, error: HostError, step: int = 1) -> Iterator[tuple[str, Host]]:
    """Return for each `step`-th effect of an action a copy of `host` on which that effect will fail, once."""
    for number, effect in list(enumerate(effects_of(host, action), 1))[::step]:
        copy = host.copied(host.place.with_name("failing"))
        left = [number]

        def fault(real: FaultyHost, left: list[int] = left) -> FaultyHost:
            return FaultyHost(real, fail_at=left.pop(), when=when, error=error) if left else real

        copy.fault = fault
        yield f"{when} effect {number}, {effect}", copy


class Broken(FaultyHost):
    """A host on which nothing works any more from some effect on."""

    @contextmanager
    def effect(self, what: str) -> Iterator[None]:
        self.effects.append(what)
        if self.count() >= self._fault_at:
            raise self._error
        yield


class Blind(Broken):
    """A host that from then on cannot even be looked at."""

    def _look(self) -> None:
        if self.count() >= self._fault_at:
            raise self._error

    def status(self, path: str) -> Status | None:
        self._look()
        return super().status(path)

    def observe(self, path: str) -> FileObject:
        self._look()
        return super().observe(path)

    def read(self, path: str) -> bytes:
        self._look()
        return super().read(path)

    def names(self, path: str) -> tuple[str, ...]:
        self._look()
        return super().names(path)


def open_runs(host: Host) -> int:
    """Return how many runs did not end."""
    with host.session() as session, session.reading() as journal:
        return len(journal.open_runs())


def owed(host: Host) -> list[Reaction]:
    """Return the reactions that are owed, once each."""
    with host.session() as session, session.reading() as journal:
        return list(dict.fromkeys(debt.reaction for debt in journal.debts()))


def not_as(tree: Tree, host: Host) -> list[str]:
    """Return the paths where a host is not as `tree`, and what nobody removes any more."""
    found = host.tree()
    return [path for path in sorted({*tree, *found}) if tree.get(path) != found.get(path)] + host.left_over()


def stays(host: Host) -> bool:
    """Take back whatever stands; return whether a command stays of which nobody knows how much of it happened."""
    undone = host.undo_failed()
    if undone is None:
        return False
    assert undone.undo is not None
    assert (17 if any(not one.chosen for one in undone.undo.stays) else 0) == undone.exit_status
    return bool(undone.undo.stays)


def check_stops(fresh: Host, when: When, error: HostError, step: int) -> None:
    """Let each effect of a run fail: it stops and is journalled, and undo gives the tree before."""
    before = fresh.tree()
    broken = []
    for what, host in failing(fresh, "apply", when, error, step):
        try:
            ended = host.apply()
            if ended.exit_status != 15 and host.tree() == before:
                broken.append(f"{what}: exit status {ended.exit_status}")
        except AquilineError as raised:
            broken.append(f"{what}: raised {raised}")
        if open_runs(host):
            broken.append(f"{what}: the run did not end")
            continue
        may_stay = stays(host)
        broken += [f"{what}: {path} is not as before" for path in not_as(before, host)]
        if host.written() != UNTOUCHED and not may_stay:
            broken.append(f"{what}: commands left {host.written()}")

    assert [] == broken, "\n".join(broken)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_any_effect_fails(fresh: Host, when: When) -> None:
    """Whatever effect fails, wholly or half way: the run stops, is journalled, and undo gives the tree before."""
    check_stops(fresh, when, NO_SPACE, 1)


def test_some_effects_fail(fresh: Host) -> None:
    """A few of them, for a file system that became read-only."""
    check_stops(fresh, "before", READ_ONLY, 9)


def test_a_failed_run_takes_itself_back(fresh: Host) -> None:
    """With ``--on-failure undo`` the status is 16 and all is as before; 20 where a command of unknown effect stays."""
    before = fresh.tree()
    for what, host in failing(fresh, "apply", "before", NO_SPACE, 7):
        ended = host.apply(on_failure="undo")

        assert (16 if not ended.failed or ended.failed.component == "one" else 15) == ended.exit_status or (
            20 == ended.exit_status and ended.failed is not None and "run" in type(ended.failed.change).__name__.lower()
        ), what
        assert [] == not_as(before, host), what


def test_a_failing_undo_goes_on_later(applied: Host, fresh: Host) -> None:
    """An undo that fails has status 17; the next one takes back what is left."""
    for what, host in failing(applied, "undo", "before", NO_SPACE, 6):
        failed = host.undo()
        if "drop what was kept" in what:
            assert 0 == failed.exit_status, "all is back; `gc` drops it later"
            continue
        assert 17 == failed.exit_status, what
        assert 0 == open_runs(host), what

        if "set mtime" in what:
            # Only the time of a directory is not back.
            assert [what.rpartition(" ")[2]] == not_as(fresh.tree(), host)
            continue
        if "seen" in what:
            # Only the reaction has not run: it is owed, and the next undo pays it, having nothing else to do.
            assert [SEES] == owed(host), what
        assert 0 == host.undo().exit_status, what
        assert [] == not_as(fresh.tree(), host), what
        assert UNTOUCHED == host.written(), what


def test_nothing_works_any_more(fresh: Host) -> None:
    """Where the undo of a failed run fails too, the status is 20; when the host works again, `undo` takes it back."""
    for number in range(12, len(effects_of(fresh, "apply")), 9):
        host = fresh.copied(fresh.place.with_name("broken"))
        host.fault = lambda real, number=number: Broken(real, fail_at=number, error=READ_ONLY)  # type: ignore[misc]
        ended = host.apply(on_failure="undo")
        host.fault = lambda real: real

        assert 20 == ended.exit_status
        assert 0 == open_runs(host)
        stays(host)
        assert [] == not_as(fresh.tree(), host)


def test_nobody_can_look_any_more(fresh: Host) -> None:
    """Where what failed cannot even be looked at, the run ends all the same; when that works again, undo decides."""
    for number in range(3, len(effects_of(fresh, "apply")), 7):
        host = fresh.copied(fresh.place.with_name("blind"))
        host.fault = lambda real, number=number: Blind(real, fail_at=number, error=GONE)  # type: ignore[misc]
        ended = host.apply()
        host.fault = lambda real: real

        assert (15, 0) == (ended.exit_status, open_runs(host))
        assert isinstance(ended.error, HostError)
        stays(host)
        with host.session() as session, session.changing("the next command"):
            pass  # removes what the run could not
        # The times of directories could not be put back.
        assert [] == [path for path in not_as(fresh.tree(), host) if not (host.root / path[1:]).is_dir()], number
