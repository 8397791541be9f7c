"""The machine, real or pretended, behind one narrow interface."""

from __future__ import annotations

from aquiline.host.overlay import Overlay
from aquiline.host.real import RealHost

__all__ = ["Overlay", "RealHost"]
