"""What may be shown of a content's change, and how."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.changes.diff import diff

lines = st.lists(st.sampled_from(["a", "b", "", "c\\d"]), max_size=12).map("\n".join)


def test_a_change_in_the_middle() -> None:
    """Three lines of context, and the path on both sides."""
    before = b"1\n2\n3\n4\n5\n"

    found = diff("/etc/motd", before, before.replace(b"3", b"three"))

    assert "--- a/etc/motd\n+++ b/etc/motd\n@@ -1,5 +1,5 @@\n 1\n 2\n-3\n+three\n 4\n 5\n" == found


def test_new_and_gone() -> None:
    """A file that comes or goes is on one side only."""
    assert "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+x\n" == diff("/a", None, b"x\n")
    assert "--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n" == diff("/a", b"x", None)
    assert "new empty file\n" == diff("/a", None, b"")
    assert "" == diff("/a", b"x", b"x")


@given(lines, lines)
def test_patch_understands_it(tmp_path_factory: pytest.TempPathFactory, old: str, new: str) -> None:
    """The diff, given to patch, makes the new content of the old one: it hides nothing, final line ends included."""
    if not old or not new or old == new:
        return
    folder: Path = tmp_path_factory.mktemp("diff")
    (folder / "a").write_text(old)

    subprocess.run(["patch", "-s", "a"], cwd=folder, input=diff("/a", old.encode(), new.encode()).encode(), check=True)

    assert new == (folder / "a").read_text()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"a", b"\0", "binary or large content differs (1 byte -> 1 byte)\n"),
        (None, b"\xff", "binary or large content differs (none -> 1 byte)\n"),
        (b"a", b"x" * (1 << 20), "binary or large content differs (1 byte -> 1048576 bytes)\n"),
    ],
)
def test_no_text(before: bytes | None, after: bytes | None, expected: str) -> None:
    """Binary and large content is told by size."""
    assert expected == diff("/a", before, after)


def test_secrets() -> None:
    """A secret is told by size: one that is said to be, one by its name, one by its content."""
    key = b"-----BEGIN PRIVATE KEY-----\n"

    assert "secret content differs (1 byte -> 2 bytes)\n" == diff("/a", b"a", b"bb", hidden="secret")
    assert "private content differs (1 byte -> 2 bytes)\n" == diff("/a", b"a", b"bb", hidden="private")
    assert "secret content differs (1 byte -> 2 bytes)\n" == diff("/etc/shadow", b"a", b"bb", hidden="private")
    assert "secret content differs (28 bytes -> none)\n" == diff("/a.pem", key, None)


def test_a_terminal_obeys_nothing() -> None:
    """Escape sequences in content are shown, not sent; tabs stay."""
    assert "+\tred\\x1b[31m\\r\n" == diff("/a", b"", b"\tred\x1b[31m\r\n").splitlines(keepends=True)[-1]


@given(lines, lines)
def test_nothing_in_common_is_told_as_difflib_would(old: str, new: str) -> None:
    """The short way for contents without a common line gives what the long way gives."""
    if not old or not new:
        return
    old, new = old.replace("b", "a") + "\n", new.replace("a", "b").replace("c", "b") + "b\n"
    expected = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/x", "b/x")

    assert old == new or "".join(expected) == diff("/x", old.encode(), new.encode())
