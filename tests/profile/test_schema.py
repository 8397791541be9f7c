from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from aquiline.errors import ProfileError
from aquiline.profile import SECRET, ComponentSection, convert, json_schema, secret_paths, unknown_keys


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    number: int = 0
    action: Annotated[str, msgspec.Meta(pattern="^(start|stop)$")] = "start"
    password: Annotated[str, SECRET] = ""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, rename={"force_restart": "forceRestart"}):
    entries: tuple[Entry, ...] = ()
    services: dict[str, Entry] = {}
    mode: int | str = 0
    either: Entry | None = None
    force_restart: bool = False


class Example:
    name: ClassVar[str] = "example"
    version: ClassVar[str] = "3"
    configuration: ClassVar[type[msgspec.Struct]] = Configuration


def section(**configuration: Any) -> ComponentSection:
    return ComponentSection(name="example", active=True, dispatch=True, pre=(), post=(), configuration=configuration)


def test_a_section_becomes_a_typed_value() -> None:
    """Configuration is converted by Quattor's names, text to numbers and booleans where its readers do so."""
    converted = convert(section(entries=[{"user": "root", "number": "5"}], forceRestart="true"), Configuration)

    assert Configuration(entries=(Entry(user="root", number=5),), force_restart=True) == converted


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"entries": [{"user": "a"}, {"user": 5}]}, "entries/1/user: found int 5, expected string"),
        ({"entries": [{}]}, "entries/0: found no 'user', expected it in this mapping"),
        ({"entries": {"a": 1}}, "entries: found a mapping of 1, expected a list"),
        ({"entries": ["x"]}, "entries/0: found string 'x', expected a mapping"),
        (
            {"services": {"_2fetc_2fmotd": {"user": "a", "number": "many"}}},
            "services/{/etc/motd}/number: found string 'many', expected int",
        ),
        ({"either": {"user": True}}, "either/user: found boolean true, expected string"),
        ({"mode": []}, "mode: found a list of 0, expected int or string"),
        (
            {"entries": [{"user": "a", "action": "jump"}]},
            "entries/0/action: found string 'jump', expected string matching ^(start|stop)$",
        ),
        ({"entries": [{"user": "a", "password": ["hush"]}]}, "entries/0/password: found a, expected string"),
        ({"forceRestart": 7}, "forceRestart: found int 7, expected boolean"),
    ],
)
def test_a_fault_says_where_what_and_instead_of_what(configuration: dict[str, Any], message: str) -> None:
    """A value that does not fit is named by its profile path, with what was found and what was expected."""

    with pytest.raises(ProfileError) as raised:
        convert(section(**configuration), Configuration)

    assert f"/software/components/example/{message}" == str(raised.value)


def test_unknown_keys_are_found_everywhere() -> None:
    """A misspelt key is listed with its path, in structures, lists and mappings alike."""
    value = {
        "entries": [{"user": "a", "usr": 1}],
        "services": {"_2fetc_2fx": {"user": "b", "nmuber": 1}},
        "either": {"user": "c", "actoin": "stop"},
        "forcerestart": True,
    }

    assert [
        "/c/forcerestart",
        "/c/entries/0/usr",
        "/c/services/{/etc/x}/nmuber",
        "/c/either/actoin",
    ] == unknown_keys(value, Configuration, "/c")


def test_secrets_are_found_by_their_marks() -> None:
    """Every value of a field marked as a secret is named by its path."""
    value = {"entries": [{"user": "a", "password": "x"}, {"user": "b"}], "services": {"s": {"password": "y"}}}

    assert ["/c/entries/0/password", "/c/services/s/password"] == secret_paths(value, Configuration, "/c")


def test_the_schema_carries_name_version_and_secrets() -> None:
    """The published schema says whose it is, of which version, and which values are secret."""
    schema = json_schema(Example)

    assert ("urn:aquiline:component:example:3", "example", "3") == (
        schema["$id"],
        schema["x-aquiline-component"],
        schema["x-aquiline-version"],
    )
    assert schema["$defs"]["Entry"]["properties"]["password"]["x-secret"] is True
    assert "forceRestart" in schema["$defs"]["Configuration"]["properties"]
