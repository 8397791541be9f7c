"""The configuration of Quattor's own agent, on a host where its programs are; these here only pretend."""

from __future__ import annotations

from typing import Any

import pytest

from aquiline.components.ccm import Ccm
from aquiline.profile import Profile
from tests.bed.host import BedHost
from tests.components.driving import run_profile
from tests.packages.hosts import aquiline, changed, give

FETCH = """#!/bin/sh
[ "$1" = --cfgfile ] && grep -q '^profile https://good' "$2" || { echo 'no such server' >&2; exit 1; }
"""
LISTEND = "[Service]\nExecStart=/bin/sh -c '. /etc/cdp-listend.sh; exec sleep infinity'\n"


def wanted(server: str, port: int) -> dict[str, Any]:
    ccm = {"profile": f"https://{server}/host.json", "trust": ["a@B", "c@D"], "json_typed": True}
    return {"software": {"components": {"ccm": ccm, "cdp": {"port": port}}}}


@pytest.fixture
def host(bed_host: BedHost) -> BedHost:
    bed_host.install_aquiline()
    for path, text, mode in (
        ("usr/sbin/ccm-fetch", FETCH, 0o755),
        ("etc/systemd/system/cdp-listend.service", LISTEND, 0o644),
        ("etc/cdp-listend.sh", "", 0o644),
        ("etc/cdp-listend.conf", "port = 1\n", 0o640),
        ("etc/ccm.conf", "profile https://good.old/host.json\n", 0o644),
    ):
        (bed_host.root / path).write_text(text)
        (bed_host.root / path).chmod(mode)
    bed_host.run(["systemctl", "daemon-reload"])
    bed_host.run(["systemctl", "start", "cdp-listend"])
    aquiline(bed_host, "apply", give(bed_host, {}))
    return bed_host


def started(host: BedHost) -> str:
    return host.run(["systemctl", "show", "--property=MainPID", "cdp-listend"]).stdout


def test_it_changes_and_comes_back(host: BedHost) -> None:
    """A new configuration that does not work is refused before it is written; a good one comes, and goes again."""
    before, first = host.snapshot(), started(host)

    planned = aquiline(host, "plan", give(host, wanted("bad.example.org", 7777)), check=False)
    done = aquiline(host, "apply", give(host, wanted("bad.example.org", 1)), check=False)
    assert (15, 15) == (planned.returncode, done.returncode)
    assert "no such server" in planned.stdout
    assert "profile https://good.old/host.json\n" == (host.root / "etc/ccm.conf").read_text()

    aquiline(host, "apply", give(host, wanted("good.example.org", 7777)))
    text = "json_typed 1\nprofile https://good.example.org/host.json\ntrust a@B,c@D\n"
    assert text == (host.root / "etc/ccm.conf").read_text()
    assert "port = 7777\n" == (host.root / "etc/cdp-listend.conf").read_text()
    assert first != started(host)

    aquiline(host, "undo", "--last", "2")
    assert [] == changed(before, host.snapshot())


def test_a_value_of_several_lines_is_refused() -> None:
    """What would follow the first line would be another setting."""
    profile = Profile({"software": {"components": {"ccm": {"profile": "a\nforce 1"}}}}, "host.example.org")

    with pytest.raises(Exception, match="/software/components/ccm/profile: found several lines, expected one"):
        run_profile(Ccm, profile)
