"""Home directories, made from ``/etc/skel``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from aquiline.changes.kinds import Change, CopyOf, MakeDirectory, MakeSymlink, WriteFile
from aquiline.components.wantedaccounts import Account
from aquiline.host.objects import Directory, RegularFile, Symlink
from aquiline.planning.component import Note, Task, View

_SKELETON = "/etc/skel"
_PLAIN = re.compile(r"/[-\w./]+", re.ASCII)


def home(account: Account, host: View) -> Iterator[Task | Note]:
    """Yield what makes the home of `account`, nothing where something stands there already."""
    path = account.home or ""
    if not _PLAIN.fullmatch(path):
        yield Note(f"account {account.name}: its home is not made: {path!r} is no plain path", lowers_coverage=True)
        return
    path = posixpath.normpath(path)
    if not host.exists(path):
        changes = (MakeDirectory(path=path, mode=0o700, owner=int(account.uid), group=int(account.gid), seed=True),)
        copies = tuple(_copies(_SKELETON, path, account, host))
        yield Task(description=f"make the home of {account.name}", changes=(*changes, *copies), cause=account.where)


def _copies(source: str, target: str, account: Account, host: View) -> Iterator[Change]:
    """Return what makes a copy of what is in `source`; what is no file, directory or link is left out."""
    owner, group = int(account.uid), int(account.gid)
    for name in host.names(source):
        below, path = posixpath.join(source, name), posixpath.join(target, name)
        match host.object(below):
            case RegularFile() as found:
                content = CopyOf(path=below, sha256=found.sha256, size=found.size)
                mode = found.metadata.mode
                yield WriteFile(path=path, content=content, mode=mode, owner=owner, group=group, seed=True)
            case Directory():
                yield MakeDirectory(path=path, mode=0o700, owner=owner, group=group, seed=True)
                yield from _copies(below, path, account, host)
            case Symlink(target=text):
                yield MakeSymlink(path=path, target=text, owner=owner, group=group)
            case _:
                continue
