"""The tool under itself: runs that upgrade aquiline, a component's package or Python, and their undo (D16)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.bed.host import BedHost
from tests.bed.repository import AptRepository, Deb, Repacked, aquiline_deb
from tests.packages.hosts import aquiline, changed, give, profile, wait_for

OLD, NEW, BROKEN = "1.0~a", "1.0~b", "1.0~c"
#: Stops in the middle of the configuration of this version, where it is asked to.
PAUSE = "#!/bin/sh\nif [ -e /run/pause ]; then touch /run/in-the-middle; sleep 60; fi\n"
#: Takes the code of aquiline and the library of Python away, until another version comes.
TAKEN = "/usr/lib/python3/dist-packages/aquiline /usr/lib/python3.11"
BREAKING = f"#!/bin/sh\nfor one in {TAKEN}; do mv $one $one.taken; done\n"
MENDING = f"#!/bin/sh\nfor one in {TAKEN}; do if [ -d $one.taken ]; then mv $one.taken $one; fi; done\n"


@pytest.fixture
def host(apt_host: AptRepository) -> BedHost:
    """A host whose aquiline came as a package, with a newer one and one that destroys itself to be had."""
    old, new, broken = (aquiline_deb(version) for version in (OLD, NEW, BROKEN))
    old, new = (replace(one, scripts={"postinst": PAUSE}) for one in (old, new))
    apt_host.add(
        old, new, replace(broken, scripts={"postinst": BREAKING, "prerm": MENDING}), Deb("daemon", "1").with_service()
    )
    apt_host.host.run(["apt-get", "install", "-yq", f"aquiline={OLD}"])
    aquiline(apt_host.host, "apply", give(apt_host.host, {}))  # makes the journal, and compiles what python keeps
    return apt_host.host


def wanted(version: str = NEW, **components: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile with aquiline in this version, and components that come after its packages."""
    tree = profile({"aquiline": version, **({"daemon": None} if "systemd" in components else {})})
    after = {"dispatch": True, "active": True, "dependencies": {"pre": ["spma"]}}
    tree["software"]["components"] |= {name: {**after, **one} for name, one in components.items()}
    return tree


UNIT = {"unit": {"daemon": {"state": "disabled"}}}


def version(host: BedHost) -> str:
    return aquiline(host, "--version").stdout.split()[-1]


def test_a_run_upgrades_the_program_that_makes_it(host: BedHost) -> None:
    """The plan says so; the run ends with that stage and says what it leaves; the new one goes on, and undoes all."""
    before = host.snapshot()
    path = give(host, wanted(systemd=UNIT))
    planned = json.loads(aquiline(host, "plan", "--json", path).stdout)
    shown = aquiline(host, "plan", path).stdout

    done = aquiline(host, "apply", path, check=False)

    assert ["package aquiline"] == planned["itself"]
    line = "changes aquiline itself (package aquiline): the run ends with this stage and leaves systemd to the next one"
    assert line in shown
    assert 3 == done.returncode, done.stdout + done.stderr
    assert "it leaves:\n  systemd\n" in done.stdout
    assert NEW == version(host)
    assert "active" == host.run(["systemctl", "is-active", "daemon"]).stdout.strip()

    aquiline(host, "apply", path)
    assert "inactive" == host.run(["systemctl", "is-active", "daemon"], check=False).stdout.strip()
    dry = aquiline(host, "undo", "--last", "2", "--dry-run").stdout
    assert "changes aquiline itself (package aquiline): the run ends with this stage" in dry
    aquiline(host, "undo", "--last", "2")
    assert OLD == version(host)
    assert [] == changed(before, host.snapshot())


#: What Python is made of: changed together, for each needs the others in its own version.
PYTHON = ("python3.11", "python3.11-minimal", "libpython3.11-stdlib", "libpython3.11-minimal")
#: What is another in the newer one: the interpreter, which does not mind what is behind its end, and the library.
REBUILT = {
    "python3.11-minimal": {"/usr/bin/python3.11": b"rebuilt"},
    "libpython3.11-minimal": {"/usr/lib/python3.11/os.py": b"# rebuilt\n"},
}


def test_a_run_upgrades_python(host: BedHost, apt_host: AptRepository) -> None:
    """By apt, as security updates do: the run keeps its word and ends with that stage; undo brings the old one back."""
    old = host.snapshot().packages["python3.11-minimal"].version
    new = f"{old}+bed1"
    for version, added in ((old, {}), (new, REBUILT)):
        apt_host.add(*(Repacked(host.root, name, version, old, added.get(name, {})) for name in PYTHON))
    before = host.snapshot()
    tree = wanted(OLD, systemd=UNIT)
    tree["software"]["packages"] |= profile(dict.fromkeys(PYTHON, new))["software"]["packages"]
    path = give(host, tree)
    planned = json.loads(aquiline(host, "plan", "--json", path).stdout)

    done = aquiline(host, "apply", path, check=False)

    assert [f"package {name}" for name in sorted(PYTHON[1:])] == planned["itself"]
    assert 3 == done.returncode, done.stdout + done.stderr
    assert "it leaves:\n  systemd\n" in done.stdout
    versions = {name.partition(":")[0]: one.version for name, one in host.snapshot().packages.items()}
    assert [new] * 4 == [versions[name] for name in PYTHON]
    assert (host.root / "usr/bin/python3.11").read_bytes().endswith(b"rebuilt")
    aquiline(host, "apply", path)
    assert "inactive" == host.run(["systemctl", "is-active", "daemon"], check=False).stdout.strip()

    aquiline(host, "undo", "--last", "2")

    assert [] == changed(before, host.snapshot())


def failing() -> dict[str, Any]:
    """Return what fails after the packages were changed: a file whose restart does not go well."""
    tree = wanted(BROKEN)
    file = {"config": "x\n", "restart": "/usr/bin/test ! -e /etc/later"}
    tree["software"]["components"]["filecopy"] = {"services": {"_2fetc_2flater": file}}
    return tree


def test_a_run_goes_on_without_its_code(host: BedHost) -> None:
    """With aquiline and Python's library gone, a run comes to its end, and takes itself back when a step fails."""
    before = host.snapshot()

    done = aquiline(host, "apply", give(host, failing()), "--on-failure", "undo", check=False)

    assert 16 == done.returncode, done.stdout + done.stderr
    assert OLD == version(host)
    assert [] == changed(before, host.snapshot())


def test_what_broke_the_tool_is_taken_back_at_the_deadline(host: BedHost) -> None:
    """The new aquiline cannot even start, so nobody can confirm: the old one, still in memory, takes it back."""
    before = host.snapshot()

    done = aquiline(host, "apply", give(host, wanted(BROKEN)), "--confirm-within", "3s", check=False)

    assert 18 == done.returncode, done.stdout + done.stderr
    assert 0 != aquiline(host, "confirm", check=False).returncode
    host.run(["sh", "-c", "until grep -q 'in time: taken back' /var/lib/aquiline/deadline.log; do sleep 0.1; done"])
    assert OLD == version(host)
    assert [] == changed(before, host.snapshot())


def test_with_no_tool_left_the_script_is_the_way_back(host: BedHost) -> None:
    """After an upgrade that destroyed aquiline and Python, a shell brings the old ones back."""
    before = host.snapshot()
    run = json.loads(aquiline(host, "apply", "--json", give(host, wanted(BROKEN))).stdout)["run"]
    assert 0 != aquiline(host, "undo", check=False).returncode

    host.run(["sh", f"/var/lib/aquiline/undo/{run}.sh"])

    assert OLD == version(host)
    assert [] == changed(before, host.snapshot())


@pytest.mark.parametrize(
    ("way", "direction", "death"),
    [
        ("there", "--finish", "power"),
        ("there", "--undo", "kill"),
        ("back", "--finish", "kill"),
        ("back", "--undo", "power"),
    ],
)
def test_recovered_by_the_other_version(way: str, direction: str, death: str, host: BedHost) -> None:
    """Killed in the middle of its own upgrade, or of the undo of that: the version that is there by then recovers."""
    before = host.snapshot()
    path = give(host, wanted())
    if way == "back":
        aquiline(host, "apply", path)
    upgraded = host.snapshot()
    host.run(["touch", "/run/pause"])
    running = host.start(["aquiline", *(["apply", path] if way == "there" else ["undo"])])
    wait_for(host, "/run/in-the-middle")
    if death == "kill":
        running.kill()
    else:
        host.kill()
        host.boot()
    host.run(["rm", "-f", "/run/pause"])

    assert (NEW if way == "there" else OLD) == version(host)
    aquiline(host, "recover", direction)

    if (way == "there") == (direction == "--finish"):
        assert NEW == version(host)
        assert way == "there" or changed(upgraded, host.snapshot()) == []
        runs = json.loads(aquiline(host, "log", "--json").stdout)
        aquiline(host, "undo", next(one["id"] for one in runs if one["kind"] == "apply"))
    assert OLD == version(host)
    assert [] == changed(before, host.snapshot())


def test_a_run_outlives_the_service_that_started_it(host: BedHost, apt_host: AptRepository) -> None:
    """A package that restarts the service in which the run was started does not end the run."""
    restart = "#!/bin/sh\nsystemctl restart starter\nsleep 1\n"
    apt_host.add(Deb("starter", "2", scripts={"postinst": restart}), Deb("other", "1", fields={"Depends": "starter"}))
    path = give(host, profile({"starter": "2", "other": "1"}))
    script = f"#!/bin/sh\nif [ ! -e /run/once ]; then touch /run/once; aquiline apply {path} & fi\nsleep infinity\n"
    (host.root / "root/starter").write_text(script)
    (host.root / "etc/systemd/system/starter.service").write_text("[Service]\nExecStart=/bin/sh /root/starter\n")
    host.run(["systemctl", "daemon-reload"])

    host.run(["systemctl", "start", "starter"])

    host.run(["sh", "-c", f"until aquiline plan --exit-code {path}; do sleep 0.2; done"], timeout=60)
    # packages that are there are not yet the end of the run
    host.run(["sh", "-c", "until aquiline recover --dry-run; do sleep 0.2; done"], timeout=60)
    assert [] == [one for one in json.loads(aquiline(host, "log", "--json").stdout) if one["status"] != "done"]
    assert "install ok installed" == host.snapshot().packages["other"].state
    assert 1 == len(json.loads(aquiline(host, "log", "--json").stdout)) - 1


def test_the_packages_of_all_that_it_is_made_of(host: BedHost, apt_host: AptRepository) -> None:
    """Those of Python, its library, aquiline and a further component are known as its own; others are not."""
    module = "from aquiline.components.filecopy import FileCopy\n\n\nclass Site(FileCopy):\n    name = 'site'\n"
    info = "/usr/lib/python3/dist-packages/site_components-1.dist-info"
    files = {
        "/usr/lib/python3/dist-packages/site_components/__init__.py": module,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: site-components\nVersion: 1\n",
        f"{info}/entry_points.txt": "[aquiline.components]\nsite = site_components:Site\n",
    }
    apt_host.add(Deb("site-components", "1", files=files), Deb("site-components", "2", files=files))
    host.run(["apt-get", "install", "-yq", "site-components=1", "daemon"])
    text = (
        "from aquiline.agent.itself import itself\nfrom aquiline.agent.session import Session\n"
        "print(*Session().host.packages.owners(itself(with_components=True).files))\n"
    )
    (host.root / "root/own.py").write_text(text)

    planned = json.loads(
        aquiline(host, "plan", "--json", give(host, profile({"site-components": "2", "daemon": None}))).stdout
    )

    assert ["package site-components"] == planned["itself"]
    owners = host.run(["python3", "-B", "/root/own.py"]).stdout.split()
    python = ["libpython3.11-minimal", "libpython3.11-stdlib", "python3-minimal", "python3.11-minimal"]
    assert ["aquiline", *python, "site-components"] == owners
