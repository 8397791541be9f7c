"""One small host and one small plan that holds every kind, with an account of what each step leaves.

Below this root units are enabled and masked by their links, account databases are edited for real, and what would need
a running system is a step that is *offline: not run*. Packages are not in it: a root of this size has no package
manager; `tests/packages` kills transactions of real ones.
"""

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
from aquiline.agent.recovering import Assumed, Recovered, recover
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
    ReactDaemonReload,
    ReactSignal,
    ReactUnit,
    Remove,
    RunCommand,
    RunScript,
    SetMetadata,
    SetRecord,
    SetUnit,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.host.objects import sha256
from aquiline.planning.component import Component, Task
from aquiline.profile import Profile
from tests.engine.site import DATABASES, component, tree

#: What commands write to: they are taken back by commands of their own, which do not care for times.
OF_COMMANDS = "/var"
PROGRAMS = ("/bin", "/lib", "/lib64", "/usr")
Tree = dict[str, tuple[Any, ...]]
UNITS = "/etc/systemd/system"
#: What each unit's state is told by: the links that make it so.
LINKS = {
    "web.service": (f"{UNITS}/multi-user.target.wants/web.service", f"{UNITS}/www.service"),
    "off.service": (f"{UNITS}/multi-user.target.wants/off.service", f"{UNITS}/idle.service"),
    "noise.service": (f"{UNITS}/noise.service",),
}


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
    populate_units(root)
    for name, text in RECORDS.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o600 if "shadow" in name else 0o644)
    (etc / ".pwd.lock").touch(0o600)
    for path in (etc / "old/deep", etc / "old", etc / "full", etc, root / "tmp", root):
        os.utime(path, ns=(1, 1_400_000_000_987_654_321))


#: The account databases as they are before: with comments, a line of NIS, and one that does not end its last line.
RECORDS = {
    "passwd": "root:x:0:0::/root:/bin/sh\n# people\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n+::::::\n",
    "shadow": "root:*:1::::::\nada:$6$old:1::::::\n",
    "group": "root:x:0:\nada:x:1000:\nwheel:x:10:ada\n",
    "gshadow": "root:*::\n",
    "subuid": "ada:100000:65536\nold:165536:65536",
    "subgid": "ada:100000:65536\n",
}


def populate_units(root: Path) -> None:
    """Make one unit that is off, one that is on, both with an alias, and one that is to be masked."""
    vendor, configured = root / "usr/lib/systemd/system", root / UNITS.lstrip("/")
    vendor.mkdir(parents=True)
    wants = configured / "multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in LINKS:
        alias = {"web.service": "Alias=www.service\n", "off.service": "Alias=idle.service\n"}.get(unit, "")
        (vendor / unit).write_text(f"[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n{alias}")
    for link in LINKS["off.service"]:
        (root / link.lstrip("/")).symlink_to("/usr/lib/systemd/system/off.service")
        os.utime(root / link.lstrip("/"), ns=(1, 1_300_000_000_123_456_789), follow_symlinks=False)
    for path in (wants, configured, configured.parent):
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
        Task(description="reacted to", changes=(write,), reactions=(SEES, *NOT_RUN)),
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
        SetRecord(database="passwd", name="bob", line="bob:x:1001:1001::/home/bob:/bin/sh", after="root"),
        SetRecord(database="shadow", name="bob", line="bob:$6$new:1::::::"),
        SetRecord(database="shadow", name="ada", line="ada:!:1::::::"),
        SetUnit(unit="web.service", enabled="enabled", active=True),
        SetRecord(database="group", name="wheel", line="wheel:x:10:ada,bob"),
        SetRecord(database="gshadow", name="root", line=None),
        SetRecord(database="subuid", name="old", line=None),
        SetRecord(database="subgid", name="bob", line="bob:165536:65536"),
        SetUnit(unit="off.service", enabled="disabled"),
        SetUnit(unit="noise.service", enabled="masked", active=False),
        Move(source="/etc/moved", destination="/etc/made/moved"),
        Move(source="/etc/full", destination="/etc/fuller"),
        SetMetadata(path="/etc/meta", mode=0o4701, owner=9, group=9, mtime_ns=999_999_999, xattrs=(("user.a", b"1"),)),
        SetMetadata(path="/etc/old", mode=0o700, owner=1),
    )


#: Remembers what it saw: it saw the host as it is in the end if, and only if, no debt was lost.
SEES = ReactCommand(argv=shell("read line < /etc/over; echo $line > /var/seen"), offline_too=True)
#: What needs a running system.
NOT_RUN = (
    ReactUnit(unit="web.service", action="reload"),
    ReactSignal(process="web", signal="HUP"),
    ReactDaemonReload(),
)


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
                runs = undoing.select(session, journal, last=1)
            return undoing.undo(session, runs)

    def undo_failed(self) -> Undone | None:
        """Take back what a run that failed did; None where it did nothing."""
        with self.session() as session:
            with session.reading() as journal:
                runs = undoing.select(session, journal, last=1)
            return undoing.undo(session, runs) if runs else None

    def redo(self) -> Undone:
        """Take the last undo back."""
        with self.session() as session:
            with session.reading() as journal:
                run = next(run for run in journal.runs() if run.header.kind == "apply")
            return undoing.redo(session, run)

    def recover(self, direction: Any, assumptions: Iterable[Assumed] = ()) -> Recovered:
        """Recover."""
        with self.session() as session:
            return recover(session, direction, assumptions=assumptions)

    def tree(self) -> Tree:
        """Return all that undo promises to restore, but for the programs and what commands write to."""
        return {path: found for path, found in self.whole_tree().items() if not path.startswith(OF_COMMANDS)}

    def whole_tree(self) -> Tree:
        """Return all but the programs, and the times of account databases, which undo does not put back."""
        return {
            path: (*found[:3], None, *found[4:]) if path in DATABASES else found
            for path, found in tree(self.root).items()
            if not path.startswith(PROGRAMS)
        }

    def written(self) -> dict[str, str]:
        """Return what commands wrote; what they did not write, or not to the end, or took back is not in it."""
        found = {path.name: path.read_text().strip() for path in (self.root / "var").iterdir()}
        return {name: text for name, text in found.items() if text not in ("", "off")}

    def entry(self, database: str, name: str) -> str | None:
        """Return the line of an account in the file itself."""
        lines = (self.root / "etc" / database).read_text().splitlines()
        return next((line for line in lines if line.startswith(f"{name}:")), None)

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
