import os
from pathlib import Path

import pytest

from aquiline.errors import ProfileError
from aquiline.profile import Profile, ProfileArchive


def profile(text: str) -> Profile:
    return Profile(tree={"metadata": {"text": text}, "numbers": [1, 2.5]})


def test_what_is_put_can_be_got(tmp_path: Path) -> None:
    """A profile comes back by its digest, whole."""
    archive = ProfileArchive(tmp_path / "profiles")
    one = profile("one")

    digest = archive.put(one)

    assert one.digest == digest
    assert one.tree == archive.get(digest).tree
    assert "web01" == archive.get(digest, "web01").name


def test_only_root_can_read_it(tmp_path: Path) -> None:
    """Profiles may hold secrets: neither file nor directory is open to others."""
    archive = ProfileArchive(tmp_path / "profiles")
    digest = archive.put(profile("one"))

    assert 0o600 == (tmp_path / "profiles" / f"{digest}.json.gz").stat().st_mode & 0o7777
    assert 0o700 == (tmp_path / "profiles").stat().st_mode & 0o7777


def test_the_same_profile_is_kept_once(tmp_path: Path) -> None:
    """Putting a profile again changes nothing."""
    archive = ProfileArchive(tmp_path)

    archive.put(profile("one"))
    archive.put(profile("one"))

    assert (profile("one").digest,) == archive.list()
    assert 1 == len(os.listdir(tmp_path))


def test_list_is_in_the_order_of_putting(tmp_path: Path) -> None:
    """The profile that was put last is the last in the list; what is no profile is passed over."""
    archive = ProfileArchive(tmp_path)
    digests = [archive.put(profile(text)) for text in ("one", "two", "three")]
    for number, digest in enumerate(digests):
        os.utime(tmp_path / f"{digest}.json.gz", (number, number))
    (tmp_path / "README").write_text("not a profile")

    assert tuple(digests) == archive.list()


def test_an_archive_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """Looking makes no directory."""

    assert () == ProfileArchive(tmp_path / "none").list()
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"])
def test_damage_is_noticed(tmp_path: Path, content: bytes) -> None:
    """A file that does not hold what its name says is an error that names it."""
    archive = ProfileArchive(tmp_path)
    digest = archive.put(profile("one"))
    (tmp_path / f"{digest}.json.gz").write_bytes(content)

    with pytest.raises(ProfileError, match="damaged"):
        archive.get(digest)


def test_a_swapped_file_is_noticed(tmp_path: Path) -> None:
    """A sound profile under another's name is not taken for it."""
    archive = ProfileArchive(tmp_path)
    one, two = archive.put(profile("one")), archive.put(profile("two"))
    os.replace(tmp_path / f"{two}.json.gz", tmp_path / f"{one}.json.gz")

    with pytest.raises(ProfileError, match="damaged"):
        archive.get(one)


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/shadow", ""])
def test_what_is_not_kept_is_an_error(tmp_path: Path, digest: str) -> None:
    """An unknown digest, and what is no digest at all, is refused."""

    with pytest.raises(ProfileError):
        ProfileArchive(tmp_path).get(digest)
