"""Mappings by file name, as components have them under keys that are escaped or plain."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TypeVar

from aquiline.errors import ProfileError
from aquiline.profile import unescape_path

T = TypeVar("T")


def by_path(services: Mapping[str, T], where: str) -> dict[str, T]:
    """Return what `services`, which stands at `where` in the profile, holds for each path, sorted by path.

    Raise `ProfileError` for a key that is no absolute path, and for two that stand for the same one.
    """
    found: dict[str, T] = {}
    for key, value in services.items():
        path = unescape_path(key)
        if not path.startswith("/") or path.startswith("//") or path != posixpath.normpath(path):
            raise ProfileError(f"found {path!r}, expected the absolute path of a file", path=where)
        if path in found:
            raise ProfileError(f"{path} is there twice, escaped and plain", path=where)
        found[path] = value
    return dict(sorted(found.items()))
