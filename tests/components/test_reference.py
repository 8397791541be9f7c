"""The reference pages of the components: every key has its row, and every example is a profile that works."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquiline.components.ccm import Ccm
from aquiline.components.cdp import Cdp
from aquiline.components.chkconfig import Chkconfig
from aquiline.components.cron import Cron
from aquiline.components.filecopy import FileCopy
from aquiline.components.metaconfig import Metaconfig
from aquiline.components.systemd import Systemd
from aquiline.host.protocol import UnitState
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.component import Component
from aquiline.profile import Profile, json_schema, unknown_keys
from aquiline.profile.loading import parse_yaml
from tests.components.driving import run_profile

COMPONENTS: list[type[Component[Any]]] = [Ccm, Cdp, Chkconfig, Cron, FileCopy, Metaconfig, Systemd]
UNITS = ("multi-user.target", "web.service", "web-cache.socket", "cups.service", "ntpd.service")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "components"


def page(component: type[Component[Any]]) -> str:
    return (REFERENCE / f"{component.name}.md").read_text()


def keys(schema: Any) -> Iterator[str]:
    """Yield every key that a JSON Schema knows."""
    if isinstance(schema, dict):
        for definition in [schema, *schema.get("$defs", {}).values()]:
            yield from definition.get("properties", {})


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_every_key_is_in_the_reference(component: type[Component[Any]]) -> None:
    """Whatever the schema knows, the page has in a table."""
    rows = [line for line in page(component).splitlines() if line.startswith("|")]
    documented = set(re.findall(r"`(\w+)`", "\n".join(rows)))

    assert set() == set(keys(json_schema(component))) - documented


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_the_example_of_the_reference_works(component: type[Component[Any]]) -> None:
    """The example is a profile that the component takes whole: no key in it is unknown, nothing is left out."""
    (example,) = re.findall(r"```yaml\n(.*?)```", page(component), flags=re.DOTALL)
    profile = Profile(tree=parse_yaml(example), given_name="web01.example.org")
    host = SimulatedHost.drawn(
        "/etc/\n    localtime: TZ\n/bin/\n    logger: #!",
        users={"root": 0, "backup": 34},
        groups={"root": 0, "web": 80, "sys": 3},
        units={name: UnitState(exists=True, enabled="disabled", active="active") for name in UNITS},
    )
    section = profile.components()[component.name]

    found = run_profile(component, profile, host, templates={"metaconfig/web/banner.j2": "{{ text }}\n"})

    assert found.tasks
    assert ([], []) == (found.notes, unknown_keys(section.configuration, component.configuration, section.path))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_the_reference_names_the_version(component: type[Component[Any]]) -> None:
    """The page is about the version that is there, and says where it differs from Quattor."""

    assert f"Version {component.version}." in page(component)
    assert "## Differs from Quattor" in page(component)
