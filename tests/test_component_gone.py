"""The component that made a run is changed, broken or uninstalled: everything that looks back works without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from aquiline.changes.kinds import Inline, MakeDirectory, MakeSymlink, Probe, RunCommand, Touches, WriteFile
from tests.agent.making import ANYTHING, Site, profile

CHANGES = (
    WriteFile(path="/etc/motd", content=Inline(b"new\n"), mode=0o640),
    MakeDirectory(path="/etc/d"),
    MakeSymlink(path="/etc/d/link", target="../motd"),
)

CHANGED = """
    import msgspec

    from aquiline.planning.component import Changes, Component, View


    class Configuration(msgspec.Struct):
        other: str


    class Anything(Component[Configuration]):
        name = "anything"
        version = "9"
        configuration = Configuration

        def configure(self, configuration: Configuration, host: View) -> Changes:
            raise RuntimeError("this version wants nothing of all that")
            yield
"""
BROKEN = "def this is not Python"


def change(site: Site) -> None:
    site.install("anything", CHANGED, "9")


def damage(site: Site) -> None:
    site.install("anything", BROKEN)


def uninstall(site: Site) -> None:
    shutil.rmtree(site.packages)
    site.packages.mkdir()


FATES: list[Callable[[Site], None]] = [change, damage, uninstall]


def ask(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool as people do, in a process of its own that finds the installed packages."""
    place = ("--root", str(site.root), "--state", str(site.state))
    command = (sys.executable, "-m", "aquiline.cli", *arguments, *place)
    return subprocess.run(command, capture_output=True, text=True, env=site.environment(), check=False)


@pytest.fixture
def made(tmp_path: Path) -> Site:
    """A host on which a plug-in of a package of its own has made a run."""
    site = Site(tmp_path)
    site.install("anything", ANYTHING)
    site.write("/etc/motd", "old\n", 0o600)
    wanted = tmp_path / "profile.json"
    wanted.write_bytes(msgspec.json.encode(profile(*CHANGES).tree))
    applied = ask(site, "apply", str(wanted))
    assert (0, "new\n") == (applied.returncode, site.text("/etc/motd")), applied.stderr
    return site


def run_of(site: Site) -> str:
    (script,) = (site.state / "undo").glob("*.sh")
    return script.stem


def is_as_before(site: Site) -> bool:
    return (
        ["motd"] == [one.name for one in site.path("/etc").iterdir()]
        and site.text("/etc/motd") == "old\n"
        and site.path("/etc/motd").stat().st_mode & 0o777 == 0o600
    )


@pytest.mark.parametrize("befalls", FATES)
def test_undo_and_redo_need_no_component(made: Site, befalls: Callable[[Site], None]) -> None:
    """Undo gives the tree before, redo the tree after, and undo again the tree before."""
    befalls(made)
    undone = ask(made, "undo")
    was_as_before = is_as_before(made)
    redone = ask(made, "redo", run_of_first(made))

    assert (0, True) == (undone.returncode, was_as_before), undone.stderr
    assert (0, "new\n") == (redone.returncode, made.text("/etc/motd")), redone.stderr
    assert "../motd" == str(made.path("/etc/d/link").readlink())
    assert 0 == ask(made, "undo", run_of_first(made)).returncode
    assert is_as_before(made)


def run_of_first(site: Site) -> str:
    return str(json.loads(ask(site, "log", "--json").stdout)[-1]["id"])


@pytest.mark.parametrize("befalls", FATES)
def test_the_script_needs_no_component(made: Site, befalls: Callable[[Site], None]) -> None:
    """The undo script gives the tree before, under dash."""
    befalls(made)
    script = made.state / "undo" / f"{run_of(made)}.sh"
    done = subprocess.run(["dash", str(script)], capture_output=True, text=True, check=False)

    assert (0, True) == (done.returncode, is_as_before(made)), done.stderr


@pytest.mark.parametrize("befalls", FATES)
def test_undo_from_an_export_needs_no_component(made: Site, tmp_path: Path, befalls: Callable[[Site], None]) -> None:
    """The journal is gone as well: `show --json` from before and the pre-images are enough."""
    export = tmp_path / "run.json"
    export.write_text(ask(made, "show", run_of(made), "--json").stdout)
    befalls(made)
    for path in made.state.glob("journal.db*"):
        path.unlink()
    done = ask(made, "undo", "--from", str(export))

    assert (0, True) == (done.returncode, is_as_before(made)), done.stderr


ASKED = (
    ("log",),
    ("show",),
    ("show", "--diff"),
    ("show", "--json"),
    ("script", "last", "--undo"),
    ("script", "last"),
    ("blame", "/etc/motd"),
    ("verify", "--exit-code"),
    ("status",),
    ("fsck",),
    ("gc", "--dry-run"),
    ("undo", "--dry-run"),
)


@pytest.mark.slow
@pytest.mark.parametrize("befalls", FATES)
def test_everything_that_looks_back_says_the_same(made: Site, befalls: Callable[[Site], None]) -> None:
    """Each command answers byte for byte what it answered while the component was there."""
    before = {arguments: ask(made, *arguments).stdout for arguments in ASKED}
    befalls(made)
    after = {arguments: ask(made, *arguments).stdout for arguments in ASKED}

    assert before == after
    assert all(before.values())


@pytest.mark.parametrize("befalls", FATES)
def test_a_killed_run_is_recovered_without_its_component(made: Site, befalls: Callable[[Site], None]) -> None:
    """A run that was killed half way is taken back to the tree before it, whatever became of its component."""
    made.with_shell()
    kill = RunCommand(
        argv=("sh", "-c", "kill -9 $PPID"), done_when=Probe(argv=("sh", "-c", "exit 1")), touches=Touches()
    )
    wanted = made.root / "killed.json"
    wanted.write_bytes(msgspec.json.encode(profile(*CHANGES, WriteFile(path="/etc/x", content=Inline(b"")), kill).tree))
    killed = ask(made, "apply", str(wanted), "--allow-irreversible")
    was_there = made.path("/etc/x").exists()
    befalls(made)
    recovered = ask(made, "recover", "--undo")

    assert (-9, True) == (killed.returncode, was_there), killed.stderr
    assert 0 == recovered.returncode, recovered.stderr
    assert (False, "new\n") == (made.path("/etc/x").exists(), made.text("/etc/motd"))


def test_undoing_imports_no_component() -> None:
    """The code that takes back, looks back and amends loads no component."""
    modules = [f"aquiline.agent.{name}" for name in ("undoing", "adopting", "inspecting", "amending", "keeping")]
    listed = "print([name for name in sys.modules if name.startswith('aquiline.components.')])"
    program = f"import sys, {', '.join(modules)}; {listed}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout
