"""The power goes at any point of a run or an undo: what was not made durable is lost, in any combination (P6, P7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from .losing_power import record, restored
from .test_killed_anywhere import Acts, judge


@pytest.fixture(scope="module")
def acts(place: Path) -> Acts:
    """A run and the undo of it."""
    return Acts(place)


def prove(acts: Acts, name: str, share: int, shares: int) -> None:
    """Judge every image of a share."""
    act = acts.named[name]
    host = act.start.copied(acts.place / "recorded")
    images = record(host, lambda: act.do(host), acts.place / f"images-{name}-{share}")
    broken = []
    for image in images[share::shares]:
        left = restored(image, act.start.root, acts.place / "left")
        broken += [f"point {image.name}, image: {wrong}" for wrong in judge(acts, act, left)]

    assert [] == broken, "\n".join(broken)


@pytest.mark.parametrize("name", ["run", "undo"])
def test_power_lost_here_and_there(acts: Acts, name: str) -> None:
    """A few images of each, evenly spread."""
    prove(acts, name, 5, 60)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(4))
@pytest.mark.parametrize("name", ["run", "undo"])
def test_power_lost_anywhere(acts: Acts, name: str, share: int) -> None:
    """Nothing durable but what was synced, and each single other thing: all can be taken back."""
    prove(acts, name, share, 4)
