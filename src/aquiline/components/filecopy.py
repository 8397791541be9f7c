"""Files whose content the profile holds, or which are copies of other files of the host.

Schema and behaviour are Quattor's ncm-filecopy; docs/reference/components/filecopy.md says where ours differs.
"""

from __future__ import annotations

import posixpath
from typing import Annotated

import msgspec

from aquiline.changes.kinds import (
    CommandUndo,
    Content,
    CopyOf,
    Inline,
    ReactCommand,
    RunCommand,
    Touches,
    WriteFile,
)
from aquiline.components.ownership import Accounts, number_or_name, split_owner
from aquiline.components.paths import by_path
from aquiline.errors import ProfileError
from aquiline.host.objects import RegularFile, Symlink
from aquiline.planning.component import Changes, Component, Note, Task, View

_SERVICES = "/software/components/filecopy/services"
#: As many links in a row as Linux follows.
_MAX_LINKS = 40
_ANY_STATUS = tuple(range(256))


class File(msgspec.Struct, frozen=True, kw_only=True, rename={"force_restart": "forceRestart"}):
    """One file."""

    #: Its content.
    config: str | None = None
    #: The file of this host that it is a copy of.
    source: str | None = None
    #: A shell command line to run once the file changed.
    restart: str = ""
    #: Octal; left open it stays, 0644 for a new file.
    perms: Annotated[str, msgspec.Meta(pattern="^[0-7]{3,4}$")] | None = None
    #: User, or user:group.
    owner: str | None = None
    group: str | None = None
    #: Write each character as one byte (Latin-1) instead of UTF-8.
    no_utf8: bool = False
    #: Run the command even if nothing changed.
    force_restart: bool = False
    #: Without meaning here: undo keeps what was there before.
    backup: bool = True


class Configuration(msgspec.Struct, frozen=True, kw_only=True, rename={"force_restart": "forceRestart"}):
    """What ``/software/components/filecopy`` holds."""

    #: By escaped path.
    services: dict[str, File] = {}
    #: Run the commands of all files even if nothing changed.
    force_restart: bool = False
    #: A command that fails is shown and does not fail the run.
    ignore_restart_failure: bool = False


class FileCopy(Component[Configuration]):
    """Quattor's filecopy."""

    name = "filecopy"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield one task for each file, and the commands that are to run whatever changed."""
        files = by_path(configuration.services, _SERVICES)
        everywhere = configuration.force_restart
        forced = {file.restart for file in files.values() if everywhere or file.force_restart} - {""}
        accounts = Accounts(host)
        for path, file in files.items():
            user, group = split_owner(file.owner, file.group)
            content = _content(path, file, host)
            missing = accounts.missing(user, group) or ("" if content else f"no file {file.source} to copy")
            if missing or content is None:
                yield Note(f"{path}: left out: {missing} on this host", lowers_coverage=True)
                continue
            reacts = file.restart and file.restart not in forced
            yield Task(
                description=f"copy {path}",
                changes=(
                    WriteFile(
                        path=path,
                        content=content,
                        mode=int(file.perms, 8) if file.perms else None,
                        owner=number_or_name(user),
                        group=number_or_name(group),
                    ),
                ),
                reactions=(_reaction(file.restart, may_fail=configuration.ignore_restart_failure),) if reacts else (),
                cause=f"{_SERVICES}/{{{path}}}",
            )
        for command in sorted(forced):
            yield _forced(command, may_fail=configuration.ignore_restart_failure)


def _content(path: str, file: File, host: View) -> Content | None:
    """Return what the file is to hold, None where its source is not there."""
    where = f"{_SERVICES}/{{{path}}}"
    if (file.config is None) == (file.source is None):
        found = "neither" if file.config is None else "both"
        raise ProfileError(f"found {found}, expected either config or source", path=where)
    if file.source is not None:
        return _copy_of(file.source, host)
    assert file.config is not None
    try:
        # Escaped file names apart, text of a profile is sound Unicode.
        return Inline(data=file.config.encode("latin-1" if file.no_utf8 else "utf-8"))
    except UnicodeEncodeError as error:
        character = file.config[error.start]
        raise ProfileError(f"found {character!r}, which is no single byte: no_utf8 does not fit", path=where) from None


def _copy_of(source: str, host: View) -> CopyOf | None:
    """Return what stands at `source`, links followed, None where it is no regular file."""
    at = posixpath.normpath(source)
    for _ in range(_MAX_LINKS):
        found = host.object(at)
        if isinstance(found, RegularFile):
            return CopyOf(path=at, sha256=found.sha256, size=found.size)
        if not isinstance(found, Symlink):
            break
        at = posixpath.normpath(posixpath.join(posixpath.dirname(at), found.target))
    return None


def _reaction(command: str, *, may_fail: bool) -> ReactCommand:
    return ReactCommand(argv=("/bin/sh", "-c", command), description=command, may_fail=may_fail)


def _forced(command: str, *, may_fail: bool) -> RunCommand:
    return RunCommand(
        argv=("/bin/sh", "-c", command),
        description=command,
        always=True,
        accepts=_ANY_STATUS if may_fail else (0,),
        # It restarts something, as reactions do: nothing that a component reads.
        touches=Touches(),
        undo=CommandUndo(itself=True),
        undo_order="after",
    )
