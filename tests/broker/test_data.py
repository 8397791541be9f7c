"""The directory of a broker: its user's alone, and no other directory is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aquiline.broker.serving import open_broker
from aquiline.errors import AquilineError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_one_that_is_made_is_private(tmp_path: Path) -> None:
    """A directory that was not there is its user's alone, whatever the umask; it can be opened again."""
    place = tmp_path / "some/where"
    before = os.umask(0)
    try:
        open_broker(place).store.close()
    finally:
        os.umask(before)

    open_broker(place).store.close()

    assert 0o700 == mode(place)


@pytest.mark.parametrize("found", [0o755, 0o770, 0o701, 0o1777])
def test_one_that_others_reach_is_left_alone(tmp_path: Path, found: int) -> None:
    """Such a directory is refused, with what to do, and nothing in it or of it is changed."""
    place = tmp_path / "shared"
    place.mkdir()
    (place / "of somebody else").touch()
    place.chmod(found)

    with pytest.raises(AquilineError, match="can be read or written by others") as refused:
        open_broker(place)

    assert (found, ["of somebody else"]) == (mode(place), os.listdir(place))
    assert f"--data {place}/broker" in refused.value.hint


def test_one_that_is_empty_or_a_brokers_can_be_made_private(tmp_path: Path) -> None:
    """Where it can only be the broker's, the hint is to make it private; that helps."""
    place = tmp_path / "data"
    open_broker(place).store.close()
    place.chmod(0o755)

    with pytest.raises(AquilineError) as refused:
        open_broker(place)

    assert f"`chmod 700 {place}`" == refused.value.hint
    place.chmod(0o700)
    open_broker(place).store.close()


def test_what_is_no_directory(tmp_path: Path) -> None:
    """A file is refused in words, and left as it is."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(AquilineError, match="is no directory"):
        open_broker(tmp_path / "file")

    assert "mine" == (tmp_path / "file").read_text()


def test_one_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns a directory can open it to others: a broker keeps nothing there."""
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)

    with pytest.raises(AquilineError, match="belongs to another user"):
        open_broker(place)
