"""What every host must do, as tests; a new host joins by a class of its own.

::

    class TestMyHost(HostConformance):
        @pytest.fixture
        def host(self) -> Host:
            return MyHost()

The host it gives has an empty root that may be changed. It runs as root where it is real, so that owners can be given.
Units and packages have suites of their own, `UnitsConformance` and `PackagesConformance`.
"""

from __future__ import annotations

import os

import pytest

from aquiline.errors import HostError, NotPossibleHere, UnsafePath
from aquiline.host import Overlay, unitfiles
from aquiline.host.objects import (
    ABSENT,
    Directory,
    Enablement,
    Metadata,
    Object,
    Package,
    Present,
    RegularFile,
    Special,
    Symlink,
    sha256,
    without_times,
)
from aquiline.host.protocol import Entry, Host, Staged

#: A modification time with nanoseconds: 2001-09-09 01:46:40.123456789 UTC.
THEN = 1_000_000_000_123_456_789


def file(content: bytes, *, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime_ns: int = THEN) -> RegularFile:
    """Return what a regular file of this content is."""
    return RegularFile(Metadata(mode, uid, gid, mtime_ns), len(content), sha256(content))


def directory(*, mode: int = 0o755, uid: int = 0, mtime_ns: int = THEN) -> Directory:
    """Return what a directory is."""
    return Directory(Metadata(mode, uid, 0, mtime_ns))


def symlink(target: str, *, uid: int = 0, mtime_ns: int = THEN) -> Symlink:
    """Return what a symbolic link is."""
    return Symlink(Metadata(0o777, uid, 0, mtime_ns), target)


def fifo() -> Special:
    """Return what a FIFO is."""
    return Special(Metadata(0o600, 0, 0, THEN), "fifo")


def put(host: Host, path: str, wanted: Present, content: bytes | None = None) -> Staged:
    """Stage and publish an object."""
    staged = host.stage(path, wanted, None if content is None else [content], "test")
    host.sync([staged])
    host.publish(staged)
    return staged


def write(host: Host, path: str, content: bytes) -> None:
    """Write a file that is root's and readable by all."""
    put(host, path, file(content), content)


def tree(host: Host, path: str = "/") -> dict[str, tuple[Object, bytes | None, int]]:
    """Return all that can be seen below `path` but times: objects, contents, and numbers of links of files."""
    found: dict[str, tuple[Object, bytes | None, int]] = {}
    for name in host.names(path):
        below = f"{path.rstrip('/')}/{name}"
        seen = host.observe(below)
        content = host.read(below) if isinstance(seen, RegularFile) else None
        found[below] = (without_times(seen), content, seen.links if isinstance(seen, RegularFile) else 1)
        if isinstance(seen, Directory):
            found |= tree(host, below)
    return found


class HostConformance:
    """The suite; see the module."""

    # ---- reading --------------------------------------------------------------------------------------------------

    def test_nothing_is_absent(self, host: Host) -> None:
        """Where nothing stands, there is no status, no name, and the object is `Absent`."""
        assert (None, ABSENT, ()) == (host.status("/a"), host.observe("/a"), host.names("/a"))

    def test_below_nothing_is_absent(self, host: Host) -> None:
        """A parent that is missing, or no directory, makes an object absent, not an error."""
        write(host, "/file", b"x")

        assert (ABSENT, ABSENT) == (host.observe("/missing/a"), host.observe("/file/a"))
        assert (None, None) == (host.status("/missing/a"), host.status("/file/a"))
        assert ((), ()) == (host.names("/missing/a"), host.names("/file"))

    def test_reading_what_is_no_file_is_an_error(self, host: Host) -> None:
        """Only regular files can be read, links to them included."""
        write(host, "/file", b"x")
        put(host, "/directory", directory())
        put(host, "/link", symlink("file"))
        put(host, "/fifo", fifo())

        for path in ("/missing", "/missing/too", "/directory", "/link", "/fifo", "/"):
            with pytest.raises(HostError):
                host.read(path)
            with pytest.raises(HostError):
                list(host.chunks(path))

    def test_the_root_is_a_directory(self, host: Host) -> None:
        """The root itself can be looked at as any other directory."""
        write(host, "/a", b"")
        status = host.status("/")

        assert isinstance(host.observe("/"), Directory)
        assert "directory" == (status.type if status else None)
        assert ("a",) == host.names("/")

    def test_paths_need_not_be_tidy(self, host: Host) -> None:
        """Doubled and trailing slashes and dots lead to the same object."""
        put(host, "/etc", directory())
        write(host, "/etc/motd", b"x")

        assert [b"x"] * 3 == [host.read(path) for path in ("//etc///motd", "/./etc/./motd", "/etc/../etc/motd")]
        assert (("motd",), host.observe("/etc")) == (host.names("/etc/"), host.observe("/etc//"))

    def test_a_relative_path_is_an_error(self, host: Host) -> None:
        """A path that is not absolute says nothing about where."""
        write(host, "/etc", b"x")

        for path in ("", "etc", "etc/motd"):
            with pytest.raises(HostError):
                host.observe(path)

    # ---- stage and publish ----------------------------------------------------------------------------------------

    def test_what_was_published_is_there(self, host: Host) -> None:
        """An object stands at its place with exactly its metadata, and the staged value says the same."""
        for path, wanted, content in (
            ("/file", file(b"hello\n", mode=0o640, uid=7, gid=8), b"hello\n"),
            ("/program", file(b"", mode=0o4755, uid=7), b""),
            ("/directory", directory(mode=0o1770, uid=7), None),
            ("/link", symlink("../no where", uid=7), None),
            ("/fifo", fifo(), None),
            ("/null", Special(Metadata(0o666, 0, 0, THEN), "character-device", os.makedev(1, 3)), None),
        ):
            staged = put(host, path, wanted, content)

            assert (wanted, wanted) == (staged.object, host.observe(path))

    def test_content_comes_in_pieces(self, host: Host) -> None:
        """A content given and taken piece by piece is the same content."""
        pieces = [b"one ", b"", b"two ", b"\0" * 9000]
        whole = b"".join(pieces)

        host.publish(host.stage("/file", file(whole), pieces, "test"))

        assert (whole, whole) == (host.read("/file"), b"".join(host.chunks("/file")))

    def test_extended_attributes(self, host: Host) -> None:
        """Extended attributes are part of the object."""
        wanted = RegularFile(Metadata(0o644, 0, 0, THEN, (("user.a", b"1"), ("user.b", b"\0"))), 1, sha256(b"x"))

        put(host, "/file", wanted, b"x")

        assert wanted == host.observe("/file")

    def test_names_that_are_no_text(self, host: Host) -> None:
        """A name may hold bytes that are not UTF-8, blanks and newlines, and be 255 bytes long."""
        names = [os.fsdecode(b"\xff\xfe"), "with blank\nand newline", "n" * 255]

        for name in names:
            write(host, f"/{name}", b"x")

        assert tuple(sorted(names)) == host.names("/")
        assert [b"x"] * 3 == [host.read(f"/{name}") for name in names]

    def test_a_name_that_is_too_long_is_an_error(self, host: Host) -> None:
        """A name of 256 bytes cannot be made."""
        with pytest.raises(HostError):
            write(host, f"/{'n' * 256}", b"x")

    def test_time_zero_is_now(self, host: Host) -> None:
        """A staged object without a time gets one, and the result carries it."""
        staged = put(host, "/file", file(b"x", mtime_ns=0), b"x")

        assert staged.object == host.observe("/file")

    def test_staged_is_not_published(self, host: Host) -> None:
        """Until it is published, a staged object stands beside its place under its temporary name."""
        write(host, "/file", b"old")

        staged = host.stage("/file", file(b"new"), [b"new"], "test")

        assert (b"old", b"new") == (host.read("/file"), host.read(staged.temporary))
        assert {"file", os.path.basename(staged.temporary)} == set(host.names("/"))

    def test_staging_again_replaces_a_leftover(self, host: Host) -> None:
        """What a killed run left under the same label is in nobody's way."""
        host.stage("/file", file(b"half"), [b"half"], "test")

        write(host, "/file", b"whole")

        assert {"/file"} == set(tree(host))
        assert b"whole" == host.read("/file")

    def test_discard(self, host: Host) -> None:
        """Discarding removes what was staged, once and again, and even where its directory has gone."""
        host.stage("/file", file(b"x"), [b"x"], "test")

        host.discard("/file", "test")
        host.discard("/file", "test")
        host.discard("/missing/file", "test")

        assert () == host.names("/")

    def test_wrong_content_leaves_nothing(self, host: Host) -> None:
        """Content that does not have the digest it should have is refused, and nothing is left behind."""
        for content in ([b"other"], [b"hello", b"more"], [], None):
            with pytest.raises(HostError):
                host.stage("/file", file(b"hello"), content, "test")

        assert () == host.names("/")

    def test_no_parent(self, host: Host) -> None:
        """Nothing can be staged where the parent is absent or no directory."""
        write(host, "/file", b"x")

        for path in ("/missing/a", "/file/a"):
            with pytest.raises(HostError):
                host.stage(path, file(b"x"), [b"x"], "test")

        assert {"/file"} == set(tree(host))

    @pytest.mark.parametrize("before", ["file", "directory", "link", "fifo"])
    @pytest.mark.parametrize("after", ["file", "directory", "link", "fifo"])
    def test_anything_replaces_anything(self, host: Host, before: str, after: str) -> None:
        """An object of any type takes the place of one of any type."""
        objects: dict[str, Present] = {
            "file": file(b"x"),
            "directory": directory(),
            "link": symlink("nowhere"),
            "fifo": fifo(),
        }
        put(host, "/a", objects[before], b"x" if before == "file" else None)

        put(host, "/a", objects[after], b"x" if after == "file" else None)

        assert objects[after] == host.observe("/a")
        assert ("a",) == host.names("/")

    def test_a_directory_that_is_not_empty_is_not_replaced(self, host: Host) -> None:
        """Publishing over a directory that holds something is refused, and leaves it as it is."""
        put(host, "/a", directory())
        write(host, "/a/b", b"x")

        for wanted in (file(b"y"), directory()):
            content = [b"y"] if isinstance(wanted, RegularFile) else None
            staged = host.stage("/a", wanted, content, "test")
            with pytest.raises(HostError):
                host.publish(staged)
            host.discard("/a", "test")

        assert {"/a", "/a/b"} == set(tree(host))

    def test_publishing_what_was_discarded_is_an_error(self, host: Host) -> None:
        """An object that is no longer there cannot be published."""
        staged = host.stage("/a", file(b"x"), [b"x"], "test")
        host.discard("/a", "test")

        with pytest.raises(HostError):
            host.publish(staged)

    # ---- links ----------------------------------------------------------------------------------------------------

    def test_links_in_parents_are_followed(self, host: Host) -> None:
        """Absolute, relative and chained links in parent directories lead on; `..` at the root stays there."""
        put(host, "/run", directory())
        put(host, "/var", directory())
        put(host, "/var/run", symlink("../../../run"))
        put(host, "/absolute", symlink("/var/run"))

        write(host, "/absolute/pid", b"1")

        assert (b"1", b"1") == (host.read("/run/pid"), host.read("/var/run/pid"))
        assert (symlink("/var/run"), ("pid",)) == (host.observe("/absolute"), host.names("/absolute"))

    def test_a_dangling_parent_is_absent(self, host: Host) -> None:
        """Below a link that leads nowhere nothing stands, and nothing can be made."""
        put(host, "/link", symlink("/missing"))

        assert (ABSENT, ()) == (host.observe("/link/a"), host.names("/link"))
        with pytest.raises(HostError):
            write(host, "/link/a", b"x")

    def test_links_in_a_circle(self, host: Host) -> None:
        """A parent that leads to itself is an error."""
        put(host, "/a", symlink("b"))
        put(host, "/b", symlink("a"))

        with pytest.raises(HostError):
            host.observe("/a/x")

    def test_a_parent_that_was_replaced_by_a_link(self, host: Host) -> None:
        """What a path leads to is looked up anew once a parent has been replaced."""
        put(host, "/a", directory())
        put(host, "/b", directory())
        write(host, "/b/file", b"x")
        assert ABSENT == host.observe("/a/file")

        put(host, "/a", symlink("b"))

        assert b"x" == host.read("/a/file")
        host.remove("/a")
        assert ABSENT == host.observe("/a/file")

    def test_a_link_of_a_stranger_is_not_followed(self, host: Host) -> None:
        """A parent link that neither root nor the owner of its directory owns is unsafe; it can be looked at itself."""
        put(host, "/home", directory(uid=1000))
        put(host, "/etc", directory())
        put(host, "/home/trap", symlink("/etc", uid=1001))

        with pytest.raises(UnsafePath):
            host.observe("/home/trap/x")
        with pytest.raises(UnsafePath):
            write(host, "/home/trap/x", b"x")

        assert symlink("/etc", uid=1001) == host.observe("/home/trap")

    def test_a_user_s_link_leads_no_further_than_what_they_own(self, host: Host) -> None:
        """A user's link in their own directory is followed to their own directories, and to nobody else's."""
        put(host, "/home", directory(uid=1000))
        put(host, "/home/data", directory(uid=1000))
        put(host, "/home/way", symlink("data", uid=1000))
        put(host, "/etc", directory())
        put(host, "/home/out", symlink("/etc", uid=1000))
        put(host, "/home/data/root-s", directory())

        with pytest.raises(UnsafePath):
            host.observe("/home/out/x")
        with pytest.raises(UnsafePath):
            write(host, "/home/out/x", b"x")
        write(host, "/home/way/x", b"x")
        with pytest.raises(UnsafePath):
            host.observe("/home/way/root-s/x")

        assert b"x" == host.read("/home/data/x")

    def test_a_link_given_to_a_stranger_is_no_longer_followed(self, host: Host) -> None:
        """Whether a link may be followed is looked at anew once its owner, or its directory's, has changed."""
        put(host, "/etc", directory())
        for path in ("/given", "/replaced", "/linked", "/moved"):
            put(host, path, symlink("etc"))
            write(host, f"{path}/x", b"x")

        host.set_metadata("/given", Metadata(0o777, 1001, 0))
        put(host, "/replaced", symlink("etc", uid=1001))
        host.link("/linked", "/given", "test")
        host.move("/given", "/moved")

        for path in ("/replaced", "/linked", "/moved"):
            with pytest.raises(UnsafePath):
                host.read(f"{path}/x")

    def test_links_and_fifos_have_further_names_too(self, host: Host) -> None:
        """What is no regular file can have several names as well, and shows a change under all of them."""
        put(host, "/link", symlink("nowhere"))
        put(host, "/fifo", fifo())
        host.link("/link2", "/link", "test")
        host.link("/fifo2", "/fifo", "test")

        host.set_metadata("/link2", Metadata(0o777, 7, 8))
        host.set_metadata("/fifo2", Metadata(0o640, 7, 8, THEN))

        assert Symlink(Metadata(0o777, 7, 8, THEN), "nowhere") == host.observe("/link")
        assert Special(Metadata(0o640, 7, 8, THEN), "fifo") == host.observe("/fifo")

    def test_hard_links_share_the_file(self, host: Host) -> None:
        """All names of a file show what is done to it through one of them."""
        write(host, "/a", b"old")
        host.link("/b", "/a", "test")

        host.write_in_place("/a", [b"new"], Metadata(0o600, 7, 0, THEN))
        host.set_mtime("/b", THEN + 1)

        status = [host.status(path) for path in ("/a", "/b")]
        assert (b"new", b"new") == (host.read("/a"), host.read("/b"))
        assert [(2, 0o600, THEN + 1)] * 2 == [(s.links, s.mode, s.mtime_ns) for s in status if s]
        assert 1 == len({s.inode for s in status if s})

    def test_publishing_breaks_one_name_only(self, host: Host) -> None:
        """A new file in the place of one name leaves the other with the old content, and with one link less."""
        write(host, "/a", b"old")
        host.link("/b", "/a", "test")
        host.link("/c", "/a", "test")

        write(host, "/a", b"new")
        host.remove("/c")

        assert (b"new", b"old") == (host.read("/a"), host.read("/b"))
        assert [1, 1] == [s.links for s in (host.status("/a"), host.status("/b")) if s]

    def test_link_replaces(self, host: Host) -> None:
        """Linking replaces a file or an empty directory; linking what is linked already changes nothing."""
        write(host, "/a", b"x")
        write(host, "/b", b"y")
        put(host, "/c", directory())

        for path in ("/b", "/c", "/b", "/a"):
            host.link(path, "/a", "test")

        assert {"/a": 3, "/b": 3, "/c": 3} == {path: seen[2] for path, seen in tree(host).items()}

    def test_link_refuses(self, host: Host) -> None:
        """A directory or nothing cannot be linked, nor can a directory that holds something be replaced by a link."""
        put(host, "/full", directory())
        write(host, "/full/file", b"x")

        for path, existing in (
            ("/a", "/full"),
            ("/a", "/missing"),
            ("/missing/a", "/full/file"),
            ("/full", "/full/file"),
        ):
            with pytest.raises(HostError):
                host.link(path, existing, "test")

        assert {"/full", "/full/file"} == set(tree(host))

    # ---- in place, metadata ---------------------------------------------------------------------------------------

    def test_in_place_keeps_the_inode(self, host: Host) -> None:
        """Overwriting in place changes content and metadata, and neither inode nor the object that is reported."""
        write(host, "/a", b"a longer content")
        before = host.status("/a")

        seen = host.write_in_place("/a", [b"sh", b"ort"], Metadata(0o4711, 7, 8, THEN + 5))

        after = host.status("/a")
        assert file(b"short", mode=0o4711, uid=7, gid=8, mtime_ns=THEN + 5) == seen == host.observe("/a")
        assert (before and before.inode) == (after and after.inode)

    def test_in_place_needs_a_file(self, host: Host) -> None:
        """Only an existing regular file can be written in place."""
        put(host, "/directory", directory())
        put(host, "/link", symlink("file"))
        write(host, "/file", b"x")

        for path in ("/missing", "/directory", "/link", "/file/below"):
            with pytest.raises(HostError):
                host.write_in_place(path, [b"y"], Metadata(0o644, 0, 0))

        assert b"x" == host.read("/file")

    def test_metadata_is_given_exactly(self, host: Host) -> None:
        """Owner, mode, time and attributes become what is asked for; time 0 leaves it; a link keeps its target."""
        wanted = Metadata(0o2750, 7, 8, THEN + 1, (("user.a", b"1"),))
        write(host, "/file", b"x")
        put(host, "/directory", directory())
        put(host, "/link", symlink("file"))

        host.set_metadata("/file", wanted)
        host.set_metadata("/directory", wanted)
        host.set_metadata("/link", Metadata(0o777, 7, 8))

        assert RegularFile(wanted, 1, sha256(b"x")) == host.observe("/file")
        assert Directory(wanted) == host.observe("/directory")
        assert Symlink(Metadata(0o777, 7, 8, THEN), "file") == host.observe("/link")

    def test_metadata_of_nothing_is_an_error(self, host: Host) -> None:
        """What is absent has no metadata to set."""
        with pytest.raises(HostError):
            host.set_metadata("/a", Metadata(0o644, 0, 0))
        with pytest.raises(HostError):
            host.set_mtime("/a", THEN)

        assert () == host.names("/")

    def test_mtime_alone(self, host: Host) -> None:
        """Setting the time sets nothing else, on a directory after its entries were made and on a link itself."""
        put(host, "/a", directory())
        put(host, "/a/link", symlink("nowhere"))

        host.set_mtime("/a/link", THEN + 7)
        host.set_mtime("/a", THEN + 8)

        assert symlink("nowhere", mtime_ns=THEN + 7) == host.observe("/a/link")
        assert directory(mtime_ns=THEN + 8) == host.observe("/a")

    def test_entries_move_the_time_of_their_directory(self, host: Host) -> None:
        """A directory in which something is made or removed does not keep its time."""
        put(host, "/a", directory())

        write(host, "/a/file", b"x")

        assert directory() != host.observe("/a")
        assert without_times(directory()) == without_times(host.observe("/a"))

    # ---- move and remove ------------------------------------------------------------------------------------------

    def test_a_directory_moves_with_all_below(self, host: Host) -> None:
        """A moved directory brings its subtree, and nothing stays behind."""
        put(host, "/a", directory())
        put(host, "/a/b", directory())
        write(host, "/a/b/file", b"x")
        assert b"x" == host.read("/a/b/file")

        host.move("/a", "/c")

        assert {"/c", "/c/b", "/c/b/file"} == set(tree(host))
        assert (ABSENT, b"x") == (host.observe("/a/b/file"), host.read("/c/b/file"))

    def test_a_new_directory_is_empty(self, host: Host) -> None:
        """A directory made where one was moved away or removed shows nothing of the old one."""
        put(host, "/a", directory())
        write(host, "/a/file", b"x")
        host.move("/a", "/b")

        put(host, "/a", directory())

        assert ((), ("file",)) == (host.names("/a"), host.names("/b"))

    def test_move_replaces(self, host: Host) -> None:
        """A file replaces a file or link, a directory an empty directory; moving to itself changes nothing."""
        write(host, "/a", b"a")
        write(host, "/b", b"b")
        put(host, "/link", symlink("b"))
        put(host, "/full", directory())
        write(host, "/full/file", b"x")
        put(host, "/empty", directory())

        host.move("/a", "/a")
        host.move("/a", "/link")
        host.move("/link", "/b")
        host.move("/full", "/empty")

        assert {"/b", "/empty", "/empty/file"} == set(tree(host))
        assert b"a" == host.read("/b")

    def test_move_over_another_name_of_the_file(self, host: Host) -> None:
        """Moving one name over another of the same file leaves one name."""
        write(host, "/a", b"x")
        host.link("/b", "/a", "test")

        host.move("/a", "/b")

        assert {"/b": 1} == {path: seen[2] for path, seen in tree(host).items()}

    def test_move_refuses(self, host: Host) -> None:
        """What cannot be moved stays, and so does what would be in its place."""
        put(host, "/full", directory())
        write(host, "/full/file", b"x")
        put(host, "/empty", directory())
        write(host, "/file", b"y")
        before = tree(host)

        for source, destination in (
            ("/missing", "/a"),
            ("/file", "/missing/a"),
            ("/file", "/full"),
            ("/file", "/empty"),
            ("/empty", "/full"),
            ("/empty", "/file"),
            ("/full", "/full/below"),
            ("/full/file", "/full"),
        ):
            with pytest.raises(HostError):
                host.move(source, destination)

        assert before == tree(host)

    def test_remove(self, host: Host) -> None:
        """Anything but a directory that holds something is removed; what is absent already is fine."""
        write(host, "/file", b"x")
        put(host, "/directory", directory())
        put(host, "/link", symlink("file"))
        put(host, "/fifo", fifo())

        for path in ("/file", "/directory", "/link", "/fifo", "/file", "/missing/too"):
            host.remove(path)

        assert () == host.names("/")

    def test_remove_refuses(self, host: Host) -> None:
        """Neither a directory that holds something nor the root can be removed."""
        put(host, "/full", directory())
        write(host, "/full/file", b"x")

        for path in ("/full", "/"):
            with pytest.raises(HostError):
                host.remove(path)

        assert {"/full", "/full/file"} == set(tree(host))

    def test_sync_directories_passes_over_what_has_gone(self, host: Host) -> None:
        """A directory that is no more has no entries to make durable."""
        write(host, "/file", b"x")

        host.sync_directories(["/", "/missing", "/missing/too"])

        assert ("file",) == host.names("/")

    # ---- accounts -------------------------------------------------------------------------------------------------

    def test_accounts_are_those_of_the_root(self, host: Host) -> None:
        """Names are looked up in the passwd and group file of the host; numbers are returned as such."""
        put(host, "/etc", directory())
        write(host, "/etc/passwd", b"root:x:0:0::/:/bin/sh\nbroken\nquattor-x:x:4711:4712::/:/bin/sh\n")
        write(host, "/etc/group", b"root:x:0:\nquattor-g:x:4712:quattor-x\n")

        accounts = host.accounts
        assert (4711, 4712, 5, 6) == (
            accounts.uid("quattor-x"),
            accounts.gid("quattor-g"),
            accounts.uid(5),
            accounts.gid(6),
        )

    def test_root_and_numbers_need_no_account_files(self, host: Host) -> None:
        """Before it has account files a host knows root, and text that is a number, but none that is no account's."""
        for lookup in (host.accounts.uid, host.accounts.gid):
            assert [0, 0, 1234, 2**32 - 2] == [lookup(name) for name in ("root", "0", "1234", str(2**32 - 2))]
            for wrong in (str(2**32 - 1), "-1", "٣", "", "9" * 5000):
                with pytest.raises(HostError):
                    lookup(wrong)

    def test_no_such_account_is_an_error(self, host: Host) -> None:
        """A name that nobody has is an error."""
        for lookup in (host.accounts.uid, host.accounts.gid):
            with pytest.raises(HostError):
                lookup("nobody-of-this-name")

    # ---- accounts -------------------------------------------------------------------------------------------------

    def test_entries_are_set_added_and_removed(self, host: Host) -> None:
        """One effect sets several entries; comments, lines of NIS, order, owner and mode stay as they are."""
        put(host, "/etc", directory())
        put(
            host,
            "/etc/group",
            file(b"# all\na:x:1:\nb:x:2:\n+::::\n", mode=0o640, uid=3),
            b"# all\na:x:1:\nb:x:2:\n+::::\n",
        )
        host.accounts.set_entries("group", [Entry("c", "c:x:3:"), Entry("a", None), Entry("b", "b:x:9:")])

        found = host.observe("/etc/group")
        assert b"# all\nb:x:9:\nc:x:3:\n+::::\n" == host.read("/etc/group")
        assert isinstance(found, RegularFile)
        assert (0o640, 3) == (found.metadata.mode, found.metadata.uid)
        assert (Entry("b", "b:x:9:", "", 1), Entry("a", None)) == (
            host.accounts.entry("group", "b"),
            host.accounts.entry("group", "a"),
        )

    def test_an_entry_goes_back_to_its_place(self, host: Host) -> None:
        """What `entry` said of its place puts it there again."""
        put(host, "/etc", directory())
        content = b"a:1:1\n\n# b is next\nb:2:2\nc:3:3"
        write(host, "/etc/subuid", content)
        for name in ("a", "b", "c"):
            entry = host.accounts.entry("subuid", name)
            host.accounts.set_entries("subuid", [Entry(name, None)])
            host.accounts.set_entries("subuid", [entry])

            assert content == host.read("/etc/subuid")

    def test_a_user_is_known_once_its_entry_is_there(self, host: Host) -> None:
        """The number of a user is that of the entry that was just set."""
        put(host, "/etc", directory())
        write(host, "/etc/passwd", b"root:x:0:0::/:\n")
        host.accounts.set_entries("passwd", [Entry("new-user", "new-user:x:4321:1::/:")])

        assert 4321 == host.accounts.uid("new-user")

    def test_no_database_no_entry(self, host: Host) -> None:
        """A database that is not there, or is no regular file, holds nothing and takes nothing."""
        put(host, "/etc", directory())
        put(host, "/etc/gshadow", symlink("shadow"))

        assert None is host.accounts.entry("gshadow", "a").line
        for database in ("gshadow", "shadow"):
            with pytest.raises(HostError):
                host.accounts.set_entries(database, [Entry("a", "a:::")])


#: The unit that a host for the suite of units has: with a file, and without any link.
UNIT = "some.service"
UNIT_FILE = b"[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=quiet.target\nAlias=idle.service\n"
STATES = ("enabled", "disabled", "masked")


class UnitsConformance:
    """What units every host must have, as tests; the host it gives has `UNIT` below a root where nothing runs."""

    def test_a_unit_that_is_there(self, host: Host) -> None:
        """It exists, and is off until somebody enables it."""
        state = host.units.state(UNIT)

        assert (True, "disabled") == (state.exists, state.enabled)

    def test_a_unit_that_is_not_there(self, host: Host) -> None:
        """Asking for it is no error: it does not exist, and is not found."""
        state = host.units.state("missing.service")

        assert (False, "not-found") == (state.exists, state.enabled)

    def test_several_are_asked_at_once(self, host: Host) -> None:
        """What is said of several units is what is said of each."""
        asked = (UNIT, "missing.service")

        assert {unit: host.units.state(unit) for unit in asked} == host.units.states(asked)
        assert {} == host.units.states(())

    @pytest.mark.parametrize("wanted", STATES)
    @pytest.mark.parametrize("before", STATES)
    def test_from_each_state_to_each(self, host: Host, before: str, wanted: str) -> None:
        """A unit is enabled, disabled and masked from wherever it is; enabling and disabling unmask it."""
        host.units.set_enabled(UNIT, before)
        host.units.set_enabled(UNIT, wanted)

        assert wanted == host.units.state(UNIT).enabled
        assert wanted == host.units.states((UNIT,))[UNIT].enabled

    @pytest.mark.parametrize("between", STATES)
    @pytest.mark.parametrize("before", STATES)
    def test_a_state_is_restored(self, host: Host, before: str, between: str) -> None:
        """Whatever was done in between, a unit gets back its state, and exactly the links that made it so."""
        host.units.set_enabled(UNIT, before)
        links = unitfiles.links(host, (UNIT,))
        folders = _folders_of_links(host)
        absent = (
            () if "/etc/systemd/system/quiet.target.wants" in folders else ("/etc/systemd/system/quiet.target.wants",)
        )

        host.units.set_enabled(UNIT, between)
        host.units.restore(UNIT, Enablement(before, (UNIT,), links, absent))

        assert before == host.units.state(UNIT).enabled
        assert links == unitfiles.links(host, (UNIT,))
        assert folders == _folders_of_links(host)


def _folders_of_links(host: Host) -> list[str]:
    return [folder for folder in unitfiles.folders(host) if folder.endswith(unitfiles.FOLDERS)]


class PackagesConformance:
    """What packages every host must have, as tests.

    The host it gives has neither ``aqtool`` nor ``aqlib``. Of both there are versions 1 and 2 to be had; ``aqtool``
    needs ``aqlib``, and brings /opt/tool.
    """

    def test_what_is_not_installed(self, host: Host) -> None:
        """A package that could be installed is none that is."""
        assert not {"aqtool", "aqlib"} & host.packages.installed().keys()

    def test_what_would_come(self, host: Host) -> None:
        """A simulation names what comes along, the newest where no version is asked for, and changes nothing."""
        outcome = host.packages.simulate({"aqtool": "1"}, ())

        assert {"aqtool": Package("1"), "aqlib": Package("2", auto=True)} == outcome
        assert not outcome.keys() & host.packages.installed().keys()

    def test_what_was_done_is_there(self, host: Host) -> None:
        """A transaction brings packages to exactly the versions and marks that were asked for, and takes them away."""
        wanted = {"aqtool": Package("1"), "aqlib": Package("1", auto=True)}
        host.packages.transact(wanted)

        assert wanted == _ours(host)
        assert {} == host.packages.simulate({"aqtool": ""}, ())
        host.packages.transact({"aqtool": ABSENT, "aqlib": Package("2", hold=True)})
        assert {"aqlib": Package("2", hold=True)} == _ours(host)

    def test_what_would_go(self, host: Host) -> None:
        """With a package that is installed go those that need it."""
        base = host.base if isinstance(host, Overlay) else host
        base.packages.transact({"aqtool": Package("1"), "aqlib": Package("1", auto=True)})

        assert {"aqtool": ABSENT, "aqlib": ABSENT} == host.packages.simulate({}, ("aqlib",))
        assert {"aqtool": ABSENT} == host.packages.simulate({}, ("aqtool",))

    def test_what_is_nowhere_is_refused(self, host: Host) -> None:
        """A version that nobody offers is an error of the host, and lacking."""
        with pytest.raises(HostError):
            host.packages.simulate({"aqtool": "9"}, ())

        assert (("aqtool", "9"),) == host.packages.lacking([("aqtool", "1"), ("aqtool", "9")])

    def test_versions_have_an_order(self, host: Host) -> None:
        """Going from a newer version to an older one is a downgrade, and nothing else is."""
        assert [True, False, False] == [host.packages.is_older(*pair) for pair in (("1", "2"), ("2", "1"), ("1", "1"))]


def _ours(host: Host) -> dict[str, Package]:
    return {name: one for name, one in host.packages.installed().items() if name in ("aqtool", "aqlib")}


class NoPackagesConformance:
    """What a host without a package manager must say, as tests."""

    def test_nobody_can_tell(self, host: Host) -> None:
        """Whatever is asked of packages is not possible here; a run is not told that nothing is installed."""
        for ask in (
            host.packages.installed,
            lambda: host.packages.simulate({"aqtool": ""}, ()),
            lambda: host.packages.lacking([("aqtool", "1")]),
        ):
            with pytest.raises(NotPossibleHere):
                ask()
