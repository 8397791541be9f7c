"""What a plan says of packages, on a simulated host."""

from __future__ import annotations

from collections.abc import Mapping

from aquiline.changes.kinds import Change, Inline, SetPackages, WriteFile
from aquiline.changes.steps import Plan
from aquiline.execution.policy import Policy
from aquiline.host.simulated import Offered, SimulatedHost
from aquiline.planning.known import Known
from aquiline.planning.planner import plan
from aquiline.profile import Profile
from tests.engine.site import component

CONF = "/etc/nginx/nginx.conf"
OFFERED = {
    "nginx": [Offered("1.22", needs=("lib",), files=((CONF, b"delivered\n"),), conffiles=(CONF,))],
    "lib": [Offered("1.0")],
    "postgresql-15": [Offered("15.1"), Offered("15.2")],
    "libc6": [Offered("2.36"), Offered("2.37")],
}


def planned(installed: Mapping[str, str], policy: Policy, **yields: Change) -> Plan:
    """Return the plan for a host with `installed`; each component depends on the ones before it."""
    host = SimulatedHost.drawn("/etc/", packages=installed, offered=OFFERED)
    registry = {name: component(name, (change,)) for name, change in yields.items()}
    names = list(yields)
    sections = {
        name: {"active": True, "dispatch": True, "dependencies": {"pre": names[:position]}}
        for position, name in enumerate(names)
    }
    known = Known(never_downgraded=policy.is_never_downgraded, why_not_downgraded=policy.why_not_downgraded)
    profile = Profile(tree={"software": {"components": sections}}, given_name="host.example.org")
    return plan(profile, host, registry, known)


def test_the_exact_set_is_in_the_plan() -> None:
    """Dependencies are in the description and in what stands before and after; undo takes exactly that back."""
    found = planned({}, Policy(), packages=SetPackages(install=(("nginx", ""),)))

    (step,) = found.steps
    assert "install lib 1.0 (automatic), nginx 1.22" == step.description
    assert ["package:lib", "package:nginx"] == [at.path for at in step.after]
    assert (SetPackages(leaves=step.before),) == step.undo.changes


def test_what_is_right_is_no_step() -> None:
    """Packages that are there in the wanted version are left alone."""
    wanted = SetPackages(install=(("nginx", "1.22"), ("lib", "")), remove=("postgresql-15",))

    assert () == planned({"lib": "1.0", "nginx": "1.22"}, Policy(), packages=wanted).steps


def test_a_pending_package_is_removed() -> None:
    """What is not there yet and is to go again is a step; so is what is to go and comes again. Dependencies stay."""
    nginx = {"install": SetPackages(install=(("nginx", ""),)), "remove": SetPackages(remove=("nginx",))}

    there_and_gone = planned({}, Policy(), a=nginx["install"], b=nginx["remove"])
    gone_and_there = planned({"nginx": "1.22", "lib": "1.0"}, Policy(), a=nginx["remove"], b=nginx["install"])

    assert ["install lib 1.0 (automatic), nginx 1.22", "remove nginx 1.22"] == [
        step.description for step in there_and_gone.steps
    ]
    assert ["remove nginx 1.22 (its configuration stays)", "install nginx 1.22"] == [
        step.description for step in gone_and_there.steps
    ]


def test_a_file_that_a_pending_package_brings() -> None:
    """A component that writes to it waits for the next stage; one that writes elsewhere does not."""
    elsewhere = WriteFile(path="/etc/elsewhere", content=Inline(b""))
    found = planned(
        {},
        Policy(),
        packages=SetPackages(install=(("nginx", ""),)),
        other=elsewhere,
        web=WriteFile(path=CONF, content=Inline(b"ours\n")),
    )

    assert ["planned", "planned", "deferred"] == [found.components[name].state for name in ("packages", "other", "web")]


def test_a_database_cannot_be_taken_back() -> None:
    """Upgrading a database is irreversible, and the plan says why."""
    found = planned({"postgresql-15": "15.1"}, Policy(), packages=SetPackages(install=(("postgresql-15", "15.2"),)))

    (step,) = found.steps
    assert "irreversible" == step.undo.class_
    assert "postgresql-15 is not downgraded: its data cannot be read by an older version" == step.undo.reason


def test_never_downgrade() -> None:
    """What policy never downgrades is not downgraded by a profile, and its upgrade has no undo."""
    policy = Policy(never_downgrade=("libc*",))

    down = planned({"libc6": "2.37"}, policy, packages=SetPackages(install=(("libc6", "2.36"),)))
    up = planned({"libc6": "2.36"}, policy, packages=SetPackages(install=(("libc6", "2.37"),)))

    assert "this host's policy forbids to downgrade libc6: 2.37 to 2.36" in down.components["packages"].detail
    assert "libc6 is not downgraded: it is in never_downgrade" == up.steps[0].undo.reason


def test_a_version_that_is_lost() -> None:
    """Where undo would need a version that nobody has, the step is irreversible and names it."""
    found = planned({"lib": "0.9"}, Policy(), packages=SetPackages(install=(("lib", "1.0"),)))

    assert "can be had nowhere any more: lib 0.9" == found.steps[0].undo.reason
