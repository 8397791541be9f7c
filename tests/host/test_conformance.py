"""Each host passes the one conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.host import FaultyHost, Overlay, RealHost, SimulatedHost
from aquiline.host.protocol import Host, UnitState
from aquiline.host.simulated import Offered
from tests.bed.host import BedHost
from tests.bed.repository import AptRepository, Deb
from tests.host.conformance import (
    UNIT,
    UNIT_FILE,
    HostConformance,
    NoPackagesConformance,
    PackagesConformance,
    UnitsConformance,
    directory,
    put,
    write,
)


class TestRealHost(HostConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield host


class TestOverlayOverReal(HostConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield Overlay(host)


class TestSimulatedHost(HostConformance):
    @pytest.fixture
    def host(self) -> Host:
        return SimulatedHost()


class TestOverlayOverSimulated(HostConformance):
    @pytest.fixture
    def host(self) -> Host:
        return Overlay(SimulatedHost())


class TestFaultyHostWithoutFault(HostConformance):
    @pytest.fixture
    def host(self) -> Host:
        return FaultyHost(SimulatedHost())


# ---- units --------------------------------------------------------------------------------------------------------


def with_unit(host: Host) -> Host:
    """Give a host the unit's file, by which a root tells what it has."""
    for path in ("/etc", "/etc/systemd", "/etc/systemd/system", "/usr", "/usr/lib", "/usr/lib/systemd"):
        put(host, path, directory())
    put(host, "/usr/lib/systemd/system", directory())
    write(host, f"/usr/lib/systemd/system/{UNIT}", UNIT_FILE)
    return host


def simulated_unit() -> SimulatedHost:
    """Return a pretended host with the unit: it is told so, and has no files of units."""
    return SimulatedHost(units={UNIT: UnitState(exists=True, enabled="disabled", active="")})


class TestUnitsBelowARoot(UnitsConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield with_unit(host)


class TestUnitsOfAnOverlayOverARoot(UnitsConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield Overlay(with_unit(host))


class TestUnitsThatArePlanned(UnitsConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield with_unit(Overlay(host))


class TestSimulatedUnits(UnitsConformance):
    @pytest.fixture
    def host(self) -> Host:
        return simulated_unit()


class TestUnitsOfAnOverlayOverSimulated(UnitsConformance):
    @pytest.fixture
    def host(self) -> Host:
        return Overlay(simulated_unit())


class TestUnitsOfAFaultyHostWithoutFault(UnitsConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield FaultyHost(with_unit(host))


# ---- packages -----------------------------------------------------------------------------------------------------


def simulated_packages() -> SimulatedHost:
    """Return a pretended host and what it could install."""
    offered = {
        "aqtool": [Offered(version, needs=("aqlib",), files=(("/opt/tool", b"tool"),)) for version in "12"],
        "aqlib": [Offered(version) for version in "12"],
    }
    return SimulatedHost(offered=offered)


def offer(host: BedHost) -> None:
    """Let a host's own package manager install them."""
    tools = (Deb("aqtool", one, files={"/opt/tool": "tool"}, fields={"Depends": "aqlib"}) for one in "12")
    AptRepository(host).add(*tools, *(Deb("aqlib", one) for one in "12"))


class TestAptBelowARoot(PackagesConformance):
    @pytest.fixture
    def host(self, bed_host_unbooted: BedHost) -> Iterator[Host]:
        offer(bed_host_unbooted)
        with RealHost(str(bed_host_unbooted.root)) as host:
            yield host


class TestPackagesOfAnOverlayOverApt(PackagesConformance):
    @pytest.fixture
    def host(self, bed_host_unbooted: BedHost) -> Iterator[Host]:
        offer(bed_host_unbooted)
        with RealHost(str(bed_host_unbooted.root)) as host:
            yield Overlay(host)


class TestSimulatedPackages(PackagesConformance):
    @pytest.fixture
    def host(self) -> Host:
        return simulated_packages()


class TestPackagesOfAnOverlayOverSimulated(PackagesConformance):
    @pytest.fixture
    def host(self) -> Host:
        return Overlay(simulated_packages())


class TestPackagesOfAFaultyHostWithoutFault(PackagesConformance):
    @pytest.fixture
    def host(self) -> Host:
        return FaultyHost(simulated_packages())


class TestNoPackagesBelowARoot(NoPackagesConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield host


class TestNoPackagesOfAnOverlay(NoPackagesConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield Overlay(host)


class TestNoPackagesOfAFaultyHost(NoPackagesConformance):
    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        with RealHost(str(tmp_path)) as host:
            yield FaultyHost(host)
