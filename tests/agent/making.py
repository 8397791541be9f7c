"""A site made by hand, for the tests of the agent: a host's root, a profile, and components in a package of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from aquiline.agent.applying import RunEnded, apply
from aquiline.agent.session import Session
from aquiline.changes.kinds import Change
from aquiline.profile import Profile

#: A component that does whatever its part of the profile says, in the words of the journal.
ANYTHING = '''
    """Does what the profile says."""

    from typing import Any

    import msgspec

    from aquiline.changes.kinds import Change, Reaction
    from aquiline.planning.component import Changes, Component, Task, View


    class Configuration(msgspec.Struct):
        changes: list[dict[str, Any]] = []
        reactions: list[dict[str, Any]] = []


    class Anything(Component[Configuration]):
        name = "anything"
        version = "1.2"
        configuration = Configuration

        def configure(self, configuration: Configuration, host: View) -> Changes:
            yield Task(
                description="what was asked for",
                changes=tuple(msgspec.convert(one, Change) for one in configuration.changes),
                reactions=tuple(msgspec.convert(one, Reaction) for one in configuration.reactions),
            )
'''


class Site:
    """A root with its state, and a folder of installed component packages."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.packages = top / "packages"
        self.state = self.root / "var/lib/aquiline"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "tmp").mkdir()
        self.packages.mkdir()

    def install(self, name: str = "anything", source: str = ANYTHING, version: str = "1.2") -> None:
        """Install a component as a package of its own, as pip would."""
        (self.packages / f"site_{name}.py").write_text(textwrap.dedent(source))
        info = self.packages / f"site_{name}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: site-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[aquiline.components]\n{name} = site_{name}:{name.capitalize()}\n")

    def session(self) -> Session:
        return Session(str(self.root), str(self.state))

    def apply(self, *changes: Change, reactions: tuple[Change, ...] = (), **options: Any) -> RunEnded:
        """Bring the host to a profile that wants these changes."""
        with self.session() as session:
            return apply(session, profile(*changes, reactions=reactions), allow_irreversible=True, **options)

    def with_shell(self) -> None:
        """Put a shell and what it links to below the root, so that commands run there."""
        linked = subprocess.run(["ldd", "/bin/dash"], capture_output=True, text=True, check=True).stdout
        for source in ("/bin/dash", *re.findall(r"(/\S+) \(0x", linked)):
            place = self.path(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
        self.path("/bin/sh").symlink_to("dash")

    def path(self, path: str) -> Path:
        return Path(f"{self.root}{path}")

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(content)
        self.path(path).chmod(mode)

    def text(self, path: str) -> str | None:
        return self.path(path).read_text() if self.path(path).exists() else None

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Let this process find the installed packages."""
        sys.path.insert(0, str(self.packages))
        try:
            yield
        finally:
            sys.path.remove(str(self.packages))
            for name in [name for name in sys.modules if name.startswith("site_")]:
                del sys.modules[name]

    def environment(self) -> dict[str, str]:
        """Return the environment in which another process finds the installed packages."""
        return {**os.environ, "PYTHONPATH": str(self.packages)}


def profile(*changes: Change, reactions: tuple[Change, ...] = ()) -> Profile:
    """Return the profile in which the component *anything* wants `changes`."""
    section = {
        "changes": [msgspec.to_builtins(change) for change in changes],
        "reactions": [msgspec.to_builtins(reaction) for reaction in reactions],
    }
    return Profile(tree={"software": {"components": {"anything": section}}}, given_name="h1.example.org")
