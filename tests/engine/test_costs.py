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

from .site import Site

_READING = ("open", "close", "lstat", "stat", "fstat", "read", "listxattr", "getxattr")
_FEW, _MANY = 40, 140


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of `os` by name; they are made all the same."""
    counts: Counter[str] = Counter()
    for name in (*_READING, "fsync", "write", "pwrite", "rename"):
        monkeypatch.setattr(os, name, _counting(getattr(os, name), name, counts))
    return counts


def _counting(call: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        counts[name] += 1
        if name in ("write", "pwrite"):
            counts["bytes"] += len(arguments[1])
        return call(*arguments, **options)

    return counting


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
            work(site)
            found.append(dict(counts))
    # rounded: what a run writes once has a process id or a time in it, of one digit more or less
    return {name: round((found[1][name] - found[0].get(name, 0)) / (_MANY - _FEW), 1) for name in found[1]}


def test_a_file_that_is_right_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """A dry-run makes the six calls that cannot be avoided for a file that is right, and writes nothing."""
    costs = each(tmp_path, monkeypatch, counted, Site.plan, right=True)

    calls = {name: costs[name] for name in costs if costs[name]}
    assert {"open": 1, "close": 1, "lstat": 1, "fstat": 1, "read": 1, "listxattr": 1} == calls


def test_a_live_run_costs_nothing_more_for_a_file_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """Where nothing is to be done, a live run makes a file durable for no file that is right."""
    costs = each(tmp_path, monkeypatch, counted, Site.apply, right=True)

    assert (0, 0, 0) == (costs.get("fsync", 0), costs.get("rename", 0), costs.get("bytes", 0))


def test_a_changed_file_is_made_durable_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    """Its pre-image and itself are written, synced and renamed once each; folders of pre-images are the rest."""
    costs = each(tmp_path, monkeypatch, counted, Site.apply, right=False)

    assert 2 * 1024 == costs["bytes"]
    assert 2 == costs["rename"]
    # at most one folder for each pre-image, and less the more there are: they are 256 in all
    assert 2 <= costs["fsync"] <= 3
