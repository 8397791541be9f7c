"""The part of a profile that a component answers for, as a typed value; and its type, as JSON Schema.

Pan writes types exactly, but untyped readers and people do not: where Quattor takes ``"5"`` for a long and ``"true"``
for a boolean, so does `convert`. The other way round is a fault.

A field whose value is a secret (D9) is annotated with `SECRET`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from aquiline.errors import ProfileError
from aquiline.profile.paths import child
from aquiline.profile.profile import ComponentSection, describe

#: ``password: Annotated[str, SECRET]``: never shown, never diffed, marked in the published schema.
SECRET = msgspec.Meta(extra={"secret": True}, extra_json_schema={"x-secret": True})

T = TypeVar("T", bound=msgspec.Struct)


class Described(Protocol):
    """What `json_schema` needs to know of a component."""

    name: ClassVar[str]
    version: ClassVar[str]
    configuration: ClassVar[type[msgspec.Struct]]


def convert(section: ComponentSection, wanted: type[T]) -> T:
    """Return the section's configuration typed; raise `ProfileError` with the profile path of the first fault."""
    try:
        return msgspec.convert(section.configuration, wanted, strict=False)
    except msgspec.ValidationError as error:
        # msgspec names list positions but not the keys of mappings, so the fault is looked for again.
        raise _fault(section.configuration, wanted, section.path) or ProfileError(
            str(error), path=section.path
        ) from None


def unknown_keys(value: Any, wanted: Any, path: str) -> list[str]:
    """Return the profile paths of all keys in `value` that `wanted` has no place for."""
    found: list[tuple[str | int, ...]] = []
    _find_unknown(value, wanted, (), found)
    return [functools.reduce(child, terms, path) for terms in found]


def secret_paths(value: Any, wanted: Any, path: str) -> list[str]:
    """Return the profile paths in `value` of everything that `wanted` marks as a secret."""
    return [at for at, _, marked in _walk(value, wanted, path) if _is_secret(marked)]


def json_schema(component: type[Described]) -> dict[str, Any]:
    """Return the JSON Schema of a component's configuration, with the component's name and version."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:aquiline:component:{component.name}:{component.version}",
        "x-aquiline-component": component.name,
        "x-aquiline-version": component.version,
        **msgspec.json.schema(component.configuration),
    }


def _find_unknown(value: Any, wanted: Any, at: tuple[str | int, ...], found: list[tuple[str | int, ...]]) -> None:
    """Add to `found` what is unknown in `value`. Every plan does this to every entry: it looks at no leaf."""
    arm = _arm(value, _bare(wanted))
    if isinstance(value, dict) and _is_struct(arm):
        fields = _fields(arm)
        if not value.keys() <= fields.keys():
            found += [(*at, key) for key in sorted(value.keys() - fields.keys())]
        for key, inner_type in _fields_with_keys(arm).items():
            if key in value:
                _find_unknown(value[key], inner_type, (*at, key), found)
    elif isinstance(value, dict | list) and _may_hold_keys(arm):
        for position, inner, inner_type in _entries(value, arm):
            _find_unknown(inner, inner_type, (*at, position), found)


@functools.cache
def _fields_with_keys(struct: Any) -> dict[str, Any]:
    """Return those fields of a struct in whose values there can be unknown keys."""
    return {key: wanted for key, wanted in _fields(struct).items() if _may_hold_keys(wanted)}


def _may_hold_keys(wanted: Any) -> bool:
    bare = _bare(wanted)
    return _is_struct(bare) or any(_may_hold_keys(inner) for inner in get_args(bare))


def _walk(value: Any, wanted: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield every value with its path and its type, outermost first."""
    yield path, value, wanted
    for key, inner, inner_type in _entries(value, wanted):
        yield from _walk(inner, inner_type, child(path, key))


def _entries(value: Any, wanted: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Yield what is directly in `value`: key, value, type."""
    arm = _arm(value, _bare(wanted))
    if isinstance(value, dict) and _is_struct(arm):
        fields = _fields(arm)
        yield from ((key, inner, fields[key]) for key, inner in value.items() if key in fields)
    elif isinstance(value, dict) and _is(arm, Mapping):
        inner_type = (*get_args(arm), Any, Any)[1]
        yield from ((key, inner, inner_type) for key, inner in value.items())
    elif isinstance(value, list) and _is(arm, Sequence):
        inner_type = (*get_args(arm), Any)[0]
        yield from ((position, inner, inner_type) for position, inner in enumerate(value))


def _arm(value: Any, wanted: Any) -> Any:
    """Return that member of a union which is of the kind that `value` is; any other type as it is."""
    if get_origin(wanted) not in (Union, UnionType):
        return wanted
    for arm in map(_bare, get_args(wanted)):
        if isinstance(value, dict) and (_is_struct(arm) or _is(arm, Mapping)):
            return arm
        if isinstance(value, list) and _is(arm, Sequence):
            return arm
    return wanted


def _fault(value: Any, wanted: Any, path: str) -> ProfileError | None:
    """Return the innermost fault of `value`, None where it fits `wanted`."""
    try:
        msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        for key, inner, inner_type in _entries(value, wanted):
            if (found := _fault(inner, inner_type, child(path, key))) is not None:
                return found
        return ProfileError(_in_words(value, wanted, str(error)), path=path)
    return None


def _in_words(value: Any, wanted: Any, message: str) -> str:
    expected = _arm(value, _bare(wanted))
    if _is_struct(expected) and isinstance(value, dict):
        missing = [field.encode_name for field in msgspec.structs.fields(expected) if field.required]
        absent = [repr(name) for name in missing if name not in value]
        return f"found no {', '.join(absent)}, expected it in this mapping" if absent else message
    found = describe(value).partition(" ")[0] if _is_secret(wanted) else describe(value)
    return f"found {found}, expected {_type_in_words(wanted)}"


def _type_in_words(wanted: Any) -> str:
    bare = _bare(wanted)
    if get_origin(bare) in (Union, UnionType):
        # Null is how a profile that is written by hand leaves something out, not what anybody is told to write.
        return " or ".join(_type_in_words(arm) for arm in get_args(bare) if arm is not type(None))
    if _is_struct(bare) or _is(bare, Mapping):
        return "a mapping"
    if _is(bare, Sequence) and bare is not str:
        return "a list"
    names: dict[Any, str] = {str: "string", bool: "boolean", float: "double"}
    words = names.get(bare) or getattr(bare, "__name__", None) or str(bare)
    literals = get_args(bare)
    words = "one of " + ", ".join(map(str, literals)) if literals else words
    limits = [_limits(meta) for meta in get_args(wanted)[1:] if isinstance(meta, msgspec.Meta)]
    return " ".join(filter(None, (words, *limits)))


def _limits(meta: msgspec.Meta) -> str:
    limits = {
        "from": meta.ge,
        "up to": meta.le,
        "above": meta.gt,
        "below": meta.lt,
        "matching": meta.pattern,
        "of at least": meta.min_length,
        "of at most": meta.max_length,
    }
    return " ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)


def _bare(wanted: Any) -> Any:
    return get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted


def _is_struct(candidate: Any) -> bool:
    return isinstance(_bare(candidate), msgspec.StructMeta)


def _is(candidate: Any, base: type) -> bool:
    origin = get_origin(candidate) or candidate
    return isinstance(origin, type) and issubclass(origin, base) and not issubclass(origin, str | bytes)


def _is_secret(candidate: Any) -> bool:
    return any(isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("secret") for meta in get_args(candidate)[1:])


@functools.cache
def _fields(struct: Any) -> dict[str, Any]:
    """Return the type of each key that a struct knows."""
    hints = get_type_hints(struct, include_extras=True)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(struct)}
