"""A site for each disaster."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.site import Site


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
