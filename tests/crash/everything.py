"""One small host and one small plan that holds every kind, with an account of what each step leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aquiline.agent import applying, undoing
from aquiline.agent.applying import RunEnded
from aquiline.agent.recovering import Recovered, recover
from aquiline.agent.session import Session
from aquiline.agent.undoing import Undone
from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Probe,
    ReactCommand,
    Remove,
    RunCommand,
    RunScript,
    SetMetadata,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.execution.recovery import Assumption
from aquiline.host.objects import sha256
from aquiline.planning.component import Component, Task
from aquiline.profile import Profile
from tests.engine.site import component, tree

#: What commands write to: they are taken back by commands of their own, which do not care for times.
OF_COMMANDS = "/var"
PROGRAMS = ("/bin", "/lib", "/lib64", "/usr")
Tree = dict[str, tuple[Any, ...]]


def shell(text: str) -> tuple[str, ...]:
    """Return the command that runs `text`."""
    return ("/bin/sh", "-c", text)


def populate(root: Path) -> None:
    """Make the host that the plan changes."""
    lines = subprocess.run(["ldd", "/bin/dash"], capture_output=True, text=True, check=True).stdout
    programs = [word for word in lines.replace("=>", " ").split() if word.startswith("/")]
    for name in (*programs, "/bin/dash"):
        place = root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, place)
    (root / "bin/sh").symlink_to("dash")
    for name in ("etc", "etc/full", "etc/old", "etc/old/deep", "var", "tmp"):
        (root / name).mkdir()
    etc = root / "etc"
    for name in ("over", "edited", "removed", "moved", "meta", "twin", "in-place", "replaced", "linked", "attributes"):
        (etc / name).write_text(f"old {name}\n")
        os.utime(etc / name, ns=(1, 1_500_000_000_123_456_789))
    (etc / "old/deep/file").write_text("deep\n")
    os.link(etc / "twin", etc / "full/twin")
    os.setxattr(etc / "attributes", "user.note", b"old")
    (etc / "link").symlink_to("over")
    os.mkfifo(etc / "fifo", 0o640)
    os.chown(etc / "fifo", 3, 4)
    (root / "var/seen").write_text("old over\n")
    for path in (etc / "old/deep", etc / "old", etc / "full", etc, root / "tmp", root):
        os.utime(path, ns=(1, 1_400_000_000_987_654_321))


def changes() -> Iterable[Change | Task]:
    """Return every kind, over every kind of prior state that is done differently."""
    write = WriteFile(path="/etc/over", content=Inline(b"new over\n"), mode=0o600, owner=5)
    settled = RunCommand(
        argv=shell("echo on > /var/settled"),
        touches=Touches(paths=("/var/settled",)),
        done_when=Probe(argv=shell('read word < /var/settled; test "$word" = on')),
        undo=CommandUndo(changes=(Remove(path="/var/settled"),)),
    )
    again = RunCommand(
        argv=shell("echo on > /var/again"),
        touches=Touches(paths=("/var/again",)),
        always=True,
        idempotent=True,
        undo=CommandUndo(
            changes=(
                RunCommand(
                    argv=(*shell("echo $0 > /var/again"), "off"),
                    touches=Touches(paths=("/var/again",)),
                    environment={"A": "b c"},
                    always=True,
                    idempotent=True,
                ),
            )
        ),
    )
    wrote = Touches(paths=("/var/script",))
    script = RunScript(
        language="shell",
        text="echo on > /var/script",
        touches=Touches(paths=("/var/script",)),
        always=True,
        undo=CommandUndo(changes=(RunCommand(argv=shell("echo off > /var/script"), touches=wrote, always=True),)),
    )
    return (
        Task(description="reacted to", changes=(write,), reactions=(SEES,)),
        Validate(path="/etc/new", content=Inline(b"new\n"), argv=(*shell("test -s $0"), "{}")),
        WriteFile(path="/etc/new", content=Inline(b"new\n")),
        WriteFile(path="/etc/twin", content=Inline(b"no twin\n")),
        WriteFile(path="/etc/attributes", content=Inline(b"new attributes\n"), xattrs=(("user.note", b"new"),)),
        WriteFile(path="/etc/in-place", content=Inline(b"new in place, longer\n"), mode=0o640, in_place=True),
        EditFile(path="/etc/edited", content=Inline(b"old edited\nmore\n"), edited_sha256=sha256(b"old edited\n")),
        settled,
        Remove(path="/etc/removed"),
        Remove(path="/etc/link"),
        Remove(path="/etc/fifo"),
        Remove(path="/etc/old/deep/file"),
        Remove(path="/etc/old/deep"),
        again,
        MakeDirectory(path="/etc/made", mode=0o711, owner=7),
        WriteFile(path="/etc/made/child", content=Inline(b"child\n")),
        MakeSymlink(path="/etc/replaced", target="made/child"),
        MakeHardlink(path="/etc/hard", existing="/etc/linked"),
        MakeSpecial(path="/etc/special", special="fifo", mode=0o622),
        script,
        Move(source="/etc/moved", destination="/etc/made/moved"),
        Move(source="/etc/full", destination="/etc/fuller"),
        SetMetadata(path="/etc/meta", mode=0o4701, owner=9, group=9, mtime_ns=999_999_999, xattrs=(("user.a", b"1"),)),
        SetMetadata(path="/etc/old", mode=0o700, owner=1),
    )


#: Remembers what it saw: it saw the host as it is in the end if, and only if, no debt was lost.
SEES = ReactCommand(argv=shell("read line < /etc/over; echo $line > /var/seen"), offline_too=True)


class Host:
    """A root and a state directory that can be copied as one and looked at again."""

    components: Mapping[str, type[Component[Any]]] = {"one": component("one", tuple(changes()))}

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "root"
        self.state = place / "state"
        #: Makes the host that a session works on from the real one.
        self.fault: Callable[[Any], Any] = lambda host: host

    @staticmethod
    def made(place: Path) -> Host:
        """Make a new host."""
        host = Host(place)
        host.root.mkdir(parents=True)
        populate(host.root)
        return host

    def copied(self, place: Path) -> Host:
        """Return a copy: links between root and state directory included."""
        if place.exists():
            shutil.rmtree(place)
        subprocess.run(["cp", "-a", str(self.place), str(place)], check=True)
        return Host(place)

    def profile(self) -> Profile:
        """Return a profile that names the component."""
        return Profile({"software": {"components": {name: {} for name in self.components}}}, "host.example.org")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open the host; the profile's component is the plan's, and the host is as faulty as it is made here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(applying, "registry_for", lambda _profile: self.components)
            with Session(str(self.root), str(self.state)) as session:
                real = session.host
                session.host = self.fault(real)
                try:
                    yield session
                finally:
                    session.host = real

    def apply(self, **options: Any) -> RunEnded:
        """Run the plan."""
        with self.session() as session:
            return applying.apply(session, self.profile(), **options)

    def undo(self) -> Undone:
        """Take the last run back."""
        with self.session() as session:
            with session.reading() as journal:
                runs = undoing.select(journal, last=1)
            return undoing.undo(session, runs)

    def undo_failed(self) -> Undone | None:
        """Take back what a run that failed did; None where it did nothing."""
        with self.session() as session:
            with session.reading() as journal:
                runs = undoing.select(journal, last=1)
            return undoing.undo(session, runs) if runs else None

    def redo(self) -> Undone:
        """Take the last undo back."""
        with self.session() as session:
            with session.reading() as journal:
                run = next(run for run in journal.runs() if run.header.kind == "apply")
            return undoing.redo(session, run)

    def recover(self, direction: Any, assumptions: Mapping[int, Assumption] | None = None) -> Recovered:
        """Recover."""
        with self.session() as session:
            return recover(session, direction, assumptions=assumptions)

    def tree(self) -> Tree:
        """Return all that undo promises to restore, but for the programs and what commands write to."""
        return {path: found for path, found in self.whole_tree().items() if not path.startswith(OF_COMMANDS)}

    def whole_tree(self) -> Tree:
        """Return all but the programs."""
        return {path: found for path, found in tree(self.root).items() if not path.startswith(PROGRAMS)}

    def written(self) -> dict[str, str]:
        """Return what commands wrote; what they did not write, or not to the end, or took back is not in it."""
        found = {path.name: path.read_text().strip() for path in (self.root / "var").iterdir()}
        return {name: text for name, text in found.items() if text not in ("", "off")}

    def left_over(self) -> list[str]:
        """Return what nobody is going to remove any more."""
        found = self.left_over_in_root()
        found += [str(path) for path in (self.state / "preimages").glob(".*")]
        found += [str(path) for path in (self.state / "attributes").glob(".*")]
        found += [str(path) for path in (self.state / "undo").glob("*.new")]
        found += [str(path) for path in (self.state / "spool").glob("*")]
        return [one.removeprefix(str(self.place)) for one in found]

    def left_over_in_root(self) -> list[str]:
        """Return what is half-built in the root."""
        return [str(path) for path in self.root.rglob(".a*")]

    def run_script(self, run: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the undo script as it is, under dash, without Python on the path."""
        return subprocess.run(
            ["/bin/dash", str(self.state / "undo" / f"{run}.sh"), *options],
            env={"PATH": "/usr/bin:/bin", "AQUILINE_ROOT": str(self.root)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
