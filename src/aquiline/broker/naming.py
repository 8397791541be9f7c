"""Names of hosts, folded for people: ``web[001-412]``."""

from __future__ import annotations

from collections.abc import Iterable

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # type: ignore[import-untyped]  # it has no types


def folded(names: Iterable[str]) -> str:
    """Return the names as one node set of ClusterShell, which its tools read back."""
    return str(NodeSet.fromlist(sorted(names), resolver=RESOLVER_NOGROUP))


class Folding:
    """Folds names, every set of them once: a report speaks of the same hosts many times, and folding is slow."""

    def __init__(self) -> None:
        self._folded: dict[frozenset[str], str] = {}

    def __call__(self, names: Iterable[str]) -> str:
        """Return the names folded."""
        some = frozenset(names)
        if some not in self._folded:
            self._folded[some] = folded(some)
        return self._folded[some]
