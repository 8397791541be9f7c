from typing import Any

import pytest

from aquiline.errors import ProfileError
from aquiline.profile import ComponentSection, Profile


def profile(components: Any) -> Profile:
    return Profile(tree={"software": {"components": components}})


def test_sections_hold_a_components_own_keys() -> None:
    """What Quattor's framework adds is read apart from the component's own configuration."""
    components = profile(
        {
            "cron": {
                "active": True,
                "dispatch": "false",
                "version": "24.10.0",
                "register_change": ["/system"],
                "dependencies": {"pre": ["spma"], "post": ["symlink"]},
                "entries": [],
            }
        }
    ).components()

    assert {
        "cron": ComponentSection(
            name="cron", active=True, dispatch=False, pre=("spma",), post=("symlink",), configuration={"entries": []}
        )
    } == components
    assert "/software/components/cron" == components["cron"].path


def test_components_are_active_and_dispatched_unless_they_say_not() -> None:
    """The defaults are those of Quattor's schema."""
    section = profile({"cron": {}}).components()["cron"]

    assert (True, True, (), ()) == (section.active, section.dispatch, section.pre, section.post)


def test_a_profile_without_components_has_none() -> None:
    """No component is no fault."""

    assert {} == Profile(tree={}).components()


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([], "/software/components: found a list of 0, expected a mapping"),
        ({"cron": "x"}, "/software/components/cron: found string 'x', expected a mapping"),
        ({"cron": {"active": 1.5}}, "/software/components/cron/active: found double 1.5, expected boolean"),
        (
            {"cron": {"dependencies": {"pre": [1]}}},
            "/software/components/cron/dependencies/pre/0: found int 1, expected the name of a component",
        ),
    ],
)
def test_faults_of_the_framework_say_where_and_what(components: Any, message: str) -> None:
    """A section that is no section is an error with its path."""

    with pytest.raises(ProfileError) as raised:
        profile(components).components()

    assert message == str(raised.value)


def test_where_components_would_be_is_no_mapping() -> None:
    """A value above the components is an error too, and not a profile that wants nothing."""

    with pytest.raises(ProfileError) as raised:
        Profile(tree={"software": 5}).components()

    assert "/software: found int 5, expected a mapping" == str(raised.value)
