from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.journal.preimages import PreimageStore
from tests.engine.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A root that is empty but for what the test puts there, and a session on it."""
    with Site(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def preimages(site: Site) -> PreimageStore:
    """A store with nothing in it."""
    return site.session.preimages
