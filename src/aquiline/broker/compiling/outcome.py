"""What every compiler takes and gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from aquiline.profile import Profile

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?)*")


class Compiled(msgspec.Struct, frozen=True):
    """A host's profile."""

    profile: dict[str, Any]
    #: The digest that `aquiline.profile.Profile` has for it.
    digest: str


class CompileFailed(msgspec.Struct, frozen=True):
    """Why there is no profile for a host."""

    host: str
    #: Where: a path in the profile, or a file below the source where there is no profile yet.
    path: str
    #: What stands there, in words; never a secret.
    found: str
    #: What should stand there, in words.
    expected: str
    #: All of it in one sentence.
    message: str


class Compiler(Protocol):
    """Makes profiles of source files."""

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        """Return for each of `hosts` its profile, or what is wrong.

        MUST give the same for the same files, MUST NOT read outside `source`, and MUST NOT let one host's fault keep
        another from its profile. Raises `AquilineError` only for what concerns no host: a compiler that is not there.
        """
        ...

    def hosts(self, source: Path) -> tuple[str, ...]:
        """Return the hosts that `source` has something for, sorted."""
        ...


def compiled(tree: dict[str, Any]) -> Compiled:
    """Return `tree` as a host's profile."""
    return Compiled(tree, Profile(tree).digest)


def failed(host: str, path: str, *, found: str, expected: str) -> CompileFailed:
    """Return why there is no profile for `host`."""
    return CompileFailed(host, path, found, expected, f"{host}: {path}: found {found}, expected {expected}")


def is_host(name: str) -> bool:
    """Tell whether `name` can be a host's: what DNS allows, so no path and no option."""
    return len(name) <= 253 and _HOST.fullmatch(name) is not None


def misnamed(host: str, tree: dict[str, Any]) -> CompileFailed | None:
    """Return a failure if the profile says it is another host's: the copied file whose name nobody changed."""
    name = Profile(tree, given_name=host).name
    if name in {host, host.partition(".")[0]} or name.startswith(f"{host}."):
        return None
    return failed(host, "/system/network/hostname", found=f"the name {name}", expected=host)
