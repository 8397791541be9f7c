"""A real process on a real profile, killed by strace at its system calls, nothing of it being ours (P6, P7)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.site import tree

from .everything import Host
from .test_killed_anywhere import interrupted

SHARED = Path(os.environ.get("AQUILINE_SHARED", Path(__file__).parents[3] / "shared"))
CALLS = (
    "write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,chmod,fchmod,fchmodat,chown,"
    "fchown,fchownat,lchown,utimensat,setxattr,fsetxattr,lsetxattr,fsync,fdatasync,ftruncate,mknod,mknodat,symlink,"
    "symlinkat,fallocate"
)
KILLS = 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here: ./check installs it"),
]


def profile() -> Path:
    """Return the largest of the shared host profiles that is plain JSON."""
    found = sorted((SHARED / "quattor/hosts").rglob("*.json"), key=lambda path: path.stat().st_size)
    if not found:
        pytest.skip(f"no shared host profiles below {SHARED}; AQUILINE_SHARED says where they are")
    return found[-1]


def command(host: Host, *words: str) -> list[str]:
    """Return a command line on `host`."""
    return [sys.executable, "-m", "aquiline.cli", *words, "--root", str(host.root), "--state", str(host.state)]


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def calls_of(host: Host, *words: str) -> int:
    """Return how many of the system calls the busiest thread of a command makes: strace counts by thread."""
    log = host.place.with_name("strace.log")
    run(["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *command(host, *words)])
    return max(Counter(line.split()[0] for line in log.read_text().splitlines()).values())


def killed(start: Host, share: int, *words: str) -> Iterator[tuple[int, Host]]:
    """Return copies of `start` on which a command was killed, evenly spread over its system calls."""
    total = calls_of(start.copied(start.place.with_name("counted")), *words)
    for number in range(1 + total // KILLS, total, max(1, 3 * total // KILLS)):
        host = start.copied(start.place.with_name("killed"))
        inject = ["-e", f"trace={CALLS}", "-e", f"inject={CALLS}:signal=KILL:when={number + share}"]
        ended = run(["strace", "-f", "-qq", "-o", "/dev/null", *inject, *command(host, *words)])
        if ended.returncode:
            yield number, host


@pytest.fixture
def start(place: Path) -> Host:
    """An empty offline root with the accounts and directories of any host."""
    host = Host(place / "host")
    if host.place.exists():
        shutil.rmtree(host.place)
    for name in ("etc", "tmp", "var", "root", "usr/bin", "home"):
        (host.root / name).mkdir(parents=True)
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", host.root / "etc" / name)
    return host


def recovered(host: Host, direction: str) -> str:
    """Recover; return what is wrong with how that ended."""
    ended = run(command(host, "recover", f"--{direction}"))
    return "" if ended.returncode in (0, 15) else f"{direction}: {ended.returncode}: {ended.stderr}"


def timeless(host: Host) -> dict[str, object]:
    """Return the tree but for times."""
    return {path: (*found[:3], *found[4:]) for path, found in tree(host.root).items()}


def test_a_run_is_killed(start: Host) -> None:
    """Whatever system call a run is killed at, undo and script give the tree before, and finish that after."""
    words = ("apply", str(profile()), "--allow-irreversible")
    before = tree(start.root)
    applied = start.copied(start.place.with_name("applied"))
    run(command(applied, *words))
    after = timeless(applied)
    broken = []
    for number, host in killed(start, 0, *words):
        if timeless(host) == after and not interrupted(host):
            continue  # it had ended: the journal was being closed
        undone = host.copied(start.place.with_name("undone"))
        wrong = recovered(undone, "undo")
        broken += [f"{number}: {wrong}"] if wrong or tree(undone.root) != before else []
        finished = host.copied(start.place.with_name("finished"))
        wrong = recovered(finished, "finish")
        is_begun = bool(list((host.state / "undo").glob("*.sh")))
        if wrong or (is_begun and timeless(finished) != after):
            broken.append(f"{number}: finish: {wrong}")
        for script in (host.state / "undo").glob("*.sh"):
            ended = host.run_script(script.stem)
            if ended.returncode or tree(host.root) != before:
                broken.append(f"{number}: script: {ended.returncode}: {ended.stderr}")

    assert before != tree(applied.root)
    assert [] == broken, "\n".join(broken)


def test_an_undo_is_killed(start: Host) -> None:
    """The same for an undo: finished, all is as before the run; taken back, as after it."""
    before = tree(start.root)
    applied = start.copied(start.place.with_name("applied"))
    run(command(applied, "apply", str(profile()), "--allow-irreversible"))
    after = tree(applied.root)
    broken = []
    for number, host in killed(applied, 1, "undo"):
        finished = host.copied(start.place.with_name("finished"))
        open_runs = json.loads(run(command(host, "status", "--json")).stdout)
        if tree(host.root) in (before, after):
            continue
        wrong = recovered(finished, "finish")
        broken += [f"{number}: {wrong} {open_runs}"] if wrong or tree(finished.root) != before else []
        wrong = recovered(host, "undo")
        broken += [f"{number}: {wrong} {open_runs}"] if wrong or tree(host.root) != after else []

    assert [] == broken, "\n".join(broken)
