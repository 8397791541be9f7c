import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.errors import ProfileError
from aquiline.profile import Profile, escape, unescape, unescape_path


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_unescape_takes_escape_back(text: str) -> None:
    """Whatever a key is, its escaped form stands for it alone."""

    assert text == unescape(escape(text))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_escaped_text_is_a_plain_term(text: str) -> None:
    """An escaped key can stand in a path as it is."""

    assert escape(text).replace("_", "").isalnum() or escape(text).strip("_") == ""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("/etc/motd", "_2fetc_2fmotd"),
        ("/etc/foo bar", "_2fetc_2ffoo_20bar"),
        ("3ware", "_33ware"),
        ("a_b", "a_5fb"),
        ("", "_"),
    ],
)
def test_escape_is_pans(text: str, key: str) -> None:
    """Keys are escaped as Pan does: a leading digit, and all that is no ASCII letter or digit."""

    assert key == escape(text)


def test_a_name_in_another_encoding_stays_its_bytes() -> None:
    """A file name that is not UTF-8 is unescaped to what the file system calls it."""

    assert b"/etc/\xe9" == unescape("_2fetc_2f_e9").encode("utf-8", "surrogateescape")


def test_a_file_name_may_be_written_plainly() -> None:
    """YAML profiles write file names as they are; an underscore and two digits in one is no escape."""

    assert ("/etc/a_2fb", "/etc/motd") == (unescape_path("/etc/a_2fb"), unescape_path("_2fetc_2fmotd"))


def test_a_term_in_braces_is_found_in_both_forms() -> None:
    """One path finds an entry of a Pan profile and of a YAML profile."""
    pan = Profile(tree={"services": {"_2fetc_2fmotd": {"perms": "0644"}}})
    yaml = Profile(tree={"services": {"/etc/motd": {"perms": "0600"}}})
    path = "/services/{/etc/motd}/perms"

    assert ("0644", "0600") == (pan.at(path), yaml.at(path))


def test_at_finds_positions_of_lists_and_nothing_where_nothing_is() -> None:
    """Terms of a path are keys or positions; a path that leads nowhere gives None."""
    profile = Profile(tree={"cards": [{"name": "eth0"}, {"name": "eth1"}]})

    assert ["eth1", None, None, None] == [
        profile.at(path) for path in ("/cards/1/name", "/cards/2", "/cards/name", "/none/at/all")
    ]


@pytest.mark.parametrize("path", ["", "a", "/a//b", "/a/{b", "/a/}b", "/a/"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """A path that does not parse raises, rather than finding nothing."""

    with pytest.raises(ProfileError):
        Profile(tree={}).at(path)
