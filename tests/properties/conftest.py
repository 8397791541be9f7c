"""How many examples: few by default, the same every time; many and new ones in the tests marked slow."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "aquiline",
    deadline=None,
    # A host takes its time to draw, and to make; explaining a failure would take minutes more.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    print_blob=True,
)
settings.load_profile("aquiline")
