"""Packages of a real root: they come with the next release; until then this says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from aquiline.errors import NotPossibleHere


class RootPackages:
    """Packages of a root: not in this release."""

    def installed(self) -> Mapping[str, str]:
        _next_release("listing the installed packages")

    def transact(self, install: Mapping[str, str], remove: Sequence[str]) -> None:  # noqa: ARG002 the protocol names them
        _next_release("installing and removing packages")


def _next_release(what: str) -> NoReturn:
    raise NotPossibleHere(f"{what} comes with the next release of aquiline")
