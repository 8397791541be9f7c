"""The bed itself: hosts are real, alone, come back from a power cut, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bed.base import Missing
from tests.bed.host import Bed, BedHost, CommandFailed
from tests.bed.repository import FAILING, PROMPTING, AptRepository, Deb, DnfRepository, Rpm, aquiline_deb
from tests.bed.slot import hierarchies
from tests.bed.snapshot import diff
from tests.conftest import cannot_have_hosts


def said(differences: object) -> list[str]:
    assert isinstance(differences, tuple)
    return [str(one) for one in differences if one.what != "mtime_ns"]


def test_three_hosts_reach_each_other(bed: Bed) -> None:
    """Hosts booted at once have names and addresses of their own, and reach each other and the machine."""
    hosts = [bed.host(f"web0{number}") for number in range(3)]
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(BedHost.boot, hosts))

    assert ["running"] * 3 == states
    assert [host.name for host in hosts] == [host.run(["hostname"]).stdout.strip() for host in hosts]
    for host in hosts:
        for address in [bed.slot.address, *(other.address for other in hosts)]:
            host.run(["ping", "-c", "1", "-W", "2", address])


class TestBooted:
    def test_a_unit_stops_and_starts(self, bed_host: BedHost) -> None:
        """Units are real: they stop, start, and the snapshot tells."""
        before = bed_host.snapshot()

        bed_host.run(["systemctl", "stop", "cron"])
        stopped = bed_host.snapshot()
        bed_host.run(["systemctl", "start", "cron"])

        assert ["units: cron.service: active: 'active (running)' → ''"] == said(diff(before, stopped))
        assert [] == said(diff(before, bed_host.snapshot()))

    def test_files_outlive_a_power_cut(self, bed_host: BedHost) -> None:
        """After the power was cut, in the middle of a command, the host boots again with the files it had."""
        (bed_host.root / "etc/outside").write_text("from outside")
        running = bed_host.start(["sh", "-c", "echo kept > /etc/inside; sync; exec sleep 1000"])
        bed_host.run(["sh", "-c", "until [ -s /etc/inside ]; do sleep 0.01; done"])

        bed_host.kill()
        assert running.popen.wait(5) != 0
        assert not bed_host.booted

        assert "running" == bed_host.boot()
        assert "kept\nfrom outside" == bed_host.run(["cat", "/etc/inside", "/etc/outside"]).stdout

    def test_it_halts_and_reboots(self, bed_host: BedHost) -> None:
        """A host reboots into another boot, halts, and boots again."""
        started = ["systemctl", "show", "--value", "-p", "UserspaceTimestampMonotonic"]
        boots = [bed_host.run(started).stdout]

        assert "running" == bed_host.reboot()
        boots.append(bed_host.run(started).stdout)
        bed_host.halt()
        assert not bed_host.booted
        assert "running" == bed_host.boot()
        boots.append(bed_host.run(started).stdout)

        assert 3 == len(set(boots))

    def test_aquiline_runs_inside(self, bed_host: BedHost) -> None:
        """This checkout's aquiline runs with the host's own python3, its components found."""
        bed_host.install_aquiline()
        bed_host.run(["sh", "-c", "cat > /root/profile.json"], stdin='{"software": {"components": {}}}')
        before = bed_host.snapshot()

        done = bed_host.run(["aquiline", "plan", "/root/profile.json"])

        assert "nothing to do" in done.stdout.lower()
        assert () == diff(before, bed_host.snapshot())


def test_one_that_is_not_booted_runs_commands(bed_host_unbooted: BedHost) -> None:
    """A host without systemd runs commands under its own name, gives them input, and says what failed."""
    assert "host\ninput" == bed_host_unbooted.run(["sh", "-c", "hostname; cat"], stdin="input").stdout
    with pytest.raises(CommandFailed, match="exit 3\nout\nerr"):
        bed_host_unbooted.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    with pytest.raises(subprocess.TimeoutExpired):
        bed_host_unbooted.run(["sleep", "1000"], timeout=0.1)


def test_nothing_of_ours_gets_in(bed_host_unbooted: BedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a host sees its environment, not the tests'."""
    monkeypatch.setenv("LEAKED", "yes")

    assert "" == bed_host_unbooted.run(["sh", "-c", 'echo -n "$LEAKED"']).stdout


def test_snapshots_tell_every_kind_of_change(bed_host_unbooted: BedHost) -> None:
    """Nothing done: equal. Else each thing that differs is one line, and all goes when it is taken back."""
    host = bed_host_unbooted
    before = host.snapshot()
    assert () == diff(before, host.snapshot())

    host.run(["sh", "-euc", "chmod 600 /etc/issue; setfattr -n user.x -v y /etc/issue; ln /etc/motd /etc/also"])
    host.run(["useradd", "--no-create-home", "sue"])
    host.run(["systemctl", "mask", "cron"], environment={"SYSTEMD_OFFLINE": "1"})
    differences = diff(before, host.snapshot())

    shown = said(differences)
    assert "tree: /etc/issue: mode: 420 → 384" in shown
    assert "tree: /etc/issue: xattrs: () → (('user.x', b'y'),)" in shown
    assert "tree: /etc/motd: names: () → ('/etc/also', '/etc/motd')" in shown
    assert "units: cron.service: enabled: 'enabled' → 'masked'" in shown
    assert "accounts: passwd:sue: came" in shown


class TestApt:
    def test_versions_come_and_go(self, apt_host: AptRepository) -> None:
        """Own packages come, change version and go without network; the snapshot has versions, marks and conffiles."""
        conf = {"files": {"/etc/tool.conf": "one\n"}, "conffiles": ("/etc/tool.conf",)}
        apt_host.add(
            Deb("lib", "1.0"),
            Deb("tool", "1.0", fields={"Depends": "lib"}, **conf),  # type: ignore[arg-type]
            Deb("tool", "2.0", fields={"Depends": "lib"}),
        )
        before = apt_host.host.snapshot()

        apt_host.host.run(["apt-get", "install", "-yq", "tool=1.0"])
        packages = apt_host.host.snapshot().packages
        assert ("1.0", False, 1) == (
            packages["tool"].version,
            packages["tool"].automatic,
            len(packages["tool"].conffiles),
        )
        assert packages["lib"].automatic

        apt_host.host.run(["apt-get", "install", "-yq", "tool=2.0"])
        apt_host.host.run(["apt-get", "install", "-yq", "--allow-downgrades", "tool=1.0"])
        apt_host.host.run(["apt-mark", "hold", "tool"])
        assert "hold ok installed" == apt_host.host.snapshot().packages["tool"].state
        apt_host.host.run(["apt-get", "purge", "-yq", "--allow-change-held-packages", "tool", "lib"])
        assert [] == said(diff(before, apt_host.host.snapshot()))

    def test_hard_cases_can_be_made(self, apt_host: AptRepository) -> None:
        """A postinst that fails, one that asks, a service, and an older version that removes another package."""
        host = apt_host.host
        apt_host.add(
            Deb("fails", "1", scripts={"postinst": FAILING}),
            Deb("asks", "1", scripts={"postinst": PROMPTING}),
            Deb("serves", "1").with_service(),
            Deb("friend", "1"),
            Deb("moody", "1", fields={"Conflicts": "friend"}),
            Deb("moody", "2"),
        )

        assert 100 == host.run(["apt-get", "install", "-yq", "fails"], check=False).returncode
        assert "install ok half-configured" == host.snapshot().packages["fails"].state
        host.run(["dpkg", "--purge", "fails"])
        assert 100 == host.run(["apt-get", "install", "-yq", "asks"], check=False).returncode
        host.run(["dpkg", "--configure", "asks"], stdin="yes\n")
        host.run(["apt-get", "install", "-yq", "serves", "friend", "moody"])
        assert ("enabled", "active (running)") == (
            host.snapshot().units["serves.service"].enabled,
            host.snapshot().units["serves.service"].active,
        )
        host.run(["apt-get", "install", "-yq", "--allow-downgrades", "moody=1"])
        assert "friend" not in host.snapshot().packages

    def test_aquiline_is_a_package(self, apt_host: AptRepository) -> None:
        """This checkout's aquiline can be installed and upgraded as a package, in any version."""
        apt_host.add(aquiline_deb("1.0~old"), aquiline_deb("1.0~new1"))
        said_versions = []
        for version in ("1.0~old", "1.0~new1"):
            apt_host.host.run(["apt-get", "install", "-yq", "--allow-downgrades", f"aquiline={version}"])
            said_versions.append(apt_host.host.run(["aquiline", "--version"]).stdout)

        assert ["aquiline 1.0~old\n", "aquiline 1.0~new1\n"] == said_versions

    def test_a_version_can_be_withdrawn(self, apt_host: AptRepository) -> None:
        """What the mirror no longer has cannot be installed."""
        apt_host.add(Deb("tool", "1.0"), Deb("tool", "2.0"))

        apt_host.withdraw("tool", "1.0")

        assert 100 == apt_host.host.run(["apt-get", "install", "-yq", "tool=1.0"], check=False).returncode
        apt_host.host.run(["apt-get", "install", "-yq", "tool=2.0"])


class TestDnf:
    def test_versions_come_and_go(self, dnf_host: DnfRepository) -> None:
        """Own packages come, change version and go without network; the snapshot has versions, marks and conffiles."""
        host = dnf_host.host
        conf = {"files": {"/etc/tool.conf": "100%\n"}, "conffiles": ("/etc/tool.conf",)}
        dnf_host.add(
            Rpm("lib", "1.0"),
            Rpm("tool", "1.0", tags={"Requires": "lib"}, **conf),  # type: ignore[arg-type]
            Rpm("tool", "2.0", tags={"Requires": "lib"}),
        )
        before = host.snapshot()

        host.run(["dnf", "-y", "install", "tool-1.0"])
        packages = host.snapshot().packages
        assert ("1.0-1", False, 1) == (
            packages["tool.noarch"].version,
            packages["tool.noarch"].automatic,
            len(packages["tool.noarch"].conffiles),
        )
        assert packages["lib.noarch"].automatic
        assert "100%\n" == host.run(["cat", "/etc/tool.conf"]).stdout

        host.run(["dnf", "-y", "upgrade", "tool"])
        host.run(["dnf", "-y", "downgrade", "tool"])
        assert "1.0-1" == host.snapshot().packages["tool.noarch"].version
        host.run(["dnf", "-y", "remove", "tool"])
        assert [] == said(diff(before, host.snapshot()))

    def test_a_script_fails_and_dnf_says_complete(self, dnf_host: DnfRepository) -> None:
        """The trap is real: %post fails, dnf exits with 0."""
        dnf_host.add(Rpm("fails", "1", scripts={"post": "exit 1"}))

        done = dnf_host.host.run(["dnf", "-y", "install", "fails"])

        assert "Complete!" in done.stdout
        assert "scriptlet failed" in done.stdout + done.stderr


def traces(name: str) -> list[str]:
    """Return all that is named after a slot on this machine."""
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    return [
        *(str(path) for path in Path("/run/netns").glob(f"{name}-*")),
        *(str(hierarchy / name) for hierarchy in hierarchies() if (hierarchy / name).exists()),
        *(line for line in links.splitlines() if f" {name}:" in line or f" {name}-" in line),
        *(line for line in Path("/proc/mounts").read_text().splitlines() if f"/{name}/" in line),
        *(str(path) for path in Path("/proc").glob("[0-9]*") if f"/{name}/" in command_line(path)),
    ]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_missing_capability_is_named(bed: Bed) -> None:
    """Where a machine cannot have hosts, the bed says which capability it lacks."""
    script = "from tests.bed.host import Bed; Bed()"
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script]

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])

    assert "Missing: namespaces (network, mount, process, …): unshare" in done.stderr


class TestNothingStays:
    @pytest.mark.slow
    def test_after_close(self) -> None:
        """A bed that is closed leaves no process, mount, network, cgroup or file, though a host was running."""
        try:
            made = Bed()
        except Missing as missing:
            cannot_have_hosts(missing)
        host = made.host()
        host.boot()
        assert [] != traces(made.slot.name)

        made.close()

        assert [] == traces(made.slot.name)
        assert not made.slot.directory.exists()

    @pytest.mark.slow
    def test_after_a_killed_run(self, bed: Bed) -> None:
        """What a killed test process left is swept away by the next one that wants hosts."""
        script = "from tests.bed.host import Bed; bed = Bed(); bed.host().boot(); print(bed.slot.name, flush=True)"
        command = [sys.executable, "-c", f"{script}; input()"]
        pipe, top = subprocess.PIPE, Path(__file__).parents[2]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=top) as process:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            process.kill()
        assert [] != traces(name)

        Bed().close()

        assert [] == traces(name)
