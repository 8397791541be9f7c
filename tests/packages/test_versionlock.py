"""Holds of dnf hosts: which package a line of the versionlock plugin means."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.host.packages.versionlock import VersionLocks, entries_of, is_locked
from aquiline.host.real import RealHost

ON = "[main]\nenabled = 1\nlocklist = /etc/locks\n"


@pytest.mark.parametrize(
    ("entry", "evr", "expected"),
    [
        ("tool", "1.0-1", True),
        ("tool.noarch", "1.0-1", True),
        ("tool-0:1.0-1.*", "1.0-1", True),
        ("tool-0:1.0-1.*", "2.0-1", False),
        ("tool-1.0-1", "1.0-1", True),
        ("tool-1.0", "1.0-7", True),
        ("tool-2:1.0-1.*", "2:1.0-1", True),
        ("tool-2:1.0-1.*", "1.0-1", False),
        ("to*", "1.0-1", True),
        ("tool-extra", "1.0-1", False),
        ("other", "1.0-1", False),
    ],
)
def test_what_a_lock_holds(entry: str, evr: str, expected: bool) -> None:
    """All forms of the plugin are understood; an epoch that is not said is 0."""
    assert expected == is_locked([entry], name="tool", evr=evr, arch="noarch")


def test_locks_of_one_package() -> None:
    """Of all versions, and of no package whose name only begins alike."""
    entries = ["tool-0:1.0-1.*", "tool", "tool-extra-0:1.0-1.*", "tool-1.0-1", "other"]

    assert ["tool-0:1.0-1.*", "tool", "tool-1.0-1"] == entries_of(entries, "tool", "noarch")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(ON, ("tool-0:1.0-1.*",)), (ON.replace("= 1", "= 0"), ()), ("nonsense", ()), (None, ())],
)
def test_the_list_is_where_the_plugin_says(tmp_path: Path, settings: str | None, expected: tuple[str, ...]) -> None:
    """Comments and exclusions are no holds; without the plugin, or with it switched off, there are none."""
    (tmp_path / "etc/dnf/plugins").mkdir(parents=True)
    (tmp_path / "etc/locks").write_text("\n# Added lock on Monday\ntool-0:1.0-1.*\n!tool-0:2.0-1.*\n")
    if settings is not None:
        (tmp_path / "etc/dnf/plugins/versionlock.conf").write_text(settings)

    with RealHost(str(tmp_path)) as host:
        locks = VersionLocks(host)
        assert expected == locks.entries()
        assert bool(expected) is locks.is_here
