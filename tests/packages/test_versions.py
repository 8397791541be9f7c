"""Which version is older: as dpkg and rpm say."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest

from aquiline.host.packages.versions import is_older_deb, is_older_rpm

DEB = [
    "0",
    "1~rc1",
    "1~rc1-1",
    "1",
    "1-0.1",
    "1-1",
    "1-1+b1",
    "1.0",
    "1.0a",
    "1.0+x",
    "1.2",
    "1.10",
    "2:0.1",
    "7.88.1-10+deb12u8",
]
#: In order, each older than the next.
RPM = ["1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0a-1", "1.0.1-1", "1.2-1", "1.2-1.el8", "1.2-2", "1.10-1", "1:0.1-1"]


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="there is no dpkg to ask")
def test_debian_versions_are_ordered_as_dpkg_orders_them() -> None:
    """Of every two versions the older one is the one that dpkg calls older."""
    wrong = []
    for one, two in itertools.permutations(DEB, 2):
        asked = subprocess.run(["dpkg", "--compare-versions", one, "lt", two], check=False).returncode == 0
        if asked is not is_older_deb(one, two):
            wrong.append((one, two))

    assert [] == wrong


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(RPM, 2)))
def test_rpm_versions(older: str, newer: str) -> None:
    """Numbers are numbers, letters come before them, a tilde before the end and a caret after it; epochs come first."""
    assert (True, False) == (is_older_rpm(older, newer), is_older_rpm(newer, older))
