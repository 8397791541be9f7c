"""Packages of a real host with dnf and rpm: what they do, and how it is taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.bed.repository import DnfRepository, Rpm
from tests.packages.hosts import apply, aquiline, changed, give, profile, wait_for

CONF = ("/etc/tool.conf",)
LIB = Rpm("lib", "1.0")
TOOL = Rpm("tool", "1.0", tags={"Requires": "lib"}, files={"/etc/tool.conf": "one\n"}, conffiles=CONF)
TOOL2 = replace(TOOL, version="2.0", files={"/etc/tool.conf": "two\n"})


def wanting(packages: dict[str, str | None]) -> dict[str, Any]:
    """Return a profile for dnf."""
    return profile(packages, packager="yumdnf")


@pytest.fixture
def dnf(dnf_host: DnfRepository) -> DnfRepository:
    """A running host with aquiline, set up once, and a repository of small packages."""
    dnf_host.add(LIB, TOOL, TOOL2)
    dnf_host.host.install_aquiline()
    apply(dnf_host.host, wanting({}))
    return dnf_host


def test_an_edited_file_comes_through_an_upgrade(dnf: DnfRepository) -> None:
    """Packages come with marks, an edited file stays; undo brings back both, though the repository lost it."""
    host = dnf.host
    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanting({"tool": "1.0-1"}))).stdout)
    apply(host, wanting({"tool": "1.0-1"}))
    assert ["install lib 1.0-1 (automatic), tool 1.0-1"] == [one["description"] for one in planned["steps"]]
    assert host.snapshot().packages["lib.noarch"].automatic
    (host.root / "etc/tool.conf").write_text("edited\n")
    edited = host.snapshot()

    apply(host, wanting({"tool": "2.0-1"}))
    after = host.snapshot()
    dnf.withdraw("tool", "1.0")
    aquiline(host, "undo")
    assert [] == changed(edited, host.snapshot())
    aquiline(host, "redo", "last~1")
    assert [] == changed(after, host.snapshot())


def test_a_script_that_fails_with_exit_0(dnf: DnfRepository) -> None:
    """A failing %post fails the step, though dnf exits with 0; the package is taken back."""
    host = dnf.host
    dnf.add(Rpm("fails", "1", scripts={"post": "exit 1"}))
    before = host.snapshot()

    done = apply(host, wanting({"fails": None}), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert "scriptlet" in done.stderr
    assert [] == changed(before, host.snapshot())


@pytest.mark.parametrize("direction", ["--finish", "--undo"])
@pytest.mark.parametrize("death", ["kill", "power"])
def test_death_in_the_middle(dnf: DnfRepository, direction: str, death: str) -> None:
    """Killed, or without power, inside a transaction: recovery finishes it, or takes it back, exactly."""
    host = dnf.host
    slow = "touch /run/in-the-middle\n[ -e /run/go-on ] || sleep 30\n"
    dnf.add(
        Rpm("slow", "1", tags={"Requires": "lib"}), Rpm("slow", "2", tags={"Requires": "lib"}, scripts={"post": slow})
    )
    apply(host, wanting({"slow": "1-1", "tool": "1.0-1"}))
    before = host.snapshot()
    wanted = wanting({"slow": "2-1", "tool": "2.0-1"})

    running = host.start(["aquiline", "apply", give(host, wanted)])
    wait_for(host, "/run/in-the-middle")
    if death == "kill":
        running.kill()
    else:
        host.kill()
        host.boot()
    host.run(["touch", "/run/go-on"])

    assert 11 == apply(host, wanted, check=False).returncode
    aquiline(host, "recover", direction)
    if direction == "--finish":
        assert "2-1" == host.snapshot().packages["slow.noarch"].version
        aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
