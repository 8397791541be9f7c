"""Units of real hosts: systemd runs there, and the snapshot that is compared was taken by other means than ours."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from tests.bed.host import BedHost, BedProcess
from tests.bed.snapshot import HostSnapshot, diff

OTHERS = ("/root", "/root/profile.json", "/var/lib")
SLOW = {"service": {"ExecStart": "/bin/sleep 1000", "ExecStartPre": ["/bin/sleep 5"]}}
INSTALL = {"install": {"WantedBy": ["multi-user.target", "timers.target"], "Alias": ["also-ours.service"]}}


class Ours:
    """A host with aquiline on it."""

    def __init__(self, host: BedHost) -> None:
        self.host = host
        host.install_aquiline()
        self.wants({})
        self.run("plan", "/root/profile.json")  # compiles what python keeps beside its files

    def wants(self, units: dict[str, Any]) -> None:
        """Let the profile have these units from now on."""
        tree = {"software": {"components": {"systemd": {"unit": units}}}}
        (self.host.root / "root/profile.json").write_text(json.dumps(tree))

    def run(self, *words: str, status: int = 0) -> str:
        """Return what aquiline says; it must end with `status`."""
        done = self.host.run(["aquiline", *words], check=False, timeout=120)
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, status: int = 0) -> str:
        return self.run("apply", "/root/profile.json", status=status)

    def start(self) -> BedProcess:
        return self.host.start(["aquiline", "apply", "/root/profile.json"])

    def states(self, unit: str) -> tuple[str, str]:
        return self.systemctl("is-enabled", unit), self.systemctl("is-active", unit)

    def systemctl(self, *words: str) -> str:
        return self.host.run(["systemctl", *words], check=False).stdout.strip()

    def wait_for(self, unit: str, active: str) -> None:
        end = time.monotonic() + 30
        while self.systemctl("is-active", unit) != active:
            assert time.monotonic() < end, f"{unit} does not become {active}"
            time.sleep(0.05)

    def differences(self, before: HostSnapshot) -> list[str]:
        """Return what is not as before, the profile apart, and the time of the directory that the journal is in."""
        return [str(one) for one in diff(before, self.host.snapshot()) if one.name not in OTHERS]


@pytest.fixture
def ours(bed_host: BedHost) -> Ours:
    return Ours(bed_host)


STATES = {"enabled": ("enabled", "active"), "disabled": ("disabled", "inactive"), "masked": ("masked", "inactive")}


@pytest.mark.parametrize(("before", "wanted"), list(itertools.permutations(STATES, 2)))
def test_every_transition_is_taken_back(ours: Ours, before: str, wanted: str) -> None:
    """A unit with a script beside it, from each state to each: applied, verified, undone exactly, redone, undone."""
    ours.wants({"cron": {"state": before}})
    ours.apply()
    assert STATES[before] == ours.states("cron.service")
    snapshot = ours.host.snapshot()

    ours.wants({"cron": {"state": wanted}})
    ours.apply()
    assert STATES[wanted] == ours.states("cron.service")
    ours.run("verify")
    assert "nothing to do" in ours.run("plan", "/root/profile.json").lower()
    ours.run("undo")
    assert [] == ours.differences(snapshot)
    ours.run("redo", "last~1")
    assert STATES[wanted] == ours.states("cron.service")
    ours.run("undo", "last~2")
    assert [] == ours.differences(snapshot)


def test_a_new_unit_comes_and_goes(ours: Ours) -> None:
    """File, links and process of a unit come in one plan, unit files are read again once; undo leaves no trace."""
    before = ours.host.snapshot()
    config = {"service": {"ExecStart": "/bin/sleep 1000"}, **INSTALL}
    ours.wants({
        "ours": {"file": {"config": config, "replace": True}},
        "cron": {"file": {"config": {"service": {"Nice": 5}}}},
    })  # fmt: skip
    steps = json.loads(ours.run("plan", "--json", "/root/profile.json"))["steps"]

    ours.apply()

    assert 1 == sum(step["kind"] == "react_daemon_reload" for step in steps)
    assert ("enabled", "active") == ours.states("ours.service")
    assert "Nice=5" == ours.systemctl("show", "--property=Nice", "cron.service")
    ours.run("undo")
    assert [] == ours.differences(before)
    assert "Nice=0" == ours.systemctl("show", "--property=Nice", "cron.service")


def test_a_unit_that_fails_fails_the_step(ours: Ours) -> None:
    """The last lines of its log are shown; what of the step happened is taken back; a start limit does not bite."""
    before = ours.host.snapshot()
    failing = {"ExecStart": "/bin/sh -c 'echo words of woe; exit 3'", "Restart": "always", "RestartSec": 0}
    ours.wants({"ours": {"file": {"config": {"service": failing, **INSTALL}, "replace": True}}})

    assert "words of woe" in ours.apply(status=15)
    assert "words of woe" in ours.apply(status=15)
    ours.wants({"ours": {"file": {"config": {"service": {"ExecStart": "/bin/sleep 99"}, **INSTALL}, "replace": True}}})
    ours.apply()
    assert ("enabled", "active") == ours.states("ours.service")
    ours.run("undo", "--last", "3")
    assert [] == ours.differences(before)


def test_a_unit_that_dies_for_ever_is_taken_back(ours: Ours) -> None:
    """No start limit ends it: it runs at one instant, has ended at the next. It has failed at each of them."""
    before = ours.host.snapshot()
    service = {"ExecStart": "/bin/sh -c 'sleep 0.2; exit 3'", "Restart": "always", "RestartSec": 0}
    dies = {"unit": {"StartLimitIntervalSec": 0}, "service": service, **INSTALL}
    ours.wants({"ours": {"file": {"config": dies, "replace": True}}})

    for _ in range(2):
        assert "started again and again" in ours.apply(status=15)
    ours.run("undo", "last~1")
    assert [] == ours.differences(before)
    ours.apply(status=15)
    ours.wants({"ours": {"file": {"config": {"service": {"ExecStart": "/bin/sleep 99"}, **INSTALL}, "replace": True}}})
    ours.apply()
    ours.run("undo", "--last", "2")
    assert [] == ours.differences(before)


@pytest.mark.parametrize("by_script", [False, True], ids=["undo", "script"])
def test_what_crashed_since_is_taken_back(by_script: bool, ours: Ours) -> None:
    """A daemon that the run started, and that died since, is nobody's change."""
    service = {"ExecStart": "/bin/sh -c 'until test -e /run/die; do sleep 0.1; done; exit 3'"}
    before = ours.host.snapshot()
    ours.wants({"ours": {"file": {"config": {"service": service, **INSTALL}, "replace": True}}})
    ours.apply()
    ours.host.run(["touch", "/run/die"])
    ours.wait_for("ours.service", "failed")
    ours.host.run(["rm", "/run/die"])

    if by_script:
        ours.host.run(["sh", "-c", "sh /var/lib/aquiline/undo/*.sh"])
    else:
        ours.run("undo")

    assert [] == ours.differences(before)


def test_what_a_condition_keeps_from_starting_fails(ours: Ours) -> None:
    """Exit 0 of systemctl is no success: that the unit does not run is said, with the condition."""
    ours.host.run(["systemctl", "disable", "chrony"])
    before = ours.host.snapshot()
    ours.wants({"chrony": {}})

    assert "ConditionCapability=CAP_SYS_TIME was not met" in ours.apply(status=15)
    ours.run("undo")
    assert [] == ours.differences(before)


@pytest.mark.parametrize("power_cut", [False, True], ids=["kill -9", "power cut"])
@pytest.mark.parametrize("direction", ["--undo", "--finish"])
def test_a_crash_while_a_unit_starts(direction: str, power_cut: bool, ours: Ours) -> None:
    """Killed, or the host dead, in the middle of systemctl: the run is finished or taken back, exactly."""
    before = ours.host.snapshot()
    ours.wants({"ours": {"file": {"config": {**SLOW, **INSTALL}, "replace": True}}})
    running = ours.start()
    ours.wait_for("ours.service", "activating")

    if power_cut:
        ours.host.kill()
        running.popen.wait()
        ours.host.boot()
    else:
        running.kill()
    ours.run("recover", direction)

    if direction == "--finish":
        assert ("enabled", "active") == ours.states("ours.service")
        ours.run("undo")
    assert [] == ours.differences(before)


def test_the_script_takes_units_back(ours: Ours) -> None:
    """With nothing but a shell: links, files and what runs are as before, also where the run was killed half way."""
    before = ours.host.snapshot()
    units = {"cron": {"state": "masked"}, "chrony": {"state": "disabled"}}
    ours.wants({**units, "ours": {"file": {"config": {**SLOW, **INSTALL}, "replace": True}}})
    running = ours.start()
    ours.wait_for("ours.service", "activating")
    running.kill()

    ours.host.run(["sh", "-c", "sh /var/lib/aquiline/undo/*.sh"])

    assert [] == ours.differences(before)


def write_units(ours: Ours, files: dict[str, str]) -> None:
    """Put unit files into the host by hand."""
    for name, text in files.items():
        (ours.host.root / "etc/systemd/system" / name).write_text(text)
    ours.systemctl("daemon-reload")


SLEEPS = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"


@pytest.mark.parametrize("by_script", [False, True], ids=["undo", "script"])
def test_what_stops_along_is_started_again(by_script: bool, ours: Ours) -> None:
    """What requires a unit, is bound to it or part of it stops with it, as the plan says, and runs again after undo."""
    write_units(
        ours,
        {
            "base.service": SLEEPS,
            "needs.service": f"[Unit]\nRequires=base.service\nAfter=base.service\n{SLEEPS}",
            "bound.service": f"[Unit]\nBindsTo=needs.service\nAfter=needs.service\n{SLEEPS}",
            "part.service": f"[Unit]\nPartOf=base.service\n{SLEEPS}",
            "off.service": f"[Unit]\nRequires=base.service\n{SLEEPS}",
        },
    )
    ours.systemctl("enable", "--now", "base", "needs", "bound", "part")
    before = ours.host.snapshot()
    ours.wants({"base": {"state": "disabled"}})
    (step,) = json.loads(ours.run("plan", "--json", "/root/profile.json"))["steps"]
    assert step["description"].endswith("base.service, which stops bound.service, needs.service, part.service too")

    ours.apply()

    names = ("base", "needs", "bound", "part", "off")
    assert ["inactive"] * 5 == [ours.systemctl("is-active", name) for name in names]
    ours.run("verify")
    if by_script:
        ours.host.run(["sh", "-c", "sh /var/lib/aquiline/undo/*.sh"])
    else:
        ours.run("undo")
    assert [] == ours.differences(before)


@pytest.mark.parametrize("by_script", [False, True], ids=["undo", "script"])
def test_what_starts_along_is_stopped_again(by_script: bool, ours: Ours) -> None:
    """What a unit needs starts with it and what it is against stops, as the plan says; undo brings all that back."""
    write_units(
        ours,
        {
            "db.service": f"[Unit]\nWants=deep.service\n{SLEEPS}",
            "deep.service": SLEEPS,
            "dies.service": "[Service]\nExecStart=/bin/false\n",
            "old.service": SLEEPS,
            "with-old.service": f"[Unit]\nRequires=old.service\nAfter=old.service\n{SLEEPS}",
        },
    )
    ours.systemctl("enable", "--now", "old", "with-old")
    before = ours.host.snapshot()
    needs = {"Requires": ["db.service"], "Wants": ["dies.service", "none.service"], "Conflicts": ["old.service"]}
    config = {"unit": needs, "service": {"ExecStart": "/bin/sleep 1000"}, **INSTALL}
    ours.wants({"web": {"file": {"config": config, "replace": True}}})
    said = json.loads(ours.run("plan", "--json", "/root/profile.json"))["steps"][-1]["description"]

    ours.apply()

    assert said == (
        "enable and start web.service, which starts db.service, deep.service, dies.service"
        " and stops old.service, with-old.service too"
    )
    names = ("db", "deep", "dies", "old", "with-old")
    expected = ["active", "active", "failed", "inactive", "inactive"]
    assert expected == [ours.systemctl("is-active", name) for name in names]
    if by_script:
        ours.host.run(["sh", "-c", "sh /var/lib/aquiline/undo/*.sh"])
    else:
        ours.run("undo")
    assert [] == ours.differences(before)


def test_a_unit_is_reloaded_both_ways(ours: Ours) -> None:
    """A daemon hears of its new file by a reload, and of the old one by another; it is never ended."""
    reload = "ExecReload=/bin/sh -c 'cat /etc/told.json >> /run/told; echo >> /run/told'"
    write_units(ours, {"told.service": f"[Service]\n{reload}\n{SLEEPS}"})
    (ours.host.root / "etc/told.json").write_text('{"is":"old"}')
    ours.systemctl("start", "told")
    process = ours.systemctl("show", "--value", "-p", "MainPID", "told")
    service = {"module": "json", "contents": {"is": "new"}, "daemons": {"told": "reload"}}
    tree = {"software": {"components": {"metaconfig": {"services": {"_2fetc_2ftold_2ejson": service}}}}}
    (ours.host.root / "root/profile.json").write_text(json.dumps(tree))

    ours.apply()
    ours.run("verify")
    ours.run("undo")
    ours.run("redo", "last~1")

    told = ours.host.run(["cat", "/run/told"]).stdout.split()
    assert ['{"is":"new"}', '{"is":"old"}', '{"is":"new"}'] == told
    assert process == ours.systemctl("show", "--value", "-p", "MainPID", "told")


def test_what_dies_soon_after_its_start_fails(ours: Ours) -> None:
    """A start that systemd calls a success is none yet: what does not last is seen, and taken back."""
    dies = "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 7'\n[Install]\nWantedBy=multi-user.target\n"
    write_units(ours, {"dies.service": dies})
    ours.wants({"dies": {"state": "enabled", "startstop": True}})

    said = ours.apply(status=15)

    assert "dies.service" in said
    ours.run("undo")
    assert ("disabled", "inactive") == ours.states("dies.service")


def test_unusual_ways_to_be_enabled_come_back(ours: Ours) -> None:
    """Enabled until the next boot, linked from elsewhere, an instance of a template: changed, and back as they were."""
    (ours.host.root / "opt/linked.service").write_text(SLEEPS)
    write_units(ours, {"brief.service": SLEEPS, "many@.service": SLEEPS})
    ours.systemctl("enable", "--runtime", "brief")
    ours.systemctl("link", "/opt/linked.service")
    ours.systemctl("enable", "--now", "many@one")
    units = ("brief.service", "linked.service", "many@one.service", "many@two.service")
    states = [ours.states(unit) for unit in units]
    before = ours.host.snapshot()

    for brief, linked in (("disabled", "enabled"), ("enabled", "disabled")):
        wanted = {"brief": brief, "linked": linked, "many_40one": "disabled", "many_40two": "enabled"}
        ours.wants({name: {"state": state} for name, state in wanted.items()})
        ours.apply()
        assert STATES["disabled"] == ours.states("many@one.service")
        assert STATES["enabled"] == ours.states("many@two.service")
        ours.run("undo")
        assert states == [ours.states(unit) for unit in units]
        assert [] == ours.differences(before)


@pytest.mark.parametrize("power_cut", [False, True], ids=["kill -9", "power cut"])
@pytest.mark.parametrize("direction", ["--undo", "--finish"])
def test_a_crash_while_a_unit_stops(direction: str, power_cut: bool, ours: Ours) -> None:
    """Killed, or the host dead, while a unit and what needs it are stopped: finished or taken back, exactly."""
    slow = SLEEPS.replace("[Install]", "ExecStop=/bin/sleep 4\n[Install]")
    needs = f"[Unit]\nRequires=ours.service\nAfter=ours.service\n{SLEEPS}"
    write_units(ours, {"ours.service": slow, "needs.service": needs})
    ours.systemctl("enable", "--now", "ours", "needs")
    before = ours.host.snapshot()
    ours.wants({"ours": {"state": "disabled"}})
    running = ours.start()
    ours.wait_for("ours.service", "deactivating")

    if power_cut:
        ours.host.kill()
        running.popen.wait()
        ours.host.boot()
    else:
        running.kill()
    ours.run("recover", direction)

    if direction == "--finish":
        assert STATES["disabled"] == ours.states("ours.service")
        assert "inactive" == ours.systemctl("is-active", "needs.service")
        ours.run("undo")
    assert [] == ours.differences(before)
