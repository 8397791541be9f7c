"""Whole profiles of real hosts, each taken by every component that there is."""

from pathlib import Path

import pytest

from aquiline.components.cron import Cron
from aquiline.components.filecopy import FileCopy
from aquiline.components.metaconfig import Metaconfig
from aquiline.planning.order import order
from aquiline.profile import load, unknown_keys
from tests.components.cases import SHARED
from tests.components.driving import run_profile

HOSTS = SHARED / "quattor" / "hosts"
COMPONENTS = (Cron, FileCopy, Metaconfig)


@pytest.mark.skipif(not HOSTS.is_dir(), reason=f"the profiles of the hosts are not at {HOSTS}")
@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_real_profile_is_taken_whole(path: Path) -> None:
    """A real profile loads, orders and gives files; no key of it is unknown to the component it is for."""
    profile = load(path)
    sections = profile.components()
    taken = [component for component in COMPONENTS if component.name in sections]

    assert path.stem == profile.name
    assert sorted(sections) == sorted(order(sections).names)
    for component in taken:
        section = sections[component.name]

        found = run_profile(component, profile)

        assert len(found.tasks) + len(found.notes) >= len(section.configuration.get("services", ()))
        assert [] == unknown_keys(section.configuration, component.configuration, section.path)
