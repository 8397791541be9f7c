"""What a stranger runs first."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parent.parent


def test_everything_is_as_promised(tmp_path: Path) -> None:
    """`./try` shows the main job on the example host, finds all of it as promised, and leaves nothing behind."""
    environment = {
        "AQUILINE": str(Path(sys.executable).parent / "aquiline"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
    }

    found = subprocess.run([TOP / "try"], env=environment, check=False, capture_output=True, text=True)

    assert "All as promised." in found.stdout, found.stdout + found.stderr
    assert (0, []) == (found.returncode, list(tmp_path.iterdir()))
