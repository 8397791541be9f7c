"""Killed at any point at which it changes something on disk, an agent that starts anew loses nothing, and does nothing
twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aquiline.agent.daemon.agent import Agent
from aquiline.agent.daemon.outbox import Outbox
from aquiline.changes.kinds import Inline, WriteFile
from aquiline.protocol.messages import Live, Order
from tests.agent.daemon.folder import FolderBroker
from tests.agent.making import Site, profile
from tests.crash.killing import kill_at, points_of

ONE = profile(WriteFile(path="/etc/one", content=Inline(b"one\n")))
BOTH = profile(
    WriteFile(path="/etc/one", content=Inline(b"one\n")), WriteFile(path="/etc/two", content=Inline(b"two\n"))
)
OTHER = profile(WriteFile(path="/etc/one", content=Inline(b"other\n")))


class World:
    """One host, and the broker that it belongs to, in a folder that can be copied."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.broker = FolderBroker(top / "broker")

    def site(self) -> Site:
        """Return the host, which is there already."""
        made = Site.__new__(Site)
        made.root, made.packages = self.top / "root", self.top / "packages"
        made.state = made.root / "var/lib/aquiline"
        return made

    def once(self) -> None:
        """Let an agent that has just started do all there is to do."""
        with self.site().session() as session:
            Agent(session, self.broker, name="h1.example.org").once()

    def copied(self, to: Path) -> World:
        """Return a copy, which knows nothing of this one."""
        shutil.copytree(self.top, to, symlinks=True)
        return World(to)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host that has one change, and a second run by hand before that."""
    site = Site(tmp_path / "world")
    site.install()
    made = World(tmp_path / "world")
    with site.importing():
        made.broker.wants(1, ONE, "c1")
        made.once()
        yield made


def brings(world: World) -> None:
    world.broker.wants(2, BOTH, "c1", "c2")


def takes_back(world: World) -> None:
    world.broker.wants(2, BOTH, "c1", "c2")
    world.once()
    world.broker.wants(3, ONE, "c1")


def replans(world: World) -> None:
    world.broker.wants(2, BOTH, "c1", "c2", "c3")
    world.once()
    world.broker.wants(3, BOTH, "c1", "c2")


def holds(world: World) -> None:
    world.broker.wants(2, BOTH, "c1", "c2")
    world.once()
    world.broker.wants(3, OTHER, "c1")


def answers(world: World) -> None:
    world.broker.asks(Order(id="t", change="t", kind="test", profile=world.broker.compiles(BOTH), time_to_live=60.0))


Story = Callable[[World], None]
#: What is under way, and what it leads to: the files, what is live, kind and status of each report.
STORIES: list[tuple[Story, tuple[str, ...], Live, list[tuple[str, str]]]] = [
    (brings, ("one", "two"), Live(BOTH.digest, ("c1", "c2")), [("apply", "done")] * 2),
    (takes_back, ("one",), Live(ONE.digest, ("c1",)), [("apply", "done")] * 2 + [("undo", "done")]),
    (
        replans,
        ("one", "two"),
        Live(BOTH.digest, ("c1", "c2")),
        [("apply", "done")] * 2 + [("undo", "done"), ("apply", "done")],
    ),
    (
        holds,
        ("one",),
        Live(ONE.digest, ("c1",)),
        [("apply", "done")] * 2 + [("undo", "done"), ("refusal", "")],
    ),
    (answers, ("one",), Live(ONE.digest, ("c1",)), [("apply", "done"), ("test", "")]),
]


def check(world: World, files: tuple[str, ...], live: Live, told: list[tuple[str, str]]) -> None:
    """Check that everything came about, once, and that the broker was told of each, once."""
    site, reports = world.site(), world.broker.reports()
    assert files == tuple(name for name in ("one", "two") if site.text(f"/etc/{name}") is not None)
    assert sorted(told) == sorted((one.run_kind or one.kind, one.status) for one in reports)
    assert {one.change_set for one in reports if one.change_set} == world.broker.bodies()
    with site.session() as session:
        assert () == Outbox(session.state).waiting()
        with session.reading() as journal:
            pointer = journal.live()
            runs = journal.runs()
    assert pointer is not None
    assert live == Live(pointer.profile, pointer.change_ids)
    assert {one.run for one in reports if one.run} == {run.id for run in runs}
    left = [path for path in (site.state / "spool").rglob("*") if path.is_file()]
    assert [] == left


def is_durable(point: str) -> bool:
    """Whether what a point is about is kept: not a write that another one follows before it counts."""
    return not point.startswith(("write of", "half a write", "open", "pwrite", "half a pwrite"))


@pytest.mark.slow
@pytest.mark.parametrize(("story", "files", "live", "told"), STORIES, ids=lambda value: getattr(value, "__name__", ""))
def test_killed_anywhere(
    world: World, tmp_path: Path, story: Story, files: tuple[str, ...], live: Live, told: list[tuple[str, str]]
) -> None:
    """Whenever it is killed, the next agent finishes what was begun and tells of it."""
    story(world)
    whole = world.copied(tmp_path / "whole")
    points = points_of(whole.once, tmp_path / "points")
    check(whole, files, live, told)

    for number, point in enumerate(points, 1):
        if is_durable(point):
            hurt = world.copied(tmp_path / f"hurt-{number}")
            assert kill_at(number, hurt.once)
            hurt.once()
            hurt.once()
            check(hurt, files, live, told)
            shutil.rmtree(hurt.top)
