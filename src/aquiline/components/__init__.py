"""The plugins: each turns its part of a profile into changes. One file each, found through entry points."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from aquiline.errors import AquilineError
from aquiline.planning.component import Component

GROUP = "aquiline.components"


def installed(names: Container[str] | None = None) -> dict[str, type[Component[Any]]]:
    """Return the installed components by name; only those among `names` where it is given.

    Raises:
        AquilineError: one cannot be loaded, or two have the same name; nothing is left out in silence.
    """
    # a dear import, and nothing for whoever takes something back
    from importlib.metadata import entry_points  # noqa: PLC0415

    found: dict[str, type[Component[Any]]] = {}
    for point in entry_points(group=GROUP):
        if names is not None and point.name not in names:
            continue
        if point.name in found:
            raise AquilineError(f"two installed packages have a component {point.name}", hint=f"one is {point.value}")
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise AquilineError(f"component {point.name} ({point.value}) cannot be loaded: {error}") from error
    return found
