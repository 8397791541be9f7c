"""Packages of a real Debian host: what apt and dpkg do, and how it is taken back."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.bed.repository import FAILING, PROMPTING, AptRepository, Deb
from tests.packages.hosts import apply, aquiline, changed, escaped, give, hold, profile, says, wait_for

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


def test_what_scripts_did_to_units_is_shown_and_taken_back(apt: AptRepository) -> None:
    """A script that stops, disables and masks units of others is shown; undo has them enabled and running again."""
    host = apt.host
    text = "#!/bin/sh\nset -e\nsystemctl disable --now cron.service\nsystemctl mask rsync.service\n"
    apt.add(Deb("meddles", "1", scripts={"postinst": text}))
    before = host.snapshot()

    apply(host, profile({"meddles": None}))
    shown = aquiline(host, "show", "last").stdout

    assert "by maintainer script: unit:cron.service: enabled active to disabled inactive" in shown
    assert "by maintainer script: /etc/systemd/system/rsync.service: came (symbolic link)" in shown
    assert "masked" == host.snapshot().units["rsync.service"].enabled
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_an_edit_after_a_failure_is_a_conflict(apt: AptRepository) -> None:
    """Of a failed step too, undo does not clobber what a person changed since."""
    host = apt.host
    apt.add(Deb("fails", "1", scripts={"postinst": "#!/bin/sh\necho made > /etc/made\nexit 1\n"}))
    before = host.snapshot()
    assert 15 == apply(host, profile({"fails": None}), check=False).returncode
    (host.root / "etc/made").write_text("edited\n")

    done = aquiline(host, "undo", check=False)

    assert 12 == done.returncode, done.stdout + done.stderr
    assert "/etc/made" in done.stderr
    aquiline(host, "undo", "--force", "/etc/made")
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
    """While somebody else changes packages the run says at once for whom it waits, and goes on once they are done."""
    host = apt.host
    holder = hold(host, "/var/lib/dpkg/lock-frontend")

    running = host.start(["aquiline", "apply", give(host, profile({"tool": "1.0"}))])
    line = says(running, "waiting for apt's lock")
    assert "lib" not in host.snapshot().packages
    host.run(["touch", "/run/let-go"])
    out, err = running.communicate()

    assert re.fullmatch(
        r"waiting for apt's lock /var/lib/dpkg/lock-frontend, held by process \d+ \(python3 .*\), "
        r"which runs since \d{4}-\d\d-\d\d [\d:]{8}\n",
        line,
    )
    assert 0 == running.popen.returncode, out + err
    assert 0 == holder.popen.wait()
    assert "tool" in host.snapshot().packages


def test_dpkg_outlives_the_run(apt: AptRepository) -> None:
    """Where only the run is killed dpkg goes on; recovery says that it waits for it, and then takes all back."""
    host = apt.host
    slow = (
        "#!/bin/sh\necho half > /etc/slow.half\ntouch /run/in-the-middle\nuntil [ -e /run/go-on ]; do sleep 0.1; done\n"
    )
    apt.add(Deb("slow", "1", scripts={"postinst": slow}))
    before = host.snapshot()
    running = host.start(["aquiline", "apply", give(host, profile({"slow": None}))])
    wait_for(host, "/run/in-the-middle")
    host.run(["pkill", "-9", "-f", "^/usr/bin/python3 -B /usr/local/bin/aquiline"])
    assert running.popen.wait() != 0

    recovering = host.start(["aquiline", "recover"])
    line = says(recovering, "waiting for apt's lock")
    host.run(["touch", "/run/go-on"])
    out, err = recovering.communicate()

    assert re.search(r"held by process \d+ \((apt-get|/usr/bin/dpkg) ", line)
    assert 0 == recovering.popen.returncode, out + err
    assert [] == changed(before, host.snapshot())


@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_what_a_failing_script_did_before_it_failed(apt: AptRepository, script: str) -> None:
    """A script that wrote a file and added an account, and failed then, leaves neither; dpkg forgets a preinst."""
    host = apt.host
    text = "#!/bin/sh\nset -e\necho half > /etc/half\nuseradd -r half\nexit 1\n"
    apt.add(Deb("half", "1", scripts={script: text}))
    before = host.snapshot()

    done = apply(host, profile({"half": None}), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert [] == changed(before, host.snapshot())


def test_a_failed_upgrade(apt: AptRepository) -> None:
    """An upgrade whose script fails is taken back to the old version with its edited conffile."""
    host = apt.host
    apt.add(replace(TOOL2, version="3.0", scripts={"postinst": FAILING}))
    apply(host, profile({"tool": "1.0"}))
    (host.root / "etc/tool.conf").write_text("edited\n")
    before = host.snapshot()

    done = apply(host, profile({"tool": "3.0"}), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert [] == changed(before, host.snapshot())


def test_held_packages_stay_held(apt: AptRepository) -> None:
    """Upgraded, and removed, by a run that says so, a held package is held again after undo."""
    host = apt.host
    apt.add(Deb("friend", "1"), Deb("moody", "1", fields={"Conflicts": "friend"}))
    apply(host, profile({"tool": "1.0", "friend": None}))
    host.run(["apt-mark", "hold", "tool", "friend"])
    before = host.snapshot()
    assert "hold ok installed" == before.packages["friend"].state

    refused = aquiline(host, "plan", "--json", give(host, profile({"moody": "1"})), check=False)
    wanted = dict.fromkeys(name for name in before.packages if name not in ("friend", "tool")) | {"tool": "2.0"}
    apply(host, profile(wanted, userpkgs="no", repository_cleanup=False))
    after = host.snapshot()

    assert "you have held broken packages" in json.loads(refused.stdout)["component_details"]["spma"]
    assert ("2.0", "hold ok installed") == (after.packages["tool"].version, after.packages["tool"].state)
    assert "friend" not in after.packages
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_all_is_fetched_before_the_first_step(apt: AptRepository) -> None:
    """What the repository loses between plan and run is named, and not even the steps before the packages are done."""
    host = apt.host
    host.run(["apt-get", "install", "-yq", "tool=1.0"])
    host.run(["apt-get", "clean"])
    wanted = profile({"tool": "2.0"})
    wanted["software"]["components"]["filecopy"] = {
        "active": True,
        "dispatch": True,
        "services": {escaped("/etc/first"): {"config": "first\n"}},
    }
    wanted["software"]["components"]["spma"]["dependencies"] = {"pre": ["filecopy"]}
    planned = json.loads(aquiline(host, "plan", "--json", "--out", "/root/plan", give(host, wanted)).stdout)
    apt.withdraw("tool", "1.0")
    before = host.snapshot()

    done = aquiline(host, "apply", "/root/plan", check=False)

    assert ["filecopy", "spma"] == [one["component"] for one in planned["steps"]]
    assert done.returncode != 0
    assert "tool 1.0" in done.stderr
    assert [] == changed(before, host.snapshot())


def test_a_debconf_question(apt: AptRepository) -> None:
    """A package that asks by debconf takes its default answer; nobody is waited for."""
    host = apt.host
    apt.add(
        Deb(
            "asks",
            "1",
            fields={"Depends": "debconf"},
            scripts={
                "templates": "Template: asks/colour\nType: string\nDefault: blue\nDescription: Which colour?\n",
                "config": "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n"
                "db_input critical asks/colour || true\ndb_go\n",
                "postinst": "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\ndb_get asks/colour\n"
                'echo "$RET" > /etc/asks.conf\n',
                "postrm": '#!/bin/sh\nset -e\n[ "$1" != purge ] || { . /usr/share/debconf/confmodule; db_purge; }\n',
            },
        )
    )
    before = host.snapshot()

    apply(host, profile({"asks": None}))

    assert "blue\n" == (host.root / "etc/asks.conf").read_text()
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


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


def test_death_in_the_undo_that_removes_a_service(apt: AptRepository) -> None:
    """A service's package is removed and not yet purged when the undo dies; that is taken back, and then all is."""
    host = apt.host
    slow = "#!/bin/sh\nif [ -e /run/pause ]; then touch /run/in-the-middle; sleep 60; fi\n"
    versions = (Deb("slow", version, scripts={"postinst": slow}) for version in ("1", "2"))
    apt.add(*versions, Deb("served", "1").with_service())
    apply(host, profile({"slow": "1"}))
    before = host.snapshot()
    apply(host, profile({"slow": "2", "served": None}))
    run = run_ids(json.loads(aquiline(host, "log", "--json").stdout))[0]
    host.run(["touch", "/run/pause"])
    running = host.start(["aquiline", "undo"])
    wait_for(host, "/run/in-the-middle")
    running.kill()
    host.run(["rm", "/run/pause"])

    aquiline(host, "recover", "--undo")

    packages = host.snapshot().packages
    assert ("2", "install ok installed") == (packages["slow"].version, packages["served"].state)
    assert "active" == host.run(["systemctl", "is-active", "served"], check=False).stdout.strip()
    aquiline(host, "undo", run)
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


def test_a_unit_of_a_package_of_the_same_run(apt: AptRepository) -> None:
    """What the profile wants of a unit that a package of the same run brings is planned once the package is there."""
    host = apt.host
    apt.add(Deb("serves", "1").with_service())
    wanted = profile({"serves": None})
    unit = {"serves": {"state": "disabled", "startstop": True}}
    wanted["software"]["components"]["systemd"] = {"unit": unit, "dependencies": {"pre": ["spma"]}}
    before = host.snapshot()

    apply(host, wanted)

    states = host.snapshot().units["serves.service"]
    assert ("disabled", "") == (states.enabled, states.active)
    assert "nothing to do" in apply(host, wanted).stdout
    aquiline(host, "undo")
    assert [] == changed(before, host.snapshot())


def test_what_somebody_left_half_way(apt: AptRepository) -> None:
    """A package that somebody unpacked and no more is configured along with ours, and the plan says so."""
    host = apt.host
    host.run(["dpkg", "--unpack", "/srv/apt/lib_1.0_all.deb"])
    apt.add(Deb("other", "1"))

    planned = aquiline(host, "plan", give(host, profile({"other": None}))).stdout
    apply(host, profile({"other": None}))

    assert "what was left half-way is finished along with it: lib (unpacked)" in planned
    assert "install ok installed" == host.snapshot().packages["lib"].state
    assert "half-way" not in aquiline(host, "plan", give(host, profile({"other": None}))).stdout


def test_lists_of_the_site(apt: AptRepository) -> None:
    """What the host's policy never downgrades no profile does; what an older version cannot read is not taken back."""
    host = apt.host
    (host.root / "etc/aquiline").mkdir()
    lists = ('never_downgrade = ["lib"]', 'irreversible_downgrade = ["tool"]')
    (host.root / "etc/aquiline/policy.toml").write_text("\n".join(lists))
    apt.add(Deb("lib", "0.9"))
    apply(host, profile({"tool": "1.0"}))
    before = host.snapshot()

    older = json.loads(aquiline(host, "plan", "--json", give(host, profile({"lib": "0.9"})), check=False).stdout)
    newer = json.loads(aquiline(host, "plan", "--json", give(host, profile({"tool": "2.0"}))).stdout)
    refused = apply(host, profile({"tool": "2.0"}), check=False)

    assert "this host's policy forbids to downgrade lib: 1.0 to 0.9" in older["component_details"]["spma"]
    assert "its data cannot be read by an older version" in newer["steps"][0]["undo"]["reason"]
    assert 13 == refused.returncode
    assert [] == changed(before, host.snapshot())
    apply(host, profile({"tool": "2.0"}), "--allow-irreversible")
    assert 0 != aquiline(host, "undo", check=False).returncode
    assert "2.0" == host.snapshot().packages["tool"].version


#: Prints which programs ran, and what is known of each package.
CONTENTS = """
from aquiline.agent.session import Session
from aquiline.host.packages import apt

ran, plain = [], apt.Command
apt.Command = lambda argv, *more, **named: ran.append(argv[0]) or plain(argv, *more, **named)
packages = Session().host.packages
packages.fetch([("tool", "1.0")])
del ran[:]
found = packages.contents([("tool", "1.0"), ("tool", "2.0"), ("lib", "1.0"), ("tool", "3.0")])
print(ran, *found.values())
"""


def test_what_packages_bring_is_asked_once(apt: AptRepository) -> None:
    """However many packages there are, kept or in a repository: their lists take three commands, not three for each."""
    done = apt.host.run(["python3", "-B", "-c", CONTENTS])

    files = "('/etc', '/etc/tool.conf')"
    assert f"['apt-cache', 'apt-get', 'sh'] {files} {files} () None\n" == done.stdout


def run_ids(log: object) -> list[str]:
    listed = log if isinstance(log, list) else log["runs"]  # type: ignore[index]
    return [str(one["id"]) for one in listed]
