"""What a file costs, counted: calls of the kernel, fsyncs and bytes, for each that is right and each that is not.

A count is the difference between a site of many files and one of few, divided by how many more they are, so that what
a run costs whatever it does is not in it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquiline.changes.kinds import Inline, WriteFile
from aquiline.changes.render import render_plan

from .site import Site

_READING = ("open", "close", "lstat", "stat", "fstat", "read", "listxattr", "getxattr")
_WRITING = ("fsync", "write", "pwrite", "rename")
_FEW, _MANY = 40, 140


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of `os` by name; they are made all the same."""
    counts: Counter[str] = Counter()
    for name in (*_READING, *_WRITING):
        monkeypatch.setattr(os, name, _counting(getattr(os, name), name, counts))
    return counts


def _counting(call: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        counts[name] += 1
        if name in ("write", "pwrite"):
            counts["bytes"] += len(arguments[1])
        return call(*arguments, **options)

    return counting


def written() -> int:
    """Return how many bytes this process has written in all its life, by whichever call and library (proc(5))."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.removeprefix("wchar: ")) for line in lines if line.startswith("wchar: "))


def fill(site: Site, count: int, *, right: bool) -> None:
    """Put files of 1 KiB there, and let a component want them, as they are or not."""
    for number in range(count):
        path = site.path(f"/srv/{number:04}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"{number:04}".encode() * 256)
        path.chmod(0o644)
    site.wants(
        *(
            WriteFile(path=f"/srv/{number:04}", content=Inline(f"{number if right else -number:04}".encode() * 256))
            for number in range(1, count)
        )
    )


def each(
    place: Path, monkeypatch: pytest.MonkeyPatch, counts: Counter[str], work: Callable[[Site], Any], *, right: bool
) -> dict[str, float]:
    """Return how often `work` makes each call, for each file that there is."""
    found = []
    for count in (_FEW, _MANY):
        (place / str(count)).mkdir()
        with Site(place / str(count), monkeypatch) as site:
            fill(site, count, right=right)
            counts.clear()
            before = written()
            work(site)
            counts["all bytes"] = written() - before
            found.append(dict(counts))
    # rounded: what a run writes once has a process id or a time in it, of one digit more or less
    return {name: round((found[1][name] - found[0].get(name, 0)) / (_MANY - _FEW), 1) for name in found[1]}


def test_a_file_that_is_right_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """A dry-run makes the six calls that cannot be avoided for a file that is right, and writes nothing."""
    costs = each(tmp_path, monkeypatch, counted, Site.plan, right=True)

    assert {"open": 1, "close": 1, "lstat": 1, "fstat": 1, "read": 1, "listxattr": 1} == some(costs)


def test_a_file_that_is_not_right_is_looked_at_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """Of a file that is to be changed a dry-run also asks what protects it; it writes nothing either."""
    costs = each(tmp_path, monkeypatch, counted, Site.plan, right=False)

    assert {"open": 2, "close": 2, "lstat": 2, "stat": 1, "fstat": 1, "read": 1, "listxattr": 1} == some(costs)


def test_showing_a_plan_reads_each_file_that_differs_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """A diff needs what stands there now, and looks for what will stand there in the plan alone."""
    dry = each(tmp_path, monkeypatch, counted, Site.plan, right=False)
    for place in tmp_path.iterdir():
        place.rename(place.with_name(f"dry-{place.name}"))

    shown = each(
        tmp_path,
        monkeypatch,
        counted,
        lambda site: render_plan(site.plan(), contents=site.session.content),
        right=False,
    )

    assert {"open": 1, "close": 1, "read": 1} == {
        name: round(shown[name] - dry[name]) for name in ("open", "close", "read")
    }


def test_a_live_run_costs_nothing_more_for_a_file_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """Where nothing is to be done, a live run makes a file durable for no file that is right."""
    costs = each(tmp_path, monkeypatch, counted, Site.apply, right=True)

    assert {"open": 1, "close": 1, "lstat": 1, "fstat": 1, "read": 1, "listxattr": 1} == some(costs)


def test_a_changed_file_is_made_durable_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """Its pre-image and itself are written, synced and renamed once each; folders of pre-images are the rest."""
    costs = each(tmp_path, monkeypatch, counted, Site.apply, right=False)

    assert 2 * 1024 == costs["bytes"]
    assert 2 == costs["rename"]
    # at most one folder for each pre-image, and less the more there are: they are 256 in all
    assert 2 <= costs["fsync"] <= 3


def test_what_a_changed_file_costs_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """A changed file of 1 KiB is at most 56 calls, and 14 KiB written: both contents, its step, its undo as a script.

    Most of the bytes are the journal's, which writes whole pages, and each of them twice.
    """
    costs = some(each(tmp_path, monkeypatch, counted, Site.apply, right=False))

    assert sum(costs[name] for name in (*_READING, *_WRITING) if name in costs) <= 56
    assert 2 * 1024 < costs["all bytes"] <= 14 * 1024


def some(costs: dict[str, float]) -> dict[str, float]:
    """Return what each file costs; a run writes its time once, which is of one digit more or less."""
    return {name: cost for name, cost in costs.items() if cost > 0.1}
