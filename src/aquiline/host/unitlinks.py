"""Making and removing the links that enable and mask units: below an offline root, and to put them back exactly."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping

from aquiline.errors import HostError
from aquiline.host import unitfiles
from aquiline.host.objects import Absent, Directory, Enablement, Metadata, Symlink, same_but_times
from aquiline.host.protocol import Host

_LABEL = "units"


def restore(host: Host, wanted: Enablement) -> bool:
    """Make the links of the units of `wanted` exactly those that it names; return whether any was not so."""
    by_path = {at.path: at.object for at in wanted.links}
    surplus = [at.path for at in unitfiles.links(host, wanted.units) if at.path not in by_path]
    changed = _change(host, surplus, {path: link for path, link in by_path.items() if isinstance(link, Symlink)})
    return remove_spare(host, wanted.absent_folders) or changed


def remove_spare(host: Host, folders: Iterable[str]) -> bool:
    """Remove those of these folders of links that are empty, durably, as systemctl does; return whether any was."""
    spare = [folder for folder in folders if unitfiles.is_spare(host, folder)]
    for folder in spare:
        host.remove(folder)
    host.sync_directories(sorted({posixpath.dirname(folder) for folder in spare}))
    return bool(spare)


def discard(host: Host) -> None:
    """Remove what was left half-built, wherever links and their folders are made."""
    above = {posixpath.dirname(folder) for folder in unitfiles.CONFIGURED}
    above |= {posixpath.dirname(folder) for folder in above}
    for folder in (*sorted(above), *unitfiles.folders(host)):
        if host.status(folder) is not None:
            host.discard(f"{folder}/link", _LABEL)


def enable(host: Host, unit: str) -> None:
    """Make the links that enabling `unit` and what goes along with it makes; unmask it first."""
    made = {
        path: Symlink(Metadata(0o777, 0, 0), target)
        for name in unitfiles.related(host, unit)
        for path, target in unitfiles.enabling(host, name).items()
    }
    _change(host, _masks(host, unit), made)


def disable(host: Host, unit: str) -> None:
    """Remove every link to `unit` and what goes along with it; unmask it first."""
    found = unitfiles.links(host, unitfiles.related(host, unit))
    _change(host, [at.path for at in found if at.path.startswith(unitfiles.CONFIGURED)], {})


def mask(host: Host, unit: str) -> None:
    """Make the link that masks `unit`; raise `HostError` where something else stands in its place."""
    path = f"{unitfiles.PERSISTENT}/{unit}"
    if not isinstance(host.observe(path), Absent) and not unitfiles.is_mask(host, path):
        raise HostError(f"{unit} cannot be masked: its own file is where the link would be", path=path)
    _change(host, (), {path: Symlink(Metadata(0o777, 0, 0), "/dev/null")})


def _masks(host: Host, unit: str) -> list[str]:
    paths = (f"{folder}/{unit}" for folder in unitfiles.CONFIGURED)
    return [path for path in paths if host.status(path) is not None and unitfiles.is_mask(host, path)]


def _change(host: Host, surplus: Collection[str], wanted: Mapping[str, Symlink]) -> bool:
    """Remove and make links, durably; return whether there was anything to do."""
    changed = bool(surplus)
    for path in surplus:
        host.remove(path)
    for path, link in wanted.items():
        found = host.observe(path)
        if not isinstance(found, Absent | Symlink):
            raise HostError("something that is no link is in the way", path=path)
        if not _is_right(found, link):
            changed = True
            _make_folders(host, posixpath.dirname(path))
            host.publish(host.stage(path, link, None, _LABEL))
    folders = {posixpath.dirname(path) for path in (*surplus, *wanted)}
    remove_spare(host, folders)
    host.sync_directories(sorted(folders | {posixpath.dirname(folder) for folder in folders}))
    return changed


def _is_right(found: Absent | Symlink, link: Symlink) -> bool:
    """Whether `found` is `link`, but for a time that is left open."""
    if link.metadata.mtime_ns:
        return found == link
    return same_but_times(found, link)


def _make_folders(host: Host, path: str) -> None:
    if path != "/" and host.status(path) is None:
        _make_folders(host, posixpath.dirname(path))
        host.publish(host.stage(path, Directory(Metadata(0o755, 0, 0)), None, _LABEL))
