"""Bytes or inodes run out, under the host or under the journal, before and during a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquiline.agent import recovering
from aquiline.agent.applying import RunEnded
from aquiline.changes.kinds import CopyOf, Inline, MakeDirectory, Remove, WriteFile
from aquiline.errors import AquilineError, HostError
from aquiline.host.objects import RegularFile
from tests.engine.site import Site, component, tree

from .mounts import fill_up, in_private_mounts, mount, small, use_up_inodes

MEBIBYTE = 1 << 20


def fresh(site: Site) -> None:
    """Look at the root again: a file system was mounted on it."""
    site.session.host.close()
    site.session = type(site.session)(str(site.root), str(site.state))


def big(path: str, size: int = 2 * MEBIBYTE, byte: bytes = b"n") -> WriteFile:
    """Return a change that writes a file of this many bytes."""
    return WriteFile(path=path, content=Inline(byte * size))


def refused(site: Site, **options: Any) -> HostError:
    """Apply; return the error that stopped it, wherever it came from. The host is as before."""
    before = tree(site.root)
    try:
        error: AquilineError | None = site.apply(**options).error
    except AquilineError as raised:
        error = raised
    assert isinstance(error, HostError), error
    assert before == tree(site.root)
    with site.session.reading() as journal:
        assert [] == journal.open_runs()
    return error


class TestBeforeARun:
    def test_no_bytes_for_the_new_files(self, site: Site) -> None:
        """A root with less room than the new files need is left alone, and told apart from the journal's place."""

        def work() -> None:
            small(site.root, size="1m")
            fresh(site)
            site.wants(WriteFile(path="/first", content=Inline(b"x")), big("/file"))
            error = refused(site)
            assert "no space" in error.message
            assert str(site.root) in error.message
            assert "make room" in error.hint

        in_private_mounts(work)

    def test_no_inodes_for_the_new_files(self, site: Site) -> None:
        """The same where it is inodes that are missing."""

        def work() -> None:
            small(site.root, nr_inodes="8")
            fresh(site)
            site.wants(*(WriteFile(path=f"/{number}", content=Inline(b"x")) for number in range(20)))
            assert "no inodes" in refused(site).message

        in_private_mounts(work)

    def test_room_that_replaced_files_give_back_counts(self, site: Site) -> None:
        """Files that replace others one after the other need no more room than one of them at a time."""

        def work() -> None:
            small(site.root, size="160m")
            fresh(site)
            for number in range(2):
                (site.root / str(number)).write_bytes(b"o" * (70 * MEBIBYTE))
            site.wants(Remove(path="/0"), big("/new", 70 * MEBIBYTE))
            assert site.apply().error is None

        in_private_mounts(work)

    def test_room_is_looked_at_before_an_undo_too(self, site: Site) -> None:
        """What undo keeps for redo has no budget, but needs room: where there is none, nothing is taken back yet."""

        def work() -> None:
            small(site.root, size="250m")
            small(site.state, size="80m")
            fresh(site)
            (site.root / "source").write_bytes(b"s" * (96 * MEBIBYTE))
            found = site.session.host.observe("/source")
            assert isinstance(found, RegularFile)
            copied = CopyOf(path="/source", sha256=found.sha256, size=found.size)
            before = tree(site.root)
            site.wants(WriteFile(path="/first", content=Inline(b"x")), WriteFile(path="/copy", content=copied))
            ended = site.apply()
            after = tree(site.root)

            error = site.undo().error

            assert error is not None
            assert "no space" in error.message
            assert str(site.state) in error.message
            assert after == tree(site.root)
            mount("-o", "remount,size=250m", str(site.state))
            assert None is site.undo(ended.run).error
            assert before == tree(site.root)

        in_private_mounts(work)

    def test_holes_need_no_room(self, site: Site) -> None:
        """A sparse file far larger than all that is free is copied, removed and taken back: its holes need no room."""

        def work() -> None:
            small(site.root, size="8m")
            small(site.state, size="80m")
            fresh(site)
            sparse = site.root / "sparse"
            sparse.write_bytes(b"begin")
            os.truncate(sparse, 96 * MEBIBYTE)
            found = site.session.host.observe("/sparse")
            assert isinstance(found, RegularFile)
            copied = CopyOf(path="/sparse", sha256=found.sha256, size=found.size)
            before = tree(site.root)
            site.wants(WriteFile(path="/copy", content=copied), Remove(path="/sparse"))

            assert None is site.apply().error
            assert None is site.undo().error
            assert before == tree(site.root)
            assert 4096 == sparse.stat().st_blocks * 512

        in_private_mounts(work)

    def test_no_bytes_for_the_pre_images(self, site: Site) -> None:
        """A journal's place that cannot hold what is replaced stops the run before it begins."""
        (site.root / "file").write_bytes(b"o" * (8 * MEBIBYTE))

        def work() -> None:
            small(site.state, size="4m")
            site.wants(big("/file", 10))
            error = refused(site)
            assert "no space for the pre-images" in error.message
            assert str(site.state) in error.message

        in_private_mounts(work)

    def test_no_inodes_for_the_pre_images(self, site: Site) -> None:
        """The same where it is inodes that are missing."""
        for number in range(60):
            (site.root / str(number)).write_bytes(f"{number}".encode())

        def work() -> None:
            small(site.state, nr_inodes="40")
            site.wants(*(big(f"/{number}", 10) for number in range(60)))
            assert "no inodes" in refused(site).message

        in_private_mounts(work)

    @pytest.mark.parametrize("use_up", [fill_up, use_up_inodes])
    def test_a_journal_that_cannot_begin(self, site: Site, use_up: Callable[[Path], Path]) -> None:
        """Where not even the journal can be made nothing is done."""

        def work() -> None:
            small(site.state, size="4m", nr_inodes="100")
            use_up(site.state)
            site.wants(big("/file", 10))
            refused(site)

        in_private_mounts(work)


def two_batches(path: str) -> tuple[WriteFile, WriteFile]:
    """Return two changes of one file, which are never in the same batch."""
    return WriteFile(path=path, content=Inline(b"new\n")), WriteFile(path=path, content=Inline(b"newer\n"))


def once(fillers: list[Path], place: Path) -> Callable[..., None]:
    """Return what fills a file system up when the first step was done."""

    def on_step(*_: object) -> None:
        if not fillers:
            fillers.append(fill_up(place))

    return on_step


class TestDuringARun:
    def test_the_root_fills_up(self, site: Site) -> None:
        """A step that finds no room fails and leaves nothing half-built; nor can undo; with room it can."""

        def work() -> None:
            small(site.root, size="8m")
            (site.root / "old").write_bytes(b"old\n")
            fresh(site)
            before = tree(site.root)
            site.wants(*two_batches("/old"), MakeDirectory(path="/d"), big("/d/file"))

            fillers: list[Path] = []
            ended = site.apply(on_step=once(fillers, site.root))
            assert 15 == ended.exit_status
            assert ended.error is not None
            assert "there is no space" in ended.error.message
            assert [] == [path for path in tree(site.root) if "aquiline" in path or ".aq" in path]
            undone = site.undo()
            assert 17 == undone.exit_status
            assert undone.error is not None
            assert "no space for what this run makes" in undone.error.message
            fillers[0].unlink()
            assert 0 == site.undo(ended.run).exit_status
            assert before == tree(site.root)

        in_private_mounts(work)

    def test_the_root_fills_up_and_all_is_undone(self, site: Site) -> None:
        """The same with ``--on-failure undo``: as far as it goes where there is no room at all, and no further."""

        def work() -> None:
            small(site.root, size="8m")
            (site.root / "old").write_bytes(b"old\n")
            fresh(site)
            site.wants(*two_batches("/old"), big("/file"))
            before = tree(site.root)
            fillers: list[Path] = []
            ended = site.apply(on_failure="undo", on_step=once(fillers, site.root))
            assert 20 == ended.exit_status
            fillers[0].unlink()
            assert 0 == site.undo(ended.run).exit_status
            assert before == tree(site.root)

        in_private_mounts(work)

    @pytest.mark.parametrize("use_up", [fill_up, use_up_inodes])
    def test_the_journal_fills_up(self, site: Site, use_up: Callable[[Path], Path]) -> None:
        """A journal that cannot be written stops the run; with room again it is taken back to the tree before."""
        for number in range(6):
            (site.root / str(number)).write_bytes(b"old\n")
        before = tree(site.root)

        def work() -> None:
            small(site.state, size="6m", nr_inodes="1000")
            # One batch each: a directory in the way of none, and the same file over and over.
            site.wants(
                *(
                    WriteFile(path=f"/{number}", content=Inline(f"{turn}\n".encode()))
                    for turn in range(40)
                    for number in range(6)
                )
            )
            fillers: list[Path] = []

            def on_step(*_: object) -> None:
                if not fillers:
                    fillers.append(use_up(site.state))

            ended = stopped(site, on_step)
            assert ended is None or ended.exit_status
            for filler in fillers:
                shutil.rmtree(filler) if filler.is_dir() else filler.unlink()
            with site.session.reading() as journal:
                is_open = bool(journal.open_runs())
            if is_open:
                assert 0 == recovering.recover(site.session, "undo").exit_status
            else:
                assert 0 == site.undo().exit_status
            assert before == tree(site.root)

        in_private_mounts(work)


def stopped(site: Site, on_step: Callable[..., None]) -> RunEnded | None:
    """Apply; return how it ended, None where an error came out of it."""
    try:
        return site.apply(on_step=on_step)
    except AquilineError:
        return None


def test_a_full_disk_can_still_be_read(site: Site) -> None:
    """Planning, log and undo previews work on full disks: they write nothing."""
    site.wants(big("/file", 10))
    site.apply()
    site.components["one"] = component("one", [big("/other", 10)])

    def work() -> None:
        small(site.root, size="64k")
        fill_up(site.root)
        fresh(site)
        assert "planned" == site.plan().components["one"].state

    in_private_mounts(work)
