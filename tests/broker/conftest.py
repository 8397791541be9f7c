"""A small fleet for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.small import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three hosts in one domain, which is empty."""
    found = Fleet(tmp_path)
    yield found
    found.store.close()
