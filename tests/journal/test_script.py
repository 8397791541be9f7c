"""The undo script, run by dash in a root of its own, with nothing but coreutils, grep and sed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest

from aquiline.changes.kinds import (
    Change,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSymlink,
    Move,
    Probe,
    ReactCommand,
    Remove,
    Restore,
    RunCommand,
    RunScript,
    SetMetadata,
    WriteFile,
)
from aquiline.changes.steps import Step, Undo, UndoOrder
from aquiline.host.objects import Absent, At, Object, without_times
from aquiline.host.real import RealHost
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.script import UndoScript, forward_script, whole_chunks
from aquiline.journal.state import StateDirectory
from aquiline.journal.takenback import TakenBack
from tests.journal.making import step

#: All that the script may use besides the shell itself.
TOOLS = (
    "cat", "chmod", "chown", "chroot", "cp", "env", "grep", "ln", "mkdir", "mkfifo", "mknod", "mv", "printf",
    "readlink", "rm", "rmdir", "sed", "sha256sum", "sleep", "stat", "sync", "timeout", "touch",
)  # fmt: skip
ACL = bytes.fromhex("0200000001000700ffffffff020006000100000004000500ffffffff10000700ffffffff20000500ffffffff")


@dataclass
class Bench:
    """A root, a state directory and a PATH, and the script of one run between them."""

    top: Path

    def __post_init__(self) -> None:
        self.root = self.top / "root"
        self.root.mkdir(mode=0o755)
        self.bin = self.top / "bin"
        self.bin.mkdir()
        for tool in (*TOOLS, "dash"):
            (self.bin / tool).symlink_to(shutil.which(tool) or "")
        self.state = StateDirectory(self.top / "state")
        self.state.create()
        self.store = PreimageStore(self.state)
        self.host = RealHost(str(self.root))
        self.script = UndoScript(self.state, "0123abcd", str(self.root))
        self.directories: dict[str, int] = {"/": self.root.stat().st_mtime_ns}

    def real(self, path: str) -> str:
        return str(self.root) + path

    def do(self, number: int, path: str, effect: Callable[[str], None], change: Change | None = None) -> Step:
        """Make a step of `effect` on `path`: its undo is in the script before it is done."""
        before = self.host.observe(path)
        if hasattr(before, "sha256"):
            self.store.keep_many([self.host.chunks(path)])
        restore = Restore(path=path, object=before)
        undo = Undo(class_="exact", description=f"restore {path}", changes=(restore,))
        after = self.rehearse(path, effect)
        made = step(number, change or Remove(path=path), (At(path, before),), (At(path, after),), undo)
        self.script.append([made], self.directories)
        self.directories = {}
        effect(self.real(path))
        return made

    def rehearse(self, path: str, effect: Callable[[str], None]) -> Object:
        """Return what `effect` leaves, by doing it to a copy of the root."""
        copy = self.top / "copy"
        subprocess.run(["cp", "-a", "-T", self.root, copy], check=True)
        effect(str(copy) + path)
        found = RealHost(str(copy)).observe(path)
        shutil.rmtree(copy)
        return found

    def opaque(self, number: int, change: Change, undo: tuple[Change, ...], order: UndoOrder = "reversed") -> Step:
        made = step(
            number, change, undo=Undo(class_="command", description=f"undo {number}", changes=undo), order=order
        )
        self.script.append([made])
        return made

    def run(self, *options: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
        words = ["env", "-i", f"PATH={self.bin}", *(f"{name}={value}" for name, value in environment.items())]
        return subprocess.run([*words, "dash", script or self.script.path, *options], capture_output=True, check=False)

    def undone(self, *options: str) -> None:
        self.script.close()
        done = self.run(*options)
        assert (0, b"") == (done.returncode, done.stderr), done.stdout + done.stderr

    def tree(self) -> dict[str, object]:
        """Return all that undo promises to restore."""
        paths = [self.root, *sorted(self.root.rglob("*"))]
        return {
            str(path): self.host.observe("/" + str(path.relative_to(self.root)).strip(".")) for path in paths[1:]
        } | {"/": self.root.stat().st_mtime_ns}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def put(content: bytes, mode: int = 0o600) -> Callable[[str], None]:
    def effect(path: str) -> None:
        temporary = f"{path}.tmp"
        Path(temporary).write_bytes(content)
        os.chmod(temporary, mode)
        os.rename(temporary, path)

    return effect


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def nothing(path: str) -> None:
    pass


def a_file(path: str) -> None:
    put(b"old\n", 0o4750)(path)
    os.chown(path, 12, 34)
    os.chmod(path, 0o4750)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))


def a_file_with_attributes(path: str) -> None:
    put(b"old\0\xff", 0o640)(path)
    os.setxattr(path, "user.colour", b"blue\0\n")
    os.setxattr(path, "system.posix_acl_access", ACL)
    os.utime(path, ns=(1, -1_500_000_000))


def an_empty_file(path: str) -> None:
    put(b"", 0o000)(path)


def a_sparse_file(path: str) -> None:
    put(b"")(path)
    os.truncate(path, 50 * 2**20)


def a_directory(path: str) -> None:
    os.mkdir(path)
    os.setxattr(path, "system.posix_acl_default", ACL)
    os.setxattr(path, "user.colour", b"red")
    os.chmod(path, 0o3751)
    os.chown(path, 5, 6)
    os.utime(path, ns=(1, 987_654_321_000_000_001))


def a_dangling_link(path: str) -> None:
    os.symlink("no such\nplace\udcff'\n", path)
    os.chown(path, 3, 4, follow_symlinks=False)
    os.utime(path, ns=(1, 5_000_000_001), follow_symlinks=False)


def a_fifo(path: str) -> None:
    os.mkfifo(path)
    os.chmod(path, 0o622)


def a_device(path: str) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


STATES = (
    nothing, a_file, a_file_with_attributes, an_empty_file, a_sparse_file, a_directory, a_dangling_link, a_fifo,
    a_device,
)  # fmt: skip


def replacing(effect: Callable[[str], None]) -> Callable[[str], None]:
    def both(path: str) -> None:
        if os.path.lexists(path):
            remove(path)
        effect(path)

    return both


@pytest.mark.parametrize(("before", "after"), [*permutations(STATES, 2)])
def test_every_state_comes_back(bench: Bench, before: Callable[[str], None], after: Callable[[str], None]) -> None:
    """Whatever stood at a path is put back exactly, whatever replaced it; doing so twice is harmless."""
    before(bench.real("/it"))
    os.utime(bench.root, ns=(1, 1_000_000_000_000_000_007))
    bench.directories = {"/": bench.root.stat().st_mtime_ns}
    tree = bench.tree()
    bench.do(1, "/it", replacing(after))

    bench.undone()

    assert tree == bench.tree()
    bench.undone()
    assert tree == bench.tree()


NAMES = (
    *(
        "plain",
        "with space",
        "it's",
        '$HOME `id` \\ "',
        "-rf",
        "new\nline\n",
        "\udcff\udce4",
        "x\t\x01\x7f",
        "*",
        "é" * 100,
    ),
    "#end 1 " + "0" * 64,
)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(bench: Bench, name: str) -> None:
    """No name of a file breaks out of the script, forges a line of it or is taken for an option or a pattern."""
    a_file(bench.real(f"/{name}"))
    os.symlink(f"{name}\n", bench.real("/link"))
    bench.directories = {"/": bench.root.stat().st_mtime_ns}
    tree = bench.tree()

    bench.do(1, f"/{name}", put(b"new"))
    bench.do(2, "/link", remove)
    bench.undone()

    assert tree == bench.tree()
    assert 3 == whole_chunks(bench.script.path.read_bytes())[0]


def test_a_directory_and_what_is_in_it(bench: Bench) -> None:
    """A directory that was emptied and removed comes back before what was in it, with its own time at the end."""
    os.mkdir(bench.real("/d"))
    a_file(bench.real("/d/f"))
    os.utime(bench.real("/d"), ns=(1, 2_000_000_000_000_000_002))
    bench.directories = {"/": bench.root.stat().st_mtime_ns, "/d": 2_000_000_000_000_000_002}
    tree = bench.tree()

    bench.do(1, "/d/f", remove)
    bench.do(2, "/d", remove)
    bench.undone()

    assert tree == bench.tree()


def test_what_somebody_changed_is_left_alone(bench: Bench) -> None:
    """A file that changed since the run is a conflict and stays; --force restores it; the other steps are undone."""
    for name in ("/a", "/b"):
        a_file(bench.real(name))
    bench.directories = {"/": bench.root.stat().st_mtime_ns}
    tree = bench.tree()
    bench.do(1, "/a", put(b"new"))
    bench.do(2, "/b", put(b"new"))
    put(b"somebody's")(bench.real("/a"))
    bench.script.close()

    dry = bench.run("--dry-run")
    refused = bench.run()

    assert [12, 12] == [dry.returncode, refused.returncode]
    assert b"step 1: conflict: /a was changed since" in refused.stderr
    assert b"somebody's" == Path(bench.real("/a")).read_bytes()
    assert tree[bench.real("/b")] == bench.tree()[bench.real("/b")]
    assert 0 == bench.run("--force").returncode
    assert tree == bench.tree()


def test_options(bench: Bench) -> None:
    """A dry-run and --list change nothing; --only takes one step back; anything else is a usage error."""
    a_file(bench.real("/a"))
    a_file(bench.real("/b"))
    bench.do(1, "/a", put(b"new"))
    bench.do(2, "/b", put(b"new"))
    bench.script.close()
    tree = bench.tree()

    assert b"2 (reversed): restore /b\n1 (reversed): restore /a\n" == bench.run("--list").stdout
    assert b"step 2: would: restore /b\nstep 1: would: restore /a\n" == bench.run("--dry-run").stdout
    assert b"Usage: sh 0123abcd.sh" in bench.run("--help").stdout
    assert [2, 2, 2] == [bench.run(*bad).returncode for bad in (["--what"], ["--only"], ["--only", "x"])]
    assert tree == bench.tree()
    bench.undone("--only", "1")
    assert (b"old\n", b"new") == tuple(Path(bench.real(name)).read_bytes() for name in ("/a", "/b"))


def test_torn_anywhere(bench: Bench) -> None:
    """However much of its end a crash tore off, the script parses and takes back exactly the whole chunks."""
    for number in (1, 2, 3):
        bench.do(number, f"/f{number}", put(b"new"))
    content = bench.script.path.read_bytes()
    first = content.index(b"\n#chunk 1\n")
    ends = [found for found in range(len(content)) if content.startswith(b"\n#end ", found)]
    torn = bench.state.undo / "torn.sh"

    # Every byte of the last chunk's end line, and every tenth before.
    cuts = [*range(first, ends[-1], 47), *range(ends[-1] - 3, len(content) + 1, 3), len(content)]
    for cut in cuts:
        torn.write_bytes(content[:cut])
        done = bench.run("--dry-run", script=torn)
        # An end line that lacks nothing but its newline is whole.
        whole = whole_chunks(content[:cut] + b"\n")[0]
        told = b"".join(b"step %d: would: restore /f%d\n" % (n, n) for n in range(whole, 0, -1))
        assert (0, told) == (done.returncode, done.stdout), (cut, done.stderr)


@pytest.mark.slow
def test_a_torn_program_does_nothing(bench: Bench) -> None:
    """Of a script that ends inside its program, before any chunk, nothing is ever done."""
    bench.do(1, "/f", put(b"new"))
    content = bench.script.path.read_bytes()
    torn = bench.state.undo / "torn.sh"
    for cut in range(0, content.index(b"\n#chunk 1\n"), 61):
        torn.write_bytes(content[:cut])
        bench.run(script=torn)

    assert b"new" == Path(bench.real("/f")).read_bytes()


@pytest.mark.parametrize("tail", [b"\0" * 4000, b"rm -rf /\n'", b"#chunk 3\nu_9() {\n", b"#end 2 " + b"0" * 64 + b"\n"])
def test_rubbish_at_the_end(bench: Bench, tail: bytes) -> None:
    """What a power cut left after the whole chunks is not run, and the next chunk is written over it."""
    a_file(bench.real("/a"))
    a_file(bench.real("/b"))
    bench.directories = {"/": bench.root.stat().st_mtime_ns}
    tree = bench.tree()
    bench.do(1, "/a", put(b"new"))
    with bench.script.path.open("ab") as file:
        file.write(tail)
    assert (0, b"step 1: would: restore /a\n") == (bench.run("--dry-run").returncode, bench.run("--dry-run").stdout)

    bench.script = UndoScript(bench.state, "0123abcd", str(bench.root))
    bench.do(2, "/b", put(b"new"))
    bench.undone()

    assert tree == bench.tree()


def test_moving_the_state_directory(bench: Bench) -> None:
    """The script finds its pre-images beside itself wherever it was moved, and another root by the environment."""
    a_file(bench.real("/a"))
    bench.do(1, "/a", put(b"new"))
    bench.script.close()
    bench.state.path.rename(bench.top / "elsewhere's")
    bench.root.rename(bench.top / "other root")

    done = bench.run(script=bench.top / "elsewhere's/undo/0123abcd.sh", AQUILINE_ROOT=str(bench.top / "other root"))

    assert (0, b"") == (done.returncode, done.stderr)
    assert b"old\n" == (bench.top / "other root/a").read_bytes()


def test_a_lost_or_damaged_pre_image_is_said(bench: Bench) -> None:
    """A pre-image that is gone or has other bytes is never put back; the rest is, and the exit status is 1."""
    a_file(bench.real("/a"))
    made = bench.do(1, "/a", put(b"new"))
    bench.script.close()
    old = made.before[0].object
    assert hasattr(old, "sha256")
    place = bench.store.path(old.sha256)
    place.write_bytes(b"bad\n")
    for damage in ("damaged", "lost"):
        if damage == "lost":
            place.unlink()
        done = bench.run()
        assert 1 == done.returncode
        assert b"lost or damaged" in done.stderr
        assert b"new" == Path(bench.real("/a")).read_bytes()


def test_our_leftovers_are_removed(bench: Bench) -> None:
    """What the killed run had built under temporary names is removed."""
    bench.do(1, "/a", put(b"new"))
    Path(bench.real("/.aq-0123abcd-1")).write_bytes(b"half")

    bench.undone()

    assert [] == os.listdir(bench.root)


def test_a_new_directory_that_others_use_stays(bench: Bench) -> None:
    """A directory that the run made and somebody has since put something in is left, as a conflict."""
    bench.do(1, "/d", os.mkdir, MakeDirectory(path="/d"))
    put(b"mine")(bench.real("/d/mine"))
    bench.script.close()

    done = bench.run()

    assert 12 == done.returncode
    assert b"mine" == Path(bench.real("/d/mine")).read_bytes()


def test_several_names_of_one_inode(bench: Bench) -> None:
    """A file with several names gets its kept inode back; metadata of an inode that stayed is set in place."""
    a_file(bench.real("/a"))
    os.link(bench.real("/a"), bench.real("/b"))
    before = bench.host.observe("/a")
    bench.store.keep_many([bench.host.chunks("/a")])
    os.link(bench.real("/a"), bench.state.links / "0123abcd-1")
    undo = Undo(class_="exact", description="x", changes=(Restore(path="/a", object=before, kept="inode"),))
    after = bench.rehearse("/a", put(b"new"))
    made = step(1, WriteFile(path="/a", content=Inline(b"new")), (At("/a", before),), (At("/a", after),), undo)
    bench.script.append([made])
    put(b"new")(bench.real("/a"))
    mode = bench.do(2, "/b", lambda path: os.chmod(path, 0o600), SetMetadata(path="/b", mode=0o600))
    assert isinstance(mode.change, SetMetadata)

    bench.undone()

    assert os.path.samefile(bench.real("/a"), bench.real("/b"))
    assert before.metadata == bench.host.observe("/b").metadata  # type: ignore[union-attr]


def test_a_mount_point_is_overwritten(bench: Bench) -> None:
    """A file that is a mount point, which no rename can replace, gets its content and metadata back in place."""
    a_file(bench.real("/a"))
    a_file(bench.real("/source"))
    subprocess.run(["mount", "--bind", bench.real("/source"), bench.real("/a")], check=True)
    try:
        before = bench.host.observe("/a")

        def overwrite(path: str) -> None:
            Path(path).write_bytes(b"new")
            os.chmod(path, 0o600)

        bench.do(1, "/a", overwrite, WriteFile(path="/a", content=Inline(b"new"), in_place=True))
        bench.undone()

        assert before == bench.host.observe("/a")
        assert os.path.samefile(bench.real("/a"), bench.real("/source"))
    finally:
        subprocess.run(["umount", bench.real("/a")], check=True)


def test_an_inode_with_several_names_written_in_place(bench: Bench) -> None:
    """A file with several names that was overwritten in place gets its content back under all of them."""
    a_file(bench.real("/a"))
    os.link(bench.real("/a"), bench.real("/b"))
    before = bench.host.observe("/a")
    bench.store.keep_many([bench.host.chunks("/a")])
    os.link(bench.real("/a"), bench.state.links / "0123abcd-1")
    undo = Undo(class_="exact", description="x", changes=(Restore(path="/a", object=before, kept="inode"),))
    change = WriteFile(path="/a", content=Inline(b"new"), in_place=True)
    Path(bench.real("/a")).write_bytes(b"new")
    bench.script.append([step(1, change, (At("/a", before),), (At("/a", bench.host.observe("/a")),), undo)])

    bench.undone()

    assert os.path.samefile(bench.real("/a"), bench.real("/b"))
    assert without_times(before) == without_times(bench.host.observe("/b"))


def test_attributes_that_a_directory_gained(bench: Bench) -> None:
    """Attributes that the run gave to a directory go where there is a setfattr, and are named where there is none."""
    os.mkdir(bench.real("/d"))
    before = bench.host.observe("/d")

    def give(path: str) -> None:
        os.setxattr(path, "system.posix_acl_default", ACL)
        os.setxattr(path, "user.colour", b"red")

    bench.do(1, "/d", give, MakeDirectory(path="/d"))
    bench.script.close()
    named = bench.run()
    assert 1 == named.returncode
    assert b"/d: its attribute user.colour stays: no setfattr here" in named.stderr

    (bench.bin / "setfattr").symlink_to(shutil.which("setfattr") or "")

    bench.undone()

    assert before == bench.host.observe("/d")


def test_a_hard_link_over_an_equal_file(bench: Bench) -> None:
    """A file that became a name of another one with the same content gets an inode of its own again."""
    for name in ("/a", "/b"):
        a_file(bench.real(name))
    tree = bench.tree()

    def link(path: str) -> None:
        os.unlink(path)
        os.link(path[:-1] + "b", path)

    bench.directories = {"/": bench.root.stat().st_mtime_ns}
    bench.do(1, "/a", link, MakeHardlink(path="/a", existing="/b"))
    bench.undone()

    assert not os.path.samefile(bench.real("/a"), bench.real("/b"))
    assert tree == bench.tree()


def test_a_move_is_taken_back(bench: Bench) -> None:
    """A moved file goes back to where it was, and what it replaced is restored."""
    a_file(bench.real("/a"))
    put(b"replaced")(bench.real("/b"))
    tree, a, b = bench.tree(), bench.host.observe("/a"), bench.host.observe("/b")
    bench.store.keep_many([bench.host.chunks("/b")])
    back = (Move(source="/b", destination="/a"), Restore(path="/b", object=b))
    undo = Undo(class_="exact", description="move back", changes=back)
    made = step(
        1, Move(source="/a", destination="/b"), (At("/a", a), At("/b", b)), (At("/a", Absent()), At("/b", a)), undo
    )
    bench.script.append([made], {"/": bench.root.stat().st_mtime_ns})
    os.rename(bench.real("/a"), bench.real("/b"))

    bench.undone()

    assert tree == bench.tree()


def test_a_parent_that_leads_out_of_the_root(bench: Bench) -> None:
    """Below another root nothing is changed through a link that leads out of it."""
    outside = bench.top / "outside"
    outside.mkdir()
    os.mkdir(bench.real("/d"))
    a_file(bench.real("/d/a"))
    bench.do(1, "/d/a", remove)
    os.rmdir(bench.real("/d"))
    os.symlink(outside, bench.real("/d"))
    bench.script.close()

    assert 1 == bench.run().returncode
    assert [] == list(outside.iterdir())


# ---- commands: at the root of this machine, for there is nothing to run in an empty one -----------------------------


@pytest.fixture
def online(bench: Bench) -> Bench:
    bench.script = UndoScript(bench.state, "0123abcd", "/")
    return bench


def says(place: Path, text: str) -> RunCommand:
    return RunCommand(argv=("sh", "-c", 'printf %s "$1" >>"$2"', "sh", text, str(place)))


def test_reversed_steps_come_back_first_and_reactions_last(online: Bench) -> None:
    """Steps are taken back in reverse; those marked `after` follow in forward order, equal reactions once."""
    log = online.top / "log"
    hup = ReactCommand(argv=says(log, "hup ").argv)
    online.opaque(1, says(log, ""), (says(log, "one "),))
    online.opaque(2, says(log, ""), (says(log, "two "),), order="after")
    online.opaque(3, hup, (hup,), order="after")
    online.opaque(4, says(log, ""), (says(log, "four "),))
    online.opaque(5, hup, (hup,), order="after")

    online.undone()

    assert "four one two hup " == log.read_text()


def test_arguments_are_exact(online: Bench) -> None:
    """Whatever is in an argument, in the environment, in standard input or in a script arrives as it is."""
    nasty = "it's\n#end 1 \"$(id)`id`\\ *\x01\udcff\n"
    out = online.top / "out"
    script = f'cat "$1" >/dev/null\nprintf %s "$AQUILINE_ARGUMENTS" >{out}.arguments\nprintf %s "$V" >{out}.v\n'
    for number, stdin in enumerate((b"text\n#end\n\tit's\n", b"", b"a\0b\xff\n%s\\n"), start=1):
        change = RunCommand(argv=("sh", "-c", 'printf %s "$1" >"$2.argv"; cat >"$2.in"', "sh", nasty, f"{out}{number}"))
        online.opaque(number, change, (RunCommand(argv=change.argv, stdin=stdin),))
    online.opaque(
        9,
        says(out, ""),
        (
            RunScript(
                language="shell",
                text=script.replace('"$1"', "/dev/null"),
                arguments={"a": "é\n"},
                environment={"V": nasty},
            ),
        ),
    )

    online.undone()

    for number, stdin in enumerate((b"text\n#end\n\tit's\n", b"", b"a\0b\xff\n%s\\n"), start=1):
        assert os.fsencode(nasty) == Path(f"{out}{number}.argv").read_bytes()
        assert stdin == Path(f"{out}{number}.in").read_bytes()
    assert '{"a": "\\u00e9\\n"}' == Path(f"{out}.arguments").read_text()
    assert os.fsencode(nasty) == Path(f"{out}.v").read_bytes()


def test_the_environment_of_a_command_is_fixed(online: Bench) -> None:
    """A command sees PATH, HOME and LC_ALL as in a run, and nothing of who started the script."""
    out = online.top / "out"
    online.opaque(1, says(out, ""), (RunCommand(argv=("sh", "-c", f"env | grep -v ^PWD= >{out}")),))
    online.script.close()

    assert 0 == online.run(SECRET="x").returncode

    assert {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LC_ALL=C"} == set(
        out.read_text().splitlines()
    )


def test_a_failing_command_is_a_failure(online: Bench) -> None:
    """A command that ends with a status it does not accept fails its step; the others are still taken back."""
    log = online.top / "log"
    online.opaque(1, says(log, ""), (says(log, "one"),))
    online.opaque(2, says(log, ""), (RunCommand(argv=("sh", "-c", "exit 3"), accepts=(0, 3)),))
    online.opaque(3, says(log, ""), (RunCommand(argv=("sh", "-c", "exit 4"), description="it"), says(log, "never")))
    online.script.close()

    done = online.run()

    assert (1, b"step 3: could not: it: exit status 4\n0 conflicts, 1 could not be done\n") == (
        done.returncode,
        done.stderr,
    )
    assert "one" == log.read_text()


def test_a_command_in_doubt(online: Bench) -> None:
    """Whether the last command ran is not known before the next chunk: its probe says, else a person with --force."""
    log, flag = online.top / "log", online.top / "flag"
    probed = RunCommand(argv=("true",), done_when=Probe(argv=("test", "-e", str(flag))))
    online.opaque(1, RunCommand(argv=("true",)), (says(log, "one"),))

    assert 12 == online.run().returncode
    assert not log.exists()

    online.opaque(2, probed, (says(log, "two"),))
    assert (0, "one") == (online.run().returncode, log.read_text())
    flag.touch()
    assert (0, "onetwo") == (online.run().returncode, log.read_text())


def test_a_command_is_taken_back_once(online: Bench) -> None:
    """Running the script again, or after the run was undone by other means, runs no command a second time."""
    log = online.top / "log"
    online.opaque(1, says(log, ""), (says(log, "one"),))
    online.opaque(2, says(log, ""), (says(log, "two"),))
    TakenBack(online.state, "0123abcd").add(2)

    online.undone()
    online.undone()

    assert "one" == log.read_text()


def test_python_is_run_where_there_is_one(online: Bench) -> None:
    """An undo in Python runs where a python3 answers; else it is named and the exit status is 1."""
    out = online.top / "out"
    text = f"open({str(out)!r}, 'w').write(arguments['x'])\n"
    online.opaque(1, RunCommand(argv=("true",)), (RunScript(language="python", text=text, arguments={"x": "é'"}),))
    online.script.close()

    refused = online.run()
    assert (1, False) == (refused.returncode, out.exists())
    assert b"needs python3" in refused.stderr

    (online.bin / "python3").symlink_to(shutil.which("python3") or "")
    assert (0, "é'") == (online.run().returncode, out.read_text())


def test_the_irreversible_is_said(bench: Bench) -> None:
    """A step without an undo is named with its reason, and the exit status is 1."""
    undo = Undo(class_="irreversible", description="nothing", reason="mail was sent")
    bench.script.append([step(1, RunCommand(argv=("mail",)), undo=undo)])
    bench.script.close()

    done = bench.run()

    assert 1 == done.returncode
    assert b"cannot be taken back: mail was sent" in done.stderr


def test_an_amended_step_replaces_the_first(bench: Bench) -> None:
    """A step that is appended again is taken back as said last, once, in its old place."""
    a_file(bench.real("/a"))
    made = bench.do(1, "/a", put(b"new"))
    other = Undo(class_="exact", description="make it a link", changes=(MakeSymlink(path="/a", target="t"),))
    amended = step(1, made.change, made.before, made.after, other)
    bench.script.append([amended])

    bench.undone()

    assert "t" == os.readlink(bench.real("/a"))


def test_forward(bench: Bench) -> None:
    """The forward script does again what the run did, in order."""
    steps: Sequence[Step] = [
        bench.do(1, "/d", os.mkdir, MakeDirectory(path="/d")),
        bench.do(2, "/d/f", put(b"text\nmore\n", 0o640), WriteFile(path="/d/f", content=Inline(b"text\nmore\n"))),
        bench.do(3, "/d/g", put(b"\0\xff", 0o640), WriteFile(path="/d/g", content=Inline(b"\0\xff"))),
        bench.do(4, "/l", lambda path: os.symlink("d", path), MakeSymlink(path="/l", target="d")),
    ]
    made = [without_times(bench.host.observe(path)) for path in ("/d", "/d/f", "/d/g", "/l")]
    bench.undone()
    assert [] == os.listdir(bench.root)

    script = bench.top / "forward.sh"
    script.write_bytes(os.fsencode(forward_script(bench.state, "0123abcd", steps, str(bench.root))))
    done = bench.run(script=script)

    assert (0, b"") == (done.returncode, done.stderr)
    assert made == [without_times(bench.host.observe(path)) for path in ("/d", "/d/f", "/d/g", "/l")]


def test_the_script_is_private_and_runs_by_itself(bench: Bench) -> None:
    """The script is its owner's alone, and may be run as a program."""
    bench.do(1, "/a", put(b"new"))

    assert 0o700 == stat.S_IMODE(bench.script.path.stat().st_mode)
    assert 0 == subprocess.run([bench.script.path, "--list"], check=False, capture_output=True).returncode
