"""Units below an offline root: by their files and links, as `systemctl --root` has them."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aquiline.changes.kinds import Inline, SetUnit, WriteFile
from aquiline.host import unitfiles
from aquiline.host.real import RealHost
from aquiline.planning.component import Task
from tests.engine.site import Site

UNITS = {
    "web.service": "[Service]\nExecStart=/bin/web\n[Install]\nWantedBy=multi-user.target\nAlias=www.service\n",
    "both.service": "[Install]\nWantedBy=a.target b.target\nRequiredBy=c.target\nAlso=both.socket web.service\n",
    "both.socket": "[Socket]\nListenStream=1\n[Install]\nWantedBy=sockets.target\n",
    "static.service": "[Service]\nExecStart=/bin/true\n",
    "indirect.service": "[Install]\nAlso=web.service\n",
    "getty@.service": "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
    "log@.service": "[Install]\nWantedBy=log-%i.target\n",
    "once.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
}
NAMES = (*(name for name in UNITS if name != "log@.service"), "getty@tty7.service", "log@web.service")
STATES = ("enabled", "disabled", "masked")
needs_systemctl = pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not here to compare with")


def populate(root: Path) -> None:
    for name, text in UNITS.items():
        file = root / "usr/lib/systemd/system" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)


def links(root: Path) -> dict[str, str]:
    """Return every link below the configured folder, as path to the name that it leads to."""
    top = root / "etc/systemd/system"
    return {str(one.relative_to(top)): os.path.basename(os.readlink(one)) for one in top.rglob("*") if one.is_symlink()}


def systemctl(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["systemctl", f"--root={root}", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.strip()


@needs_systemctl
@pytest.mark.parametrize("unit", NAMES)
def test_links_are_those_of_systemctl(unit: str, tmp_path: Path) -> None:
    """Enable, mask, disable and enable again: links and state are each time what `systemctl --root` makes and says."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    populate(ours)
    populate(theirs)
    verbs = (("enabled", "enable"), ("masked", "mask"), ("disabled", "disable"), ("enabled", "enable"))

    with RealHost(str(ours)) as host:
        for state, verb in verbs:
            host.units.set_enabled(unit, state)
            if state != "masked":
                systemctl(theirs, "unmask", unit)
            systemctl(theirs, verb, unit)

            assert links(theirs) == links(ours)
            assert systemctl(theirs, "is-enabled", unit) == host.units.state(unit).enabled


@pytest.mark.parametrize(("before", "wanted"), [*itertools.permutations(STATES, 2)])
@pytest.mark.parametrize("unit", ["both.service", "getty@tty7.service"])
def test_every_transition_is_taken_back(unit: str, before: str, wanted: str, site: Site) -> None:
    """From each state to each: planned as it comes, taken back exactly, done again, and by the script too."""
    populate(site.root)
    site.session.host.units.set_enabled(unit, before)
    as_before = site.tree()
    site.wants(Task(description="", changes=(SetUnit(unit=unit, enabled=wanted, active=True),)))  # type: ignore[arg-type]

    ended = site.apply()

    assert wanted == site.session.host.units.state(unit).enabled
    assert () == site.plan().steps
    assert f"one: start {unit}: offline: not run" in site.plan().coverage.reduced_by
    as_after = links(site.root)
    site.undo()
    assert as_before == site.tree()
    site.redo(ended.run)
    assert as_after == links(site.root)
    site.undo(ended.run)
    assert as_before == site.tree()


def test_the_script_puts_links_back(site: Site) -> None:
    """The undo script restores links that were there, times and all, and removes those that were not."""
    populate(site.root)
    site.session.host.units.set_enabled("both.service", "enabled")
    os.symlink("/usr/lib/systemd/system/web.service", site.path("/etc/systemd/system/by-hand.service"))
    as_before = site.tree()
    site.wants(SetUnit(unit="both.service", enabled="masked"), SetUnit(unit="once.service", enabled="enabled"))
    ended = site.apply()

    site.run_undo_script(ended.run)

    assert as_before == site.tree()
    site.run_undo_script(ended.run)
    assert as_before == site.tree()


def test_what_is_not_to_be_enabled_is_right_as_it_is(site: Site) -> None:
    """A unit without installation section is neither enabled nor disabled: that is no step."""
    populate(site.root)
    site.wants(SetUnit(unit="static.service", enabled="enabled"), SetUnit(unit="indirect.service", enabled="disabled"))

    assert () == site.plan().steps


def test_a_unit_that_an_earlier_step_writes_is_seen(site: Site) -> None:
    """A unit file of the same plan can be enabled; an unknown unit cannot, and says so when planned."""
    unit = WriteFile(path="/etc/systemd/system/new.service", content=Inline(b"[Install]\nWantedBy=x.target\n"))
    site.wants(unit, SetUnit(unit="new.service", enabled="enabled"))
    site.wants(SetUnit(unit="unknown.service", enabled="enabled"), name="two")

    plan = site.plan()

    assert [("disabled", "enabled")] == [
        (step.before[0].object.enabled, step.after[0].object.enabled)  # type: ignore[union-attr]
        for step in plan.steps
        if isinstance(step.change, SetUnit)
    ]
    assert "there is no unit unknown.service" == plan.components["two"].detail
    before = site.tree()
    site.components.pop("two")
    site.dependencies.pop("two")
    site.apply()
    assert {"x.target.wants/new.service": "new.service"} == links(site.root)
    site.undo()
    assert before == site.tree()


def test_units_that_are_enabled_together_are_planned_together(site: Site) -> None:
    """What one unit takes along is enabled by that step already; disabling it later in the plan is a step again."""
    populate(site.root)
    before = site.tree()
    site.wants(
        SetUnit(unit="both.service", enabled="enabled"),
        SetUnit(unit="both.socket", enabled="enabled"),
        SetUnit(unit="web.service", enabled="disabled"),
    )

    ended = site.apply()

    assert ["both.service", "web.service"] == [step.change.unit for step in ended.plan.steps]  # type: ignore[union-attr]
    assert "disabled" == site.session.host.units.state("web.service").enabled
    site.undo()
    assert before == site.tree()


def test_its_own_file_is_not_masked(site: Site) -> None:
    """A unit whose file is where the mask would be cannot be masked; that is said when it is planned."""
    own = site.path("/etc/systemd/system/own.service")
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\n")
    site.wants(SetUnit(unit="own.service", enabled="masked"))

    assert "cannot be masked" in site.plan().components["one"].detail


def test_states_of_all_sorts(tmp_path: Path) -> None:
    """Aliases, linked units, runtime masks and scripts are told apart."""
    populate(tmp_path)
    system = tmp_path / "etc/systemd/system"
    (system / "www.service").symlink_to("/usr/lib/systemd/system/web.service")
    (system / "linked.service").symlink_to("/opt/linked.service")
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/linked.service").write_text("[Install]\nWantedBy=x.target\n")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "run/systemd/system/once.service").symlink_to("/dev/null")
    (tmp_path / "etc/init.d").mkdir()
    (tmp_path / "etc/init.d/old").write_text("#!/bin/sh\n")
    (tmp_path / "etc/rc3.d").mkdir()
    (tmp_path / "etc/rc3.d/S01old").symlink_to("../init.d/old")

    with RealHost(str(tmp_path)) as host:
        names = ("www.service", "web.service", "linked.service", "once.service", "old.service", "none.service")
        assert ["alias", "enabled", "linked", "masked-runtime", "enabled", ""] == [
            unitfiles.state(host, name) for name in names
        ]
