"""What undo is allowed to need and to do: the budget of pre-images (D15), and the policy for packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aquiline.changes.kinds import Change, Restore, SetPackages
from aquiline.changes.perform import is_about_metadata, package_targets
from aquiline.changes.resolve import Effect
from aquiline.changes.steps import Undo
from aquiline.errors import HostError
from aquiline.host.holes import stored_bytes
from aquiline.host.objects import At, Package, RegularFile
from aquiline.planning.draft import Draft


def allowed_undo(draft: Draft, change: Change, effect: Effect) -> Undo:
    """Return the undo of `effect`, irreversible where its pre-image is over budget or policy forbids it.

    What it keeps counts against the budget of the run from then on. Raises `HostError` where policy forbids the change
    itself.
    """
    if isinstance(change, SetPackages):
        return _allowed_packages(draft, effect)
    kept = kept_files(change, effect.before, effect.after, effect.undo)
    size = sum(stored_bytes(draft.overlay, path, found.size) for path, found in kept)
    budget = draft.known.budget
    if not size or budget is None:
        return effect.undo
    if size > budget.step or draft.kept_bytes + size > budget.run:
        which = "a step" if size > budget.step else "a run"
        return _irreversible(f"too large: {size} bytes are over the pre-image budget of {which}")
    draft.kept_bytes += size
    return effect.undo


def kept_files(
    change: Change, before: Sequence[At], after: Sequence[At], undo: Undo
) -> Iterator[tuple[str, RegularFile]]:
    """Yield the files, with their paths, whose content is kept for the undo of `change`.

    None of a file that only gets new metadata: its content stays. What packages' scripts replace is not known before
    they ran.
    """
    if undo.class_ != "exact" or isinstance(change, SetPackages) or is_about_metadata(change, before, after):
        return
    for one in undo.changes:
        if isinstance(one, Restore) and isinstance(one.object, RegularFile):
            yield one.path, one.object


def _allowed_packages(draft: Draft, effect: Effect) -> Undo:
    packages, known = draft.overlay.packages, draft.known
    kept = []
    for name, older, newer in _version_changes(effect):
        if packages.is_older(newer, older) and known.never_downgraded(name):
            raise HostError(f"this host's policy forbids to downgrade {name}: {older} to {newer}")
        why = known.why_not_downgraded(name) if packages.is_older(older, newer) else ""
        kept += [f"{name} is not downgraded: {why}"] if why else []
    return _irreversible("; ".join(kept)) if effect.undo.class_ == "exact" and kept else effect.undo


def _version_changes(effect: Effect) -> Iterator[tuple[str, str, str]]:
    """Yield the packages that are installed before and after, with both versions."""
    after = package_targets(effect.after)
    for name, before in package_targets(effect.before).items():
        then = after[name]
        if isinstance(before, Package) and isinstance(then, Package) and before.version and then.version:
            yield name, before.version, then.version


def _irreversible(why: str) -> Undo:
    return Undo("irreversible", "nothing", (), why)
