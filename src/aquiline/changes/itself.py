"""Whether steps change the program that makes them (D16).

A run may upgrade aquiline, the package of a component, or Python. All that it needs itself is in memory by then; what
would be planned after that is for the program that the run put there. So it ends with the stage that holds such a step.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from aquiline.changes.kinds import Move, RunCommand, RunScript, SetPackages
from aquiline.changes.perform import package_targets
from aquiline.changes.steps import Step
from aquiline.host.naming import path_of
from aquiline.host.objects import Symlink
from aquiline.host.protocol import Reading


class Itself(msgspec.Struct, frozen=True):
    """Where the code of this program is, on the host that it changes; empty where it is not on that host."""

    #: Files, and directories with all that is below them.
    places: tuple[str, ...] = ()
    #: Directories below a place that are not its own: others put theirs there.
    besides: tuple[str, ...] = ()
    #: Files by which the packages are found that brought it.
    files: tuple[str, ...] = ()

    def changed_by(self, steps: Sequence[Step], host: Reading, leads_to: Callable[[str], str]) -> tuple[str, ...]:
        """Return what of it `steps` change, in words, sorted; `leads_to` says where a path leads through links."""
        if not self.places:
            return ()
        packages = {name for step in steps for name in _packages(step)}
        own = set(host.packages.owners(self.files)) & packages if packages else set()
        held = _Held(self, leads_to)
        paths = {path for step in steps for path in _paths(step) if held.holds(path, _takes_all_below(step))}
        return (*(f"package {name}" for name in sorted(own)), *sorted(paths))


class _Held:
    """Says which paths are of the program: quickly, for a plan may have thousands of steps."""

    def __init__(self, itself: Itself, leads_to: Callable[[str], str]) -> None:
        self._itself = itself
        self._leads_to = leads_to
        self._below = tuple(f"{place}/" for place in itself.places)
        #: Where directories lead.
        self._directories: dict[str, str] = {}

    def holds(self, path: str, takes_all_below: bool) -> bool:
        """Return whether `path`, or what is below it where that goes with it, is code of the program."""
        if takes_all_below and any(place.startswith(f"{path}/") for place in self._itself.places):
            return True
        return self._is_code(path) or self._is_code(self._real(path))

    def _is_code(self, path: str) -> bool:
        if path in self._itself.places:
            return True
        if not path.startswith(self._below):
            return False
        others = [one for one in self._itself.besides if _is_at_or_below(path, one)]
        return any(
            _is_at_or_below(path, place) and not any(_is_at_or_below(one, place) for one in others)
            for place in self._itself.places
        )

    def _real(self, path: str) -> str:
        parent, name = posixpath.split(path)
        if parent not in self._directories:
            self._directories[parent] = posixpath.dirname(self._leads_to(path))
        return posixpath.join(self._directories[parent], name)


def changes_itself(what: Sequence[str], left: Sequence[str] = ()) -> str:
    """Return the line that a plan has which changes `what` of the program, and so leaves components to the next run."""
    ends = "the run ends with this stage" + (f" and leaves {', '.join(left)} to the next one" if left else "")
    return f"changes aquiline itself ({', '.join(what)}): {ends}"


def _packages(step: Step) -> Iterator[str]:
    if isinstance(step.change, SetPackages):
        yield from package_targets(step.after)
    elif isinstance(step.change, RunCommand | RunScript) and step.change.touches is not None:
        yield from step.change.touches.packages


def _paths(step: Step) -> Iterable[str]:
    if isinstance(step.change, SetPackages):
        return ()  # of the files beside its packages none is code
    if isinstance(step.change, RunCommand | RunScript):
        return step.change.touches.paths if step.change.touches is not None else ()
    was = dict.fromkeys(step.before)
    return (path for at in step.after if at not in was and (path := path_of(at.path)))


def _takes_all_below(step: Step) -> bool:
    """Whether what is found below the step's paths is another afterwards: a directory moves, or a link leads on."""
    return isinstance(step.change, Move) or any(isinstance(at.object, Symlink) for at in (*step.before, *step.after))


def _is_at_or_below(path: str, other: str) -> bool:
    return path == other or path.startswith(other.rstrip("/") + "/")
