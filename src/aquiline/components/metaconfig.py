"""Configuration files rendered from structured values in the profile, with the services that read them.

Schema and behaviour are Quattor's ncm-metaconfig; docs/reference/components/metaconfig.md says where ours differs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from aquiline.changes.kinds import Change, CommandUndo, Inline, ReactUnit, RunCommand, Validate, WriteFile
from aquiline.components.ownership import Accounts, number_or_name
from aquiline.components.paths import by_path
from aquiline.components.rendering import FORMS, CannotRender, Conversion, convert, render_template
from aquiline.components.units import unit_name
from aquiline.errors import ProfileError
from aquiline.planning.component import Changes, Component, Note, Task, View
from aquiline.profile import unescape

_HERE = "/software/components/metaconfig"
_ANY_STATUS = tuple(range(256))

Action = Literal["restart", "reload", "condrestart", "stop_sleep_start"]
_REACTIONS: Mapping[Action, Literal["restart", "reload", "try-restart", "stop-sleep-start"]] = {
    "restart": "restart",
    "reload": "reload",
    "condrestart": "try-restart",
    "stop_sleep_start": "stop-sleep-start",
}


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """Names of commands, in the order they run."""

    #: Before the file is checked and written.
    pre: str | None = None
    #: Checks the content it finds on its standard input.
    test: str | None = None
    #: After the file was written.
    changed: str | None = None
    #: After that.
    post: str | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    #: A form (json, jsonpretty, yaml, yamlmulti, tiny, properties, general, toml) or the name of a template.
    module: str
    contents: Any = {}
    #: A number, or text of octal digits.
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] | Annotated[str, msgspec.Meta(pattern="^[0-7]{3,4}$")] = 0o644
    owner: str | None = None
    group: str | None = None
    #: What is to happen to each unit when the file changed.
    daemons: dict[str, Action] = {}
    convert: Conversion = Conversion()
    #: Put before the contents as it is.
    preamble: str = ""
    #: Without meaning here: undo keeps what was there before.
    backup: str | None = None
    active: bool = True
    actions: Actions = Actions()


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/software/components/metaconfig`` holds."""

    #: By escaped path.
    services: dict[str, Service] = {}
    #: Command lines by the names that actions use; with "-" in front a failure does not matter.
    commands: dict[str, Annotated[str, msgspec.Meta(pattern="^-?/")]] = {}


class Metaconfig(Component[Configuration]):
    """Quattor's metaconfig."""

    name = "metaconfig"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield one task for each active file."""
        accounts = Accounts(host)
        for path, service in by_path(configuration.services, f"{_HERE}/services").items():
            if not service.active:
                continue
            missing = accounts.missing(service.owner, service.group)
            if missing:
                yield Note(f"{path}: left out: {missing} on this host", lowers_coverage=True)
                continue
            yield Task(
                description=f"configure {path}",
                changes=_changes(path, service, configuration.commands, host),
                reactions=tuple(_reaction(daemon, action) for daemon, action in sorted(service.daemons.items())),
                cause=_where(path),
            )


def _changes(path: str, service: Service, commands: Mapping[str, str], host: View) -> tuple[Change, ...]:
    """Return the file with the commands around it, in the order they run."""
    content = Inline(data=_render(path, service, host).encode())
    written = WriteFile(
        path=path,
        content=content,
        mode=service.mode if isinstance(service.mode, int) else int(service.mode, 8),
        owner=number_or_name(service.owner),
        group=number_or_name(service.group),
    )
    action = service.actions
    run = {
        name: _Line.of(command, commands, f"{_where(path)}/actions/{name}")
        for name, command in (
            ("pre", action.pre),
            ("test", action.test),
            ("changed", action.changed),
            ("post", action.post),
        )
        if command
    }
    changes: list[Change] = []
    if "pre" in run:
        changes.append(run["pre"].command())
    if "test" in run:
        test = run["test"]
        changes.append(Validate(path=path, content=content, argv=test.argv, stdin=True, accepts=test.accepts))
    changes.append(written)
    # Notifications of a file that changed: taking that back changes it once more, and they follow again.
    changes += [run[name].command(undo_order="after") for name in ("changed", "post") if name in run]
    return tuple(changes)


class _Line(msgspec.Struct, frozen=True):
    """A command of the registry, split into words."""

    argv: tuple[str, ...]
    accepts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, commands: Mapping[str, str], where: str) -> _Line:
        line = commands.get(name)
        if line is None:
            raise ProfileError(f"found {name!r}, expected the name of one of {_HERE}/commands", path=where)
        try:
            argv = tuple(shlex.split(line.removeprefix("-")))
        except ValueError as error:
            raise ProfileError(f"found {line!r}: {error}", path=f"{_HERE}/commands/{name}") from None
        return cls(argv, _ANY_STATUS if line.startswith("-") else (0,))

    def command(self, undo_order: Literal["after"] | None = None) -> RunCommand:
        return RunCommand(
            argv=self.argv,
            accepts=self.accepts,
            with_task=True,
            undo=CommandUndo(itself=True),
            undo_order=undo_order,
        )


def _render(path: str, service: Service, host: View) -> str:
    """Return the text of a file: preamble, contents, and one more line end, which is how Quattor writes it."""
    try:
        contents = convert(service.contents, service.convert)
        form = FORMS.get(service.module.lower())
        text = form(contents) if form else render_template(service.module, contents, host.template)
    except CannotRender as error:
        raise ProfileError(f"cannot render {service.module}: {error}", path=f"{_where(path)}/contents") from None
    return f"{service.preamble}\n{text}\n" if service.preamble else f"{text}\n"


def _reaction(daemon: str, action: Action) -> ReactUnit:
    return ReactUnit(unit=unit_name(unescape(daemon)), action=_REACTIONS[action])


def _where(path: str) -> str:
    return f"{_HERE}/services/{{{path}}}"
