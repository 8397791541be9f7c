"""Who waits for whom without having said so: users, groups and units that another component brings.

A profile need not order filecopy, which gives a file to a user, after accounts, which makes that user. Where it does
not, the order that `aquiline.planning.order` takes may put them the wrong way round: the file is left out, or given to
the number that the user had before, and only a second run puts it right. So planning keeps what each component was told
of users, groups and units, and sees whether one planned later makes it untrue. The stage is then planned again with the
later one first, unless the profile's dependencies say otherwise, or that one then needs the other. Each time a pair of
components is put in order for the first time, or given up for good, so this ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from aquiline.errors import HostError, NotPossibleHere, UnknownUntilRun
from aquiline.host.overlay import Overlay
from aquiline.planning.order import ancestors
from aquiline.profile import ComponentSection

#: What nobody can tell before it is run: it makes nobody wait.
_UNKNOWN = -2
_NOBODY = -1
_KINDS = ("user", "group", "unit")
#: How many names a line has at most.
_SHOWN = 4

Found = Mapping[tuple[str, str], tuple[str, ...]]
"""By the component that waits and the one that it waits for: for what, such as ``user:alice``."""


class Watch:
    """What components were told of the host, while one after the other is planned."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        #: By component and question: the answer once the component itself was planned.
        self._told: dict[tuple[str, str], int] = {}
        self._found: dict[tuple[str, str], list[str]] = {}

    @property
    def found(self) -> Found:
        """Who was told what a later component made untrue."""
        return {pair: tuple(questions) for pair, questions in self._found.items()}

    @contextmanager
    def asking(self, component: str) -> Iterator[None]:
        """Keep what `component` asks in here."""
        asked: dict[str, None] = {}

        def on_read(what: str) -> None:
            if not what.startswith("/") and what.partition(":")[0] in _KINDS:
                asked[what] = None

        self._overlay.on_read = on_read
        try:
            yield
        finally:
            self._overlay.on_read = None
        self._told.update({(component, question): self._answer(question) for question in asked})

    def forget(self, component: str) -> None:
        """Forget what `component` asked: it is planned in a later stage."""
        self._told = {pair: answer for pair, answer in self._told.items() if pair[0] != component}

    def compare(self, component: str) -> None:
        """See what of all that others were told is no longer so, now that `component` is planned."""
        for (earlier, question), told in self._told.items():
            answer = self._answer(question)
            if earlier != component and answer != told and _UNKNOWN not in (answer, told):
                self._found.setdefault((earlier, component), []).append(question)
                self._told[earlier, question] = answer

    def _answer(self, question: str) -> int:
        kind, _, name = question.partition(":")
        try:
            match kind:
                case "user":
                    return self._overlay.accounts.uid(name)
                case "group":
                    return self._overlay.accounts.gid(name)
                case _:
                    return int(self._overlay.units.state(name).exists)
        except (UnknownUntilRun, NotPossibleHere):
            return _UNKNOWN
        except HostError:
            return _NOBODY


class Waits:
    """Who is planned after whom, beside what the profile says; learnt by planning."""

    def __init__(self, sections: Mapping[str, ComponentSection]) -> None:
        self.pairs: Found = {}
        self._sections = sections
        #: Pairs of which each needs the other: they stay as they stood.
        self._mutual: set[tuple[str, str]] = set()

    def learn(self, found: Found) -> bool:
        """Take in what planning in this order has found; return whether the order is another now."""
        mutual = {pair for pair in self.pairs if pair[::-1] in found}
        self._mutual |= mutual
        now = {pair: questions for pair, questions in self.pairs.items() if pair not in mutual}
        for (waiting, bringing), questions in () if mutual else sorted(found.items()):
            is_free = waiting not in ancestors(self._sections, now)[bringing]
            if is_free and (waiting, bringing) not in self._mutual:
                now[waiting, bringing] = questions
        is_another = now != self.pairs
        self.pairs = now
        return is_another


def lines(pairs: Found) -> Iterator[str]:
    """Yield a line for each component that was put after another."""
    for (waiting, bringing), questions in sorted(pairs.items()):
        yield f"{waiting} waits for {bringing}: {_names(questions)}"


def refused(found: Found) -> Iterator[str]:
    """Yield a line for each component that was planned before one it needs, and cannot be planned after it."""
    for (waiting, bringing), questions in sorted(found.items()):
        names = _names(questions)
        yield f"{waiting} comes before {bringing} and cannot wait for it: {names}: what is left is for the next run"


def _names(questions: Iterable[str]) -> str:
    names = [question.replace(":", " ", 1) for question in sorted(questions)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
