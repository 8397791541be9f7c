"""What the tests of the agent's daemon side start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.daemon.broker import Broker
from tests.agent.making import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A host with an empty ``/etc``, where the component *anything* is installed."""
    made = Site(tmp_path)
    made.install()
    with made.importing():
        yield made


@pytest.fixture
def broker() -> Broker:
    """A broker that knows nothing yet."""
    return Broker()
