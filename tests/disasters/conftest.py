"""A site for each disaster."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aquiline.cli.running import run
from tests.cli.conftest import Host
from tests.engine.site import Site

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A real root in a temporary directory, and a session on it."""
    with Site(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def with_shell(site: Site) -> Site:
    """A site whose root holds a shell and a few programs, so that commands run there."""
    for program in ("dash", "cat", "sleep", "rm", "touch"):
        linked = subprocess.run(["ldd", f"/bin/{program}"], capture_output=True, text=True, check=True).stdout
        for source in (f"/bin/{program}", *re.findall(r"(/\S+) \(0x", linked)):
            place = site.path(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
    site.path("/bin/sh").symlink_to("dash")
    site.path("/log").touch()
    return site


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A root with a shell and the component *anything*, for the command line in this process and others."""
    made = Host(tmp_path)
    made.with_shell()
    with made.importing():
        yield made
    made.path("/tmp/stop").touch()


@pytest.fixture
def ask(host: Host, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command line in this process; return exit status, answer and talk. It is never a traceback."""

    def ask(*arguments: str) -> tuple[int, str, str]:
        status = run(["--root", str(host.root), *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "this is a bug" not in said.err, said.err
        return status, said.out, said.err

    return ask
