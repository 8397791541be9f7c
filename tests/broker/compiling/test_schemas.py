"""Component schemas at compile time."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquiline.broker.compiling import Checked, Compiled, CompileFailed, Layers, Schemas
from aquiline.errors import ProfileError
from aquiline.profile import SECRET, Profile, convert, json_schema

OURS = Schemas({found.name: json_schema(found.load()) for found in entry_points(group="aquiline.components")})


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account."""

    name: str
    password: Annotated[str, SECRET] | None = None


class Configuration(msgspec.Struct, frozen=True):
    """All that a schema can say."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1
    ratio: float = 1.0
    on: bool = True
    mode: Annotated[int, msgspec.Meta(ge=0, le=4095)] | Annotated[str, msgspec.Meta(pattern="^[0-7]{3,4}$")] = 0o644
    level: Literal["low", "high"] = "low"
    maybe: int | None = None
    token: Annotated[str, SECRET] = ""
    account: Account | None = None
    accounts: dict[str, Account] = {}
    numbers: list[int] = []


class Example:
    """A component with a schema and nothing else."""

    name: ClassVar[str] = "example"
    version: ClassVar[str] = "1"
    configuration: ClassVar[type[msgspec.Struct]] = Configuration


EXAMPLE = Schemas({"example": json_schema(Example)})


def tree(**configuration: Any) -> dict[str, Any]:
    return {"software": {"components": {"example": configuration}}}


@pytest.mark.parametrize(
    ("configuration", "path", "found", "expected"),
    [
        ({"port": "many"}, "/port", "string 'many'", "int from 1 up to 65535"),
        ({"port": 70000}, "/port", "int 70000", "int from 1 up to 65535"),
        ({"port": "70000"}, "/port", "string '70000'", "int from 1 up to 65535"),
        ({"on": "yes"}, "/on", "string 'yes'", "boolean"),
        ({"mode": "999"}, "/mode", "string '999'", "int from 0 up to 4095 or string matching ^[0-7]{3,4}$"),
        ({"level": "middle"}, "/level", "string 'middle'", "one of high, low"),
        ({"maybe": [1]}, "/maybe", "a list of 1", "int"),
        ({"numbers": [1, "2", "x"]}, "/numbers/2", "string 'x'", "int"),
        ({"account": {"password": "x"}}, "/account", "no 'name'", "it in this mapping"),
        ({"account": {"name": 5}}, "/account/name", "int 5", "string"),
        ({"accounts": {"a/b": {"name": "x", "word": "y"}}}, "/accounts/{a/b}", "the key word", "one of name, password"),
        ({"accounts": "hunter2"}, "/accounts", "string", "a mapping"),
        ({"token": 12345}, "/token", "int", "string"),
        ({"account": {"name": "x", "password": ["hunter2"]}}, "/account/password", "a", "string"),
        ({"active": "maybe"}, "/active", "string 'maybe'", "boolean"),
    ],
)  # fmt: skip
def test_wrong_values(configuration: dict[str, Any], path: str, found: str, expected: str) -> None:
    """A wrong value is refused with host, path, what was found and what is expected; a secret is not said."""
    failure = EXAMPLE.check("web1", tree(**configuration))

    assert failure is not None
    assert ("web1", f"/software/components/example{path}") == (failure.host, failure.path)
    assert (found, expected) == (failure.found, failure.expected)
    assert f"web1: {failure.path}: found {found}, expected {expected}" == failure.message
    assert "hunter2" not in repr(failure)
    assert "12345" not in repr(failure)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.floats(0, 2)
    | st.sampled_from(["5", "true", "x", "0644", "null", "high", "1.5"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "password", "z"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(Configuration.__struct_fields__), VALUES, max_size=2))
def test_the_broker_takes_what_the_host_takes(configuration: dict[str, Any]) -> None:
    """What a host would read passes; what the schema can say and the host would refuse does not."""
    section = Profile(tree(**configuration)).components()["example"]
    try:
        convert(section, Configuration)
        fits = True
    except ProfileError:
        fits = False

    assert fits == (EXAMPLE.check("web1", tree(**configuration)) is None)


def test_who_is_not_checked() -> None:
    """Components without schema, and those that are not active, are left alone."""
    assert EXAMPLE.check("web1", {"software": {"components": {"other": {"port": "x"}}}}) is None
    assert EXAMPLE.check("web1", tree(port="x", active=False)) is None
    assert EXAMPLE.check("web1", {}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://example.org/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#"},
        {"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}},
        {"$ref": "#/$defs/none"},
        {"not": {}},
        {"if": {}},
        {"$dynamicRef": "#x"},
        {"type": "nonsense"},
        {"properties": {"x": 5}},
        {"properties": []},
        {"anyOf": {}},
        {"properties": {"x": {"pattern": "("}}},
        {"description": "x" * (2 << 20)},
        {"x-nan": {1, 2}},
        5,
    ],
)  # fmt: skip
def test_schemas_that_no_component_has(schema: Any) -> None:
    """A schema that fetches, loops, is too large or is none is refused, and the component is named."""
    with pytest.raises(ProfileError, match="schema of component bad cannot be used"):
        Schemas({"bad": schema})


def test_a_deep_schema_is_refused() -> None:
    """Depth ends in an error and not in the end of the process."""
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"properties": {"x": schema}}

    with pytest.raises(ProfileError, match="cannot be used"):
        Schemas({"bad": schema})


def test_a_pattern_cannot_take_for_ever() -> None:
    """A pattern that backtracks without end is given up on: the value does not fit."""
    schemas = Schemas({"example": {"properties": {"x": {"type": "string", "pattern": r"^(?=(a+)+$)(a|aa)+\1$"}}}})

    failure = schemas.check("web1", tree(x="a" * 60 + "b"))

    assert failure is not None
    assert "/software/components/example/x" == failure.path


def test_a_checked_compiler(tmp_path: Path) -> None:
    """A profile that does not fit its host's schemas is refused; another host's, or one never heard of, is not."""
    (tmp_path / "hosts").mkdir()
    for name in ("web1", "web2", "web3"):
        (tmp_path / "hosts" / f"{name}.yaml").write_text("software: {components: {example: {port: x}}}")
    (tmp_path / "hosts" / "web4.yaml").write_text("include: [none]")
    compiler = Checked(Layers(), {"web1": EXAMPLE, "web2": OURS, "web4": EXAMPLE}.get)

    found = compiler.compile(tmp_path, compiler.hosts(tmp_path))

    assert {"web1": CompileFailed, "web2": Compiled, "web3": Compiled, "web4": CompileFailed} == {
        host: type(one) for host, one in found.items()
    }


def test_real_profiles_pass(quattor_profile: Path) -> None:
    """Profiles that real hosts have fit the schemas of the components there are."""
    assert OURS.check("host", json.loads(quattor_profile.read_text())) is None
