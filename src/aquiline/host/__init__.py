"""The machine, real or pretended, behind one narrow interface.

The hosts are imported when somebody asks for them: what plans or runs needs no simulated or faulty one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquiline.host.faulty import Died, FaultyHost
    from aquiline.host.overlay import Overlay
    from aquiline.host.real import RealHost
    from aquiline.host.simulated import SimulatedHost

__all__ = ["Died", "FaultyHost", "Overlay", "RealHost", "SimulatedHost"]

_MODULES = {
    "Died": "faulty",
    "FaultyHost": "faulty",
    "Overlay": "overlay",
    "RealHost": "real",
    "SimulatedHost": "simulated",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
