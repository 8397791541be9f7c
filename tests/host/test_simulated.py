"""What a simulated host does beyond what every host does."""

from __future__ import annotations

import textwrap

import pytest

from aquiline.errors import HostError, NotPossibleHere
from aquiline.host import SimulatedHost
from aquiline.host.objects import ABSENT, Metadata, Package, RegularFile, Special, sha256
from aquiline.host.protocol import Command, Completed, UnitState
from tests.host.conformance import write

DRAWING = textwrap.dedent(r"""
    /etc/
        empty:
        group: root:x:0:\nbob:x:1000:\n
        hosts: 127.0.0.1 localhost\n
        ini: [section]\nkey = [value\x5d
        null% character 1:3 [0666]
        passwd: root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n
        private/ [0700 bob:root]
            with\x20blank: \x20x\xff [0600 12:bob user.note=a\x20b]
        same = /etc/hosts
        socket=
        pipe|
    /run -> var/run
""").strip()


def test_a_drawing_comes_back() -> None:
    """What was drawn is drawn again, sorted by name."""
    host = SimulatedHost.drawn(DRAWING)

    assert sorted(DRAWING.splitlines()) == sorted(host.draw().splitlines())
    assert host.draw() == SimulatedHost.drawn(host.draw()).draw()


def test_a_drawing_says_all_of_an_object() -> None:
    """Content, mode, owner, time, attributes, links and device numbers are as drawn."""
    host = SimulatedHost.drawn(DRAWING)
    blank = host.observe("/etc/private/with blank")

    assert Metadata(0o600, 12, 1000, 10**18, (("user.note", b"a b"),)) == getattr(blank, "metadata", None)
    assert b" x\xff" == host.read("/etc/private/with blank")
    assert ("[section]\nkey = [value]", "") == (host.text("/etc/ini"), host.text("/etc/empty"))
    assert Special(Metadata(0o666, 0, 0, 10**18), "character-device", 0x103) == host.observe("/etc/null")
    assert RegularFile(Metadata(0o644, 0, 0, 10**18), 20, sha256(b"127.0.0.1 localhost\n"), 2) == host.observe(
        "/etc/same"
    )


def test_times_are_drawn_where_asked() -> None:
    """A time can be drawn, and is shown when the drawing is to hold times."""
    host = SimulatedHost.drawn("/motd: x [@5]")

    assert ("/motd: x", "/motd: x [@5]") == (host.draw(), host.draw(times=True))


def test_parents_need_not_be_drawn() -> None:
    """A first line may be anywhere: the directories that it lacks are made."""
    assert "/etc/\n    cron.d/\n        job: x" == SimulatedHost.drawn("/etc/cron.d/job: x").draw()


@pytest.mark.parametrize("line", ["motd: x", "/motd", "/motd: x\n    below: y", "/motd: x [rubbish]", "/a/\n  b: x"])
def test_a_drawing_that_makes_no_sense(line: str) -> None:
    """A line that is no object is an error."""
    with pytest.raises(ValueError, match=r"not|neither|unknown"):
        SimulatedHost.drawn(line)


def test_the_clock_is_the_same_every_time() -> None:
    """The same changes give the same times."""
    hosts = [SimulatedHost(), SimulatedHost()]
    for host in hosts:
        write(host, "/a", b"x")
        host.link("/b", "/a", "test")

    assert hosts[0].draw(times=True) == hosts[1].draw(times=True)


def test_commands_do_what_the_test_says() -> None:
    """A command is found by its argv or its program, may change the host, and is remembered."""

    def touch(host: SimulatedHost, command: Command) -> Completed:
        host.add(f"{command.argv[1]}: touched")
        return Completed(0, b"", b"")

    done = Completed(3, b"out", b"err")
    host = SimulatedHost(commands={("touch",): touch, ("status", "now"): done})

    assert done == host.run(Command(("status", "now")))
    assert 0 == host.run(Command(("touch", "/a"))).status
    assert ("touched", 2) == (host.text("/a"), len(host.ran))
    with pytest.raises(NotPossibleHere):
        host.run(Command(("status", "later")))


def test_units_do_what_they_are_told() -> None:
    """Units start, stop and react; what systemd would refuse is refused."""
    host = SimulatedHost(units={"a.service": UnitState(exists=True, enabled="disabled", active="inactive")})

    for refused in ("reload", "restart"):
        with pytest.raises(HostError):
            host.units.react("missing.service" if refused == "restart" else "a.service", refused)
    host.units.react("a.service", "restart")
    host.units.set_enabled("a.service", "enabled")

    assert UnitState(exists=True, enabled="enabled", active="active") == host.units.state("a.service")
    assert [("a.service", "restart")] == host.units.reactions
    assert not host.units.state("missing.service").exists


def test_a_masked_unit_does_not_start() -> None:
    """A masked unit refuses to start and to restart."""
    host = SimulatedHost(units={"a.service": UnitState(exists=True, enabled="masked", active="inactive")})

    with pytest.raises(HostError):
        host.units.set_active("a.service", True)
    with pytest.raises(HostError):
        host.units.react("a.service", "restart")

    assert ("inactive", []) == (host.units.state("a.service").active, host.units.reactions)


def test_packages() -> None:
    """A transaction installs and removes what it says."""
    host = SimulatedHost(packages={"less": "590"})

    host.packages.transact({"vim": Package("9"), "less": ABSENT})

    assert {"vim": Package("9")} == host.packages.installed()


def test_accounts_without_files() -> None:
    """A host without account files knows root and those it was given."""
    host = SimulatedHost.drawn("/a: x [alice:users]", users={"alice": 1000}, groups={"users": 100})

    assert (0, 1000, 100) == (host.accounts.uid("root"), host.accounts.uid("alice"), host.accounts.gid("users"))
    assert "/a: x [alice:users]" == host.draw()
