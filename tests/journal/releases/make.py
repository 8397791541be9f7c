"""Make the journal of this release, for later releases to be tested against: run once, when a release is made.

``python tests/journal/releases/make.py`` leaves ``tests/journal/releases/VERSION.tar.gz``: a root with two runs, the
second of them undone, and beside it, as ``before/``, the root before the first of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from aquiline import __version__

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"


def aquiline(root: Path, *arguments: str) -> None:
    """Run the command line on `root`; how it ends is part of what is recorded."""
    subprocess.run([sys.executable, "-m", "aquiline.cli", "--root", str(root), *arguments], check=False)


def main() -> None:
    """Make the archive."""
    with tempfile.TemporaryDirectory() as place:
        root, before = Path(place, "root"), Path(place, "before")
        shutil.copytree(EXAMPLES / "roots/web01", root, symlinks=True)
        shutil.copytree(EXAMPLES / "site/templates", root / "etc/aquiline/templates")
        (root / "etc/other-name").hardlink_to(root / "etc/motd")
        subprocess.run(["cp", "-a", str(root), str(before)], check=True)
        aquiline(root, "apply", str(EXAMPLES / "site/profiles/web01.yaml"), "--change-id", "one")
        aquiline(root, "apply", str(EXAMPLES / "site/next/web01.yaml"), "--change-id", "two")
        aquiline(root, "undo")
        with tarfile.open(HERE / f"{__version__}.tar.gz", "w:gz") as archive:
            archive.add(root, "root")
            archive.add(before, "before")


if __name__ == "__main__":
    main()
