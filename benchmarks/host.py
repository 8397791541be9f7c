"""What the engine costs on one host, beside a plain Python loop that makes the same unavoidable calls.

Run as::

    python benchmarks/host.py [--files 100,1000,5000] [--rounds 5] [--folder DIRECTORY]

Every figure is of a whole process: start of Python, imports, profile, work, end. Loop and engine take turns within each
round, so that whatever else the machine does falls on both; shown are medians, and the highest peak memory.
``processor`` is user and system time, which says more where a machine is busy with other things. ``inside`` is what the
loop, or the engine without the command line (``--engine``), says of itself, imports left out. Needs root, and a folder
on the file system that is to be measured. It is no test: nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("AQUILINE_SHARED", HERE.parents[1] / "shared"))
AQUILINE = Path(sys.executable).with_name("aquiline")
#: Byte code is kept, as it is wherever a package was installed.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
SIZE = 1024
#: Names of the states that files are in before a run, and one of how many files is wrong.
STATES = {"all": 0, "half": 2, "none": 1}


class Took(NamedTuple):
    """One process."""

    #: Wall clock.
    seconds: float
    #: Time on a processor, its own and the kernel's on its behalf.
    processor: float
    #: Peak resident memory, bytes.
    memory: int
    #: What it says of the seconds between its own begin and end; 0.0 where it says nothing.
    inside: float


class Case(NamedTuple):
    """A root with files, some of them not as its profile wants them."""

    root: Path
    profile: Path
    #: How many files there are, and how many of them stand in one directory.
    files: int = 0
    per_directory: int = 1

    def wanted(self) -> Iterator[tuple[str, bytes]]:
        """Return path and content of each file."""
        for number in range(self.files):
            line = f"option.{number} = the value of option number {number}\n"
            content = (line * (SIZE // len(line) + 1))[:SIZE].encode()
            yield f"/etc/site{number // self.per_directory:04}/part{number:05}.conf", content

    def write_profile(self) -> None:
        """Write the profile that wants these files."""
        services = {
            path.replace("/", "_2f").replace(".", "_2e"): {"config": content.decode(), "perms": "0644"}
            for path, content in self.wanted()
        }
        section = {"active": True, "dispatch": True, "services": services}
        self.profile.write_text(json.dumps({"software": {"components": {"filecopy": section}}}))

    def reset(self, state: str) -> None:
        """Make the root anew: `state` says how many of its files are right."""
        if self.root.exists():
            # removed when all is measured: freeing thousands of files keeps a disk busy for longer than that takes
            self.root.rename(self.root.with_name(f"old-{time.monotonic_ns()}"))
        wrong = STATES[state]
        for number, (path, content) in enumerate(self.wanted()):
            place = Path(f"{self.root}{path}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.swapcase() if wrong and number % wrong == 0 else content)
            place.chmod(0o644)
        os.sync()


def apart(work: Callable[[], None]) -> None:
    """Do it in a process of its own: the peak memory of a process counts what its parent had when it was started."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the files cannot be made")


def run(arguments: Sequence[str | Path]) -> Took:
    """Run a process to its end; its output is discarded unless it fails or tells its time as JSON."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit status {process.returncode}\n{output.decode()}")
    lines = output.splitlines()
    inside = json.loads(lines[-1])["seconds"] if lines and lines[-1].startswith(b'{"seconds"') else 0.0
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, inside)


def loop(verb: str, case: Case) -> Took:
    """Run the plain loop."""
    return run((sys.executable, HERE / "loops.py", verb, case.root, case.profile))


def engine(verb: str, case: Case) -> Took:
    """Run the engine without the command line."""
    return run((sys.executable, HERE / "engine.py", verb, case.root, case.profile))


def command(verb: str, case: Case) -> Took:
    """Run what people type."""
    given = (case.profile,) if verb != "undo" else ()
    return run((AQUILINE, verb, *given, "--root", case.root))


class Row(NamedTuple):
    """Rounds of one thing that is measured."""

    name: str
    took: list[Took]

    @property
    def seconds(self) -> float:
        """Median wall clock."""
        return statistics.median(one.seconds for one in self.took)

    def text(self, beside: Row | None) -> str:
        """Return the row as it is printed; `beside` is what it is compared with."""
        inside = statistics.median(one.inside for one in self.took)
        ratio = f"{self.seconds / beside.seconds:5.2f}x" if beside is not None else ""
        memory = max(one.memory for one in self.took) / 2**20
        processor = statistics.median(one.processor for one in self.took)
        own = f"{inside:7.3f} s" if inside else " " * 9
        return f"  {self.name:<14}{self.seconds:8.3f} s {processor:7.3f} s {own} {memory:6.0f} MiB {ratio}".rstrip()


def dry(case: Case, rounds: int, ours: Callable[[str, Case], Took]) -> Iterator[str]:
    """Measure dry-runs."""
    looped, planned = Row("loop", []), Row("plan", [])
    for _ in range(rounds):
        looped.took.append(loop("dry", case))
        planned.took.append(ours("plan", case))
    yield looped.text(None)
    yield planned.text(looped)


def live(case: Case, state: str, rounds: int, ours: Callable[[str, Case], Took]) -> Iterator[str]:
    """Measure live runs and their undo."""
    looped, applied, undone = Row("loop", []), Row("apply", []), Row("undo", [])
    for _ in range(rounds):
        apart(partial(case.reset, state))
        looped.took.append(loop("live", case))
        apart(partial(case.reset, state))
        applied.took.append(ours("apply", case))
        os.sync()
        undone.took.append(ours("undo", case))
    yield looped.text(None)
    yield applied.text(looped)
    yield undone.text(applied) + " of apply"


def small_things(rounds: int, folder: Path) -> Iterator[str]:
    """Measure what should be no work at all."""
    run((AQUILINE, "--version"))
    versions = Row("--version", [run((AQUILINE, "--version")) for _ in range(rounds * 3)])
    yield versions.text(None)
    for profile in sorted((SHARED / "quattor" / "hosts").glob("*.json")):
        root = folder / "host"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        run((sys.executable, HERE / "engine.py", "apply", root, profile))
        case = Case(root, profile)
        yield Row(profile.name.split(".")[0], [command("plan", case) for _ in range(rounds)]).text(None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="100,1000,5000", help="how many files, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to make the roots; a temporary folder by default")
    parser.add_argument("--states", default="all,half,none", help="how many of the files are right")
    parser.add_argument("--spread", default="one,many", help="in one directory, or ten in each of many")
    parser.add_argument("--engine", action="store_true", help="leave out the command line")
    given = parser.parse_args()
    ours = engine if given.engine else command
    run((sys.executable, "-c", "import aquiline.agent.preloading as one; one.preload(later_stages=True)"))
    print(f"{'':16}{'process':>10}{'processor':>10}{'inside':>10}{'peak':>11}  ratio; medians of {given.rounds} rounds")
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="aquiline-benchmark-") as temporary:
        folder = Path(temporary)
        for count in map(int, given.files.split(",")):
            for spread in given.spread.split(","):
                case = Case(folder / "root", folder / "profile.json", count, count if spread == "one" else 10)
                apart(case.write_profile)
                for state in given.states.split(","):
                    print(f"{count} files in {spread} director{'y' if spread == 'one' else 'ies'}, {state} right")
                    apart(partial(case.reset, state))
                    for line in dry(case, given.rounds, ours):
                        print(line, flush=True)
                    if state == "all":
                        continue
                    for line in live(case, state, given.rounds, ours):
                        print(line, flush=True)
        print("small things")
        for line in small_things(given.rounds, folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()
