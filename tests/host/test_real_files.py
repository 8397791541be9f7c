"""Files, directories, links and special files of a real root: looked at and changed."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.errors import HostError, UnsafePath
from aquiline.host import RealHost
from aquiline.host.objects import ABSENT, Directory, Metadata, RegularFile, Special, Symlink, sha256
from aquiline.host.protocol import Host

ME = os.geteuid(), os.getegid()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    (tmp_path / "etc").mkdir()
    with RealHost(str(tmp_path)) as host:
        yield host


def metadata(mode: int = 0o644, mtime_ns: int = 1_000_000_007) -> Metadata:
    return Metadata(mode, *ME, mtime_ns)


def file(data: bytes, mode: int = 0o644) -> RegularFile:
    return RegularFile(metadata(mode), len(data), sha256(data))


def put(host: Host, path: str, data: bytes, mode: int = 0o644) -> None:
    host.publish(host.stage(path, file(data, mode), [data], "put"))


def left_in(host: RealHost, path: str = "/etc") -> tuple[str, ...]:
    return host.names(path)


class TestLooking:
    def test_a_file_is_observed_whole(self, host: RealHost) -> None:
        """A regular file is its metadata, size, digest and number of names."""
        Path(host.root, "etc/motd").write_bytes(b"hello\n")
        os.chmod(f"{host.root}/etc/motd", 0o640)
        os.utime(f"{host.root}/etc/motd", ns=(5, 7))
        os.link(f"{host.root}/etc/motd", f"{host.root}/etc/issue")

        expected = RegularFile(Metadata(0o640, *ME, 7), 6, sha256(b"hello\n"), links=2)

        assert expected == host.observe("/etc/motd")

    def test_the_quick_way_and_the_long_way_agree(self, host: RealHost) -> None:
        """The first look at a directory walks, the second uses its descriptor: both see the same."""
        Path(host.root, "etc/motd").write_bytes(b"hello\n")

        assert host.observe("/etc/motd") == host.observe("/etc/motd")

    def test_a_replaced_directory_is_seen_at_once(self, host: RealHost) -> None:
        """A descriptor kept of a directory is not used once something else stands at its path."""
        put(host, "/etc/motd", b"old")
        before = host.read("/etc/motd")
        os.rename(f"{host.root}/etc", f"{host.root}/gone")
        os.mkdir(f"{host.root}/etc")
        Path(host.root, "etc/motd").write_bytes(b"new")
        size = host.observe("/etc/motd"), host.names("/etc"), host.read("/etc/motd")

        assert b"old" == before
        assert ("motd",) == size[1]
        assert b"new" == size[2]
        assert isinstance(size[0], RegularFile)
        assert sha256(b"new") == size[0].sha256

    @pytest.mark.parametrize("path", ["/etc/none", "/none/none", "/etc/motd/none", "/etc/dangling/none"])
    def test_what_is_not_there_is_absent(self, host: RealHost, path: str) -> None:
        """Nothing, a missing parent, and a parent that is no directory are all absent."""
        put(host, "/etc/motd", b"")
        os.symlink("/nowhere", f"{host.root}/etc/dangling")

        assert (ABSENT, None, ()) == (host.observe(path), host.status(path), host.names(path))

    def test_the_root_itself_can_be_observed(self, host: RealHost) -> None:
        """The root is a directory like any other."""
        assert isinstance(host.observe("/"), Directory)

    def test_reading_leaves_the_access_time(self, host: RealHost) -> None:
        """Observing, reading and listing move no atime."""
        put(host, "/etc/motd", b"x")
        for path in ("/etc/motd", "/etc"):
            os.utime(host.root + path, ns=(1, 2))
        host.observe("/etc/motd")
        host.observe("/etc/motd")
        host.read("/etc/motd")
        host.names("/etc")
        host.observe("/etc")

        assert [1, 1] == [os.lstat(host.root + path).st_atime_ns for path in ("/etc/motd", "/etc")]

    def test_a_fifo_is_never_opened(self, host: RealHost) -> None:
        """Looking at a FIFO that nobody writes to does not wait; reading it is an error."""
        os.mkfifo(f"{host.root}/etc/fifo", 0o600)
        os.utime(f"{host.root}/etc/fifo", ns=(1, 2))

        assert Special(Metadata(0o600, *ME, 2), "fifo") == host.observe("/etc/fifo")
        with pytest.raises(HostError, match="is a special, not a regular file"):
            host.read("/etc/fifo")

    def test_a_link_at_the_end_is_not_followed(self, host: RealHost) -> None:
        """A symbolic link is observed as itself, and cannot be read."""
        put(host, "/etc/motd", b"x")
        os.symlink("motd", f"{host.root}/etc/link")
        found = host.observe("/etc/link")

        assert isinstance(found, Symlink)
        assert ("motd", 0o777) == (found.target, found.metadata.mode)
        with pytest.raises(HostError, match="is a symlink"):
            host.read("/etc/link")

    def test_a_file_of_proc_is_read_whole(self) -> None:
        """A file whose size says 0 is read to its end all the same."""
        with RealHost("/") as host:
            data = host.read("/proc/self/status")
            found = host.observe("/proc/version")

        assert data.startswith(b"Name:")
        assert isinstance(found, RegularFile)
        assert len(Path("/proc/version").read_bytes()) == found.size

    def test_chunks_are_the_content(self, host: RealHost) -> None:
        """The pieces of a file, put together, are the file; a missing file is an error at once."""
        data = os.urandom(3_000_000)
        put(host, "/etc/large", data)

        assert data == b"".join(host.chunks("/etc/large"))
        assert data == host.read("/etc/large")
        with pytest.raises(HostError, match="is not there"):
            host.chunks("/etc/none")

    @pytest.mark.parametrize("path", ["etc/motd", "/etc/mo\0td", "/etc/.."])
    def test_a_path_that_makes_no_sense_is_refused(self, host: RealHost, path: str) -> None:
        """Relative paths, NUL characters and '..' at the end are errors, whether the directory is known or not."""
        put(host, "/etc/motd", b"")
        with pytest.raises(HostError):
            host.observe(path)


class TestWalking:
    def test_links_resolve_inside_the_root(self, host: RealHost) -> None:
        """Absolute targets and '..' of parent links never lead above the root."""
        os.mkdir(f"{host.root}/srv")
        os.symlink("/srv", f"{host.root}/absolute")
        os.symlink("../../../../srv", f"{host.root}/etc/above")
        put(host, "/srv/a", b"inside")

        assert [b"inside"] * 3 == [host.read(f"/{way}/a") for way in ("absolute", "etc/above", "etc/../../srv")]

    def test_forty_links_are_followed_and_no_more(self, host: RealHost) -> None:
        """A chain of 40 links is followed, one of 41 and a loop are errors."""
        put(host, "/etc/a", b"end")
        os.symlink("etc", f"{host.root}/l1")
        for number in range(2, 42):
            os.symlink(f"l{number - 1}", f"{host.root}/l{number}")
        os.symlink("loop", f"{host.root}/loop")

        assert b"end" == host.read("/l40/a")
        for path in ("/l41/a", "/loop/a"):
            with pytest.raises(HostError, match="too many links"):
                host.read(path)

    def test_a_stranger_s_link_is_not_followed(self, host: RealHost) -> None:
        """A parent link owned by neither root nor the owner of its directory stops every reading and every effect."""
        os.mkdir(f"{host.root}/tmp", 0o1777)
        os.symlink("/etc", f"{host.root}/tmp/way")
        os.lchown(f"{host.root}/tmp/way", 1234, 1234)

        with pytest.raises(UnsafePath, match="'way' is a link made by user 1234 in a directory of user 0"):
            host.observe("/tmp/way/motd")
        with pytest.raises(UnsafePath):
            put(host, "/tmp/way/motd", b"")
        with pytest.raises(UnsafePath):
            host.remove("/tmp/way/motd")
        assert () == left_in(host)

    def test_an_owner_s_link_in_their_own_directory_is_followed(self, host: RealHost) -> None:
        """Whoever owns a directory may say what is in it: their link to a directory of theirs is followed."""
        os.makedirs(f"{host.root}/home/u/real")
        os.symlink("real", f"{host.root}/home/u/way")
        os.chown(f"{host.root}/home/u", 1234, 1234)
        os.chown(f"{host.root}/home/u/real", 1234, 1234)
        os.lchown(f"{host.root}/home/u/way", 1234, 1234)
        put(host, "/home/u/way/f", b"x")

        assert b"x" == host.read("/home/u/real/f")

    def test_descriptors_are_bounded(self, host: RealHost) -> None:
        """However many directories are visited, only so many descriptors are kept; none after `close`."""
        before = len(os.listdir("/proc/self/fd"))
        for number in range(300):
            os.mkdir(f"{host.root}/d{number}")
            put(host, f"/d{number}/f", b"x")
        kept = len(os.listdir("/proc/self/fd")) - before
        host.forget_directories()

        assert 100 < kept <= 130
        assert before >= len(os.listdir("/proc/self/fd"))

    def test_a_dropped_host_leaves_no_descriptors(self, host: RealHost) -> None:
        """A host that nobody closed closes its descriptors when it goes."""
        before = len(os.listdir("/proc/self/fd"))
        dropped = RealHost(host.root)
        dropped.observe("/etc/none")
        during = len(os.listdir("/proc/self/fd"))
        del dropped
        gc.collect()

        assert before < during
        assert before >= len(os.listdir("/proc/self/fd"))

    def test_a_root_must_be_a_directory(self, host: RealHost) -> None:
        """A root that is missing, or a file, is a clear error."""
        for root in (f"{host.root}/none", "/etc/passwd"):
            with pytest.raises(HostError, match="cannot be used as a root"):
                RealHost(root)


class TestStaging:
    def test_it_stands_there_only_once_published(self, host: RealHost) -> None:
        """Staging leaves the place alone; publishing replaces it, and the temporary name is gone."""
        put(host, "/etc/motd", b"old")
        staged = host.stage("/etc/motd", file(b"new"), [b"n", b"ew"], "r1-1")
        before = host.read("/etc/motd"), left_in(host)
        host.sync([staged])
        host.publish(staged)
        host.sync_directories(["/etc", "/etc", "/none"])

        assert (b"old", (".aq-r1-1", "motd")) == before
        assert (b"new", ("motd",)) == (host.read("/etc/motd"), left_in(host))
        assert staged.object == host.observe("/etc/motd")

    def test_time_zero_is_now(self, host: RealHost) -> None:
        """What is staged without a time gets the present one, and the result tells which."""
        staged = host.stage("/etc/motd", RegularFile(metadata(mtime_ns=0), 0, sha256(b"")), [], "x")
        host.publish(staged)

        assert staged.object == host.observe("/etc/motd")
        assert staged.object.metadata.mtime_ns > 1_700_000_000_000_000_000

    @pytest.mark.parametrize("content", [b"", b"ne", b"neu", b"newer"])
    def test_other_content_is_refused_and_nothing_is_left(self, host: RealHost, content: bytes) -> None:
        """Content that has not the promised digest and size is an error that leaves nothing behind."""
        with pytest.raises(HostError, match="expected 3 bytes"):
            host.stage("/etc/motd", file(b"new"), [content], "x")
        assert () == left_in(host)

    def test_content_that_breaks_off_leaves_nothing(self, host: RealHost) -> None:
        """Where the content raises half-way, its error passes through and the temporary object is gone."""

        def breaking() -> Iterator[bytes]:
            yield b"n"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            host.stage("/etc/motd", file(b"new"), breaking(), "x")
        assert () == left_in(host)

    @pytest.mark.parametrize("leftover", ["file", "directory", "link"])
    def test_a_leftover_of_the_same_label_makes_way(self, host: RealHost, leftover: str) -> None:
        """What a killed run left under the temporary name does not stop the next one."""
        path = f"{host.root}/etc/.aq-x"
        {
            "file": lambda: Path(path).touch(),
            "directory": lambda: os.mkdir(path),
            "link": lambda: os.symlink("/", path),
        }[leftover]()
        host.publish(host.stage("/etc/motd", file(b"new"), [b"new"], "x"))

        assert (b"new", ("motd",)) == (host.read("/etc/motd"), left_in(host))

    def test_discard_removes_what_was_staged(self, host: RealHost) -> None:
        """A staged object can be given up; doing so twice, or where the directory has gone, is success."""
        host.stage("/etc/motd", file(b"new"), [b"new"], "x")
        for _ in range(2):
            host.discard("/etc/motd", "x")
        host.discard("/none/motd", "x")

        assert () == left_in(host)

    @pytest.mark.parametrize(
        "wanted",
        [
            Directory(metadata(0o1775)),
            Symlink(metadata(0o777), "some/where"),
            Special(metadata(0o620), "fifo"),
            Special(metadata(0o600), "socket"),
            Special(metadata(0o640), "character-device", os.makedev(1, 3)),
            Special(metadata(0o660), "block-device", os.makedev(7, 200)),
        ],
    )
    @pytest.mark.parametrize("before", ["nothing", "file", "directory", "link", "fifo"])
    def test_every_type_replaces_every_other(
        self, host: RealHost, wanted: Directory | Symlink | Special, before: str
    ) -> None:
        """Any object can take the place of any other, an empty directory included, with exactly its metadata."""
        path = f"{host.root}/etc/x"
        make = {
            "nothing": lambda: None,
            "file": lambda: Path(path).touch(),
            "directory": lambda: os.mkdir(path),
            "link": lambda: os.symlink("/", path),
            "fifo": lambda: os.mkfifo(path),
        }
        make[before]()
        staged = host.stage("/etc/x", wanted, None, "x")
        host.sync([staged])
        host.publish(staged)

        assert wanted == staged.object
        assert wanted == host.observe("/etc/x")
        assert ("x",) == left_in(host)

    def test_a_directory_that_is_not_empty_never_makes_way(self, host: RealHost) -> None:
        """Neither a file nor a directory replaces a directory that holds something."""
        os.mkdir(f"{host.root}/etc/d")
        put(host, "/etc/d/kept", b"x")
        for wanted, content in ((file(b""), ()), (Directory(metadata(0o755)), None)):
            with pytest.raises(HostError, match="not empty"):
                host.publish(host.stage("/etc/d", wanted, content, "x"))

        assert b"x" == host.read("/etc/d/kept")

    def test_many_are_synced_with_few_descriptors(self, host: RealHost) -> None:
        """More staged objects than descriptors are made durable all the same."""
        staged = [host.stage(f"/etc/f{n}", file(b"x"), [b"x"], f"{n}") for n in range(300)]
        before = len(os.listdir("/proc/self/fd"))
        host.sync(staged)

        assert before == len(os.listdir("/proc/self/fd"))

    @pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
    def test_a_failed_fsync_is_an_error_and_is_not_tried_again(self, tmp_path: Path) -> None:
        """The kernel tells of lost data once: the first failure is raised, naming the file that was meant."""
        script = """
import sys
from aquiline.errors import HostError
from aquiline.host import RealHost
from aquiline.host.objects import Metadata, RegularFile, sha256
host = RealHost(sys.argv[1])
staged = [
    host.stage(f"/{n}", RegularFile(Metadata(0o600, 0, 0), 1, sha256(b"x")), [b"x"], f"{n}") for n in range(20)
]
try:
    host.sync(staged)
except HostError as error:
    print(error)
"""
        calls = tmp_path / "calls"
        injected = ["strace", "-f", "-o", str(calls), "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"]
        command = [*injected, sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)

        assert "cannot make it durable: its disk reported an error" in done.stdout
        assert 20 >= calls.read_text().count("fsync(")

    def test_the_root_is_no_place_for_effects(self, host: RealHost) -> None:
        """The root itself can be neither replaced nor removed nor moved."""
        with pytest.raises(HostError, match="it is the root"):
            host.stage("/", Directory(metadata(0o755)), None, "x")
        with pytest.raises(HostError, match="it is the root"):
            host.remove("/")
        with pytest.raises(HostError, match="it is the root"):
            host.move("/", "/etc/x")


class TestOtherEffects:
    def test_remove(self, host: RealHost) -> None:
        """Files, links, FIFOs and empty directories can be removed; what is absent already is success."""
        put(host, "/etc/file", b"x")
        os.symlink("file", f"{host.root}/etc/link")
        os.mkfifo(f"{host.root}/etc/fifo")
        os.mkdir(f"{host.root}/etc/directory")
        for name in ("file", "link", "fifo", "directory", "none", "none/none"):
            host.remove(f"/etc/{name}")

        assert () == left_in(host)

    def test_remove_refuses_a_directory_that_holds_something(self, host: RealHost) -> None:
        """A tree is removed one object at a time, never by one effect."""
        put(host, "/etc/file", b"x")
        with pytest.raises(HostError, match="not empty") as caught:
            host.remove("/etc")
        assert "/etc" == caught.value.path

    def test_link_makes_one_more_name(self, host: RealHost) -> None:
        """A hard link replaces what stands there; made again it changes nothing and leaves nothing."""
        put(host, "/etc/a", b"a")
        put(host, "/etc/b", b"b")
        for _ in range(2):
            host.link("/etc/b", "/etc/a", "x")
        found = host.status("/etc/a"), host.status("/etc/b")

        assert found[0] == found[1]
        assert (b"a", ("a", "b")) == (host.read("/etc/b"), left_in(host))

    def test_move_renames(self, host: RealHost) -> None:
        """A move replaces a file, takes a directory with all in it, and what was known of either path is forgotten."""
        os.mkdir(f"{host.root}/etc/d")
        put(host, "/etc/d/f", b"x")
        host.move("/etc/d", "/etc/e")

        assert b"x" == host.read("/etc/e/f")
        assert ABSENT == host.observe("/etc/d/f")

    def test_move_of_one_of_two_names_takes_it_away(self, host: RealHost) -> None:
        """Where both are names of one file the source goes all the same, which rename(2) alone would not do."""
        put(host, "/etc/a", b"a")
        host.link("/etc/b", "/etc/a", "x")
        host.move("/etc/a", "/etc/b")
        host.move("/etc/b", "/etc/b")

        assert ("b",) == left_in(host)

    def test_move_refuses_a_directory_that_holds_something(self, host: RealHost) -> None:
        """The error names the destination, not the source."""
        os.mkdir(f"{host.root}/etc/d")
        os.mkdir(f"{host.root}/etc/e")
        put(host, "/etc/e/f", b"x")
        with pytest.raises(HostError, match="not empty") as caught:
            host.move("/etc/d", "/etc/e")
        assert "/etc/e" == caught.value.path

    def test_move_refuses_another_file_system(self, host: RealHost) -> None:
        """A move is a rename: never a copy."""
        put(host, "/etc/a", b"a")

        with RealHost("/") as everything, pytest.raises(HostError, match="different file systems"):
            everything.move(f"{host.root}/etc/a", "/dev/shm/aquiline-moved")

    def test_in_place_keeps_the_inode(self, host: RealHost) -> None:
        """Writing in place changes content and metadata, not the inode, and shortens as well as lengthens."""
        put(host, "/etc/a", b"a longer text")
        before = host.status("/etc/a")
        written = host.write_in_place("/etc/a", [b"short"], metadata(0o4640))
        after = host.status("/etc/a")

        assert before is not None
        assert after is not None
        assert before.inode == after.inode
        assert file(b"short", 0o4640) == written
        assert written == host.observe("/etc/a")

    def test_in_place_writes_only_what_is_a_file(self, host: RealHost) -> None:
        """A FIFO or a missing file cannot be written in place."""
        os.mkfifo(f"{host.root}/etc/fifo")
        for path in ("/etc/fifo", "/etc/none", "/etc"):
            with pytest.raises(HostError):
                host.write_in_place(path, [b"x"], metadata())

    def test_metadata_is_given_exactly(self, host: RealHost) -> None:
        """Owner, mode, time and attributes become what is asked for, for every type; extra attributes go."""
        put(host, "/etc/file", b"x")
        os.setxattr(f"{host.root}/etc/file", "user.old", b"1")
        os.symlink("file", f"{host.root}/etc/link")
        os.mkfifo(f"{host.root}/etc/fifo")
        os.mkdir(f"{host.root}/etc/directory")
        wanted = Metadata(0o2751, 12, 13, 99, (("trusted.new", b"2"),))
        for name in ("file", "fifo", "directory", "link"):
            host.set_metadata(f"/etc/{name}", wanted)
        found = [getattr(host.observe(f"/etc/{name}"), "metadata", None) for name in ("file", "fifo", "directory")]
        link = host.observe("/etc/link")

        assert [wanted] * 3 == found
        assert Symlink(Metadata(0o777, 12, 13, 99, wanted.xattrs), "file") == link

    def test_a_time_alone(self, host: RealHost) -> None:
        """Setting the modification time leaves all else, the access time too, and follows no link."""
        put(host, "/etc/a", b"a")
        os.symlink("a", f"{host.root}/etc/link")
        os.utime(f"{host.root}/etc/a", ns=(3, 4))
        host.set_mtime("/etc/link", 77)
        host.set_mtime("/etc/a", 78)
        host.set_mtime("/etc", 79)
        found = os.lstat(f"{host.root}/etc/a")

        assert (3, 78) == (found.st_atime_ns, found.st_mtime_ns)
        assert 77 == os.lstat(f"{host.root}/etc/link").st_mtime_ns
        assert 79 == os.stat(f"{host.root}/etc").st_mtime_ns
        assert stat.S_ISREG(found.st_mode)
