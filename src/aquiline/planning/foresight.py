"""Lets later steps see what a step will have done, and marks what only the run can tell (D6)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from aquiline.changes.describe import describe_packages
from aquiline.changes.kinds import (
    Change,
    CopyOf,
    EditFile,
    Inline,
    MakeHardlink,
    Move,
    RunCommand,
    RunScript,
    SetPackages,
    SetRecord,
    SetUnit,
    WriteFile,
)
from aquiline.changes.perform import entry_of, foresee_unit, package_targets
from aquiline.changes.resolve import Effect
from aquiline.host.objects import ABSENT, Package, file_object
from aquiline.host.overlay import Overlay
from aquiline.planning.draft import Draft


def foresee(draft: Draft, component: str, change: Change, effect: Effect) -> None:
    """Let later steps see the host as `change`, which is not opaque, will leave it."""
    overlay = draft.overlay
    match change:
        case Move():
            overlay.move(change.source, change.destination)
            draft.parents.clear()
        case MakeHardlink():
            overlay.link(change.path, change.existing, "plan")
        case SetUnit():
            foresee_unit(change, effect.after, overlay)
        case SetRecord():
            overlay.accounts.set_entries(change.database, [entry_of(change)])
        case SetPackages():
            _foresee_packages(draft, component, effect)
        case WriteFile() | EditFile():
            overlay.remember(effect.after[0].path, file_object(effect.after[0]), _source(overlay, change))
        case _:
            at = effect.after[0]
            overlay.remember(at.path, file_object(at), None)
            if at.object == ABSENT:
                draft.parents.discard(at.path)


def foresee_nothing(draft: Draft, component: str, change: RunCommand | RunScript, description: str) -> None:
    """Mark what the opaque `change` may touch as unknown until it ran."""
    if change.touches is None:
        draft.undeclared.append((component, description))
        return
    draft.overlay.taint(change.touches.paths, description)
    draft.overlay.taint_units(change.touches.units, description)
    draft.overlay.taint_packages(change.touches.packages, description)


def _foresee_packages(draft: Draft, component: str, effect: Effect) -> None:
    """Let later steps see the packages; what these bring, and what their scripts may do, is known once they ran."""
    packages = draft.overlay.packages
    packages.transact(package_targets(effect.after))
    because = describe_packages(effect.before, effect.after)
    paths: set[str] = set()
    targets = [*package_targets(effect.before).items(), *package_targets(effect.after).items()]
    wanted = [(name, one.version) for name, one in targets if isinstance(one, Package) and one.version]
    for listed in packages.contents(wanted).values():
        if listed is None:
            draft.unlisted.append((component, because))
            draft.undeclared.append((component, because))
            draft.overlay.taint_missing_units(because)
            continue
        paths.update(listed)
    units = {posixpath.basename(path) for path in paths if posixpath.dirname(path).endswith("/systemd/system")}
    directories = {posixpath.dirname(path) for path in paths}
    draft.overlay.taint(sorted(paths - directories), because)
    draft.overlay.taint_units(sorted(units), because)


def _source(overlay: Overlay, change: WriteFile | EditFile) -> bytes | Callable[[], Any]:
    content = change.content
    if isinstance(content, Inline):
        return content.data
    assert isinstance(content, CopyOf)
    return overlay.content_now(content.path)
