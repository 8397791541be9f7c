"""Entries in the undo script: those of a run are taken together, and come out as taken one by one by `Database`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.changes.kinds import CopyOf, Remove, SetRecord, WriteFile
from aquiline.changes.steps import Step, Undo
from aquiline.host.objects import ABSENT, At, Object, Record, sha256
from aquiline.host.protocol import Entry
from aquiline.host.records import Database
from aquiline.journal.script import UndoScript, forward_script
from aquiline.journal.state import StateDirectory
from tests.journal.making import step

#: The machine's own, and whatever else there is.
AWKS = {
    os.path.realpath(place): name
    for name in ("awk", "gawk", "original-awk", "busybox")
    if (place := shutil.which(name)) is not None
}
ROOT = b"root:x:0:0::/root:/bin/sh\n"

#: Names that mean something to a shell, to a pattern or to awk, or that begin like another.
NAMES = ["a", "aa", "a.", "a*", "[a]", "^a", "a$", "\\a", "a\\", "a b", "$(a)", "'a'", "%s", "\udcff", "é", "a\tb"]
names = st.sampled_from(NAMES)
values = st.sampled_from(["", "1", "one 'two'", "\\n%s$x`y`", "\udcfe\t\x01", "01"])
#: Lines that are no entries.
rests = st.sampled_from(["", "# a comment", "+@net::", "-bad::", ":nameless:", "no colon"])


class Host:
    """A root with account databases, and the undo script of a run that has set entries of theirs."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        (self.root / "etc").mkdir(parents=True)
        self.bin = top / "bin"
        self.bin.mkdir()
        self.state = StateDirectory(top / "state")
        self.state.create()
        self.steps: list[Step] = []
        self.databases: dict[str, Database] = {}

    def has(self, database: str, content: bytes) -> None:
        """Let a database be there, private, and somebody's."""
        self.databases[database] = Database.parsed(content)
        self.write(database)
        os.chown(self.path(database), 12, 34)
        self.path(database).chmod(0o640)
        os.setxattr(self.path(database), "user.note", b"kept")

    def path(self, database: str) -> Path:
        return self.root / "etc" / database

    def write(self, database: str) -> None:
        self.path(database).write_bytes(self.databases[database].content)

    def set(self, name: str, line: str | None, database: str = "passwd") -> Step:
        """Make a step that sets an entry, and do it."""
        was = self.databases[database].entry(name)
        back = SetRecord(
            database=database,  # type: ignore[arg-type]  # the tests name those there are
            name=name,
            line=was.line,
            after=was.after,
            below=was.below,
            unended=was.unended,
        )
        at = f"{database}:{name}"
        made = step(
            len(self.steps) + 1,
            msgspec.structs.replace(back, line=line, after=None, below=0, unended=False),
            (At(at, _record(was.line)),),
            (At(at, _record(line)),),
            Undo(class_="exact", description=f"restore {name!r}", changes=(back,)),
        )
        self.steps.append(made)
        self.edit(database, name, line)
        return made

    def edit(self, database: str, name: str, line: str | None) -> None:
        """Set an entry as somebody else would: no step knows of it."""
        self.databases[database] = Database.parsed(self.databases[database].with_entries([Entry(name, line)]).content)
        self.write(database)

    def run(self, *options: str, awk: str = "awk") -> subprocess.CompletedProcess[str]:
        """Run the undo script with this awk."""
        script = UndoScript(self.state, "0123abcd", str(self.root))
        if not script.path.exists():
            script.append(self.steps)
            script.close()
        return self.dash(script.path, *options, awk=awk)

    def dash(self, script: Path, *options: str, awk: str = "awk") -> subprocess.CompletedProcess[str]:
        program = f"{shutil.which(awk)}{' awk' if awk == 'busybox' else ''}"
        (self.bin / "awk").write_text(f'#!/bin/sh\necho called >>"{self.bin}/called"\nexec {program} "$@"\n')
        (self.bin / "awk").chmod(0o755)
        return subprocess.run(
            ["dash", script, *options],
            env={"PATH": f"{self.bin}:/usr/bin:/bin"},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )

    def content(self, database: str = "passwd") -> bytes:
        return self.path(database).read_bytes()

    def others(self) -> list[str]:
        """Return what is in /etc besides the databases."""
        return sorted(set(os.listdir(self.root / "etc")) - self.databases.keys())


def _record(line: str | None) -> Object:
    return ABSENT if line is None else Record(line)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# ---- bytes ---------------------------------------------------------------------------------------------------------


@st.composite
def databases(draw: st.DrawFn) -> bytes:
    """Draw a file: some entries, each once, other lines between, with or without an end."""
    entries = [f"{name}:{draw(values)}" for name in draw(st.lists(names, unique=True, max_size=6))]
    lines = draw(st.permutations([*entries, *draw(st.lists(rests, max_size=4))]))
    return os.fsencode("\n".join(lines) + draw(st.sampled_from(["", "\n"])))


edits = st.lists(st.tuples(names, st.none() | values), max_size=8)


def line(name: str, value: str | None) -> str | None:
    return None if value is None else f"{name}:{value}"


def taken_back(database: Database, steps: Sequence[Step]) -> tuple[bytes, int]:
    """Return what undo leaves of a database, and how many entries it leaves alone because somebody changed them."""
    conflicts = 0
    for one in reversed(steps):
        (change,) = one.undo.changes
        assert isinstance(change, SetRecord)
        (left,), (was,) = one.after, one.before
        there = _record(database.line(change.name))
        if there == left.object:
            entry = Entry(change.name, change.line, change.after, change.below, change.unended)
            database = Database.parsed(database.with_entries([entry]).content)
        elif there != was.object:
            conflicts += 1
    return database.content, conflicts


@pytest.mark.parametrize("awk", AWKS.values())
@settings(max_examples=25, derandomize=True)
@given(content=databases(), done=edits, meanwhile=edits)
def test_the_script_gives_the_bytes_that_undo_gives(
    awk: str, content: bytes, done: list[tuple[str, str | None]], meanwhile: list[tuple[str, str | None]]
) -> None:
    """Whatever stands in a database, whatever is set in it, by us and by others since: same bytes, same conflicts."""
    with tempfile.TemporaryDirectory() as place:
        host = Host(Path(place))
        host.has("passwd", content)
        for name, value in done:
            if host.databases["passwd"].line(name) != line(name, value):
                host.set(name, line(name, value))
        for name, value in meanwhile:
            host.edit("passwd", name, line(name, value))
        expected, conflicts = taken_back(host.databases["passwd"], host.steps)
        ended = host.run(awk=awk)

        assert (expected, 12 if conflicts else 0) == (host.content(), ended.returncode), ended
        assert conflicts == ended.stderr.count(": conflict: ")
        assert [] == host.others()
        if not meanwhile:
            assert content == host.content()


# ---- how it is done ------------------------------------------------------------------------------------------------


def test_hundreds_of_entries_are_one_rewrite(host: Host) -> None:
    """However many entries follow each other, of whatever databases: one pass, and each file keeps what else it is."""
    host.has("passwd", ROOT)
    host.has("shadow", b"root:*:1::::::\n")
    for number in range(150):
        host.set(f"u{number}", f"u{number}:x:{number}:1::/:")
        host.set(f"u{number}", f"u{number}:!:1::::::", "shadow")
    ended = host.run()

    assert (0, "") == (ended.returncode, ended.stderr)
    assert [f"step {number}: restore 'u{(number - 1) // 2}'" for number in range(300, 0, -1)] == ended.stdout.split(
        "\n"
    )[:-1]
    assert (ROOT, b"root:*:1::::::\n") == (host.content(), host.content("shadow"))
    assert "called\n" == (host.bin / "called").read_text()
    for database in host.databases:
        found = host.path(database).stat()
        assert (12, 34, 0o100640) == (found.st_uid, found.st_gid, found.st_mode)
        assert b"kept" == os.getxattr(host.path(database), "user.note")
    assert [] == host.others()


def test_what_stands_between_entries_comes_in_its_turn(host: Host) -> None:
    """A step that is no entry is taken back after those that came after it and before those that came before it."""
    host.has("passwd", ROOT)
    host.set("a", "a:1")
    there = host.content()
    copied = CopyOf("/etc/passwd", sha256=sha256(there), size=len(there))
    kept = WriteFile(path="/etc/copy", content=copied, mode=0o600)
    host.steps.append(step(2, Remove(path="/etc/copy"), undo=Undo("exact", "keep a copy", (kept,))))
    host.set("b", "b:1")
    host.run("--force")

    assert there == (host.root / "etc/copy").read_bytes()
    assert ROOT == host.content()


def test_an_entry_that_somebody_changed_is_the_only_one_left(host: Host) -> None:
    """One entry in the midst of others is a conflict, by its number; --force takes it back too."""
    host.has("passwd", ROOT)
    for name in ("a", "b", "c"):
        host.set(name, f"{name}:1")
    host.edit("passwd", "b", "b:2")
    ended = host.run()

    assert (12, ROOT + b"b:2\n") == (ended.returncode, host.content())
    assert "step 2: conflict: the entry b: in /etc/passwd was changed since" == ended.stderr.split("\n")[0]
    assert "1 conflicts, 0 could not be done" == ended.stderr.split("\n")[1]
    ended = host.run("--force")
    assert (0, ROOT) == (ended.returncode, host.content())
    assert "step 3: already as before: restore 'c'" == ended.stdout.split("\n")[0]


def test_options(host: Host) -> None:
    """--dry-run says what would be done and does nothing; --only takes back what it names."""
    host.has("passwd", ROOT)
    for name in ("a", "b", "c"):
        host.set(name, f"{name}:1")
    there, inode = host.content(), host.path("passwd").stat().st_ino
    ended = host.run("--dry-run")

    assert (0, "step 3: would: restore 'c'") == (ended.returncode, ended.stdout.split("\n")[0])
    assert (there, inode, []) == (host.content(), host.path("passwd").stat().st_ino, host.others())
    assert 0 == host.run("--only", "1", "--only", "3").returncode
    assert ROOT + b"b:1\n" == host.content()


def test_several_entries_of_one_name_are_left_to_a_person(host: Host) -> None:
    """Which of them is meant nobody can tell; the others are taken back."""
    host.has("passwd", ROOT)
    host.set("a", "a:1")
    host.set("b", "b:1")
    host.path("passwd").write_bytes(ROOT + b"a:1\nb:1\na:1\n")
    ended = host.run()

    assert (1, ROOT + b"a:1\na:1\n") == (ended.returncode, host.content())
    assert "step 1: could not: there are several entries of a in /etc/passwd" == ended.stderr.split("\n")[0]


@pytest.mark.parametrize("why", ["locked", "gone", "a link", "led away"])
def test_a_database_that_cannot_be_changed_is_said(host: Host, why: str) -> None:
    """What is locked, gone or elsewhere stays as it is, each step says so; the other database is taken back."""
    host.has("passwd", ROOT)
    host.has("group", b"root:x:0:\n")
    host.set("a", "a:1")
    host.set("a", "a:1", "group")
    host.set("b", "b:1")
    passwd = host.path("passwd")
    expected = {"locked": 2, "gone": 0, "a link": 0, "led away": 3}[why]
    match why:
        case "locked":
            Path(f"{passwd}.lock").write_text(str(os.getpid()))
        case "gone":
            passwd.unlink()
        case "a link":
            passwd.rename(f"{passwd}.real")
            passwd.symlink_to("passwd.real")
        case "led away":
            host.path("").rename(host.root.parent / "elsewhere")
            (host.root / "etc").symlink_to("../elsewhere")
    ended = host.run("--force")

    assert expected == ended.stderr.count(": could not: "), ended.stderr
    assert (1 if expected else 0) == ended.returncode
    if why == "locked":
        assert ROOT + b"a:1\nb:1\n" == host.content()
        assert ["passwd.lock"] == host.others()
    if why != "led away":
        assert b"root:x:0:\n" == host.content("group")


def test_what_a_killed_script_left_is_no_hindrance(host: Host) -> None:
    """A lock of a process that has ended, and what it had staged, are taken away."""
    host.has("passwd", ROOT)
    host.set("a", "a:1")
    ended = subprocess.Popen(["true"])
    ended.wait()
    Path(f"{host.path('passwd')}.lock").write_text(str(ended.pid))
    (host.root / "etc/.aq-0123abcd-passwd").write_text("half of i")
    (host.root / "etc/.aq-accounts").write_text("half of i")

    assert 0 == host.run().returncode
    assert (ROOT, []) == (host.content(), host.others())


def test_without_awk_nothing_is_changed(host: Host) -> None:
    """An awk that is not there, or that dies, leaves the databases alone and is a failure."""
    host.has("passwd", ROOT)
    host.set("a", "a:1")
    there = host.content()

    assert 1 == host.run(awk="false").returncode
    assert (there, []) == (host.content(), [name for name in host.others() if not name.startswith("awk")])


def test_forward(host: Host, tmp_path: Path) -> None:
    """The script that does a run again sets all entries, in one pass as well."""
    host.has("passwd", ROOT)
    for number in range(20):
        host.set(f"u{number}", f"u{number}:x:{number}:1::/:")
    there = host.content()
    script = tmp_path / "again.sh"
    script.write_text(forward_script(host.state, "0123abcd", host.steps, str(host.root)))
    assert 0 == host.run().returncode
    (host.bin / "called").unlink()

    assert 0 == host.dash(script).returncode
    assert there == host.content()
    assert "called\n" == (host.bin / "called").read_text()
