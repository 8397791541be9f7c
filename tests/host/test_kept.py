"""Inodes kept under a private name on a real root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.errors import HostError, UnsafePath
from aquiline.host import RealHost
from aquiline.host.kept import FOLDER
from aquiline.host.objects import ABSENT


@pytest.fixture(params=["in the state directory", "at the top of the file system"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealHost]:
    root, state = tmp_path / "root", tmp_path / "state"
    (root / "etc").mkdir(parents=True)
    state.mkdir(mode=0o700)
    with RealHost(str(root), kept=state if "state" in request.param else None) as host:
        yield host


def test_a_replaced_inode_comes_back_with_its_other_names(host: RealHost) -> None:
    """What was kept is the same inode as before, so that its other names are names of it again."""
    Path(host.root, "etc/a").write_text("x")
    os.link(f"{host.root}/etc/a", f"{host.root}/etc/b")
    for _ in range(2):
        host.keep("/etc/a", "r1-1")
    host.remove("/etc/a")
    kept = host.observe_kept("r1-1", "/etc/a")
    host.restore_kept("r1-1", "/etc/a", "x")
    host.drop_kept("r1-1", "/etc/a")

    assert os.path.samefile(f"{host.root}/etc/a", f"{host.root}/etc/b")
    assert ABSENT != kept
    assert (ABSENT, ("a", "b")) == (host.observe_kept("r1-1", "/etc/a"), host.names("/etc"))


def test_nothing_kept_is_an_error(host: RealHost) -> None:
    """Restoring what was never kept is refused, and a name is kept for one inode only."""
    for name in ("a", "b"):
        Path(host.root, "etc", name).touch()
    host.keep("/etc/a", "r1-1")

    with pytest.raises(HostError, match="no inode is kept as r1-2"):
        host.restore_kept("r1-2", "/etc/a", "x")
    with pytest.raises(HostError, match="another inode is already kept"):
        host.keep("/etc/b", "r1-1")


@pytest.mark.parametrize(("owner", "mode"), [(1234, 0o700), (0, 0o777)])
def test_a_folder_that_others_may_change_is_refused(tmp_path: Path, owner: int, mode: int) -> None:
    """Whoever made the folder before us could exchange what is kept in it for something of theirs."""
    (tmp_path / FOLDER).mkdir()
    os.chown(tmp_path / FOLDER, owner, owner)
    (tmp_path / FOLDER).chmod(mode)
    (tmp_path / "f").touch()

    with RealHost(str(tmp_path)) as host, pytest.raises(UnsafePath, match="is to hold kept inodes"):
        host.keep("/f", "r1-1")
    assert [] == os.listdir(tmp_path / FOLDER)
