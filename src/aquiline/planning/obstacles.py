"""What stands in the way of a step and can be seen before it runs: files and directories that ``chattr`` protects."""

from __future__ import annotations

import posixpath

from aquiline.changes.kinds import Change, MakeHardlink, SetRecord, WriteFile
from aquiline.changes.perform import FILE_KINDS, is_about_metadata
from aquiline.changes.resolve import Effect
from aquiline.host.objects import Absent
from aquiline.host.protocol import Protection
from aquiline.host.refusals import protected
from aquiline.planning.draft import Draft
from aquiline.planning.forbidden import changed_files


def obstacle(draft: Draft, change: Change, effect: Effect) -> str:
    """Return what would keep the host from doing `change`, in words; empty where nothing is seen."""
    if not isinstance(change, (*FILE_KINDS, SetRecord)):
        return ""
    was_there = {at.path for at in effect.before if not isinstance(at.object, Absent)}
    for path in changed_files(change):
        if isinstance(change, SetRecord | MakeHardlink) or path in was_there:
            found = draft.overlay.protection(path)
            if found:
                return f"{path} {protected(found)}"
    if isinstance(change, WriteFile) and change.in_place and was_there:
        return ""
    if is_about_metadata(change, effect.before, effect.after):
        return ""
    for path in (change.path,) if isinstance(change, MakeHardlink) else changed_files(change):
        directory = posixpath.dirname(path)
        found = _of_directory(draft, directory)
        if found and not (found == "append-only" and isinstance(change, MakeHardlink)):
            return f"{directory} {protected(found)}"
    return ""


def _of_directory(draft: Draft, path: str) -> Protection:
    """Return the flag of the directory in which an entry is to change; looked at once for all of them."""
    if path not in draft.protections:
        draft.protections[path] = draft.overlay.protection(_followed(draft, path))
    return draft.protections[path]


def _followed(draft: Draft, path: str) -> str:
    """Return the path of the directory that `path` leads to, where that is a link."""
    return posixpath.dirname(draft.overlay.where(posixpath.join(path, "entry"))) or "/"
