"""Each host passes the one conformance suite."""

from __future__ import annotations

import pytest

from aquiline.host import FaultyHost, Overlay, SimulatedHost
from aquiline.host.protocol import Host
from tests.host.conformance import HostConformance


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
