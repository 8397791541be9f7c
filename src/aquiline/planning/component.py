"""What a component is, and what it is given.

A component turns its part of a profile into changes. It is one file: a typed configuration and a generator::

    class Motd(Component[Configuration]):
        name = "motd"
        version = "1"
        configuration = Configuration

        def configure(self, configuration: Configuration, host: View) -> Changes:
            yield Task(
                description="say hello at login",
                changes=(WriteFile(path="/etc/motd", content=Inline(configuration.text.encode())),),
                reactions=(ReactUnit(unit="motd.service", action="restart"),),
            )

It reads the host only through the `View` it is given, where it already sees what its own earlier changes, and those of
components before it, will have done. It writes nothing, starts nothing, opens no socket: an audit hook refuses that
while its code runs, naming component and line. It uses no clock and no random numbers: what should differ from host to
host is spread with `View.spread`.

A change whose state is already right is no step, so a component always yields all that its configuration wants.
``changed = yield task`` tells it whether anything of the task is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from aquiline.changes.kinds import Change, Probe, Reaction
from aquiline.host.objects import Object, Package
from aquiline.host.protocol import Completed, UnitState


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that belong together, and the reactions they call for (the proposal's ``CAF::Executor``)."""

    description: str
    #: In order.
    changes: tuple[Change, ...]
    #: Owed if at least one state change of the task is needed; run once each, after the objects are in place (D2, D3).
    reactions: tuple[Reaction, ...] = ()
    #: Profile path, or whatever says why; empty is the component's own path.
    cause: str = ""


class Note(msgspec.Struct, frozen=True):
    """A line for the person who reads the plan; lowers coverage where it says that something is not done."""

    text: str
    lowers_coverage: bool = False


Yielded = Task | Change | Note
Changes = Generator[Yielded, bool, None]
"""What `Component.configure` returns: yields tasks, single changes and notes; is sent whether anything is needed."""


class View(Protocol):
    """The host as a component sees it: as it will be after all that was planned before.

    Every method may raise `UnknownUntilRun`, which a component lets pass: it is then deferred (D6).
    """

    @property
    def name(self) -> str:
        """The host's fully qualified name, from its profile where that says so."""
        ...

    def object(self, path: str) -> Object:
        """Return what will stand at `path`; links are not followed."""
        ...

    def exists(self, path: str) -> bool: ...

    def read(self, path: str) -> bytes | None:
        """Return the content of the regular file at `path`, None where none will be."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in a directory."""
        ...

    def unit(self, unit: str) -> UnitState:
        """Return what will be known of a unit; ask for many at once by `units`."""
        ...

    def units(self, units: Iterable[str]) -> Mapping[str, UnitState]: ...
    def has_user(self, user: str) -> bool: ...
    def has_group(self, group: str) -> bool: ...

    def packages(self) -> Mapping[str, Package]:
        """Return what the package manager will know, by name; raise `NotPossibleHere` where there is none."""
        ...

    def package_manager(self) -> str:
        """Return ``apt`` or ``dnf``, empty where it is a pretended one; raise `NotPossibleHere` where there is none."""
        ...

    def surplus_packages(self, named: Collection[str]) -> tuple[str, ...]:
        """Return the installed packages that neither are `named` nor are needed by those, nor by every host."""
        ...

    def probe(self, probe: Probe) -> Completed:
        """Run a command that looks and does not touch, when planning and when running live; its answer is recorded."""
        ...

    def profile(self, path: str) -> Any:
        """Return the value at a path anywhere in the profile, None where there is none."""
        ...

    def spread(self, below: int, salt: str = "") -> int:
        """Return a number from 0 up to but not including `below`, fixed by the host's name and `salt`."""
        ...

    def template(self, relative: str) -> str | None:
        """Return the text of one of the site's Jinja2 templates, None where there is none of that name."""
        ...


Configuration = TypeVar("Configuration", bound=msgspec.Struct)


class Component(Generic[Configuration]):
    """Base class of all components; found through the entry point group ``aquiline.components``."""

    #: The name under ``/software/components``.
    name: ClassVar[str]
    #: Version of the component, and of its schema.
    version: ClassVar[str]
    #: The type its part of the profile is converted to; published as JSON Schema. Use ``rename`` for Quattor's names,
    #: and ``forbid_unknown_fields=False``: unknown keys are found by the planner and shown as a line.
    configuration: ClassVar[type[msgspec.Struct]]

    def configure(self, configuration: Configuration, host: View) -> Changes:
        """Yield all that `configuration` wants of `host`.

        Raise `ProfileError` where values contradict each other. Any other exception fails the component; nothing that
        it yielded is then done.
        """
        raise NotImplementedError
