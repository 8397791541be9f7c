"""Real hosts for whoever asks for them; tests that do are slow, and skipped where a machine cannot have hosts.

In CI no test is skipped, whatever it lacks: it fails.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.bed.base import RPM, Missing, base
from tests.bed.host import Bed, BedHost
from tests.bed.repository import AptRepository, DnfRepository

# How long an example takes says how busy the machine is, and nothing of what is promised.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that has a real host as slow."""
    for item in items:
        if "bed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped in CI, whatever it misses: it fails there."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def bed_of_process() -> Iterator[Bed]:
    """The bed of this test process; where there can be none: skip, naming what is missing."""
    try:
        base()
        made = Bed()
    except Missing as missing:
        cannot_have_hosts(missing)
    yield made
    made.close()


@pytest.fixture
def bed(bed_of_process: Bed) -> Iterator[Bed]:
    """A bed for hosts of any number: `bed.host("name")`. They are gone after the test."""
    try:
        yield bed_of_process
    finally:
        bed_of_process.clear()


def cannot_have_hosts(missing: Missing) -> NoReturn:
    """Skip the test, naming what is missing."""
    pytest.skip(f"no hosts on this machine; missing: {missing}")


@pytest.fixture
def bed_host_unbooted(bed: Bed) -> BedHost:
    """A Debian host whose systemd does not run."""
    return bed.host()


@pytest.fixture
def bed_host(bed_host_unbooted: BedHost) -> BedHost:
    """A Debian host, up and running."""
    bed_host_unbooted.boot()
    return bed_host_unbooted


@pytest.fixture
def apt_host(bed_host: BedHost) -> AptRepository:
    """The repository of a running Debian host that knows no other: `apt_host.host` is the host."""
    return AptRepository(bed_host)


@pytest.fixture
def dnf_host(bed: Bed) -> DnfRepository:
    """The repository of a running dnf host that knows no other: `dnf_host.host` is the host."""
    try:
        base(RPM)
    except Missing as missing:
        cannot_have_hosts(missing)
    host = bed.host(recipe=RPM)
    host.boot()
    return DnfRepository(host)
