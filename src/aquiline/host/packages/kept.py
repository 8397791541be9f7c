"""The folder in which package files are kept for undo and redo, and how programs below the root reach it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

#: Where programs below the root find package files of a state directory that is not below it.
_WITHIN = "/var/cache/aquiline-packages"


class KeptFiles:
    """Package files in `folder`, for a host below `root`; all names are those that the package manager gives them."""

    def __init__(self, folder: str, root: str) -> None:
        self.folder = folder
        self._root = root.rstrip("/")

    def file(self, prefix: str, suffix: str) -> str | None:
        """Return the name of the kept file that begins and ends so, None where there is none."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return None
        return next((name for name in names if name.startswith(prefix) and name.endswith(suffix)), None)

    def within_reach(self, prefix: str, suffix: str) -> str | None:
        """Return the path, below the root, of such a file where it is there already; nothing is written."""
        name = self.file(prefix, suffix)
        folder = self._below() if self._is_inside() else _WITHIN
        return f"{folder}/{name}" if name is not None and os.path.exists(f"{self._root}{folder}/{name}") else None

    def inside(self, prefix: str, suffix: str) -> str | None:
        """Return the path, below the root, of such a file, put there if need be."""
        name = self.file(prefix, suffix)
        if name is None:
            return None
        if self._is_inside():
            return f"{self._below()}/{name}"
        os.makedirs(self._root + _WITHIN, mode=0o700, exist_ok=True)
        shutil.copyfile(f"{self.folder}/{name}", f"{self._root}{_WITHIN}/{name}")
        return f"{_WITHIN}/{name}"

    def take(self, path: str) -> None:
        """Keep the file at `path` below the root; durable when this returns."""
        self._make()
        self._keep(self._root + path)

    @contextmanager
    def filling(self) -> Iterator[str]:
        """Give a folder, as programs below the root see it, that holds nothing; what is in it afterwards is kept."""
        self._make()
        within = f"{self._below()}/.new" if self._is_inside() else f"{_WITHIN}/.new"
        place = self._root + within
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place, mode=0o700)
        yield within
        for name in os.listdir(place):
            if os.path.isfile(f"{place}/{name}"):
                self._keep(f"{place}/{name}")
        shutil.rmtree(place)

    def _make(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def _keep(self, source: str) -> None:
        name = os.path.basename(source)
        temporary = f"{self.folder}/.{name}"
        shutil.copyfile(source, temporary)
        _sync(temporary)
        os.rename(temporary, f"{self.folder}/{name}")
        _sync(self.folder)

    def _is_inside(self) -> bool:
        return f"{self.folder}/".startswith(f"{self._root}/")

    def _below(self) -> str:
        return self.folder[len(self._root) :]


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
