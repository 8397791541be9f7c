"""The tutorial on writing a component, done as it says."""

import re
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aquiline.changes.kinds import Inline, ReactUnit, WriteFile
from aquiline.errors import ProfileError
from aquiline.planning.component import Component
from aquiline.profile import Profile, json_schema
from aquiline.profile.loading import parse_yaml
from tests.components.driving import run, run_profile

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "write-a-component.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)


@pytest.fixture
def banner(monkeypatch: pytest.MonkeyPatch) -> type[Component[Any]]:
    """The component of the tutorial, as if its package were installed."""
    module = ModuleType("site_components.banner")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(blocks("python")[0], str(TUTORIAL), "exec"), module.__dict__)
    component: type[Component[Any]] = module.__dict__["Banner"]
    return component


def test_the_component_of_the_tutorial_works(banner: type[Component[Any]]) -> None:
    """What the tutorial's profile says becomes the file and the reload that the tutorial promises."""
    found = run_profile(banner, Profile(tree=parse_yaml(blocks("yaml")[0]), given_name="web01.example.org"))
    text = "Authorised use only.\nThis is web01.example.org.\nQuestions: admin@example.org\n"

    assert [
        WriteFile(path="/etc/issue", content=Inline(text.encode()), mode=0o644, owner="root", group="root")
    ] == found.changes
    assert [ReactUnit(unit="issued.service", action="reload")] == found.reactions


def test_the_test_of_the_tutorial_passes(banner: type[Component[Any]]) -> None:
    """The tutorial's own test holds, with the planner that there is."""
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[1], str(TUTORIAL), "exec"), names)

    names["test_the_banner_names_the_host"]()

    assert banner is names["Banner"]


def test_what_the_tutorial_leaves_out_is_said(banner: type[Component[Any]]) -> None:
    """Without a contact the component says so, as the tutorial explains."""

    assert ["nobody is named whom users could ask"] == run(banner, {"text": "x"}).notes


def test_the_fault_in_the_tutorial_is_the_real_one(banner: type[Component[Any]]) -> None:
    """The message that the tutorial shows is the one that a profile gets."""
    with pytest.raises(ProfileError) as raised:
        run(banner, {"text": 5})

    assert f"`{raised.value}`" in TUTORIAL.read_text()


def test_the_component_publishes_a_schema(banner: type[Component[Any]]) -> None:
    """The types of the tutorial are all that a schema needs."""

    assert "urn:aquiline:component:banner:1" == json_schema(banner)["$id"]


def test_the_entry_point_is_in_the_group_that_is_looked_at() -> None:
    """The tutorial's package names the group in which Aquiline's own components are."""
    (group,) = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]

    assert {"cron", "filecopy", "metaconfig"} <= {found.name for found in entry_points(group=group)}
