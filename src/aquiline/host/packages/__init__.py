"""Packages of a real root, by its own package manager: apt with dpkg, or dnf with rpm.

Nouns: a *target* is what one package is to become; a *transaction* brings all its targets about and touches nothing
else. Package files that undo and redo need are *kept* in a folder of the state directory, so that neither needs a
repository.

It does not promise atomicity: no package manager has any. It promises that an interrupted transaction is seen for what
it is, and that running it again, or the opposite one, ends as if nobody had interrupted it.
"""

from __future__ import annotations

from aquiline.host.packages.root import RootPackages

__all__ = ["RootPackages"]
