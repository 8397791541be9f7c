"""What a broker that was killed left in the folder for temporary files."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from aquiline.broker.scratch import scratch_folder, sweep


def test_old_ones_are_swept(tmp_path: Path) -> None:
    """Folders of this user's brokers that are more than an hour old go; younger ones, links and others' stay."""
    old, young, other = (tmp_path / name for name in ("aquiline-broker-merge-a", "aquiline-broker-merge-b", "else"))
    for folder in (old, young, other):
        (folder / "below").mkdir(parents=True)
    (tmp_path / "aquiline-broker-link").symlink_to(other)
    for folder in (old, other):
        os.utime(folder, (0, time.time() - 3700))

    assert ["aquiline-broker-merge-a"] == sweep(tmp_path)
    assert ["aquiline-broker-link", "aquiline-broker-merge-b", "else"] == sorted(one.name for one in tmp_path.iterdir())
    assert (other / "below").exists()


def test_those_of_others_stay(tmp_path: Path) -> None:
    """What another user has is not ours to remove."""
    folder = tmp_path / "aquiline-broker-merge-a"
    folder.mkdir()
    os.utime(folder, (0, 0))
    os.chown(folder, 12345, 12345)

    assert [] == sweep(tmp_path)


def test_what_is_made_is_what_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder made for the purpose has the name that is looked for, where it is looked for."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("merge") as made:
        assert sweep(now=time.time() + 7200).count(Path(made).name)
        assert not Path(made).exists()
