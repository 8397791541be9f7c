"""The console blocks of the manual are run, and say what really happens.

In a ``console`` block, ``$ `` begins a command and ``> `` goes on with it; what follows is what it prints, stdout and
stderr together, and ``[N]`` where its exit status N is not 0. ``…`` stands for any text in a line, and alone on a line
for any lines. The blocks of a page run one after the other, in one directory that holds nothing but ``examples``. A
command in a comment, ``<!-- $ command -->``, is run too; it is for what would only be in the reader's way.

What a page leaves running is ended by the number in its ``NAME.pid``. The port of a broker, 7443, is one that is
free, and the home directory is that of the page.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
#: The pages whose blocks need a host of the reader's own.
NOT_RUN = {
    "docs/how-to/amend-a-wrong-undo.md",
    "docs/how-to/confirm-or-revert.md",
    "docs/tutorial/write-a-component.md",
}
#: Those that start a whole fleet.
SLOW = {"docs/how-to/fleet.md"}
PAGES = [str(page.relative_to(TOP)) for page in sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")])]
PAGES_RUN = [page for page in PAGES if "```console\n" in (TOP / page).read_text() and page not in NOT_RUN]


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page's console blocks, each with what it is to print."""
    found: list[tuple[str, str]] = []
    for block, hidden in re.findall(r"^```console\n(.*?)^```$|^<!-- \$ (.*?) -->$", page, re.MULTILINE | re.DOTALL):
        if hidden:
            found.append((hidden, ""))
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1] = (found[-1][0] + line[2:], found[-1][1])
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def pattern(expected: str) -> str:
    """Return the regular expression of all that `expected` stands for."""
    lines = [
        r"(?:.*\n)*?" if line == "…\n" else ".*?".join(map(re.escape, line.split("…")))
        for line in expected.splitlines(keepends=True)
    ]
    return "".join(lines)


def ran(command: str, place: Path) -> str:
    """Return what a command prints, and its exit status where that is not 0."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = subprocess.run(
        ["sh", "-c", command],
        cwd=place,
        env={**os.environ, "PATH": path, "TZ": "UTC", "HOME": str(place)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return found.stdout + (f"[{found.returncode}]\n" if found.returncode else "")


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def end_all(place: Path) -> None:
    """End what was started in the background and is still there."""
    for file in place.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGTERM)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in PAGES_RUN]
)
def test_page(page: str, tmp_path: Path) -> None:
    """What a page shows is what happens."""
    shutil.copytree(TOP / "examples", tmp_path / "examples")
    text = (TOP / page).read_text().replace("127.0.0.1:7443", f"127.0.0.1:{free_port()}")
    try:
        for command, expected in commands(text):
            printed = ran(command, tmp_path)
            if not re.fullmatch(pattern(expected), printed):
                assert expected == printed, command
    finally:
        end_all(tmp_path)


def test_placeholders() -> None:
    """`…` stands for text within a line, and for whole lines where it is alone; anything else must be equal."""
    assert re.fullmatch(pattern("run …: done\n…\nend\n"), "run 7f: done\none\ntwo\nend\n")
    assert not re.fullmatch(pattern("run …: done\n"), "run 7f: done\nmore\n")
    assert not re.fullmatch(pattern("run …: done\n"), "run 7f:\ndone\n")
    assert not re.fullmatch(pattern("a.c\n"), "abc\n")
