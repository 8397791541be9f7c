"""Journals of past releases: what was recorded then is read, undone and checked now (DESIGN D24).

Each release leaves one behind, made by ``releases/make.py``. They are never made anew: a change of format that cannot
read them is a new major version.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.engine.site import tree

RELEASES = sorted(Path(__file__).with_name("releases").glob("*.tar.gz"))


@pytest.fixture(params=RELEASES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with the root that a release left behind, and the one before its runs."""
    with tarfile.open(request.param) as archive:
        # As an attribute, which Python before 3.11.4 passes over: it does not know the argument.
        archive.extraction_filter = tarfile.fully_trusted_filter if hasattr(tarfile, "fully_trusted_filter") else None
        archive.extractall(tmp_path)
    return tmp_path


def aquiline(place: Path, *arguments: str, expected: int = 0) -> Any:
    """Run the command line on the root and return its answer."""
    found = subprocess.run(
        [sys.executable, "-m", "aquiline.cli", "--root", str(place / "root"), "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected == found.returncode, found.stderr
    return json.loads(found.stdout)


def without_state(place: Path) -> dict[str, Any]:
    """Return the tree without the state directory; without times, which an archive rounds."""
    return {
        path: values[:3] + values[4:]
        for path, values in tree(place).items()
        if not path.startswith(("/var/lib", "/etc/other-name"))
    }


def test_there_is_one() -> None:
    """At least the first release has left its journal."""
    assert RELEASES


def test_its_log_is_read(place: Path) -> None:
    """Every run is listed as it was."""
    runs = aquiline(place, "log")

    assert ["undo", "apply", "apply"] == [run["header"]["kind"] if "header" in run else run["kind"] for run in runs]


def test_it_is_sound(place: Path) -> None:
    """Fsck finds nothing wrong with it."""
    aquiline(place, "fsck")


def test_its_runs_are_undone(place: Path) -> None:
    """Undo of what stands gives the tree before the first run."""
    first = aquiline(place, "log")[-1]["id"]

    aquiline(place, "undo", first)

    assert without_state(place / "before") == without_state(place / "root")


def test_what_it_undid_is_redone_and_undone(place: Path) -> None:
    """A run that had been undone is brought again, and taken back again."""
    before = without_state(place / "root")
    second = aquiline(place, "log")[1]["id"]

    aquiline(place, "redo", second)
    after = without_state(place / "root")
    aquiline(place, "undo")

    assert before != after
    assert before == without_state(place / "root")
