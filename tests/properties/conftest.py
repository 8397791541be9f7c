"""How many examples: few by default, the same every time; many and new ones in the tests marked slow.

What guards main draws the same many each time, so that a change is judged by what it changed; run them by hand for new.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "aquiline",
    deadline=None,
    # A host takes its time to draw, and to make; explaining a failure would take minutes more.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    print_blob=True,
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("aquiline")
