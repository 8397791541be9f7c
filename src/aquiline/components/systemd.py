"""Units: their files, and whether they are enabled and running.

Schema and behaviour are Quattor's ncm-systemd; docs/reference/components/systemd.md says where ours differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from aquiline.changes.kinds import Change, Inline, Probe, Remove, WriteFile
from aquiline.components.chkconfig import PATH as CHKCONFIG
from aquiline.components.chkconfig import Service, full_name, services
from aquiline.components.unitstates import State, Wanted, brought
from aquiline.errors import NotPossibleHere, ProfileError
from aquiline.host.objects import Directory, RegularFile
from aquiline.planning.component import Changes, Component, Note, Task, View
from aquiline.profile import unescape

_HERE = "/software/components/systemd"
_FOLDER = "/etc/systemd/system"
_DROP_IN = "quattor.conf"
#: Keys whose values stand on a line each (ncm-systemd's templates).
_LINES = frozenset(
    {
        "Before", "After", "Conflicts", "PartOf", "BindsTo", "RequisiteOverridable", "Requires", "Wants",
        "Requisite", "BlockIODeviceWeight", "BlockIOReadBandwidth", "BlockIOWriteBandwidth", "CPUAffinity",
        "DeviceAllow", "Environment", "EnvironmentFile", "ExecStart", "ExecStartPre", "ExecStartPost",
        "ExecReload", "ExecStop", "ExecStopPost", "ListenStream", "ListenDatagram", "ListenSequentialPacket",
        "OnCalendar", "WantedBy", "RequiredBy",
    }
)  # fmt: skip
_COMMAS = {("mount", "Options")}
_HWLOC = ("hwloc-calc", "--physical-output", "--intersect", "PU")

Value = bool | int | float | str | list[Any] | dict[str, Any]
Section = dict[str, Value]


class FileConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The sections of a unit file; their keys are those of systemd.directives(7)."""

    #: Files to take in, in the way of old versions of systemd.
    includes: tuple[str, ...] = ()
    unit: Section = {}
    install: Section = {}
    service: Section = {}
    socket: Section = {}
    mount: Section = {}
    automount: Section = {}
    path: Section = {}
    timer: Section = {}
    slice: Section = {}


class Custom(msgspec.Struct, frozen=True, kw_only=True, rename={"cpu_affinity": "CPUAffinity"}):
    """Values that are found out on the host; they win over those of the same name."""

    #: Places of hwloc(7); becomes the numbers of their processors.
    cpu_affinity: tuple[str, ...] = ()


class UnitFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a unit, or a drop-in of it."""

    config: FileConfiguration
    custom: Custom = Custom()
    #: The file is all there is; else it is a drop-in beside what the unit's package brings.
    replace: bool = False
    #: The unit itself is left as it is.
    only: bool = False


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One unit."""

    #: Where it is not the key; with or without suffix.
    name: str | None = None
    type: Literal["service", "target", "sysv", "socket", "mount", "automount", "timer", "slice", "path"] = "service"
    state: State = "enabled"
    startstop: bool = True
    #: Read and not used, as in Quattor: where a unit belongs stands in its file.
    targets: tuple[str, ...] = ("multi-user",)
    file: UnitFile | None = None


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out."""

    service: bool = False


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/software/components/systemd`` holds."""

    skip: Skip = Skip()
    #: What becomes of units that are not in here: nothing.
    unconfigured: Annotated[str, msgspec.Meta(pattern="^(ignore|enabled|disabled|on|off)$")] = "ignore"
    #: By escaped name.
    unit: dict[str, Unit] = {}


class Systemd(Component[Configuration]):
    """Quattor's systemd."""

    name = "systemd"
    version = "1"
    configuration = Configuration

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield one task for each unit file, then one for each unit."""
        if configuration.skip.service:
            yield Note("skip/service is set: no unit is touched")
            return
        if configuration.unconfigured != "ignore":
            yield Note(f"unconfigured: {configuration.unconfigured} is not done: other units stay as they are",
                       lowers_coverage=True)  # fmt: skip
        units = {
            full_name(unit.name or unescape(key), unit.type): (key, unit) for key, unit in configuration.unit.items()
        }
        for name, (key, unit) in sorted(units.items()):
            if unit.file is not None:
                yield from _unit_file(name, unit.file, f"{_HERE}/unit/{key}/file", host)
        wanted = [
            Wanted(name, unit.state, unit.startstop, f"{_HERE}/unit/{key}")
            for name, (key, unit) in units.items()
            if unit.file is None or not unit.file.only
        ]
        yield from brought([*wanted, *_legacy(host)], host)


def _legacy(host: View) -> list[Wanted]:
    """Return the services of the chkconfig component, where that only holds data and does nothing by itself."""
    section = host.profile(CHKCONFIG)
    if not isinstance(section, Mapping) or section.get("active") is not None:
        return []
    configured = section.get("service", {})
    return services({key: msgspec.convert(one, Service) for key, one in configured.items()}, host)


# ---- files ----------------------------------------------------------------------------------------------------------


def _unit_file(unit: str, file: UnitFile, where: str, host: View) -> Iterator[Task | Note]:
    own, folder = f"{_FOLDER}/{unit}", f"{_FOLDER}/{unit}.d"
    changes: list[Change] = []
    if file.replace:
        changes += _removed(folder, host)
    elif isinstance(host.object(own), RegularFile):
        changes.append(Remove(path=own))
    path = own if file.replace else f"{folder}/{_DROP_IN}"
    content = Inline(data=rendered(file.config, _found_out(file.custom, where, host)).encode())
    changes.append(WriteFile(path=path, content=content, mode=0o664))
    yield Task(description=f"say what {unit} is", changes=tuple(changes), cause=where)


def _removed(folder: str, host: View) -> list[Change]:
    """Return what removes a folder of drop-ins: they would change the file that is to say it all."""
    if not isinstance(host.object(folder), Directory):
        return []
    return [*(Remove(path=f"{folder}/{name}") for name in host.names(folder)), Remove(path=folder)]


def _found_out(custom: Custom, where: str, host: View) -> Section:
    if not custom.cpu_affinity:
        return {}
    probe = Probe(argv=(*_HWLOC, *custom.cpu_affinity), reads=("/sys/devices/system",))
    try:
        answer = host.probe(probe).stdout.decode("ascii", "replace")
    except NotPossibleHere as error:
        raise ProfileError(f"CPUAffinity needs hwloc-calc on the host: {error.message}", path=where) from error
    numbers = [line for line in answer.splitlines() if re.fullmatch(r"\d+(,\d+)*", line)]
    if not numbers:
        raise ProfileError(f"hwloc-calc knows no processors of {' '.join(custom.cpu_affinity)}", path=where)
    return {"CPUAffinity": [[], numbers[-1].split(",")]}  # the empty one takes back what was said before


def rendered(config: FileConfiguration, custom: Section) -> str:
    """Return the text of a unit file: sections and keys in the order of their names."""
    lines = [f".include {path}" for path in config.includes]
    for name in sorted(field for field in FileConfiguration.__struct_fields__ if field != "includes"):
        section: Section = getattr(config, name)
        if section:
            lines.append(f"[{name.capitalize()}]")
            for key, value in sorted(_flattened(name, section).items()):
                lines += _lines(name, key, custom.get(key, value))
    return "".join(f"{line}\n" for line in lines)


def _flattened(name: str, section: Section) -> Section:
    """Return a section with its conditions and assertions as keys like any other."""
    if name != "unit":
        return section
    flat: Section = {}
    for key, value in section.items():
        nested = key in ("Assert", "Condition") and isinstance(value, dict)
        flat |= {f"{key}{what}": one for what, one in value.items()} if nested else {key: value}  # type: ignore[union-attr]
    return flat


def _lines(section: str, key: str, value: Value) -> list[str]:
    if isinstance(value, list) and (key in _LINES or key.startswith(("Condition", "Assert"))):
        return [f"{key}={_text(one)}" for one in value]
    if key.startswith("Limit") and key != "LimitNICE" and value == -1:
        return [f"{key}=infinity"]
    if key == "CPUQuota":
        return [f"{key}={value}%"]
    if (section, key) in _COMMAS and isinstance(value, list):
        return [f"{key}={','.join(map(str, value))}"]
    return [f"{key}={_text(value)}"]


def _text(value: Value) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(_text(one) for one in value)
        case dict():
            return "".join(f'"{key}={one}" ' for key, one in sorted(value.items()))
        case _:
            return str(value)
