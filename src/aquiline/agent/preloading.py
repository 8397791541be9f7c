"""All code that a run, its reactions, its recovery and its undo can need, imported before step 1 (D16).

A run may replace aquiline, a library or Python itself: from then on nothing can be imported any more that was not.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

#: What a host's run never needs: other programs, and the command line above us, which has imported what it uses. The
#: parser of YAML profiles is not among what a run needs either: its profile has been read.
_ELSEWHERE = (
    *("aquiline.broker", "aquiline.cli", "aquiline.components", "aquiline.protocol"),
    *("aquiline.agent.daemon", "aquiline.agent.reconciling"),
    "aquiline.profile.yamltree",
)
#: What components import where they need it, which a later stage may be the first to do.
_LAZY = ("yaml", "jinja2.sandbox", "tomli_w")


def preload(*, later_stages: bool) -> None:
    """Import it; `later_stages` says that components will be planned again, which need libraries of their own."""
    _import_below("aquiline")
    if later_stages:
        _import_below("aquiline.components")
        for name in _LAZY:
            import_module(name)


def _import_below(package: str) -> None:
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if not module.name.startswith(_ELSEWHERE) or (module.name.startswith(f"{package}.") and package in _ELSEWHERE):
            _import_below(module.name) if module.ispkg else import_module(module.name)
