"""Death at many points of a transaction, on real hosts: each is recovered, both ways, exactly.

Where a script stands decides how far the package manager is: before anything is written down, unpacked and not
configured, the new version beside the old, all done but the marks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.bed.host import BedHost
from tests.bed.repository import AptRepository, Deb, DnfRepository, Rpm
from tests.bed.snapshot import HostSnapshot
from tests.packages.hosts import apply, aquiline, changed, give, profile, wait_for

#: Writes a file and says where it is; waits to be killed, or, where it runs again, goes on.
SLOW = "#!/bin/sh\necho {name} >> /etc/half\ntouch /run/in-the-middle\n[ -e /run/go-on ] || sleep 60\n"
OLD = Deb("slow", "1", files={"/etc/slow.conf": "one\n"}, conffiles=("/etc/slow.conf",))
#: The edge between old and new; a line that apt runs before dpkg is called at all.
HOOK = 'DPkg::Pre-Install-Pkgs {"/usr/local/bin/hook";};\n'


def killed(host: BedHost, death: str, wanted: Mapping[str, Any]) -> None:
    """Apply a profile and die in the middle of it: the run with all that it started, or the whole host."""
    running = host.start(["aquiline", "apply", give(host, wanted)])
    wait_for(host, "/run/in-the-middle", 60)
    if death == "kill":
        running.kill()
    else:
        host.kill()
        host.boot()
    host.run(["touch", "/run/go-on"])


def recovered(host: BedHost, before: HostSnapshot, direction: str, wanted: Mapping[str, Any]) -> None:
    """Recover; what was finished is what was wanted, and is taken back then; all is as before in the end."""
    assert 11 == apply(host, wanted, check=False).returncode
    aquiline(host, "recover", direction)
    if direction == "--finish":
        assert "nothing to do" in apply(host, wanted).stdout
        aquiline(host, "undo", "last")
    assert [] == changed(before, host.snapshot())


def both(point: str) -> list[Any]:
    """Every point dies once with its host and is finished, and once by itself and is taken back."""
    return [pytest.param(point, "power", "--finish"), pytest.param(point, "kill", "--undo")]


@pytest.mark.parametrize(
    ("point", "death", "direction"),
    [one for point in ("hook", "new preinst", "preinst", "prerm", "postinst", "old postrm") for one in both(point)],
)
def test_apt(apt_host: AptRepository, point: str, death: str, direction: str) -> None:
    """A hook of apt before dpkg did anything; scripts of a new package, and of both versions in an upgrade."""
    host = apt_host.host
    script = point.rsplit(maxsplit=1)[-1]
    slow = {script: SLOW.format(name=script)}
    new = replace(OLD, version="2", files={"/etc/slow.conf": "two\n"}, fields={"Depends": "lib"})
    old = replace(OLD, scripts=slow) if point in ("prerm", "old postrm") else OLD
    new = replace(new, scripts=slow) if point in ("new preinst", "preinst", "postinst") else new
    apt_host.add(Deb("lib", "1"), old, new)
    host.install_aquiline()
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    if point != "new preinst":
        apply(host, profile({"slow": "1"}))
        (host.root / "etc/slow.conf").write_text("edited\n")
    if point == "hook":
        (host.root / "etc/apt/apt.conf.d/hook").write_text(HOOK)
        (host.root / "usr/local/bin/hook").write_text(SLOW.format(name="hook"))
        (host.root / "usr/local/bin/hook").chmod(0o755)
    before = host.snapshot()
    wanted = profile({"slow": "2"})

    killed(host, death, wanted)

    recovered(host, before, direction, wanted)


@pytest.mark.parametrize(
    ("point", "death", "direction"),
    [one for point in ("pretrans", "pre", "preun", "postun", "posttrans") for one in both(point)],
)
def test_dnf(dnf_host: DnfRepository, point: str, death: str, direction: str) -> None:
    """Scripts before rpm's database changes, with both versions in it, and after it has changed."""
    host = dnf_host.host
    slow = {point: SLOW.format(name=point)}
    old = Rpm("slow", "1", files={"/etc/slow.conf": "one\n"}, conffiles=("/etc/slow.conf",))
    new = replace(old, version="2", files={"/etc/slow.conf": "two\n"}, tags={"Requires": "lib"})
    is_old = point in ("preun", "postun")
    dnf_host.add(
        Rpm("lib", "1"), replace(old, scripts=slow if is_old else {}), replace(new, scripts={} if is_old else slow)
    )
    host.install_aquiline()
    apply(host, profile({"slow": "1-1"}, packager="yumdnf"))
    (host.root / "etc/slow.conf").write_text("edited\n")
    before = host.snapshot()
    wanted = profile({"slow": "2-1"}, packager="yumdnf")

    killed(host, death, wanted)

    recovered(host, before, direction, wanted)


#: Says where it is and waits to be killed while there is /run/pause, which a boot takes away.
PAUSE = "#!/bin/sh\nif [ -e /run/pause ]; then touch /run/in-the-middle; sleep 60; fi\n"
#: What is killed, how, and which way it is recovered.
BACK_AND_FORTH = [
    ("undo", "power", "--finish"),
    ("undo", "kill", "--undo"),
    ("redo", "kill", "--finish"),
    ("redo", "power", "--undo"),
]


def back_and_forth(
    host: BedHost, versions: tuple[str, str], packager: str, act: str, death: str, direction: str
) -> None:
    """Upgrade a package; kill the undo of that, or the redo; recovered, it is done or had never been, exactly."""
    older, newer = (profile({"slow": version}, packager=packager) for version in versions)
    apply(host, older)
    (host.root / "etc/slow.conf").write_text("edited\n")
    before = host.snapshot()
    apply(host, newer)
    after = host.snapshot()
    if act == "redo":
        aquiline(host, "undo")
    host.run(["touch", "/run/pause"])

    running = host.start(["aquiline", act] if act == "undo" else ["aquiline", act, "last~1"])
    wait_for(host, "/run/in-the-middle", 60)
    if death == "kill":
        running.kill()
        host.run(["rm", "/run/pause"])
    else:
        host.kill()
        host.boot()
    aquiline(host, "recover", direction)

    is_older = (act == "undo") is (direction == "--finish")
    assert [] == changed(before if is_older else after, host.snapshot())


@pytest.mark.parametrize(("act", "death", "direction"), BACK_AND_FORTH)
def test_apt_back_and_forth(apt_host: AptRepository, act: str, death: str, direction: str) -> None:
    """An undo, and a redo, is recovered like a run."""
    new = replace(OLD, version="2", files={"/etc/slow.conf": "two\n"}, scripts={"postinst": PAUSE})
    apt_host.add(replace(OLD, scripts={"postinst": PAUSE}), new)
    apt_host.host.install_aquiline()
    (apt_host.host.root / "var/lib/aquiline").mkdir(mode=0o700)

    back_and_forth(apt_host.host, ("1", "2"), "apt", act, death, direction)


@pytest.mark.parametrize(("act", "death", "direction"), BACK_AND_FORTH)
def test_dnf_back_and_forth(dnf_host: DnfRepository, act: str, death: str, direction: str) -> None:
    """An undo, and a redo, is recovered like a run."""
    old = Rpm("slow", "1", files={"/etc/slow.conf": "one\n"}, conffiles=("/etc/slow.conf",), scripts={"post": PAUSE})
    dnf_host.add(old, replace(old, version="2", files={"/etc/slow.conf": "two\n"}))
    dnf_host.host.install_aquiline()

    back_and_forth(dnf_host.host, ("1-1", "2-1"), "yumdnf", act, death, direction)
