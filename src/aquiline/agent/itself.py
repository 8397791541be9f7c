"""Where the code of this very program is: aquiline, packages of components, what they need, and Python (D16)."""

from __future__ import annotations

import importlib.util
import os
import posixpath
import sqlite3
import sys
from collections.abc import Iterator, Mapping

from aquiline.changes.itself import Itself
from aquiline.components import modules

#: Packages that aquiline needs, and those that these need.
LIBRARIES = (
    *("msgspec", "yaml", "jinja2", "tomli_w", "httpx"),
    *("markupsafe", "httpcore", "h11", "anyio", "idna", "certifi"),
)
#: Of a file that is loaded: inode, modification time, size.
Loaded = Mapping[str, tuple[int, int, int] | None]


def itself(*, with_components: bool) -> Itself:
    """Return where the code is; of components only where a profile will be planned, for undo needs none."""
    tops = {"aquiline", *LIBRARIES, *((name.partition(".")[0] for name in modules()) if with_components else ())}
    origins = [file for name in sorted(tops) for file in _origins(name)]
    stdlib = posixpath.dirname(os.__file__)
    program = [sys.argv[0]] if posixpath.basename(sys.argv[0]) == "aquiline" else []
    interpreter = [sys.executable] if sys.executable else []
    venv = [sys.prefix] if sys.prefix != sys.base_prefix else []
    places = [posixpath.dirname(file) if _is_package(file) else file for file in origins]
    files = [*origins, *program, *interpreter, os.__file__, sqlite3.__file__]
    return Itself(
        places=_both([*places, *program, *interpreter, *venv, stdlib]),
        besides=_both([f"{stdlib}/{name}" for name in ("site-packages", "dist-packages")]),
        files=_both(files),
    )


def loaded_code() -> Loaded:
    """Return what every file that code was loaded from is like now: another after somebody replaced it."""
    files = {str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return {file: _stamp(file) for file in files}


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - hundreds of them
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _origins(name: str) -> Iterator[str]:
    """Yield the file that the top-level module `name` is, nothing where it is not there."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        yield spec.origin


def _is_package(file: str) -> bool:
    return posixpath.basename(file) == "__init__.py"


def _both(paths: list[str]) -> tuple[str, ...]:
    """Return the paths as they are written, and as they are without links."""
    spelled = [posixpath.normpath(posixpath.join(os.getcwd(), path)) for path in paths]  # noqa: PTH109
    return tuple(sorted({*spelled, *map(os.path.realpath, spelled)}))
