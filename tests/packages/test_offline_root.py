"""Packages below a root that does not run, as an image builder has it: real, and nothing is started."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bed.base import RPM
from tests.bed.host import Bed, BedHost
from tests.bed.repository import AptRepository, Deb, DnfRepository, Rpm
from tests.packages.hosts import changed, profile

#: As debhelper wrote them for init scripts: invoke-rc.d asks policy-rc.d before it starts anything.
INIT = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: daemon\n# Default-Start: 2\n### END INIT INFO\ntouch /var/started\n"
STARTS = "#!/bin/sh\nset -e\nupdate-rc.d daemon defaults >/dev/null\ninvoke-rc.d daemon start\n"
STOPS = '#!/bin/sh\nset -e\n[ "$1" != purge ] || update-rc.d daemon remove >/dev/null\n'


def offline(root: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run this checkout's aquiline on another root."""
    command, *rest = words
    return subprocess.run(
        [sys.executable, "-B", "-m", "aquiline.cli", command, "--root", str(root), *rest],
        check=check, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def given(tmp_path: Path, wanted: Mapping[str, Any]) -> str:
    """Write a profile; return its path."""
    (tmp_path / "profile.json").write_text(json.dumps(wanted))
    return str(tmp_path / "profile.json")


def places(folder: Path) -> set[str]:
    """Return what there is below a folder; dnf keeps its own cache as it likes."""
    return {str(path) for path in folder.rglob("*") if "dnf" not in path.parts}


def test_apt(bed_host_unbooted: BedHost, tmp_path: Path) -> None:
    """Packages come with dependencies and marks; no daemon is started, no guard stays; undo is exact."""
    host = bed_host_unbooted
    repository = AptRepository(host)
    daemon = Deb(
        "daemon",
        "1",
        files={"/etc/init.d/daemon": INIT, "/etc/daemon.conf": "one\n"},
        conffiles=("/etc/init.d/daemon", "/etc/daemon.conf"),
        scripts={"postinst": STARTS, "postrm": STOPS},
        fields={"Depends": "lib"},
    )
    repository.add(Deb("lib", "1"), daemon)
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    wanted = given(tmp_path, profile({"daemon": "1"}))
    before = host.snapshot()

    offline(host.root, "apply", wanted)
    after = host.snapshot()

    assert ("install ok installed", True) == (after.packages["lib"].state, after.packages["lib"].automatic)
    assert "install ok installed" == after.packages["daemon"].state
    assert not (host.root / "var/started").exists()
    assert not (host.root / "usr/sbin/policy-rc.d").exists()
    offline(host.root, "undo")
    assert [] == changed(before, host.snapshot())
    offline(host.root, "redo", "last~1")
    assert [] == changed(after, host.snapshot())


def test_dnf(bed: Bed, tmp_path: Path) -> None:
    """Packages come with dependencies and marks, an upgrade keeps an edited file; undo is exact.

    The journal is elsewhere, and so are the packages that it keeps: a dry-run puts none of them below the root.
    """
    host = bed.host(recipe=RPM)
    repository = DnfRepository(host)
    tool = Rpm("tool", "1", tags={"Requires": "lib"}, files={"/etc/tool.conf": "one\n"}, conffiles=("/etc/tool.conf",))
    repository.add(Rpm("lib", "1"), tool)
    state = ("--state", str(tmp_path / "state"))
    offline(host.root, "apply", *state, given(tmp_path, profile({}, packager="yumdnf")))
    before = host.snapshot()

    offline(host.root, "apply", *state, given(tmp_path, profile({"tool": "1-1"}, packager="yumdnf")))
    after = host.snapshot()

    assert (True, False) == (after.packages["lib.noarch"].automatic, after.packages["tool.noarch"].automatic)
    offline(host.root, "undo", *state)
    assert [] == changed(before, host.snapshot())
    shutil.rmtree(host.root / "var/cache/aquiline-packages")
    was = places(host.root / "var/cache")
    offline(host.root, "plan", *state, given(tmp_path, profile({"tool": "1-1"}, packager="yumdnf")))
    assert was == places(host.root / "var/cache")
    offline(host.root, "redo", "last~1", *state)
    assert [] == changed(after, host.snapshot())


@pytest.mark.parametrize("packager", ["apt", "yumdnf"])
def test_a_root_without_a_package_manager(tmp_path: Path, packager: str) -> None:
    """It is said to be not possible here, lowers coverage, and fails nobody else."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    wanted = profile({"tool": None}, packager=packager)
    wanted["software"]["components"]["filecopy"] = {
        "active": True,
        "dispatch": True,
        "services": {"_2fetc_2fmotd": {"config": "hello\n"}},
    }

    planned = json.loads(offline(root, "plan", "--json", given(tmp_path, wanted)).stdout)
    done = offline(root, "apply", given(tmp_path, wanted))

    assert {"filecopy": "planned", "spma": "not-possible-here"} == planned["components"]
    assert f"the packager is {packager}" in planned["component_details"]["spma"] or "neither apt nor dnf" in str(
        planned
    )
    assert planned["coverage"]["reduced_by"]
    assert 0 == done.returncode
    assert "hello\n" == (root / "etc/motd").read_text()
