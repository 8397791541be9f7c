"""Components' schemas, checked when a profile is compiled (D24): before any host hears of a wrong value.

Hosts report the JSON Schemas of the components that they have (`aquiline.profile.json_schema` makes them), so the
broker needs no component. What a host reports is data from elsewhere: only the keywords that such schemas have are
taken, nothing is fetched, and no pattern can take for ever.

A value is read as generously as the host reads it: text that writes a number or boolean is one where one is expected.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec

from aquiline.broker.compiling.outcome import Compiled, CompileFailed, Compiler, failed
from aquiline.errors import ProfileError
from aquiline.profile import Profile
from aquiline.profile.paths import child
from aquiline.profile.profile import describe

Schema = Mapping[str, Any]

#: Bytes of one component's schema as JSON.
MAX_BYTES = 1 << 20
#: Schemas in each other.
MAX_DEPTH = 40
_BACKTRACKS = 100_000
#: Texts are read as another type one level of unions after the other.
_ROUNDS = 8
#: Keywords whose value is a schema, a list of schemas, or schemas by name.
_ONE = frozenset({"additionalProperties", "items", "propertyNames"})
_LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"$defs", "patternProperties", "properties"})
#: Those that look at the very value that the schema around them looks at.
_SAME_VALUE = ("anyOf", "oneOf", "allOf")
_OTHERS = frozenset({
    "$id", "$ref", "$schema", "const", "contentEncoding", "default", "deprecated", "description",
    "discriminator", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "maximum",
    "maxItems", "maxLength", "maxProperties", "minimum", "minItems", "minLength", "minProperties", "multipleOf",
    "pattern", "required", "title", "type", "uniqueItems",
})  # fmt: skip
_READ_AS: dict[str, Any] = {"integer": int, "number": float, "boolean": bool, "null": None}
_TYPES = {
    "integer": "int",
    "number": "double",
    "string": "string",
    "boolean": "boolean",
    "array": "a list",
    "object": "a mapping",
}
_LIMITS = {
    "minimum": "from",
    "maximum": "up to",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "pattern": "matching",
    "minLength": "of at least",
    "maxLength": "of at most",
    "minItems": "of at least",
    "maxItems": "of at most",
}


class _Wrong(NamedTuple):
    """One value that does not fit: where in the component's configuration, and what is wrong."""

    at: tuple[str | int, ...]
    found: str
    expected: str


class Schemas:
    """The schemas of one set of components, by name, ready to check profiles with."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        """Take `schemas`; raise `ProfileError` naming the component whose schema is none that a component publishes."""
        self._checks = {name: _Check(name, schema) for name, schema in sorted(schemas.items())}

    def check(self, host: str, tree: dict[str, Any]) -> CompileFailed | None:
        """Return the first fault of a host's profile, None where every active component's part fits its schema.

        A component without a schema is not checked, nor is one that is not active: no host reads it.
        """
        try:
            sections = Profile(tree).components()
        except ProfileError as error:
            found, _, expected = error.message.removeprefix(f"{error.path}: found ").rpartition(", expected ")
            return failed(host, error.path, found=found, expected=expected)
        for name, section in sections.items():
            if section.active and name in self._checks:
                for wrong in self._checks[name].faults(section.configuration):
                    return failed(host, _path(section.path, wrong.at), found=wrong.found, expected=wrong.expected)
        return None


class Checked:
    """A compiler whose profiles fit the schemas of the hosts they are for."""

    def __init__(self, compiler: Compiler, schemas: Callable[[str], Schemas | None]) -> None:
        """Check what `compiler` makes against ``schemas(host)``; None: that host has never said what it has."""
        self._compiler = compiler
        self._schemas = schemas

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        """Return for each of `hosts` its profile, or what is wrong with it."""
        made = self._compiler.compile(source, hosts)
        return {host: self._checked(host, one) for host, one in made.items()}

    def hosts(self, source: Path) -> tuple[str, ...]:
        """Return the hosts that `source` has something for, sorted."""
        return self._compiler.hosts(source)

    def _checked(self, host: str, made: Compiled | CompileFailed) -> Compiled | CompileFailed:
        if isinstance(made, CompileFailed) or (schemas := self._schemas(host)) is None:
            return made
        return schemas.check(host, made.profile) or made


class _Check:
    """One component's schema."""

    def __init__(self, name: str, schema: Schema) -> None:
        try:
            self._schema = _sound(schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                self._schema,
                offline=True,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
            )
        except (ValueError, TypeError, RecursionError) as error:
            why = str(error).partition("\n")[0][:500]
            raise ProfileError(f"the schema of component {name} cannot be used: {why}", path="") from None

    def faults(self, configuration: dict[str, Any]) -> list[_Wrong]:
        """Return what does not fit in a component's configuration, sorted by place."""
        value: Any = configuration
        for _ in range(_ROUNDS):
            errors = list(self._validator.iter_errors(value))
            reread = [(error.instance_path, text) for error in errors for text in _reread(error)]
            if not reread:
                break
            value = copy.deepcopy(value) if value is configuration else value
            for at, read in reread:
                _put(value, at, read)
        wrong = {self._wrong(error, configuration) for error in errors}
        return sorted(wrong, key=lambda one: [(isinstance(term, str), str(term).zfill(9)) for term in one.at])

    def _wrong(self, error: jsonschema_rs.ValidationError, configuration: dict[str, Any]) -> _Wrong:
        error = _innermost(error)
        at = tuple(error.instance_path)
        here = list(self._at(at))
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.Required(property=missing):
                return _Wrong(at, f"no {missing!r}", "it in this mapping")
            case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=unknown):
                known = sorted({key for schema in here for key in schema.get("properties", {})})
                return _Wrong(at, f"the key {', '.join(sorted(unknown))}", f"one of {', '.join(known)}")
            case _:
                words = describe(_value(configuration, at))
                return _Wrong(at, words.partition(" ")[0] if self._is_secret(at) else words, _expected(here))

    def _at(self, at: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
        """Yield the schemas that a value at a place may have to fit, each with those it is made of."""
        schemas: Iterable[dict[str, Any]] = self._arms([self._schema])
        for term in at:
            schemas = self._arms([inner for schema in schemas for inner in _inner(schema, term)])
        yield from schemas

    def _arms(self, schemas: Iterable[Any]) -> Iterator[dict[str, Any]]:
        for schema in schemas:
            if isinstance(schema, dict):
                yield schema
                yield from self._arms(_parts(schema, self._schema))

    def _is_secret(self, at: tuple[str | int, ...]) -> bool:
        """Tell whether a value is a secret, is in one, or may hold one: where it does not fit nobody knows."""
        around = (schema for end in range(len(at)) for schema in self._at(at[:end]))
        return any(schema.get("x-secret") for schema in around) or self._holds_secret(list(self._at(at)))

    def _holds_secret(self, schemas: list[dict[str, Any]]) -> bool:
        seen: set[int] = set()
        while schemas:
            schema = schemas.pop()
            if schema.get("x-secret"):
                return True
            if id(schema) not in seen:
                seen.add(id(schema))
                schemas += _schemas_in(schema, with_definitions=False)
                schemas += _parts(schema, self._schema)
        return False


def _sound(schema: Schema) -> dict[str, Any]:
    """Return a schema that is safe to check with; raise `ValueError` or `TypeError` for any other."""
    size = len(json.dumps(schema))
    if size > MAX_BYTES:
        raise ValueError(f"found {size} bytes, expected at most {MAX_BYTES}")
    own = dict(schema)
    _refuse(own, own, MAX_DEPTH)
    _refuse_loops(own)
    return own


def _refuse(schema: Any, root: dict[str, Any], depth: int) -> None:
    """Raise `ValueError` for what `aquiline.profile.json_schema` never writes."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or not depth:
        raise ValueError(f"found {describe(schema)}, expected a schema, and not more than {MAX_DEPTH} in each other")
    for key, value in schema.items():
        if key not in _ONE | _LISTED | _NAMED | _OTHERS and not key.startswith("x-"):
            raise ValueError(f"the keyword {key} is not supported")
        if (key in _NAMED and not isinstance(value, dict)) or (key in _LISTED and not isinstance(value, list)):
            raise ValueError(f"the keyword {key} has {describe(value)}")
    _referred(schema, root)
    for inner in _schemas_in(schema, with_definitions=True):
        _refuse(inner, root, depth - 1)


def _refuse_loops(root: dict[str, Any]) -> None:
    """Raise `ValueError` for a schema that refers to itself for the very same value: checking it would not end."""
    for schema in [root, *root.get("$defs", {}).values()]:
        level, steps = [schema], 0
        while level:
            level = [inner for one in level for inner in _parts(one, root)]
            steps += 1
            if steps > MAX_DEPTH or len(level) > 10_000:
                raise ValueError("a loop of references, or too many")


def _parts(schema: Any, root: dict[str, Any]) -> list[Any]:
    """Return the schemas that look at the same value as `schema` does."""
    if not isinstance(schema, dict):
        return []
    parts = [part for key in _SAME_VALUE for part in schema.get(key, ())]
    return [*parts, *_referred(schema, root)]


def _referred(schema: dict[str, Any], root: dict[str, Any]) -> list[Any]:
    if "$ref" not in schema:
        return []
    name = str(schema["$ref"]).removeprefix("#/$defs/")
    definitions = root.get("$defs")
    if f"#/$defs/{name}" != schema["$ref"] or not isinstance(definitions, dict) or name not in definitions:
        raise ValueError(f"the reference {schema['$ref']!r} is to none of its own definitions")
    return [definitions[name]]


def _schemas_in(schema: dict[str, Any], *, with_definitions: bool) -> list[Any]:
    """Return the schemas that are written directly in `schema`."""
    named = _NAMED if with_definitions else _NAMED - {"$defs"}
    found = [schema[key] for key in sorted(_ONE) if key in schema]
    found += [inner for key in sorted(_LISTED) for inner in schema.get(key, ())]
    found += [inner for key in sorted(named) for inner in schema.get(key, {}).values()]
    return found if with_definitions else [inner for inner in found if isinstance(inner, dict)]


def _inner(schema: dict[str, Any], term: str | int) -> list[Any]:
    """Return the schemas of the entry `term` of what `schema` describes."""
    if isinstance(term, int):
        first: list[Any] = schema.get("prefixItems", [])
        return [first[term]] if term < len(first) else [schema.get("items")]
    if term in schema.get("properties", {}):
        return [schema["properties"][term]]
    return [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]


def _reread(error: jsonschema_rs.ValidationError) -> list[Any]:
    """Return, for a text that does not fit, what the host would read it as; nothing where it reads it as it is."""
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Type(types=types):
            wanted = list(types)
        case jsonschema_rs.ValidationErrorKind.AnyOf(context=arms):
            here = [one for arm in arms for one in arm if one.instance_path == error.instance_path]
            kinds = [one.kind for one in here]
            if not all(isinstance(kind, jsonschema_rs.ValidationErrorKind.Type) for kind in kinds):
                return []
            wanted = [name for kind in kinds for name in kind.types]  # type: ignore[attr-defined]
        case _:
            return []
    for name, read_as in _READ_AS.items():
        if name in wanted and isinstance(error.instance, str | int | float):
            try:
                return [msgspec.convert(error.instance, read_as, strict=False)]
            except msgspec.ValidationError:
                continue
    return []


def _innermost(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Return the error in that arm of a union which fits best: whose fault is the deepest."""
    while isinstance(
        error.kind, jsonschema_rs.ValidationErrorKind.AnyOf | jsonschema_rs.ValidationErrorKind.OneOfNotValid
    ):
        inner = [one for arm in error.kind.context for one in arm]
        deepest = max(inner, key=lambda one: len(one.instance_path))
        is_about_keys = [one for one in inner if isinstance(one.kind, jsonschema_rs.ValidationErrorKind.Required)]
        if len(deepest.instance_path) == len(error.instance_path):
            return is_about_keys[0] if is_about_keys else error
        error = deepest
    return error


def _put(value: Any, at: Sequence[str | int], read: Any) -> None:
    for term in at[:-1]:
        value = value[term]
    if at:
        value[at[-1]] = read


def _value(value: Any, at: Sequence[str | int]) -> Any:
    for term in at:
        value = value[term]
    return value


def _path(path: str, at: Sequence[str | int]) -> str:
    for term in at:
        path = child(path, term)
    return path


def _expected(schemas: Iterable[dict[str, Any]]) -> str:
    """Return in words what fits one of `schemas`."""
    words = dict.fromkeys(filter(None, map(_words, schemas)))
    return " or ".join(words) or "something else"


def _words(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return describe(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    types = schema.get("type", [])
    names = [_TYPES[name] for name in ([types] if isinstance(types, str) else types) if name in _TYPES]
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return " ".join([" or ".join(names), *limits]).strip()
