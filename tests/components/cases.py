"""Cases of Quattor's own components: a profile, and the files and commands it gave on an empty host.

They are read from ``quattor/cases`` in the folder that `AQUILINE_SHARED` names, or else in ``../shared``.
A component joins with a line in `tests/components/test_cases.py`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from aquiline.changes.kinds import Change, Inline, ReactCommand, ReactUnit, RunCommand, SetRecord, Validate, WriteFile
from aquiline.changes.perform import entry_of
from aquiline.host.records import Database
from aquiline.host.simulated import SimulatedHost
from aquiline.planning.component import Component
from aquiline.planning.planner import plan
from aquiline.profile import Profile

SHARED = Path(os.environ.get("AQUILINE_SHARED", Path(__file__).parents[3] / "shared"))
CASES = SHARED / "quattor" / "cases"

_SERVICE = re.compile(r"service (\S+) (\S+)")
_ACTIONS = {"condrestart": "try-restart", "stop_sleep_start": "stop-sleep-start"}


class File(msgspec.Struct, frozen=True):
    """A file as a case has it; None is not said."""

    content: str
    mode: str | None = None
    owner: str | None = None
    group: str | None = None


class Case(msgspec.Struct, frozen=True):
    """What went in and what came out."""

    component: str
    profile: dict[str, Any]
    files: dict[str, File]
    commands: list[str]


def paths(component: str) -> list[Path]:
    """Return the cases of a component, none where the folder is absent."""
    return sorted((CASES / component).glob("*.json"))


def load(path: Path) -> Case:
    return msgspec.convert(json.loads(path.read_text()), Case)


class Outcome(msgspec.Struct, frozen=True):
    """What a profile gives, as far as a case says it."""

    contents: dict[str, str]
    metadata: dict[str, list[str]]
    #: Units as (unit, action), other commands as their arguments.
    commands: list[tuple[str, ...]]


def expected(case: Case, same: Callable[[str], str] = str) -> Outcome:
    """Return what `case` says; `same` makes texts equal that may differ on purpose."""
    return Outcome(
        contents={path: same(file.content) for path, file in case.files.items()},
        metadata={path: _metadata(file, file.mode, file.owner, file.group) for path, file in case.files.items()},
        commands=[_command(line) for line in case.commands],
    )


def actual(
    case: Case,
    component: type[Component[Any]],
    host: SimulatedHost,
    same: Callable[[str], str] = str,
    beside: str = "",
) -> Outcome:
    """Return what `component` gives for the profile of `case`.

    Files and commands that match the regular expression `beside` are left out where the case has none of them.
    """
    profile = Profile(tree=case.profile, given_name="host.example.org")
    changes = [step.change for step in plan(profile, host, {component.name: component}).steps]
    written = {
        change.path: change
        for change in changes
        if isinstance(change, WriteFile) and (change.path in case.files or not re.fullmatch(beside or "-", change.path))
    }
    # An empty file that is not there is an empty file to Quattor, which writes it.
    empty = {path: file for path, file in case.files.items() if not file.content and path not in written}
    return Outcome(
        contents={
            path: same(change.content.data.decode()) if isinstance(change.content, Inline) else "a copy"
            for path, change in written.items()
        }
        | _databases(changes)
        | dict.fromkeys(empty, ""),
        metadata={
            path: _metadata(
                case.files.get(path, File(content="")),
                f"{0o644 if change.mode is None else change.mode:o}",
                change.owner,
                change.group,
            )
            for path, change in written.items()
        }
        | {path: _metadata(file, file.mode, file.owner, file.group) for path, file in empty.items()},
        commands=[one for one in _commands(changes) if not re.fullmatch(beside or "-", " ".join(one))],
    )


def _databases(changes: list[Change]) -> dict[str, str]:
    """Return the account databases that `changes` give a host which had none."""
    content: dict[str, Database] = {}
    for change in changes:
        if isinstance(change, SetRecord):
            known = content.get(f"/etc/{change.database}", Database([""]))
            content[f"/etc/{change.database}"] = known.with_entries([entry_of(change)])
    return {path: database.content.decode() for path, database in content.items()}


def _metadata(said: File, mode: str | None, owner: str | int | None, group: str | int | None) -> list[str]:
    """Return mode, owner and group as far as a case has `said` them: what it leaves out may be anything."""
    return [
        f"mode {int(mode or '0', 8):o}" if said.mode is not None else "any mode",
        f"owner {_account(owner)}" if said.owner is not None else "any owner",
        f"group {_account(group)}" if said.group is not None else "any group",
    ]


#: Names of cases and the numbers that they have on the host of the tests.
_NUMBERS = {"root": "0", "lp": "7"}


def _account(account: str | int | None) -> str:
    name = "root" if account is None else str(account)
    return _NUMBERS.get(name, name)


def _command(line: str) -> tuple[str, ...]:
    service = _SERVICE.fullmatch(line)
    if service is None:
        return tuple(line.split())
    return (f"{service[1]}.service", _ACTIONS.get(service[2], service[2]))


def _commands(changes: list[Change]) -> list[tuple[str, ...]]:
    """Return commands in the order they run, reactions sorted as Quattor's service actions are: by action, unit."""
    ran = [change.argv for change in changes if isinstance(change, RunCommand | Validate)]
    units = [(change.unit, change.action) for change in changes if isinstance(change, ReactUnit)]
    others = [change.argv for change in changes if isinstance(change, ReactCommand)]
    return [*ran, *sorted(units, key=lambda unit: (unit[1], unit[0])), *others]
