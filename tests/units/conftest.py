from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A root that is empty but for what the test puts there, and a session on it."""
    with Site(tmp_path, monkeypatch) as made:
        yield made
