"""Conformance of kinds: do, undo, redo, over every kind of prior state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aquiline.changes.kinds import (
    Change,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Remove,
    SetMetadata,
    WriteFile,
)
from aquiline.host.objects import sha256

from .site import Site

#: What may stand at ``/etc/it`` before.
PRIOR = (
    "nothing", "empty-file", "file", "private-file", "setuid-file", "file-with-attributes", "old-file",
    "file-with-two-names", "sparse-file", "link", "dangling-link-of-a-user", "fifo", "device", "directory",
)  # fmt: skip


def put(prior: str, path: Path) -> None:
    """Let `prior` stand at `path`."""
    if prior.endswith("file") or prior.startswith("file"):
        path.write_bytes(b"" if prior == "empty-file" else b"before\n")
    match prior:
        case "private-file":
            path.chmod(0o600)
            os.chown(path, 12, 34)
        case "setuid-file":
            os.chown(path, 12, 34)
            path.chmod(0o4755)
        case "file-with-attributes":
            path.write_bytes(b"x")
            os.setxattr(path, "user.note", b"kept")
        case "old-file":
            os.utime(path, ns=(1, 1_234_567_890_123_456_789))
        case "file-with-two-names":
            os.link(path, path.with_name("other"))
        case "sparse-file":
            os.truncate(path, 1_000_000)
        case "link":
            path.symlink_to("elsewhere")
        case "dangling-link-of-a-user":
            path.symlink_to("/no/where")
            os.lchown(path, 12, 34)
        case "fifo":
            os.mkfifo(path, 0o640)
        case "device":
            os.mknod(path, 0o20600, os.makedev(1, 3))
        case "directory":
            path.mkdir(0o750)


#: What is done to it.
CHANGES: dict[str, Change] = {
    "write": WriteFile(path="/etc/it", content=Inline(b"after\n"), mode=0o640, owner=7, group=8),
    "write-same-content": WriteFile(path="/etc/it", content=Inline(b"before\n"), mode=0o604),
    "write-with-attributes": WriteFile(path="/etc/it", content=Inline(b"x"), xattrs=(("user.new", b"1"),)),
    "write-with-time": WriteFile(path="/etc/it", content=Inline(b"after\n"), mtime_ns=1_000_000_000_000_000_001),
    "edit": EditFile(path="/etc/it", content=Inline(b"before\nafter\n"), edited_sha256=sha256(b"before\n")),
    "remove": Remove(path="/etc/it"),
    "directory": MakeDirectory(path="/etc/it", mode=0o711, owner=5),
    "symlink": MakeSymlink(path="/etc/it", target="somewhere/else"),
    "hardlink": MakeHardlink(path="/etc/it", existing="/etc/linked"),
    "fifo": MakeSpecial(path="/etc/it", special="fifo", mode=0o622),
    "device": MakeSpecial(path="/etc/it", special="character-device", device=os.makedev(1, 5)),
    "move-away": Move(source="/etc/it", destination="/etc/there"),
    "move-over": Move(source="/etc/linked", destination="/etc/it"),
    "metadata": SetMetadata(path="/etc/it", mode=0o701, owner=9, group=9, mtime_ns=999_999_999),
    "attributes": SetMetadata(path="/etc/it", xattrs=()),
    "deep": WriteFile(path="/etc/it/below/deeper", content=Inline(b"deep\n")),
}


FILES = {name for name in PRIOR if name.endswith("file") or name.startswith("file")}
LINKS = {"link", "dangling-link-of-a-user"}
#: What a dry-run and a live run both refuse, with nothing changed.
REFUSED = (
    {(prior, "edit") for prior in PRIOR}
    - {(prior, "edit") for prior in FILES - {"empty-file", "sparse-file", "file-with-attributes"}}
    | {("nothing", "metadata"), ("nothing", "attributes")}
    | {(prior, "metadata") for prior in LINKS}
    | {(prior, change) for prior in PRIOR if prior not in ("nothing", "directory") for change in ("directory", "deep")}
    | {("directory", change) for change in CHANGES if change.startswith("write")}
    | {("directory", change) for change in ("symlink", "hardlink", "fifo", "device", "move-over")}
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("prior", PRIOR)
def test_do_undo_redo(site: Site, prior: str, change: str) -> None:
    """Whatever stood there: undo gives the tree before, redo the tree after, so does the script; no second plan.

    What cannot be done to it is refused in the dry-run and in the live run alike, and nothing is changed.
    """
    site.path("/etc").mkdir()
    site.path("/etc/linked").write_bytes(b"linked\n")
    put(prior, site.path("/etc/it"))
    before = site.tree()
    site.wants(CHANGES[change])
    plan = site.plan()

    assert before == site.tree(), "a dry-run changes nothing"
    if plan.components["one"].state == "failed":
        assert (prior, change) in REFUSED
        assert 15 == site.apply().exit_status
        assert 15 == site.apply().exit_status
        assert before == site.tree()
        return
    assert (prior, change) not in REFUSED
    run = site.apply()
    after = site.tree()

    assert None is run.error
    assert 0 == run.exit_status
    assert () == site.plan().steps
    if not plan.steps:
        assert before == after
        return
    assert 0 == site.undo().exit_status
    assert before == site.tree()
    redone = site.redo(run.run)
    assert 0 == redone.exit_status
    assert after == site.tree()
    site.run_undo_script(redone.run)
    assert before == site.tree()


def test_a_full_directory_moves_back(site: Site) -> None:
    """Undo of moving a directory takes all that is in it along, also what came in since."""
    site.path("/etc/full").mkdir(parents=True)
    site.path("/etc/full/file").write_text("x")
    before = site.tree()
    site.wants(Move(source="/etc/full", destination="/etc/there"))
    site.apply()

    assert 0 == site.undo().exit_status
    assert before == site.tree()
