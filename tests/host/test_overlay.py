"""What an overlay does beyond what every host does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from aquiline.errors import HostError, UnknownUntilRun
from aquiline.host import Overlay, SimulatedHost
from aquiline.host.objects import ABSENT, FileObject, Metadata, Package, RegularFile, Status, sha256
from aquiline.host.protocol import Command, Completed, UnitState
from tests.host.conformance import file, put, symlink, tree, write

BASE = r"""
    /etc/
        group: root:x:0:\n
        motd: old
        passwd: root:x:0:0::/:/bin/sh\nold:x:7:7::/:/bin/sh\n
        ssh/
            sshd_config: Port 22
    /run/
    /var/
        run -> /run
"""
REMARK = "run newaliases"


@pytest.fixture
def base() -> SimulatedHost:
    running = UnitState(exists=True, enabled="enabled", active="active")
    return SimulatedHost.drawn(
        BASE,
        units={"sshd.service": running, "cron.service": running},
        packages={"openssh-server": "9.2", "less": "590"},
        commands={("true",): Completed(0, b"", b"")},
    )


@pytest.fixture
def overlay(base: SimulatedHost) -> Overlay:
    return Overlay(base)


class Counting(SimulatedHost):
    """Counts what it is asked."""

    asked = 0

    def observe(self, path: str) -> FileObject:
        self.asked += 1
        return super().observe(path)

    def status(self, path: str) -> Status | None:
        self.asked += 1
        return super().status(path)


class Mounted(SimulatedHost):
    """Has another file system at ``/etc/ssh``."""

    def status(self, path: str) -> Status | None:
        found = super().status(path)
        if found is None or not path.startswith("/etc/ssh"):
            return found
        return msgspec.structs.replace(found, inode=(99, found.inode[1]))


# ---- remembering --------------------------------------------------------------------------------------------------


def test_the_base_is_left_alone(base: SimulatedHost, overlay: Overlay) -> None:
    """Nothing that is done to an overlay reaches its base."""
    before = base.draw(times=True)

    write(overlay, "/etc/motd", b"new")
    overlay.move("/etc/ssh", "/ssh")
    overlay.units.set_active("sshd.service", False)
    overlay.packages.transact({"vim": Package("9"), "less": ABSENT})

    assert before == base.draw(times=True)
    assert "active" == base.units.state("sshd.service").active
    assert {"less": Package("590"), "openssh-server": Package("9.2")} == base.packages.installed()


def test_content_is_fetched_when_it_is_read(overlay: Overlay) -> None:
    """A large content is remembered as a way to get it, and is not got before somebody reads it."""
    fetched: list[str] = []

    def pieces() -> Iterator[bytes]:
        fetched.append("now")
        yield from (b"Port ", b"22")

    overlay.remember("/etc/copy", file(b"Port 22"), pieces)
    observed = overlay.observe("/etc/copy")

    assert (file(b"Port 22"), []) == (observed, fetched)
    assert b"Port 22" == overlay.read("/etc/copy")


def test_content_that_nobody_gave_cannot_be_read(overlay: Overlay) -> None:
    """A file may be remembered without content: it is seen, and reading it is an error."""
    overlay.remember("/etc/kept", file(b"x"), None)

    assert file(b"x") == overlay.observe("/etc/kept")
    with pytest.raises(HostError, match="content is not known"):
        overlay.read("/etc/kept")


def test_remembering_needs_a_parent(overlay: Overlay) -> None:
    """What could not be made cannot be remembered: below nothing, below a file, in the place of a full directory."""
    overlay.names("/etc/ssh")

    for path in ("/missing/a", "/etc/motd/a", "/etc/ssh"):
        with pytest.raises(HostError):
            overlay.remember(path, file(b"x"), b"x")


def test_remembering_in_place_changes_all_names(base: SimulatedHost, overlay: Overlay) -> None:
    """A file that is overwritten in place is the same file under its other names."""
    base.link("/etc/issue", "/etc/motd", "test")

    overlay.remember("/etc/motd", file(b"new"), b"new", in_place=True)

    assert b"new" == overlay.read("/etc/issue")


def test_time_is_when_it_runs(overlay: Overlay) -> None:
    """An overlay has no clock: what is made now has the time 0, so that the same plan is the same bytes."""
    staged = put(overlay, "/etc/motd", file(b"x", mtime_ns=0), b"x")
    status = overlay.status("/etc")

    assert 0 == staged.object.metadata.mtime_ns
    assert 0 == (status.mtime_ns if status else None)


def test_reading_what_nobody_changed_asks_the_base_once() -> None:
    """In a directory that was looked at before, a read costs one call of the base, and remembering none."""
    base = Counting.drawn(BASE)
    overlay = Overlay(base)
    overlay.observe("/etc/motd")
    base.asked = 0

    for _ in range(10):
        overlay.observe("/etc/passwd")
    for number in range(10):
        overlay.remember(f"/etc/{number}", file(b"x"), b"x")
        overlay.observe(f"/etc/{number}")

    assert 10 == base.asked


def test_rollback_takes_everything_back(overlay: Overlay) -> None:
    """A rollback takes back files, units, packages, reactions and what was unknown; the token can be used again."""
    before = tree(overlay)
    savepoint = overlay.savepoint()

    for _ in range(2):
        write(overlay, "/etc/motd", b"new")
        overlay.units.set_enabled("sshd.service", "disabled")
        overlay.units.react("sshd.service", "restart")
        overlay.packages.transact({"vim": Package("9"), "less": ABSENT})
        overlay.taint(["/etc/ssh"], REMARK)
        overlay.taint_units(["cron.service"], REMARK)
        overlay.taint_packages(["less"], REMARK)
        overlay.rollback(savepoint)

    assert before == tree(overlay)
    assert ("enabled", "active") == (
        overlay.units.state("sshd.service").enabled,
        overlay.units.state("cron.service").active,
    )
    assert {"less": Package("590"), "openssh-server": Package("9.2")} == overlay.packages.installed()
    assert () == overlay.reactions


# ---- unknown until run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda host: host.observe("/etc/ssh"),
        lambda host: host.status("/etc/ssh/sshd_config"),
        lambda host: host.read("/etc/ssh/sshd_config"),
        lambda host: host.chunks("/etc/ssh/sshd_config"),
        lambda host: host.names("/etc/ssh"),
        lambda host: host.observe("/etc/ssh/new/one"),
        lambda host: host.observe("//etc/./ssh"),
        lambda host: host.observe("/link/sshd_config"),
        lambda host: host.observe("/chain/sshd_config"),
        lambda host: host.names("/etc"),
    ],
)
def test_what_a_pending_command_touches_is_unknown(
    base: SimulatedHost, overlay: Overlay, read: Callable[[Overlay], object]
) -> None:
    """At and below such a path, by whatever way it is reached, nothing is known; nor are the names beside it."""
    put(base, "/link", symlink("/etc/ssh"))
    put(base, "/chain", symlink("link"))
    overlay.taint(["/etc/ssh"], REMARK)

    with pytest.raises(UnknownUntilRun) as caught:
        read(overlay)

    assert REMARK == caught.value.because


def test_unknown_through_a_link_in_its_path(overlay: Overlay) -> None:
    """A path that is declared through a link is unknown where it really is."""
    overlay.taint(["/var/run/pid"], REMARK)

    with pytest.raises(UnknownUntilRun):
        overlay.observe("/run/pid")


def test_what_is_beside_stays_known(overlay: Overlay) -> None:
    """Nothing but what was declared becomes unknown."""
    overlay.taint(["/etc/ssh/sshd_config", "/missing/a"], REMARK)
    overlay.taint_units(["cron.service"], REMARK)

    assert b"old" == overlay.read("/etc/motd")
    assert ("group", "motd", "passwd", "ssh") == overlay.names("/etc")
    assert ABSENT == overlay.observe("/etc/ssh/sshd_config.d")
    assert "active" == overlay.units.state("sshd.service").active


def test_unknown_units_and_packages(overlay: Overlay) -> None:
    """Units and packages that a pending command touches are unknown."""
    overlay.taint_units(["cron.service"], REMARK)
    overlay.taint_packages(["less"], REMARK)

    with pytest.raises(UnknownUntilRun):
        overlay.units.state("cron.service")
    with pytest.raises(UnknownUntilRun):
        overlay.packages.installed()


def test_reads_are_told(overlay: Overlay) -> None:
    """Whoever wants to know is told of each read, by the path where it leads."""
    told: list[str] = []
    overlay.on_read = told.append

    overlay.observe("/var/run/pid")
    overlay.status("/etc/motd")
    overlay.units.state("cron.service")
    overlay.packages.installed()
    overlay.accounts.uid("root")
    write(overlay, "/etc/motd", b"not a read")

    assert ["/run/pid", "/etc/motd", "unit:cron.service", "packages", "user:root", "/etc/passwd"] == told


# ---- accounts, units, packages, commands --------------------------------------------------------------------------


def test_a_user_that_will_be_there_has_a_number(overlay: Overlay) -> None:
    """A name that an earlier planned edit adds is known, one that it takes away is not, and later edits count."""
    write(overlay, "/etc/passwd", b"root:x:0:0::/:/bin/sh\nnew:x:8:8::/:/bin/sh\n")

    assert 8 == overlay.accounts.uid("new")
    with pytest.raises(HostError):
        overlay.accounts.uid("old")
    write(overlay, "/etc/passwd", b"new:x:9:9::/:/bin/sh\n")
    assert 9 == overlay.accounts.uid("new")


def test_accounts_are_unknown_with_their_file(overlay: Overlay) -> None:
    """Once a pending command touches the passwd file, no name has a number; numbers stay numbers."""
    overlay.taint(["/etc/passwd"], REMARK)

    with pytest.raises(UnknownUntilRun):
        overlay.accounts.uid("root")
    assert (5, 0) == (overlay.accounts.uid(5), overlay.accounts.gid("root"))


def test_units_and_packages_are_remembered(overlay: Overlay) -> None:
    """Later steps see units and packages as earlier ones will leave them; reactions are remembered in order."""
    overlay.units.set_active("sshd.service", False)
    overlay.units.set_enabled("sshd.service", "masked")
    overlay.packages.transact({"vim": Package("9"), "less": Package("600"), "openssh-server": ABSENT})
    overlay.units.daemon_reload()
    overlay.units.react("cron.service", "restart")

    assert UnitState(exists=True, enabled="masked", active="inactive") == overlay.units.state("sshd.service")
    assert {"less": Package("600"), "vim": Package("9")} == overlay.packages.installed()
    assert (("", "daemon-reload"), ("cron.service", "restart")) == overlay.reactions


def test_an_overlay_runs_nothing(base: SimulatedHost, overlay: Overlay) -> None:
    """A command is refused, even one that the base could run."""
    with pytest.raises(HostError, match="runs nothing"):
        overlay.run(Command(("true",)))

    assert [] == base.ran


def test_metadata_of_a_base_file_keeps_its_content(overlay: Overlay) -> None:
    """Giving a file another owner does not copy it: its content still comes from the base."""
    overlay.set_metadata("/etc/motd", Metadata(0o600, 7, 8, 5))
    overlay.move("/etc/motd", "/motd")

    assert RegularFile(Metadata(0o600, 7, 8, 5), 3, sha256(b"old")) == overlay.observe("/motd")
    assert b"old" == overlay.read("/motd")


def test_file_systems_have_borders() -> None:
    """A mount point stays where it is, and nothing is moved or linked across file systems."""
    overlay = Overlay(Mounted.drawn(BASE))
    write(overlay, "/etc/ssh/new", b"x")
    before = tree(overlay)

    refused: tuple[Callable[[], None], ...] = (
        lambda: overlay.remove("/etc/ssh"),
        lambda: overlay.move("/etc/ssh", "/ssh"),
        lambda: overlay.move("/etc/motd", "/etc/ssh/motd"),
        lambda: overlay.link("/etc/ssh/motd", "/etc/motd", "test"),
        lambda: overlay.move("/etc/ssh/new", "/etc/new"),
    )
    for effect in refused:
        with pytest.raises(HostError):
            effect()

    assert before == tree(overlay)
    overlay.move("/etc/ssh/new", "/etc/ssh/newer")
    assert b"x" == overlay.read("/etc/ssh/newer")
