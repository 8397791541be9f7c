"""A real root in a temporary directory, a session on it, and components made of a list of changes."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import pytest

from aquiline.agent import applying, undoing
from aquiline.agent.applying import RunEnded
from aquiline.agent.session import Session
from aquiline.agent.undoing import Undone
from aquiline.changes.steps import Plan
from aquiline.planning.component import Changes, Component, View, Yielded
from aquiline.profile import Profile

Yields = Iterable[Yielded] | Callable[[View], Iterable[Yielded]]


class Nothing(msgspec.Struct):
    """A component's configuration that has nothing in it."""


def component(name: str, yields: Yields) -> type[Component[Any]]:
    """Return a component that yields these."""

    class Made(Component[Nothing]):
        version: ClassVar[str] = "1"
        configuration: ClassVar[type[msgspec.Struct]] = Nothing

        def configure(self, configuration: Nothing, host: View) -> Changes:
            # Not `yield from`: it passes on what is sent, and a tuple takes nothing.
            for one in yields(host) if callable(yields) else yields:  # noqa: UP028
                yield one

    Made.name = name
    return Made


class Site:
    """A host of its own for one test."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = place / "root"
        self.root.mkdir()
        self.state = place / "state"
        self.session = Session(str(self.root), str(self.state))
        self.components: dict[str, type[Component[Any]]] = {}
        self.dependencies: dict[str, tuple[str, ...]] = {}
        monkeypatch.setattr(applying, "registry_for", lambda _profile: self.components)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.host.close()

    def wants(self, *yields: Yielded, name: str = "one", pre: tuple[str, ...] = ()) -> None:
        """Let component `name` yield these from now on."""
        self.components[name] = component(name, yields)
        self.dependencies[name] = pre

    def computes(self, yields: Callable[[View], Iterable[Yielded]], *, name: str, pre: tuple[str, ...] = ()) -> None:
        """Let component `name` yield what this returns when given the view."""
        self.components[name] = component(name, yields)
        self.dependencies[name] = pre

    def profile(self) -> Profile:
        """Return a profile that names all components."""
        sections = {name: {"dependencies": {"pre": list(pre)}} for name, pre in self.dependencies.items()}
        return Profile({"software": {"components": sections}}, "host.example.org")

    def plan(self) -> Plan:
        """Return a dry-run."""
        return applying.dry_run(self.session, self.profile())

    def apply(self, **options: Any) -> RunEnded:
        """Run live."""
        return applying.apply(self.session, self.profile(), **{"allow_irreversible": True, **options})

    def undo(self, selector: str | None = None, **options: Any) -> Undone:
        """Take a run back, the last by default."""
        with self.session.reading() as journal:
            runs = undoing.select(self.session, journal, selector)
        return undoing.undo(self.session, runs, **options)

    def undo_last(self, count: int) -> Undone:
        """Take the last runs back at once."""
        with self.session.reading() as journal:
            runs = undoing.select(self.session, journal, last=count)
        return undoing.undo(self.session, runs)

    def redo(self, run: str) -> Undone:
        """Take the undo of a run back."""
        with self.session.reading() as journal:
            found = journal.run(run)
        return undoing.redo(self.session, found)

    def run_undo_script(self, run: str, *options: str, expected: int = 0) -> None:
        """Run ``STATE/undo/RUN.sh`` under dash, with coreutils and no Python on the path."""
        script = self.state / "undo" / f"{run}.sh"
        completed = subprocess.run(
            ["/bin/dash", str(script), *options],
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert expected == completed.returncode, completed.stdout + completed.stderr

    def path(self, path: str) -> Path:
        """Return where a path of the host is on this machine."""
        return self.root / path.lstrip("/")

    def tree(self) -> dict[str, tuple[Any, ...]]:
        """Return everything undo promises to restore, of every object: P4."""
        return tree(self.root)

    def live(self) -> str:
        """Return the digest of the live profile, empty where none is."""
        with self.session.reading() as journal:
            live = journal.live()
        return live.profile if live is not None else ""

    def statuses(self, run: str) -> list[str]:
        """Return the status of each step of a run."""
        with self.session.reading() as journal:
            return [step.status for step in journal.steps(run)]


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything undo promises to restore of every object below `root`, by path.

    Names that share an inode are named as a group; directories come with their times too.
    """
    groups: dict[tuple[int, int], list[str]] = {}
    found: dict[str, tuple[Any, ...]] = {}
    for path in [str(root), *_walk(str(root))]:
        status = os.lstat(path)
        name = path[len(str(root)) :] or "/"
        groups.setdefault((status.st_dev, status.st_ino), []).append(name)
        found[name] = _object(path, status)
    for names in groups.values():
        if len(names) > 1:
            for name in names:
                found[name] += (tuple(sorted(names)),)
    return found


#: The account databases: undo puts their entries back, not the times of the files (docs/reference/kinds.md).
DATABASES = frozenset(f"/etc/{name}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))


def tree_but_database_times(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return `tree`, the modification times of the account databases left out."""
    return {path: values[:3] + values[4:] if path in DATABASES else values for path, values in tree(root).items()}


def _walk(root: str) -> Iterator[str]:
    for directory, folders, files in os.walk(root):
        yield from (os.path.join(directory, name) for name in (*folders, *files))


def _object(path: str, status: os.stat_result) -> tuple[Any, ...]:
    content: bytes | str = b""
    if stat.S_ISREG(status.st_mode):
        content = Path(path).read_bytes()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    return (
        stat.filemode(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_rdev,
        content,
        _frozen(xattrs),
    )


def _frozen(values: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(values.items()))
