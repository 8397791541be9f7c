"""The components systemd and chkconfig."""

import re
from typing import Any

import pytest

from aquiline.changes.kinds import Inline, Remove, SetUnit, WriteFile
from aquiline.components.chkconfig import Chkconfig
from aquiline.components.systemd import FileConfiguration, Systemd, rendered
from aquiline.errors import ProfileError
from aquiline.host.protocol import Completed, UnitState
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.components import cases
from tests.components.driving import run

OFF = UnitState(exists=True, enabled="disabled", active="inactive")
ON = UnitState(exists=True, enabled="enabled", active="active")


def units(**states: UnitState) -> SimulatedHost:
    """A host that is up and has these services."""
    named = {f"{name}.service": state for name, state in states.items()}
    return SimulatedHost(units={"multi-user.target": ON, **named})


def planned(tree: dict[str, Any], host: SimulatedHost) -> list[SetUnit]:
    profile = Profile(tree={"software": {"components": tree}}, given_name="host.example.org")
    made = plan(profile, host, {"systemd": Systemd, "chkconfig": Chkconfig})
    return [step.change for step in made.steps if isinstance(step.change, SetUnit)]


PATHS = [*cases.paths("systemd"), *cases.paths("chkconfig")]
_VERBS = {"enable": "enabled", "on": "enabled", "disable": "disabled", "mask": "masked"}
#: Quattor's chkconfig first turns off what it will turn on.
_COMMAND = re.compile(r"\S*systemctl (enable|disable|mask) -- (\S+)|/sbin/chkconfig --level \d+ (\S+) (on)")


@pytest.mark.skipif(not cases.CASES.is_dir(), reason=f"the cases of the reference are not at {cases.CASES}")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_profile_enables_what_quattor_enables(path: Any) -> None:
    """For each case the same units change as by Quattor's commands, on a host that is not up: nothing is started."""
    case = cases.load(path)
    expected = set()
    for line in case.commands:
        found = _COMMAND.fullmatch(line)
        if found is not None:
            name = found[2] or f"{found[3]}.service"
            expected.add((name, _VERBS[found[1] or found[4]]))
    host = SimulatedHost(units={f"{name}.service": OFF for name in ("test_on", "othername", "test_off", "test_add")})

    changes = planned(case.profile["software"]["components"], host)

    assert expected == {(change.unit, change.enabled) for change in changes}
    assert {None} == {change.active for change in changes}


def test_units_are_brought_in_order() -> None:
    """Masked, then disabled, then enabled; what is right already is no step; starting and stopping go with it."""
    host = units(a=OFF, b=ON, c=ON, d=ON)

    changes = planned({"systemd": {"unit": {"a": {}, "b": {}, "c": {"state": "disabled", "startstop": False},
                                            "d": {"state": "masked"}}}}, host)  # fmt: skip

    assert [
        SetUnit(unit="d.service", enabled="masked", active=False),
        SetUnit(unit="c.service", enabled="disabled"),
        SetUnit(unit="a.service", enabled="enabled", active=True),
    ] == changes


def test_both_components_agree() -> None:
    """A unit that both have is the systemd component's; chkconfig does its own, once."""
    tree = {
        "systemd": {"unit": {"a": {"state": "masked"}}},
        "chkconfig": {"active": True, "service": {"a": {"on": ""}, "b": {"on": ""}}},
    }

    assert [("a.service", "masked"), ("b.service", "enabled")] == sorted(
        (change.unit, change.enabled) for change in planned(tree, units(a=OFF, b=OFF))
    )


def test_what_is_not_there_is_said() -> None:
    """A missing unit that should be on lowers coverage; what should be off is one line; static ones are one line."""
    host = units(fixed=UnitState(exists=True, enabled="static", active="active"))
    wanted = {"x": {}, "y": {"state": "masked"}, "z": {"state": "disabled"}, "fixed": {}}

    found = run(Systemd, {"unit": wanted}, host)

    assert [
        "x.service: there is no such unit here to be enabled",
        "not here, so there is nothing to turn off: y.service, z.service",
        "neither enabled nor disabled, their files say nothing about it: fixed.service",
    ] == found.notes


def test_combinations_that_contradict_are_refused() -> None:
    """What Quattor's schema forbids is an error with the path of the service."""
    with pytest.raises(ProfileError, match="found off and on, expected at most one of them"):
        run(Chkconfig, {"service": {"a": {"off": "", "on": ""}}}, units(a=OFF))


class TestFiles:
    def test_a_drop_in(self) -> None:
        """A drop-in stands beside what the package brings; a whole file of ours before it goes."""
        host = SimulatedHost.drawn("/etc/\n    systemd/\n        system/\n            a.service: old")
        unit = {"file": {"config": {"service": {"RemainAfterExit": True}}, "only": True}}

        found = run(Systemd, {"unit": {"a": unit}}, host)

        content = Inline(b"[Service]\nRemainAfterExit=yes\n")
        assert [
            Remove(path="/etc/systemd/system/a.service"),
            WriteFile(path="/etc/systemd/system/a.service.d/quattor.conf", content=content, mode=0o664),
        ] == found.changes

    def test_a_whole_file(self) -> None:
        """A file that says it all stands alone: drop-ins go."""
        host = SimulatedHost.drawn(
            "/etc/\n    systemd/\n        system/\n            a.service.d/\n                x.conf: old"
        )
        unit = {"file": {"config": {"service": {"Type": "oneshot"}}, "replace": True, "only": True}}

        found = run(Systemd, {"unit": {"a": unit}}, host)

        assert [
            "/etc/systemd/system/a.service.d/x.conf",
            "/etc/systemd/system/a.service.d",
            "/etc/systemd/system/a.service",
        ] == [change.path for change in found.changes if isinstance(change, Remove | WriteFile)]

    def test_processors_are_found_out(self) -> None:
        """CPUAffinity by place is asked of the host, and takes back what was said before."""
        host = SimulatedHost(commands={("hwloc-calc",): Completed(0, b"0,2,4\n", b"")})
        file = {"config": {"service": {"CPUAffinity": [[9]]}}, "custom": {"CPUAffinity": ["node:0"]}, "only": True}

        found = run(Systemd, {"unit": {"a": {"file": file}}}, host)

        (change,) = found.changes
        assert isinstance(change, WriteFile)
        assert Inline(b"[Service]\nCPUAffinity=\nCPUAffinity=0 2 4\n") == change.content

    def test_every_sort_of_value(self) -> None:
        """Lists are lines or words, conditions keys, limits infinite, as in Quattor's own test of its templates."""
        config = FileConfiguration(
            includes=("/unit/1",),
            unit={"Condition": {"PathExists": ["", "/path/C1"]}, "After": ["a", "b"], "Documentation": "man:x"},
            install={"WantedBy": ["1.service", "2.service"], "Alias": ["x.service", "y.service"]},
            mount={"Options": ["_netdev", "defaults"]},
            service={
                "CPUQuota": 150,
                "Environment": [{"VAR1-1": "val1-1 val1-1b", "VAR1-2": "val1-2"}],
                "ExecStartPre": ["/usr/bin/true", "-/bin/false"],
                "LimitNPROC": 100,
                "LimitSTACK": -1,
                "RuntimeDirectory": ["foo/bar", "tmp"],
                "TTYVHangup": False,
            },
        )

        assert [
            ".include /unit/1",
            "[Install]",
            "Alias=x.service y.service",
            "WantedBy=1.service",
            "WantedBy=2.service",
            "[Mount]",
            "Options=_netdev,defaults",
            "[Service]",
            "CPUQuota=150%",
            'Environment="VAR1-1=val1-1 val1-1b" "VAR1-2=val1-2" ',
            "ExecStartPre=/usr/bin/true",
            "ExecStartPre=-/bin/false",
            "LimitNPROC=100",
            "LimitSTACK=infinity",
            "RuntimeDirectory=foo/bar tmp",
            "TTYVHangup=no",
            "[Unit]",
            "After=a",
            "After=b",
            "ConditionPathExists=",
            "ConditionPathExists=/path/C1",
            "Documentation=man:x",
        ] == rendered(config, {}).splitlines()
