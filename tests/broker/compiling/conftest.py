"""What the tests of compilers share."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("AQUILINE_SHARED") or Path(__file__).parents[4] / "shared")


@pytest.fixture(params=["argus", "bdii", "se-dpm-disk", "ui", "wn"])
def quattor_profile(request: pytest.FixtureRequest) -> Path:
    """A real host's profile, as panc wrote it."""
    path = SHARED / "quattor" / "hosts" / f"{request.param}.example.org.json"
    if not path.exists():
        pytest.skip(f"no shared host profiles below {SHARED}; AQUILINE_SHARED says where they are")
    return path
