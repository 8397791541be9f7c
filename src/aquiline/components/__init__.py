"""The plugins: each turns its part of a profile into changes. One file each, found through entry points."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aquiline.errors import AquilineError
from aquiline.planning.component import Component

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "aquiline.components"


def installed(names: Container[str] | None = None) -> dict[str, type[Component[Any]]]:
    """Return the installed components by name; only those among `names` where it is given.

    Raises:
        AquilineError: one cannot be loaded, or two have the same name; nothing is left out in silence.
    """
    found: dict[str, type[Component[Any]]] = {}
    for point in _points(tuple(sys.path)):
        if names is not None and point.name not in names:
            continue
        if point.name in found:
            raise AquilineError(f"two installed packages have a component {point.name}", hint=f"one is {point.value}")
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise AquilineError(f"component {point.name} ({point.value}) cannot be loaded: {error}") from error
    return found


def modules() -> Iterable[str]:
    """Return the names of the modules that installed components are in; none of them is imported."""
    return [point.module for point in _points(tuple(sys.path))]


@lru_cache(maxsize=1)
def _points(_where: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points on the module path; looked up once, for every installed package is opened for that."""
    # a dear import, and nothing for whoever takes something back
    from importlib.metadata import entry_points  # noqa: PLC0415

    return tuple(entry_points(group=GROUP))
