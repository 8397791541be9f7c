"""Packages of a real host with dnf and rpm: what they do, and how it is taken back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.bed.repository import SLEEPING_UNIT, DnfRepository, Rpm
from tests.packages.hosts import apply, aquiline, changed, escaped, give, hold, profile, says, wait_for

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


def test_what_came_goes(dnf: DnfRepository) -> None:
    """Packages and a service that their script enables and starts come, are shown, go with undo and come with redo."""
    host = dnf.host
    unit = {"/usr/lib/systemd/system/serves.service": SLEEPING_UNIT.format(name="serves")}
    start = "systemctl daemon-reload\nsystemctl enable --now serves.service\n"
    stop = '[ "$1" != 0 ] || systemctl disable --now serves.service\n'
    dnf.add(Rpm("serves", "1", files=unit, scripts={"post": start, "preun": stop}))
    wanted = wanting({"tool": "1.0-1", "serves": None})
    before = host.snapshot()

    apply(host, wanted)
    after = host.snapshot()
    shown = aquiline(host, "show", "last").stdout

    assert "by maintainer script: /etc/systemd/system/multi-user.target.wants/serves.service: came" in shown
    assert "by maintainer script: unit:serves.service: " in shown
    assert "active (running)" == after.units["serves.service"].active
    assert "nothing to do" in apply(host, wanted).stdout
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
    aquiline(host, "redo", "last~1")
    assert [] == changed(after, host.snapshot())


def test_marks_and_holds(dnf: DnfRepository) -> None:
    """Upgrades and removals keep reason and lock of what stays; undo brings both back for all."""
    host = dnf.host
    apply(host, wanting({"tool": "1.0-1"}))
    host.run(["dnf", "-q", "-y", "mark", "remove", "tool"])
    host.run(["dnf", "-q", "-y", "versionlock", "add", "tool", "lib"])
    before = host.snapshot()
    assert (True, True) == (before.packages["tool.noarch"].automatic, before.packages["lib.noarch"].automatic)

    apply(host, wanting({"tool": "2.0-1"}))
    upgraded = host.snapshot()
    locks = host.run(["dnf", "-q", "-C", "versionlock", "list"]).stdout.split()

    assert ["lib-0:1.0-1.*", "tool-0:2.0-1.*"] == sorted(locks)
    assert ("2.0-1", True) == (upgraded.packages["tool.noarch"].version, upgraded.packages["tool.noarch"].automatic)
    assert "nothing to do" in apply(host, wanting({"tool": "2.0-1"})).stdout
    stays = wanting(dict.fromkeys(name.rpartition(".")[0] for name in before.packages if not name.startswith("tool.")))
    stays["software"]["components"]["spma"] |= {"userpkgs": "no", "repository_cleanup": False}
    apply(host, stays)
    assert "tool.noarch" not in host.snapshot().packages
    assert "lib.noarch" in host.snapshot().packages
    aquiline(host, "undo")
    assert [] == changed(upgraded, host.snapshot())
    aquiline(host, "undo", "last~2")
    assert [] == changed(before, host.snapshot())


def test_a_hold_without_the_plugin(dnf: DnfRepository) -> None:
    """Where the plugin went since, an undo that would hold a package again says so, and fails."""
    host = dnf.host
    apply(host, wanting({"tool": "1.0-1"}))
    host.run(["dnf", "-q", "-y", "versionlock", "add", "tool"])
    apply(host, wanting({"tool": "2.0-1"}))
    (host.root / "etc/dnf/plugins/versionlock.conf").unlink()

    done = aquiline(
        host, "undo", "--force", "package:tool", "--force", "/etc/dnf/plugins/versionlock.list", check=False
    )

    assert 17 == done.returncode, done.stdout + done.stderr
    assert "tool-1.0-1 cannot be held: dnf's plugin versionlock is not on this host" in done.stderr


def test_a_downgrade_that_removes_another_package(dnf: DnfRepository) -> None:
    """The plan names the package that goes; undo brings it back, and nothing else."""
    host = dnf.host
    dnf.add(Rpm("friend", "1"), Rpm("moody", "1", tags={"Conflicts": "friend"}), Rpm("moody", "2"))
    host.run(["dnf", "-q", "-y", "install", "lib"])
    host.run(["dnf", "-q", "-y", "mark", "remove", "lib"])
    apply(host, wanting({"friend": "1-1", "moody": "2-1"}))
    before = host.snapshot()
    wanted = wanting({"moody": "1-1", "tool": "1.0-1"})

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanted)).stdout)
    apply(host, wanted)

    expected = "change moody 2-1 to 1-1; install tool 1.0-1; remove friend 1-1"
    assert [expected] == [one["description"] for one in planned["steps"]]
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())
    assert "lib.noarch" in host.snapshot().packages, "nobody needs it, and undo did not bring it"


def test_a_version_that_is_lost_is_said_in_the_plan(dnf: DnfRepository) -> None:
    """Where the installed version can be had nowhere the step is irreversible, says so, and is refused."""
    host = dnf.host
    host.run(["dnf", "-q", "-y", "install", "tool-1.0"])
    dnf.withdraw("tool", "1.0")
    before = host.snapshot()

    planned = json.loads(aquiline(host, "plan", "--json", give(host, wanting({"tool": "2.0-1"}))).stdout)
    done = apply(host, wanting({"tool": "2.0-1"}), check=False)

    (step,) = planned["steps"]
    assert ("irreversible", "can be had nowhere any more: tool 1.0-1") == (
        step["undo"]["class"],
        step["undo"]["reason"],
    )
    assert 13 == done.returncode
    assert [] == changed(before, host.snapshot())


def test_what_scripts_did(dnf: DnfRepository) -> None:
    """Files, accounts and units that scripts changed are shown and taken back; what a person edits is a conflict."""
    host = dnf.host
    script = "echo made > /etc/scripted.made\necho more >> /etc/scripted.other\nuseradd -r scripted\n"
    dnf.add(Rpm("scripted", "1", scripts={"post": script + "systemctl disable --now cron.service\n"}))
    (host.root / "etc/scripted.other").write_text("mine\n")
    before = host.snapshot()

    apply(host, wanting({"scripted": None}))
    shown = aquiline(host, "show", "last").stdout
    (host.root / "etc/scripted.made").write_text("edited\n")
    refused = aquiline(host, "undo", check=False)

    assert "by maintainer script: /etc/scripted.made: came (file)" in shown
    assert "by maintainer script: /etc/scripted.other: changed" in shown
    assert "by maintainer script: passwd:scripted: came" in shown
    assert "by maintainer script: unit:cron.service: enabled active to disabled inactive" in shown
    assert 12 == refused.returncode
    assert "/etc/scripted.made" in refused.stderr
    aquiline(host, "undo", "--force", "/etc/scripted.made")
    assert [] == changed(before, host.snapshot())


@pytest.mark.parametrize("script", ["pre", "post"])
def test_what_a_failing_script_did_before_it_failed(dnf: DnfRepository, script: str) -> None:
    """A script that wrote a file and added an account, and failed then, leaves neither."""
    host = dnf.host
    dnf.add(Rpm("half", "1", scripts={script: "echo half > /etc/half\nuseradd -r half\nexit 1\n"}))
    before = host.snapshot()

    done = apply(host, wanting({"half": None}), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert [] == changed(before, host.snapshot())


def test_a_held_lock_is_waited_for(dnf: DnfRepository) -> None:
    """While somebody else changes packages the run says at once for whom it waits, and goes on once they are done."""
    host = dnf.host
    holder = hold(host, "/var/lib/rpm/.rpm.lock")

    running = host.start(["aquiline", "apply", give(host, wanting({"tool": "1.0-1"}))])
    line = says(running, "waiting for dnf's lock")
    host.run(["touch", "/run/let-go"])
    out, err = running.communicate()

    assert re.search(r"/var/lib/rpm/.rpm.lock, held by process \d+ \(python3 .*\), which runs since ", line)
    assert 0 == running.popen.returncode, out + err
    assert 0 == holder.popen.wait()
    assert "tool.noarch" in host.snapshot().packages


def test_dnf_outlives_the_run(dnf: DnfRepository) -> None:
    """Where only the run is killed dnf goes on; recovery says that it waits for it, and then takes all back."""
    host = dnf.host
    slow = "echo half > /etc/slow.half\ntouch /run/in-the-middle\nuntil [ -e /run/go-on ]; do sleep 0.1; done\n"
    dnf.add(Rpm("slow", "1", scripts={"post": slow}))
    before = host.snapshot()
    running = host.start(["aquiline", "apply", give(host, wanting({"slow": None}))])
    wait_for(host, "/run/in-the-middle")
    host.run(["pkill", "-9", "-f", "^/usr/bin/python3 -B /usr/local/bin/aquiline"])
    assert running.popen.wait() != 0

    recovering = host.start(["aquiline", "recover"])
    line = says(recovering, "waiting for dnf's lock")
    host.run(["touch", "/run/go-on"])
    out, err = recovering.communicate()

    assert re.search(r"held by process \d+ \(/usr/bin/python3 ", line)
    assert 0 == recovering.popen.returncode, out + err
    assert [] == changed(before, host.snapshot())


def test_all_is_fetched_before_the_first_step(dnf: DnfRepository) -> None:
    """What the repository loses between plan and run is named, and not even the steps before the packages are done."""
    host = dnf.host
    host.run(["dnf", "-q", "-y", "install", "tool-1.0"])
    wanted = wanting({"tool": "2.0-1"})
    services = {escaped("/etc/first"): {"config": "first\n"}}
    wanted["software"]["components"]["filecopy"] = {"active": True, "dispatch": True, "services": services}
    wanted["software"]["components"]["spma"]["dependencies"] = {"pre": ["filecopy"]}
    planned = json.loads(aquiline(host, "plan", "--json", "--out", "/root/plan", give(host, wanted)).stdout)
    dnf.withdraw("tool", "1.0")
    before = host.snapshot()

    done = aquiline(host, "apply", "/root/plan", check=False)

    assert ["filecopy", "spma"] == [one["component"] for one in planned["steps"]]
    assert done.returncode != 0
    assert "tool 1.0-1" in done.stderr
    assert [] == changed(before, host.snapshot())


def test_lists_of_the_site(dnf: DnfRepository) -> None:
    """What the host's policy never downgrades no profile does; what an older version cannot read is not taken back."""
    host = dnf.host
    (host.root / "etc/aquiline").mkdir()
    lists = ('never_downgrade = ["lib"]', 'irreversible_downgrade = ["tool"]')
    (host.root / "etc/aquiline/policy.toml").write_text("\n".join(lists))
    dnf.add(Rpm("lib", "0.9"))
    apply(host, wanting({"tool": "1.0-1"}))
    before = host.snapshot()

    older = json.loads(aquiline(host, "plan", "--json", give(host, wanting({"lib": "0.9-1"})), check=False).stdout)
    refused = apply(host, wanting({"tool": "2.0-1"}), check=False)

    assert "this host's policy forbids to downgrade lib: 1.0-1 to 0.9-1" in older["component_details"]["spma"]
    assert 13 == refused.returncode
    assert "its data cannot be read by an older version" in refused.stdout + refused.stderr
    assert [] == changed(before, host.snapshot())


def test_the_undo_script(dnf: DnfRepository) -> None:
    """Without aquiline and without a repository the shell script takes an upgrade back, with marks and locks."""
    host = dnf.host
    apply(host, wanting({"tool": "1.0-1"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    host.run(["dnf", "-q", "-y", "versionlock", "add", "tool"])
    before = host.snapshot()
    apply(host, wanting({"tool": "2.0-1"}))
    runs = json.loads(aquiline(host, "log", "--json").stdout)
    dnf.withdraw("tool", "1.0")

    host.run(["sh", f"/var/lib/aquiline/undo/{runs[0]['id']}.sh"])

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


def test_who_owns_a_file(dnf: DnfRepository) -> None:
    """Of files on the host the packages are known that brought them; a path of nobody is nobody's."""
    dnf.add(Rpm("owned", "1", files={"/opt/owned": "x"}))
    dnf.host.run(["dnf", "-y", "install", "owned"])
    text = (
        "from aquiline.agent.session import Session\nprint(*Session().host.packages.owners(['/opt/owned', '/opt/no']))"
    )

    assert "owned\n" == dnf.host.run(["python3", "-B", "-c", text]).stdout


#: Prints how often dnf was asked, and of how many paths of each package it told.
CONTENTS = """
from aquiline.agent.session import Session
from aquiline.host.packages import dnf

asked, plain = [], dnf.DnfPackages._ask
dnf.DnfPackages._ask = lambda self, what, **more: asked.append(what) or plain(self, what, **more)
packages = Session().host.packages
packages.fetch([("tool", "1.0-1")])
del asked[:]
found = packages.contents([("tool", "1.0-1"), ("tool", "2.0-1"), ("tool", "3.0-1")])
print(asked, *found.values())
"""


def test_what_packages_bring_is_asked_once(dnf: DnfRepository) -> None:
    """Of kept files, of the repository's packages, and of what nobody has, dnf tells in one call."""
    done = dnf.host.run(["python3", "-B", "-c", CONTENTS])

    assert "['contents'] ('/etc/tool.conf',) ('/etc/tool.conf',) None\n" == done.stdout
