"""Packages of a real Debian host: what apt and dpkg do, and how it is taken back."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from tests.bed.repository import FAILING, PROMPTING, AptRepository, Deb
from tests.packages.hosts import apply, aquiline, changed, give, profile, wait_for

CONF = ("/etc/tool.conf",)
LIB = Deb("lib", "1.0")
TOOL = Deb("tool", "1.0", fields={"Depends": "lib"}, files={"/etc/tool.conf": "one\n"}, conffiles=CONF)
TOOL2 = replace(TOOL, version="2.0", files={"/etc/tool.conf": "two\n"})
#: A package whose script adds an account, a file, and a line to somebody's file.
SCRIPTED = Deb(
    "scripted",
    "1.0",
    scripts={
        "postinst": "#!/bin/sh\nset -e\necho made > /etc/scripted.made\necho more >> /etc/scripted.other\n"
        "adduser --system --group --no-create-home scripted >/dev/null 2>&1 || useradd -r scripted\n"
    },
)


@pytest.fixture
def apt(apt_host: AptRepository) -> AptRepository:
    """A running host with aquiline and a repository of small packages."""
    apt_host.add(LIB, TOOL, TOOL2)
    apt_host.host.install_aquiline()
    (apt_host.host.root / "var/lib/aquiline").mkdir(mode=0o700)
    return apt_host


def test_what_came_goes(apt: AptRepository) -> None:
    """Packages, dependencies and a service come in the step that was planned; undo leaves no trace, redo brings all."""
    host = apt.host
    apt.add(Deb("serves", "1").with_service())
    wanted = profile({"tool": "1.0", "serves": None})
    before = host.snapshot()

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanted)).stdout)
    apply(host, wanted)
    after = host.snapshot()

    assert ["install lib 1.0 (automatic), serves 1, tool 1.0"] == [one["description"] for one in planned["steps"]]
    assert after.packages["lib"].automatic
    assert ("enabled", "active (running)") == (
        after.units["serves.service"].enabled,
        after.units["serves.service"].active,
    )
    assert "nothing to do" in apply(host, wanted).stdout
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
    aquiline(host, "redo", "last~1")
    assert [] == changed(after, host.snapshot())


def test_an_edited_conffile_comes_through_an_upgrade(apt: AptRepository) -> None:
    """An upgrade keeps an edited conffile; undo brings back version and edit, though the repository lost both."""
    host = apt.host
    apply(host, profile({"tool": "1.0"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    before = host.snapshot()

    apply(host, profile({"tool": "2.0"}))
    after = host.snapshot()
    apt.withdraw("tool", "1.0")
    apt.withdraw("lib", "1.0")

    assert "edited\n" == (host.root / "etc/tool.conf").read_text()
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
    aquiline(host, "redo", "last~1")
    assert [] == changed(after, host.snapshot())


def test_removed_and_purged_are_told_apart(apt: AptRepository) -> None:
    """A package that was removed keeps its edited configuration; one that was never there is purged."""
    host = apt.host
    apply(host, profile({"tool": "1.0"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    host.run(["apt-get", "remove", "-yq", "tool"])
    before = host.snapshot()

    apply(host, profile({"tool": "2.0"}))
    aquiline(host, "undo")

    assert [] == changed(before, host.snapshot())
    assert "deinstall ok config-files" == host.snapshot().packages["tool"].state


def test_removing_leaves_configuration_and_undo_brings_the_package_back(apt: AptRepository) -> None:
    """What is surplus is removed, its configuration stays; undo brings back version, marks and holds."""
    host = apt.host
    apply(host, profile({"tool": "1.0"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    host.run(["apt-mark", "auto", "tool"])
    host.run(["apt-mark", "hold", "lib"])
    before = host.snapshot()
    keep = sorted(name for name in before.packages if name != "tool")

    apply(host, profile(dict.fromkeys(keep), userpkgs="no", repository_cleanup=False))
    assert "deinstall ok config-files" == host.snapshot().packages["tool"].state
    aquiline(host, "undo")

    assert [] == changed(before, host.snapshot())


def test_undo_lists_what_it_removes(apt: AptRepository) -> None:
    """A package that nobody needs any more is left by an undo that did not bring it, however apt may be tempted."""
    host = apt.host
    host.run(["apt-get", "install", "-yq", "lib"])
    host.run(["apt-mark", "auto", "lib"])
    before = host.snapshot()

    apply(host, profile({"tool": "1.0"}))
    aquiline(host, "undo")

    assert [] == changed(before, host.snapshot())
    assert "install ok installed" == host.snapshot().packages["lib"].state


def test_a_downgrade_that_removes_another_package(apt: AptRepository) -> None:
    """The plan names the package that goes; undo brings it back."""
    host = apt.host
    apt.add(Deb("friend", "1"), Deb("moody", "1", fields={"Conflicts": "friend"}), Deb("moody", "2"))
    apply(host, profile({"friend": "1", "moody": "2"}))
    before = host.snapshot()

    planned = json.loads(aquiline(host, "plan", "--json", give(host, profile({"moody": "1"}))).stdout)
    apply(host, profile({"moody": "1"}))

    assert ["change moody 2 to 1; remove friend 1"] == [one["description"] for one in planned["steps"]]
    assert "friend" not in host.snapshot().packages
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_a_version_that_is_lost_is_said_in_the_plan(apt: AptRepository) -> None:
    """Where the installed version can be had nowhere the step is irreversible, says so, and is refused."""
    host = apt.host
    host.run(["apt-get", "install", "-yq", "tool=1.0"])
    host.run(["apt-get", "clean"])
    apt.withdraw("tool", "1.0")
    before = host.snapshot()

    planned = json.loads(aquiline(host, "plan", "--json", give(host, profile({"tool": "2.0"}))).stdout)
    done = apply(host, profile({"tool": "2.0"}), check=False)

    (step,) = planned["steps"]
    assert ("irreversible", "can be had nowhere any more: tool 1.0") == (step["undo"]["class"], step["undo"]["reason"])
    assert 13 == done.returncode
    assert [] == changed(before, host.snapshot())


@pytest.mark.parametrize("script", [FAILING, PROMPTING], ids=["fails", "prompts"])
def test_a_script_that_fails(apt: AptRepository, script: str) -> None:
    """A failing script fails the step, whether it fails or asks and nobody answers; what it left is taken back."""
    host = apt.host
    apt.add(Deb("fails", "1", scripts={"postinst": script}))
    before = host.snapshot()

    done = apply(host, profile({"fails": None, "tool": "1.0"}), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert [] == changed(before, host.snapshot())


def test_a_failed_step_can_be_undone_later(apt: AptRepository) -> None:
    """A half-configured package is named in the error, and undo takes it away."""
    host = apt.host
    apt.add(Deb("fails", "1", scripts={"postinst": FAILING}))
    before = host.snapshot()

    done = apply(host, profile({"fails": None}), check=False)

    assert 15 == done.returncode
    assert "package fails is half-configured 1, expected installed 1" in done.stderr
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_what_scripts_did_is_shown_and_taken_back(apt: AptRepository) -> None:
    """Files that a script made or changed, and accounts it added, are in the journal and go with the package."""
    host = apt.host
    apt.add(SCRIPTED)
    (host.root / "etc/scripted.other").write_text("mine\n")
    before = host.snapshot()

    apply(host, profile({"scripted": None}))
    shown = aquiline(host, "show", "last").stdout

    assert "by maintainer script: /etc/scripted.made: came (file)" in shown
    assert "by maintainer script: /etc/scripted.other: changed" in shown
    assert "scripted" in host.snapshot().accounts["passwd"]
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_somebody_changed_what_a_script_made(apt: AptRepository) -> None:
    """Undo does not clobber: a file that a script made and a person edited since is a conflict."""
    host = apt.host
    apt.add(SCRIPTED)
    apply(host, profile({"scripted": None}))
    (host.root / "etc/scripted.made").write_text("edited\n")

    done = aquiline(host, "undo", check=False)

    assert 12 == done.returncode
    assert "/etc/scripted.made" in done.stderr
    assert "edited\n" == (host.root / "etc/scripted.made").read_text()


def test_a_held_lock_is_waited_for(apt: AptRepository) -> None:
    """While somebody else changes packages the run waits, and goes on once they are done."""
    host = apt.host
    hold = "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep(4)"
    holder = host.start(["python3", "-c", hold])
    time.sleep(0.5)
    started = time.monotonic()

    apply(host, profile({"tool": "1.0"}))

    assert time.monotonic() - started > 3
    assert 0 == holder.popen.wait()


@pytest.mark.parametrize("direction", ["--finish", "--undo"])
@pytest.mark.parametrize("death", ["kill", "power"])
def test_death_in_the_middle(apt: AptRepository, direction: str, death: str) -> None:
    """Killed, or without power, inside a transaction: recovery finishes it, or takes it back, exactly."""
    host = apt.host
    slow = "#!/bin/sh\necho half > /etc/slow.half\ntouch /run/in-the-middle\n[ -e /run/go-on ] || sleep 30\n"
    apt.add(Deb("slow", "1", scripts={"postinst": slow}, fields={"Depends": "tool"}))
    before = host.snapshot()
    wanted = give(host, profile({"slow": None, "tool": "2.0"}))

    running = host.start(["aquiline", "apply", wanted])
    wait_for(host, "/run/in-the-middle")
    if death == "kill":
        running.kill()
    else:
        host.kill()
        host.boot()
    host.run(["touch", "/run/go-on"])

    assert 11 == apply(host, profile({"slow": None, "tool": "2.0"}), check=False).returncode
    aquiline(host, "recover", direction)
    if direction == "--finish":
        assert "install ok installed" == host.snapshot().packages["slow"].state
        aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_the_undo_script(apt: AptRepository) -> None:
    """Without aquiline and without a repository the shell script takes an upgrade back from the kept files."""
    host = apt.host
    apply(host, profile({"tool": "1.0"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    before = host.snapshot()
    apply(host, profile({"tool": "2.0"}))
    run = json.loads(aquiline(host, "log", "--json").stdout)
    apt.withdraw("tool", "1.0")

    host.run(["sh", f"/var/lib/aquiline/undo/{run_ids(run)[0]}.sh"])

    assert [] == changed(before, host.snapshot())


def run_ids(log: object) -> list[str]:
    listed = log if isinstance(log, list) else log["runs"]  # type: ignore[index]
    return [str(one["id"]) for one in listed]
