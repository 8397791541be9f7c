"""A faulty host goes wrong exactly where it was told to."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable

import pytest

from aquiline.errors import HostError
from aquiline.host import Died, FaultyHost, SimulatedHost
from aquiline.host.objects import Metadata, Package
from aquiline.host.protocol import Command, Completed, UnitState
from tests.host.conformance import file, write


def simulated() -> SimulatedHost:
    return SimulatedHost.drawn(
        "/file: old",
        commands={("true",): Completed(0, b"", b"")},
        units={"a.service": UnitState(exists=True, enabled="enabled", active="active")},
    )


def test_effects_are_counted_and_reads_are_not() -> None:
    """Each effect on files, commands, units and packages counts once, in words; looking does not."""
    host = FaultyHost(simulated())
    host.observe("/file")
    host.units.state("a.service")

    staged = host.stage("/new", file(b"x"), [b"x"], "test")
    host.sync([staged])
    host.publish(staged)
    host.sync_directories(["/"])
    host.discard("/new", "test")
    host.link("/link", "/new", "test")
    host.move("/link", "/moved")
    host.remove("/moved")
    host.write_in_place("/new", [b"y"], Metadata(0o644, 0, 0))
    host.set_metadata("/new", Metadata(0o600, 0, 0))
    host.set_mtime("/new", 5)
    host.run(Command(("true",)))
    host.units.set_enabled("a.service", "disabled")
    host.units.set_active("a.service", False)
    host.units.react("a.service", "restart")
    host.units.daemon_reload()
    host.packages.transact({"vim": Package("9")})

    assert 17 == host.count() == len(host.effects)
    assert ["stage /new", "sync 1 objects", "publish /new"] == host.effects[:3]


@pytest.mark.parametrize(("when", "left"), [("before", "old"), ("after", "new")])
def test_the_nth_effect_fails(when: str, left: str) -> None:
    """The effect fails before or after it happened, with the error that was asked for, and later ones work."""
    error = HostError("disk on fire", path="/file")
    host = FaultyHost(simulated(), fail_at=3, when="after" if when == "after" else "before", error=error)

    with pytest.raises(HostError) as caught:
        write(host, "/file", b"new")

    assert (error, left.encode()) == (caught.value, host.read("/file"))
    write(host, "/file", b"later")
    assert b"later" == host.read("/file")


@pytest.mark.parametrize(
    "use",
    [
        lambda host: host.observe("/file"),
        lambda host: host.names("/"),
        lambda host: host.remove("/file"),
        lambda host: host.units.state("a.service"),
        lambda host: host.accounts.uid("root"),
        lambda host: host.run(Command(("true",))),
    ],
)
def test_the_dead_do_nothing(use: Callable[[FaultyHost], object]) -> None:
    """After its death a host answers nothing and does nothing."""
    base = simulated()
    host = FaultyHost(base, die_at=1)
    with pytest.raises(Died):
        host.remove("/file")

    with pytest.raises(Died):
        use(host)

    assert "/file: old" == base.draw()


def test_death_is_no_exception_that_is_caught_by_mistake() -> None:
    """Code that catches every `Exception` does not survive."""
    assert not issubclass(Died, Exception)


def test_death_comes_before_or_after_each_effect() -> None:
    """Dying at each number in turn leaves each prefix of what was to be done."""
    counted = FaultyHost(simulated())
    write(counted, "/file", b"new")
    left = []

    for number in range(1, counted.count() + 1):
        for when in ("before", "after"):
            base = simulated()
            host = FaultyHost(base, die_at=number, when="after" if when == "after" else "before")
            with pytest.raises(Died):
                write(host, "/file", b"new")
            left.append((len(base.names("/")), base.text("/file")))

    assert [(1, "old"), (2, "old"), (2, "old"), (2, "old"), (2, "old"), (1, "new")] == left


def test_torn_content() -> None:
    """A torn write leaves the first half: under the temporary name, or in place where that was asked."""
    staging, writing = simulated(), simulated()

    with pytest.raises(Died):
        FaultyHost(staging, die_at=1, when="torn").stage("/file", file(b"12345678"), [b"12345678"], "test")
    with pytest.raises(Died):
        FaultyHost(writing, die_at=1, when="torn").write_in_place("/file", [b"123", b"456"], Metadata(0o644, 0, 0))

    assert ["1234", "old"] == sorted(staging.text(f"/{name}") for name in staging.names("/"))
    assert "123" == writing.text("/file")


def die_really() -> None:
    FaultyHost(simulated(), die_at=1, kill=True).remove("/file")


def test_a_real_kill() -> None:
    """With `kill` the process ends by SIGKILL: no handler, no exit code of its own."""
    process = multiprocessing.get_context("fork").Process(target=die_really)
    process.start()
    process.join(30)

    assert -signal.SIGKILL == process.exitcode
