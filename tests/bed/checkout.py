"""This checkout's aquiline, installed for the python3 of the base trees."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import time
from functools import cache as once
from pathlib import Path

from .base import built, cache, run_or_miss

TOP = Path(__file__).parents[2]
#: The python3 of the base trees.
PYTHON = "3.11"
#: Seconds.
DAY = 86_400
#: The command; it writes no bytecode, so that running it leaves no trace in a snapshot.
PROGRAM = "#!/usr/bin/python3 -B\nimport sys\n\nfrom aquiline.cli import main\n\nsys.exit(main())\n"


@once
def installed() -> Path:
    """Return a directory whose ``lib`` holds aquiline as the checkout has it, and all it needs; built once a state."""

    def install(half: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        run_or_miss([*pip, "wheel", "--no-deps", "--wheel-dir", str(half), str(TOP)], "a wheel of this checkout")
        wheel = next(half.glob("aquiline-*.whl"))
        foreign = [
            "--only-binary=:all:",
            f"--python-version={PYTHON}",
            f"--platform=manylinux2014_{platform.machine()}",
        ]
        run_or_miss([*pip, "install", *foreign, "--target", str(half / "lib"), str(wheel)], "aquiline's dependencies")
        forget_old(half.parent)

    return built(cache() / "aquiline" / digest(), install)


def forget_old(directory: Path) -> None:
    """Remove the states of the checkout that were built more than a day ago."""
    for one in directory.iterdir():
        if one.is_dir() and time.time() - one.stat().st_mtime > DAY:
            shutil.rmtree(one, ignore_errors=True)


def digest() -> str:
    """Return the digest of all that the wheel is made of."""
    found = hashlib.sha256()
    for path in sorted([*(TOP / "src").rglob("*"), TOP / "pyproject.toml", TOP / "README.md"]):
        if path.is_file() and path.suffix != ".pyc":
            found.update(f"{path.relative_to(TOP)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]
