"""The machine, real or pretended, behind one narrow interface."""

from __future__ import annotations

from aquiline.host.faulty import Died, FaultyHost
from aquiline.host.overlay import Overlay
from aquiline.host.real import RealHost
from aquiline.host.simulated import SimulatedHost

__all__ = ["Died", "FaultyHost", "Overlay", "RealHost", "SimulatedHost"]
