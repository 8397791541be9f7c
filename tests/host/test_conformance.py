"""Each host passes the one conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.host import FaultyHost, Overlay, RealHost, SimulatedHost
from aquiline.host.protocol import Host
from tests.host.conformance import HostConformance


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
