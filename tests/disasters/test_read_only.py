"""Places that cannot be written to."""

from __future__ import annotations

import subprocess

import pytest

from aquiline.changes.kinds import Inline, Remove, SetMetadata, WriteFile
from aquiline.errors import HostError
from tests.engine.site import Site, tree

from .mounts import in_private_mounts, make_read_only


def test_a_read_only_root(site: Site) -> None:
    """A dry-run works; a live run fails at its first step, says why, and changes nothing."""
    site.path("/file").write_bytes(b"old\n")
    site.wants(WriteFile(path="/file", content=Inline(b"new\n")))

    def work() -> None:
        make_read_only(site.root)
        site.session.host.close()
        site.session = type(site.session)(str(site.root), str(site.state))
        before = tree(site.root)
        assert 1 == len(site.plan().steps)
        ended = site.apply()
        assert 15 == ended.exit_status
        assert ended.error is not None
        assert "/file" in ended.error.message
        assert "read-only" in ended.error.message.lower()
        assert before == tree(site.root)

    in_private_mounts(work)


def test_a_read_only_state(site: Site) -> None:
    """No journal, no run: nothing is changed, and the message says where another place is given."""
    site.path("/file").write_bytes(b"old\n")
    site.wants(WriteFile(path="/file", content=Inline(b"new\n")))
    site.state.mkdir()

    def work() -> None:
        make_read_only(site.state)
        assert 1 == len(site.plan().steps)
        with pytest.raises(HostError, match="read-only") as raised:
            site.apply()
        assert "--state" in raised.value.hint
        assert b"old\n" == site.path("/file").read_bytes()

    in_private_mounts(work)


@pytest.mark.parametrize(("where", "flag"), [("file", "i"), ("file", "a"), ("directory", "i"), ("directory", "a")])
def test_immutable(site: Site, flag: str, where: str) -> None:
    """What is immutable or append-only is a clear failure; what came before it is taken back."""
    site.path("/d").mkdir()
    site.path("/d/file").write_bytes(b"old\n")
    place = site.path("/d/file" if where == "file" else "/d")
    before = site.tree()
    site.wants(WriteFile(path="/first", content=Inline(b"x")), WriteFile(path="/d/file", content=Inline(b"new\n")))
    subprocess.run(["chattr", f"+{flag}", str(place)], check=True)
    try:
        ended = site.apply(on_failure="undo")

        assert 16 == ended.exit_status
        assert ended.error is not None
        assert "/d/file" in ended.error.message
        assert "chattr" in ended.error.message + ended.error.hint
        assert before == site.tree()
    finally:
        subprocess.run(["chattr", f"-{flag}", str(place)], check=True)


@pytest.mark.parametrize("change", [Remove(path="/file"), SetMetadata(path="/file", mode=0o600)])
def test_immutable_is_not_touched(site: Site, change: Remove | SetMetadata) -> None:
    """Removing an immutable file or changing its mode fails just as clearly."""
    site.path("/file").write_bytes(b"old\n")
    before = site.tree()
    site.wants(change)
    subprocess.run(["chattr", "+i", str(site.path("/file"))], check=True)
    try:
        ended = site.apply()

        assert 15 == ended.exit_status
        assert ended.error is not None
        assert "chattr" in ended.error.message + ended.error.hint
        assert before == site.tree()
    finally:
        subprocess.run(["chattr", "-i", str(site.path("/file"))], check=True)
