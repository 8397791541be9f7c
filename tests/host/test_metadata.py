"""Metadata and odd objects, exactly: what P4 promises, on a real file system."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aquiline.errors import HostError, UnsafePath
from aquiline.host import RealHost, acl, mounts
from aquiline.host.attributes import ACCESS_ACL, DEFAULT_ACL
from aquiline.host.objects import Directory, Metadata, Object, Present, RegularFile, Special, Symlink, sha256

CAPABILITY = bytes.fromhex("0100000202000000000000000000000000000000")  # cap_dac_override=ep, linux/capability.h v2


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    (tmp_path / "d").mkdir()
    with RealHost(str(tmp_path)) as host:
        yield host


def file(data: bytes, metadata: Metadata | None = None) -> RegularFile:
    return RegularFile(metadata or Metadata(0o644, 0, 0, 7), len(data), sha256(data))


def put(host: RealHost, path: str, wanted: Present, data: bytes | None = None) -> Object:
    staged = host.stage(path, wanted, None if data is None else [data], "put")
    host.sync([staged])
    host.publish(staged)
    return staged.object


def access(text: str, mode: int, host: RealHost) -> tuple[int, tuple[str, bytes]]:
    value = acl.attribute(text, mode, host.accounts)
    return acl.mode_with(value, mode), (ACCESS_ACL, value)


class TestEveryObjectComesBack:
    """What is observed can be staged again somewhere else, and is then observed the same."""

    def copy(self, host: RealHost, make: Callable[[str], object]) -> tuple[Object, Object]:
        make(f"{host.root}/d/original")
        seen = host.observe("/d/original")
        assert isinstance(seen, RegularFile | Directory | Symlink | Special)
        content = host.chunks("/d/original") if isinstance(seen, RegularFile) else None
        staged = host.stage("/d/copy", seen, content, "copy")
        host.publish(staged)
        return seen, host.observe("/d/copy")

    @pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o4755, 0o2711, 0o1777, 0o7777])
    @pytest.mark.parametrize("owner", [(0, 0), (1234, 0), (0, 1234), (1234, 4321)])
    def test_owners_and_modes(self, host: RealHost, mode: int, owner: tuple[int, int]) -> None:
        """Every mode with every owner, setuid and setgid too, for files and directories."""

        def make(path: str) -> None:
            Path(path).write_bytes(b"x")
            os.chown(path, *owner)
            os.chmod(path, mode)

        seen, copy = self.copy(host, make)
        host.remove("/d/original")

        def make_directory(path: str) -> None:
            os.mkdir(path)
            os.chown(path, *owner)
            os.chmod(path, mode)

        seen_directory, copied_directory = self.copy(host, make_directory)

        assert seen == copy
        assert seen_directory == copied_directory
        assert isinstance(copy, RegularFile)
        assert (mode, *owner) == (copy.metadata.mode, copy.metadata.uid, copy.metadata.gid)

    @pytest.mark.parametrize("mtime_ns", [1, 999_999_999, 1_700_000_000_123_456_789, 4_000_000_000_000_000_001, -1])
    def test_times(self, host: RealHost, mtime_ns: int) -> None:
        """Modification times come back to the nanosecond, those before 1970 and after 2038 too."""

        def make(path: str) -> None:
            Path(path).touch()
            os.utime(path, ns=(5, mtime_ns))

        seen, copy = self.copy(host, make)

        assert seen == copy
        assert isinstance(copy, RegularFile)
        assert mtime_ns == copy.metadata.mtime_ns

    def test_attributes_and_capabilities(self, host: RealHost) -> None:
        """User, trusted and security attributes come back, capabilities with an owner other than root too."""

        def make(path: str) -> None:
            Path(path).write_bytes(b"program")
            os.chown(path, 1234, 1234)
            os.chmod(path, 0o4750)
            os.setxattr(path, "user.empty", b"")
            os.setxattr(path, "user.any", bytes(range(256)))
            os.setxattr(path, "trusted.x", b"1")
            os.setxattr(path, "security.capability", CAPABILITY)

        seen, copy = self.copy(host, make)

        assert seen == copy
        assert isinstance(copy, RegularFile)
        assert ["security.capability", "trusted.x", "user.any", "user.empty"] == [n for n, _ in copy.metadata.xattrs]

    @pytest.mark.skipif(shutil.which("setfacl") is None, reason="the package acl is not installed")
    def test_acls(self, host: RealHost) -> None:
        """ACLs of files, and both kinds of those of directories, come back."""

        def make(path: str) -> None:
            os.mkdir(path)
            subprocess.run(["setfacl", "-m", "u:1:rwx,g:2:r-x,d:u:3:rwx,d:o:---", path], check=True)

        seen, copy = self.copy(host, make)

        assert seen == copy
        assert isinstance(copy, Directory)
        assert [ACCESS_ACL, DEFAULT_ACL] == [name for name, _ in copy.metadata.xattrs]

    @pytest.mark.parametrize("target", ["nowhere", "/abs/olute", "../..", "caf\udce9", "x" * 4000, "new\nline"])
    def test_links(self, host: RealHost, target: str) -> None:
        """Links come back with target, owner and time, dangling or not, whatever bytes their target is made of."""

        def make(path: str) -> None:
            os.symlink(target, path)
            os.lchown(path, 1234, 4321)
            os.utime(path, ns=(1, 77), follow_symlinks=False)
            os.setxattr(path, "trusted.x", b"1", follow_symlinks=False)

        seen, copy = self.copy(host, make)

        assert seen == copy
        assert Symlink(Metadata(0o777, 1234, 4321, 77, (("trusted.x", b"1"),)), target) == copy

    @pytest.mark.parametrize("kind", ["fifo", "socket", "character-device", "block-device"])
    def test_special_files(self, host: RealHost, kind: str) -> None:
        """FIFOs, sockets and devices come back with number, owner, mode, time, attributes and ACL."""
        types = {"fifo": 0o010000, "socket": 0o140000, "character-device": 0o020000, "block-device": 0o060000}
        mode, entry = access("u:1:rw-", 0o640, host)

        def make(path: str) -> None:
            os.mknod(path, types[kind] | 0o600, os.makedev(300, 70000) if "device" in kind else 0)
            os.chown(path, 1234, 4321)
            os.setxattr(path, *entry)
            os.setxattr(path, "trusted.x", b"1")

        seen, copy = self.copy(host, make)

        assert seen == copy
        assert isinstance(copy, Special)
        assert (kind, mode) == (copy.special, copy.metadata.mode)


class TestContent:
    def test_empty(self, host: RealHost) -> None:
        """An empty file is a file of no bytes."""
        assert put(host, "/d/empty", file(b""), b"") == host.observe("/d/empty")
        assert b"" == host.read("/d/empty")

    @pytest.mark.parametrize("seed", range(6))
    def test_sparse_stays_sparse_and_right(self, host: RealHost, seed: int) -> None:
        """Holes are kept, wherever they and the pieces begin and end, and the content is the same to the byte."""
        choose = random.Random(seed)
        runs = [
            (bytes if choose.random() < 0.6 else choose.randbytes)(
                choose.choice((1, 4095, 4096, 4097, 20_000, 300_000))
            )
            for _ in range(12)
        ]
        data = b"".join(runs)
        step = choose.choice((1000, 4096, 65_536, 1 << 20))
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        host.publish(host.stage("/d/sparse", file(data), pieces, "x"))

        assert data == Path(host.root, "d/sparse").read_bytes()

    def test_a_hole_takes_no_space(self, host: RealHost) -> None:
        """A file that is one hole, or ends in one, takes no more blocks than its data does."""
        data = b"x" * 4096 + bytes(8 << 20)
        host.publish(
            host.stage("/d/sparse", file(data), [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)], "x")
        )
        found = os.stat(f"{host.root}/d/sparse")

        assert len(data) == found.st_size
        assert found.st_blocks * 512 <= 64 << 10

    @pytest.mark.slow
    def test_gibibytes_in_constant_memory(self, tmp_path: Path) -> None:
        """A file of 3 GiB is observed and staged again in memory that has nothing to do with its size."""
        with open(tmp_path / "large", "wb") as large:
            large.truncate(3 << 30)
            large.seek(1 << 30)
            large.write(b"in the middle")
        script = """
import resource, sys
from aquiline.host import RealHost
with RealHost(sys.argv[1]) as host:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = host.observe("/large")
    staged = host.stage("/copy", seen, host.chunks("/large"), "x")
    host.publish(staged)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, staged.object == seen)
"""
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
        grown, same = done.stdout.split()

        assert "True" == same
        assert int(grown) < 20 * 1024
        assert os.stat(tmp_path / "copy").st_blocks * 512 < 1 << 20


class TestNames:
    @pytest.mark.parametrize("name", ["caf\udce9\udcff", "x" * 255, "é" * 127, "new\nline", " ", "-rf", "\\", "*"])
    def test_every_name_can_be_used(self, host: RealHost, name: str) -> None:
        """Names of 255 bytes, and of any bytes, can be staged, replaced, linked, moved and removed."""
        path = f"/d/{name}"
        for data in (b"one", b"two"):
            put(host, path, file(data), data)
        host.link("/d/other", path, "x")
        listed = host.names("/d")
        host.move(path, f"/d/{name[:-1]}_")
        host.remove(f"/d/{name[:-1]}_")

        assert tuple(sorted((name, "other"))) == listed
        assert (b"two", ("other",)) == (host.read("/d/other"), host.names("/d"))

    def test_a_directory_deep_down(self, host: RealHost) -> None:
        """A path longer than the kernel takes in one piece is walked all the same."""
        at = os.open(f"{host.root}/d", os.O_RDONLY)
        for _ in range(25):
            os.mkdir("n" * 200, dir_fd=at)
            deeper = os.open("n" * 200, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = deeper
        os.close(at)
        path = "/d" + f"/{'n' * 200}" * 25 + "/file"

        put(host, path, file(b"deep"), b"deep")

        assert b"deep" == host.read(path)
        assert file(b"deep") == host.observe(path)

    def test_a_name_too_long_is_a_clear_error(self, host: RealHost) -> None:
        """A name of 256 bytes is refused in words, naming the path and not the temporary name."""
        with pytest.raises(HostError, match="longer than the file system allows") as caught:
            put(host, f"/d/{'x' * 256}", file(b""), b"")
        assert f"/d/{'x' * 256}" == caught.value.path


class TestInheritance:
    @pytest.mark.skipif(shutil.which("setfacl") is None, reason="the package acl is not installed")
    def test_default_acls_do_not_leak(self, host: RealHost) -> None:
        """In a directory with a default ACL, what is staged has the ACL it was given: none, here."""
        subprocess.run(["setfacl", "-m", "d:u:1:rwx,d:g::rwx", f"{host.root}/d"], check=True)
        wanted: tuple[tuple[Present, bytes | None], ...] = (
            (file(b"x", Metadata(0o640, 0, 0, 7)), b"x"),
            (Directory(Metadata(0o750, 0, 0, 7)), None),
            (Special(Metadata(0o620, 0, 0, 7), "fifo"), None),
        )

        for number, (one, data) in enumerate(wanted):
            assert one == put(host, f"/d/{number}", one, data)
            assert one == host.observe(f"/d/{number}")

    def test_a_setgid_directory_does_not_leak(self, host: RealHost) -> None:
        """In a directory with setgid, group and mode are those that were asked for."""
        os.chown(f"{host.root}/d", 0, 1234)
        os.chmod(f"{host.root}/d", 0o2775)
        wanted = Directory(Metadata(0o755, 0, 0, 7))

        assert wanted == put(host, "/d/sub", wanted)

    def test_the_umask_does_not_matter(self, host: RealHost) -> None:
        """Modes are given, not asked for."""
        before = os.umask(0o777)
        try:
            assert file(b"", Metadata(0o666, 0, 0, 7)) == put(host, "/d/f", file(b"", Metadata(0o666, 0, 0, 7)), b"")
        finally:
            os.umask(before)


class TestNeverMoreOpen:
    """No instant at which somebody may do what neither the old object nor the new one allows."""

    SCRIPT = """
import os, sys
from aquiline.host import RealHost, acl
from aquiline.host.objects import Metadata, RegularFile, sha256
from aquiline.host.attributes import ACCESS_ACL
root, host, seen = sys.argv[1], RealHost(sys.argv[1]), []
def look(event, arguments):
    if event in ("open", "os.chmod", "os.chown", "os.setxattr", "os.removexattr", "os.utime", "os.rename"):
        for name in os.listdir(root):
            found = os.lstat(f"{root}/{name}")
            seen.append((name, found.st_mode & 0o777, found.st_uid, found.st_gid))
def content():
    look("open", ())
    yield b"secret"
    look("open", ())
def value(text, mode):
    return acl.attribute(text, mode, host.accounts)
def wanted(metadata):
    return RegularFile(metadata, 6, sha256(b"secret"))
os.umask(0)
"""

    def states(self, root: Path, text: str) -> list[tuple[int, int, int]]:
        """Return the distinct modes and owners that the file went through, in order."""
        script = f"{self.SCRIPT}{text}\nprint(*dict.fromkeys(seen), sep='\\n')"
        done = subprocess.run([sys.executable, "-c", script, str(root)], check=True, capture_output=True, text=True)
        lines = [line.strip("()").split(", ") for line in done.stdout.splitlines()]
        return list(dict.fromkeys((int(mode), int(uid), int(gid)) for _, mode, uid, gid in lines))

    def test_while_it_is_staged(self, tmp_path: Path) -> None:
        """From its first byte a file is its maker's alone, until it has its owner, its ACL and then its mode."""
        states = self.states(
            tmp_path,
            """
sys.addaudithook(look)
host.stage("/f", wanted(Metadata(0o440, 1234, 4321, 9)), content(), "x")
look("open", ())
""",
        )

        assert (0o600, 0, 0) == states[0]
        assert (0o440, 1234, 4321) == states[-1]
        assert all(mode & 0o077 == 0 for mode, _, _ in states[:-1])

    def test_in_a_directory_with_a_default_acl(self, tmp_path: Path) -> None:
        """An ACL that a directory hands down opens nothing, not for an instant."""
        subprocess.run(["setfacl", "-m", "d:u:1:rwx,d:g::rwx,d:o::rwx", str(tmp_path)], check=True)
        states = self.states(
            tmp_path,
            """
sys.addaudithook(look)
host.publish(host.stage("/f", wanted(Metadata(0o600, 0, 0, 9)), content(), "x"))
look("open", ())
""",
        )

        assert [(0o600, 0, 0)] == states

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("0o640, 0, 4", "0o600, 0, 100"),
            ("0o600, 1, 1", "0o644, 0, 0"),
            ("0o660, 1, 1", "0o606, 2, 2"),
            ("0o670, 0, 4, 1, ((ACCESS_ACL, value('u:1:rwx', 0o600)),)", "0o640, 0, 0"),
            ("0o600, 0, 0", "0o660, 0, 0, 1, ((ACCESS_ACL, value('u:1:rw-', 0o600)),)"),
        ],
    )
    def test_while_metadata_changes(self, tmp_path: Path, before: str, after: str) -> None:
        """On the way from one owner, mode and ACL to another, no state allows what neither end allows."""
        states = self.states(
            tmp_path,
            f"""
host.publish(host.stage("/f", wanted(Metadata({before})), content(), "x"))
seen.clear()
sys.addaudithook(look)
host.set_metadata("/f", Metadata({after}))
look("open", ())
""",
        )
        first, last = states[0], states[-1]

        assert len(states) > 1
        for mode, uid, gid in states[1:-1]:
            assert 0 == mode & ~(last[0] | (first[0] if (uid, gid) == first[1:] else 0)) & 0o777

    def test_while_it_is_written_in_place(self, tmp_path: Path) -> None:
        """Neither those who could read the old content nor all the world see the new one before its time."""
        states = self.states(
            tmp_path,
            """
host.publish(host.stage("/f", wanted(Metadata(0o666, 1234, 0, 9)), content(), "x"))
seen.clear()
host.write_in_place("/f", content(), Metadata(0o600, 0, 0, 9))
""",
        )

        assert [(0o600, 0, 0)] == states


class TestRefusals:
    @pytest.fixture
    def immutable(self, host: RealHost) -> Iterator[str]:
        put(host, "/d/fixed", file(b"x"), b"x")
        os.mkdir(f"{host.root}/fixed")
        paths = [f"{host.root}/d/fixed", f"{host.root}/fixed"]
        subprocess.run(["chattr", "+i", *paths], check=True)
        yield "/d/fixed"
        subprocess.run(["chattr", "-i", *paths], check=True)

    @pytest.mark.parametrize(
        "effect",
        [
            lambda host, path: put(host, path, file(b"y"), b"y"),
            lambda host, path: host.remove(path),
            lambda host, path: host.set_metadata(path, Metadata(0o600, 0, 0)),
            lambda host, path: host.set_mtime(path, 5),
            lambda host, path: host.write_in_place(path, [b"y"], Metadata(0o600, 0, 0)),
            lambda host, path: host.move(path, "/d/moved"),
        ],
    )
    def test_immutable_files(self, host: RealHost, immutable: str, effect: Callable[[RealHost, str], object]) -> None:
        """An immutable file is said to be immutable, by every effect, and stays as it is."""
        before = host.observe(immutable)
        with pytest.raises(HostError, match=r"is immutable \(chattr \+i\)") as caught:
            effect(host, immutable)

        assert (immutable, before) == (caught.value.path, host.observe(immutable))
        assert isinstance(caught.value.__cause__, OSError)

    def test_immutable_directories(self, host: RealHost, immutable: str) -> None:
        """Where the directory is immutable, it is the directory that is named."""
        with pytest.raises(HostError, match="its directory is immutable"):
            put(host, "/fixed/new", file(b""), b"")

    @pytest.mark.parametrize(
        "effect",
        [lambda host: put(host, "/d/new", file(b""), b""), lambda host: host.link("/d/new", "/d/file", "x")],
    )
    def test_append_only_directories(self, host: RealHost, effect: Callable[[RealHost], object]) -> None:
        """No temporary name is made where it could not be taken away again."""
        put(host, "/d/file", file(b"x"), b"x")
        host.forget_directories()
        subprocess.run(["chattr", "+a", f"{host.root}/d"], check=True)
        try:
            with pytest.raises(HostError, match="its directory is append-only"):
                effect(host)

            assert ["file"] == os.listdir(f"{host.root}/d")
        finally:
            subprocess.run(["chattr", "-a", f"{host.root}/d"], check=True)

    def test_network_file_systems(self, host: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every effect on a network file system is refused unless allowed; looking is not."""
        put(host, "/d/f", file(b"x"), b"x")
        magic = int(subprocess.check_output(["stat", "-f", "-c", "%t", f"{host.root}/d"]), 16)
        monkeypatch.setitem(mounts._NETWORK, magic, "nfs4")

        with RealHost(host.root) as careful:
            for effect in (
                lambda: put(careful, "/d/f", file(b""), b""),
                lambda: careful.remove("/d/f"),
                lambda: careful.set_mtime("/d/f", 1),
                lambda: careful.move("/d/f", "/d/g"),
            ):
                with pytest.raises(HostError, match=r"network file system or automount point \(nfs4\)"):
                    effect()

            assert b"x" == careful.read("/d/f")
        with RealHost(host.root, allow_network_filesystems=True) as allowed:
            allowed.remove("/d/f")

    def test_a_hard_link_by_a_stranger_is_not_changed_in_place(self, host: RealHost) -> None:
        """A further name of a root-owned file in a user's directory is not written or given away; it is replaced."""
        put(host, "/d/shadow", file(b"secret", Metadata(0o600, 0, 0, 7)), b"secret")
        os.mkdir(f"{host.root}/home")
        os.link(f"{host.root}/d/shadow", f"{host.root}/home/f")
        os.chown(f"{host.root}/home", 1234, 1234)

        with pytest.raises(UnsafePath):
            host.set_metadata("/home/f", Metadata(0o644, 1234, 1234))
        with pytest.raises(UnsafePath):
            host.write_in_place("/home/f", [b"x"], Metadata(0o644, 1234, 1234))
        put(host, "/home/f", file(b"x", Metadata(0o644, 1234, 1234, 7)), b"x")

        assert file(b"secret", Metadata(0o600, 0, 0, 7)) == host.observe("/d/shadow")


class TestMounts:
    """In a mount namespace of its own, so that nothing stays mounted."""

    BEGIN = """
import os, subprocess, sys
from aquiline.errors import HostError
from aquiline.host import RealHost
from aquiline.host.objects import Directory, Metadata, RegularFile, sha256
root, host = sys.argv[1], RealHost(sys.argv[1])
def file(data):
    return RegularFile(Metadata(0o644, 0, 0, 7), len(data), sha256(data))
def put(path, data):
    host.publish(host.stage(path, file(data), [data], "x"))
def refusal(effect, *arguments):
    try:
        effect(*arguments)
    except HostError as error:
        return str(error)
    return "done"
def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)
"""

    def run(self, root: Path, text: str) -> list[str]:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", self.BEGIN + text, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "" == done.stderr
        return done.stdout.splitlines()

    def test_mount_points_are_neither_replaced_nor_removed(self, tmp_path: Path) -> None:
        """A file that something is mounted on can be written in place only; a directory not removed, nor moved."""
        lines = self.run(
            tmp_path,
            """
put("/source", b"mounted")
put("/file", b"below")
os.mkdir(f"{root}/directory")
mount("--bind", f"{root}/source", f"{root}/file")
mount("-t", "tmpfs", "tmpfs", f"{root}/directory")
print(refusal(put, "/file", b"new"))
host.discard("/file", "x")
print(refusal(host.remove, "/file"))
print(refusal(host.remove, "/directory"))
print(refusal(host.move, "/directory", "/elsewhere"))
host.write_in_place("/file", [b"in place"], Metadata(0o644, 0, 0, 7))
print(host.read("/source"), host.names("/"))
""",
        )

        assert all("is a mount point, or in use" in line for line in lines[:4])
        assert ["/file", "/file", "/directory", "/directory"] == [line.split(":")[0] for line in lines[:4]]
        assert "b'in place' ('directory', 'file', 'source')" == lines[4]

    def test_what_is_mounted_over_a_known_directory_is_seen(self, tmp_path: Path) -> None:
        """A directory that was looked at before is looked at anew once something is mounted on it."""
        lines = self.run(
            tmp_path,
            """
os.mkdir(f"{root}/d")
put("/d/f", b"below")
mount("-t", "tmpfs", "tmpfs", f"{root}/d")
print(host.names("/d"), type(host.observe("/d/f")).__name__)
host.forget_directories()
subprocess.run(["umount", f"{root}/d"], check=True)
print(host.read("/d/f"))
""",
        )

        assert ["() Absent", "b'below'"] == lines

    def test_without_proc(self, tmp_path: Path) -> None:
        """Where /proc is not mounted files are read, and a link is an error with a way out, never absent."""
        lines = self.run(
            tmp_path,
            """
put("/f", b"x")
os.symlink("f", root + "/link")
subprocess.run(["umount", "--lazy", "/proc"], check=True)
print(host.read("/f"), type(host.observe("/f")).__name__)
print(refusal(host.observe, "/link"))
print(refusal(host.set_metadata, "/f", Metadata(0o600, 0, 0)))
""",
        )

        assert [
            "b'x' RegularFile",
            "/link: cannot read it: that needs /proc, which is not mounted",
            "/f: cannot change its metadata: that needs /proc, which is not mounted",
        ] == lines

    def test_read_only_file_systems(self, tmp_path: Path) -> None:
        """A read-only file system is said to be one, with the path that was meant."""
        lines = self.run(
            tmp_path,
            """
mount("-t", "tmpfs", "-o", "ro", "tmpfs", root)
host = RealHost(root)
print(refusal(put, "/f", b"x"))
""",
        )

        assert ["/f: cannot stage it: is on a read-only file system"] == lines

    @pytest.mark.parametrize("limit", ["size=64k", "nr_inodes=3"])
    def test_a_full_file_system_leaves_nothing_behind(self, tmp_path: Path, limit: str) -> None:
        """Bytes or inodes used up half-way: a clear error, the old file as it was, nothing temporary left."""
        lines = self.run(
            tmp_path,
            f"""
mount("-t", "tmpfs", "-o", "{limit}", "tmpfs", root)
host = RealHost(root)
put("/f", b"old")
open(root + "/g", "w").close()
print(refusal(put, "/f", b"x" * 200_000))
print(host.read("/f"), host.names("/"))
""",
        )

        assert [
            "/f: cannot stage it: there is no space or no inode left on its file system",
            "b'old' ('f', 'g')",
        ] == lines
