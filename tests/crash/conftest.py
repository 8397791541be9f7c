"""Where hosts that are broken on purpose lie."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory in memory, where there is one: what a kill or an error leaves does not ask what a disk holds."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    made = Path(tempfile.mkdtemp(prefix="aquiline-crash-", dir=memory))
    yield made
    shutil.rmtree(made)
