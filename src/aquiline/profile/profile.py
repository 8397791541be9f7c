"""One host's profile as a value: the tree of what it should be, found by path and read component by component."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from aquiline.errors import ProfileError
from aquiline.profile.paths import child, split

_SOFTWARE = "/software"
_COMPONENTS = "/software/components"
#: What Quattor's ``structure_component`` puts beside a component's own keys.
_FRAMEWORK_KEYS = frozenset({"active", "dispatch", "dependencies", "register_change", "version", "ncm-module"})


class ComponentSection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a profile that one component answers for."""

    name: str
    #: An inactive component is listed and not planned.
    active: bool
    #: Without it the component is planned only when named (D7).
    dispatch: bool
    #: Components that run before this one.
    pre: tuple[str, ...]
    #: Components that run after this one.
    post: tuple[str, ...]
    #: The component's own keys, without those of the framework.
    configuration: dict[str, Any]

    @property
    def path(self) -> str:
        """Where it stands in the profile."""
        return child(_COMPONENTS, self.name)


class Profile(msgspec.Struct, frozen=True, dict=True):
    """What one host should be. The tree is never changed once it is in here."""

    tree: dict[str, Any]
    #: The host's name where the tree does not say it.
    given_name: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the tree's canonical JSON: keys sorted, no spaces, UTF-8."""
        return hashlib.sha256(canonical(self.tree)).hexdigest()

    @cached_property
    def name(self) -> str:
        """The host's fully qualified name: as its network says, else its hardware or metadata, else as given."""
        host = self._text("/system/network/hostname")
        domain = self._text("/system/network/domainname")
        if host:
            return f"{host}.{domain}" if domain and "." not in host else host
        return self._text("/hardware/nodename") or self._text("/metadata/name") or self.given_name

    def at(self, path: str) -> Any:
        """Return the value at `path`, None where there is none; raise `ProfileError` for what is no profile path.

        A term in braces is a key unescaped. Keys of a YAML profile that are written plainly are found by it too.
        """
        value: Any = self.tree
        for written, key in _terms(path):
            if isinstance(value, dict):
                value = value.get(key, value.get(written))
            elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value

    def components(self) -> dict[str, ComponentSection]:
        """Return every component that the profile names, sorted by name."""
        above = self.at(_SOFTWARE)
        if above is not None:
            _mapping(above, _SOFTWARE)
        found = self.at(_COMPONENTS)
        if found is None:
            return {}
        return {name: _section(name, value) for name, value in sorted(_mapping(found, _COMPONENTS).items())}

    def _text(self, path: str) -> str:
        found = self.at(path)
        return found if isinstance(found, str) else ""


def canonical(tree: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of `tree`, over which its digest is taken."""
    return msgspec.json.encode(tree, order="deterministic")


def number(text: str) -> int | float:
    """Return the number `text` writes as a double, as an integer where it is integral and prints as one."""
    value = float(text)
    # Perl prints doubles by %.15g, which turns to an exponent from 1e15 on.
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def describe(value: Any) -> str:
    """Return the type of a profile value, and the value where it is short, for a message."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean {str(value).lower()}"
        case int():
            return f"int {value}" if abs(value) < 10**20 else "a very large int"
        case float():
            return f"double {value}"
        case str():
            return f"string {value!r}" if len(value) <= 60 else f"a string of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a mapping of {len(value)}"
        case _:
            return type(value).__name__


def _terms(path: str) -> list[tuple[str, str]]:
    try:
        return split(path)
    except ValueError as error:
        raise ProfileError(str(error), path="") from None


def _section(name: str, value: Any) -> ComponentSection:
    path = child(_COMPONENTS, name)
    section = _mapping(value, path)
    listed = section.get("dependencies", {})
    # Profiles of old have a list of what comes before.
    dependencies = _mapping({"pre": listed} if isinstance(listed, list) else listed, child(path, "dependencies"))
    return ComponentSection(
        name=name,
        active=_boolean(section, "active", path),
        dispatch=_boolean(section, "dispatch", path),
        pre=_names(dependencies, "pre", child(path, "dependencies")),
        post=_names(dependencies, "post", child(path, "dependencies")),
        configuration={key: entry for key, entry in section.items() if key not in _FRAMEWORK_KEYS},
    )


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProfileError(f"found {describe(value)}, expected a mapping", path=path)
    return value


def _boolean(section: dict[str, Any], key: str, path: str) -> bool:
    """Return a flag of the framework; absent is true, as its schema says. Untyped profiles write it as text."""
    found = section.get(key, True)
    if found in (True, "true"):
        return True
    if found in (False, "false"):
        return False
    raise ProfileError(f"found {describe(found)}, expected boolean", path=child(path, key))


def _names(dependencies: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    names = dependencies.get(key, [])
    where = child(path, key)
    if not isinstance(names, list):
        raise ProfileError(f"found {describe(names)}, expected a list of component names", path=where)
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise ProfileError(f"found {describe(name)}, expected the name of a component", path=child(where, position))
    return tuple(names)
