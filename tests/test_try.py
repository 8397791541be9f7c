"""What a stranger runs first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent


def tried(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ./try with this Python's aquiline."""
    environment = {
        "AQUILINE": str(Path(sys.executable).parent / "aquiline"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
    }

    return subprocess.run(
        [TOP / "try", *options], env=environment, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_one_host_is_as_promised(tmp_path: Path) -> None:
    """`./try --one-host` shows the engine on the example host, all of it as promised, and leaves nothing behind."""
    found = tried(tmp_path, "--one-host")

    assert "All as promised." in found.stdout, found.stdout + found.stderr
    assert (0, []) == (found.returncode, list(tmp_path.iterdir()))


@pytest.mark.slow
def test_a_fleet_is_as_promised(tmp_path: Path) -> None:
    """`./try` shows a fleet: test, report, deploy, verify, undeploy; as promised, and nothing is left behind."""
    found = tried(tmp_path)

    assert "All as promised." in found.stdout, found.stdout + found.stderr
    assert (0, []) == (found.returncode, list(tmp_path.iterdir()))
    assert "" == subprocess.run(["pgrep", "-f", str(tmp_path)], check=False, capture_output=True, text=True).stdout
