"""Strings and bytes of a host as people may read them."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.changes.text import command_line, quoted, text_of, visible
from tests.changes.drawing import words


@given(words, words)
def test_nothing_looks_like_something_else(one: str, other: str) -> None:
    """Two texts look the same only if they are, and each is printable."""
    assert (one == other) == (visible(one) == visible(other))
    assert visible(one).isprintable()


@given(words, st.sampled_from(["", "\t", "\t\n", "\\", "\t\n\\", "é"]))
def test_what_is_kept_stays(text: str, keep: str) -> None:
    """Characters to be kept stay as they are; every other one is shown as it is without them."""
    assert "".join(one if one in keep else visible(one) for one in text) == visible(text, keep=keep)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é", "plain é"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\udce9", "\\xe9"),
        ("\x85", "\\u0085"),
        ("\u202e", "\\u202e"),
        ("a\\b", "a\\\\b"),
    ],
)
def test_what_a_terminal_would_obey(text: str, expected: str) -> None:
    """Control and formatting characters, and bytes that are not UTF-8, are escaped."""
    assert expected == visible(text)


def test_quotes_where_blanks_would_hide_the_end() -> None:
    """A path with blanks or quotes, and the empty one, is quoted."""
    assert ["/etc/motd", '"/a b"', '"a\\"b"', '""'] == [quoted(t) for t in ("/etc/motd", "/a b", 'a"b', "")]


@given(st.lists(words, min_size=1, max_size=3))
def test_a_command_line_is_what_it_shows(argv: list[str]) -> None:
    """Bash makes of the shown command line exactly these arguments."""
    script = f"printf '%s\\0' {command_line(argv)}"

    found = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})

    assert [argument.encode("utf-8", "surrogateescape") for argument in argv] == found.stdout.split(b"\0")[:-1]


def test_text_or_not() -> None:
    """UTF-8 without NUL, under 1 MiB, is text."""
    assert [None, None, None, "é"] == [text_of(c) for c in (b"\xff", b"a\0b", b"a" * (1 << 20), "é".encode())]
