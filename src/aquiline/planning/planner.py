"""Profile in, plan out: the steps of one stage, for one host.

Theory of operation

1. Components run in dependency order. Each runs as a generator against a `PlannedView` of one overlay, so that it sees
   what all before it will have done. What it yields is resolved to a step, or to nothing where the state is right, and
   remembered by the overlay (`aquiline.planning.tasks`).
2. A component that fails, or must wait, is taken back whole (`aquiline.planning.draft`; REFERENCE 1.2 G).
3. A component that reads what a pending opaque command may change is *deferred*, and with it whatever depends on it:
   the plan ends before it and the next stage begins with it, planned when the command has run (D6).
4. Reactions are collected, once each, and placed (`aquiline.planning.reactions`; D3).
5. Where a component turns out to bring a user, group or unit that one planned before it asked for, the stage is planned
   again with that one after it, and a line of the plan says so (`aquiline.planning.waits`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Any

from aquiline.changes.kinds import Probe, SetPackages
from aquiline.changes.perform import OPAQUE_KINDS
from aquiline.changes.steps import ComponentReport, Plan, Probed
from aquiline.errors import AquilineError, NotPossibleHere, ProfileError, UnknownUntilRun
from aquiline.host.objects import sha256
from aquiline.host.protocol import Completed, Reading
from aquiline.planning.component import Component
from aquiline.planning.draft import Draft, Savepoint
from aquiline.planning.guard import trusted, watching
from aquiline.planning.known import Known
from aquiline.planning.order import ancestors, order
from aquiline.planning.reactions import owe, place_all
from aquiline.planning.tasks import Tasks
from aquiline.planning.view import PlannedView
from aquiline.planning.waits import Waits, Watch, lines, refused
from aquiline.profile import ComponentSection, Profile, convert, unknown_keys

_UNKNOWN_KEY = ": unknown key, nothing reads it"


def plan(
    profile: Profile,
    host: Reading,
    registry: Mapping[str, type[Component[Any]]],
    known: Known = Known(),  # noqa: B008 - frozen
    *,
    only: Iterable[str] = (),
    remaining: Iterable[str] | None = None,
    stage: int = 1,
    first_number: int = 1,
) -> Plan:
    """Return the next stage of what `profile` wants of `host`.

    Args:
        profile: What the host should be.
        host: Only read.
        registry: Component classes by name.
        known: What the journal, the policy and the site say.
        only: Names of components; given, no others are planned, and those with ``dispatch: false`` are.
        remaining: For a later stage: the components that the stages before left to do.
        stage: Which stage this is, from 1.
        first_number: Number of its first step.

    Raises:
        ProfileError: the dependencies of the components make a loop, or `only` names one that is not there.
    """
    only = tuple(only)
    sections = profile.components()
    for name in only:
        if name not in sections:
            raise ProfileError(f"there is no component {name}", path="/software/components")
    left = None if remaining is None else set(remaining)
    waits, is_settled = Waits(sections), False
    while not is_settled:
        ordered = order(sections, waits.pairs)
        draft = Draft(host, known, ancestors(sections), stage, first_number)
        draft.notes += (*ordered.notes, *lines(waits.pairs))
        if stage == 1:
            _say_what_is_missing(draft, sections)
            owe(draft, known.owed)
        components = _Components(profile, registry, draft)
        for name in (*ordered.names, *(name for name in sections if name not in ordered.names)):
            if left is None or name in left:
                components.plan(sections[name], only, is_named=name in only or left is not None)
        is_settled = not waits.learn(components.watch.found)
    for line in refused(components.watch.found):
        draft.notes.append(line)
        draft.reduced_by.append(line)
    place_all(draft)
    return draft.finished(profile.digest, components.reports)


def _say_what_is_missing(draft: Draft, sections: Mapping[str, ComponentSection]) -> None:
    """Note where there is no journal to compare with, or nothing in the profile to plan."""
    if draft.known.lost_journal:
        line = f"{draft.known.lost_journal}; what corrects drift and what is newly wanted cannot be told apart"
        draft.notes.append(line)
        draft.reduced_by.append(line)
    if not sections:
        draft.notes.append("the profile names no component: it asks for nothing")


class _Components:
    """Plans components into a draft, and says what became of each (D7)."""

    def __init__(self, profile: Profile, registry: Mapping[str, type[Component[Any]]], draft: Draft) -> None:
        self._profile = profile
        self._registry = registry
        self._draft = draft
        self.watch = Watch(draft.overlay)
        self.reports: dict[str, ComponentReport] = {}

    def plan(self, section: ComponentSection, only: tuple[str, ...], *, is_named: bool) -> None:
        with self.watch.asking(section.name):
            report = self._report(section, only, is_named=is_named)
        self.reports[section.name] = report
        if report.state == "deferred":
            self.watch.forget(section.name)
        if report.state in ("planned", "deferred"):
            self.watch.compare(section.name)

    def _report(self, section: ComponentSection, only: tuple[str, ...], *, is_named: bool) -> ComponentReport:
        if not section.active:
            return ComponentReport("inactive")
        if only and section.name not in only:
            return ComponentReport("inactive", "not named")
        if not section.dispatch and not is_named:
            return ComponentReport("inactive", "dispatch is false: planned only when named")
        if section.name not in self._registry:
            self._draft.reduced_by.append(f"component {section.name} is missing here")
            return ComponentReport("missing", "no such component is installed here")
        return self._blocked(section.name) or self._attempt(section)

    def _blocked(self, name: str) -> ComponentReport | None:
        """Return the report of a component that cannot be planned because of one before it (D7)."""
        before = [one for one in sorted(self._draft.relatives(name) - {name}) if one in self.reports]
        failed = [one for one in before if self.reports[one].state == "failed"]
        if failed:
            return self._failed(name, f"not planned, because {', '.join(failed)} failed")
        waiting = [one for one in before if self.reports[one].state == "deferred"]
        if waiting:
            return self._deferred(name, f"waits for {', '.join(waiting)}")
        for component, because in self._draft.unlisted:
            if component in before:
                return self._deferred(name, f"what these packages bring is known once they are here: {because}")
        return None

    def _attempt(self, section: ComponentSection) -> ComponentReport:
        """Plan one component whole, or not at all."""
        name, savepoint = section.name, self._draft.savepoint()
        try:
            self._run(section)
        except UnknownUntilRun as error:
            if not self._waits_for_its_own(savepoint, error):
                self._take_back(savepoint)
            return self._deferred(name, error.message)
        except NotPossibleHere as error:
            self._take_back(savepoint)
            self._draft.reduced_by.append(f"component {name} is not possible here: {error.message}")
            return ComponentReport("not-possible-here", error.message, self._version(name))
        except AquilineError as error:
            self._take_back(savepoint)
            return self._failed(name, error.message)
        except Exception as error:  # noqa: BLE001 - component code may raise anything; it fails that component alone
            self._take_back(savepoint)
            return self._failed(name, _where(error))
        is_needed = len(self._draft.steps) > savepoint.steps
        return ComponentReport("planned" if is_needed else "unchanged", "", self._version(name))

    def _waits_for_its_own(self, savepoint: Savepoint, error: UnknownUntilRun) -> bool:
        """Whether a component waits for a command of its own: what comes before that is done now."""
        own = self._draft.steps[savepoint.steps :]
        pending = (step for step in own if isinstance(step.change, (*OPAQUE_KINDS, SetPackages)))
        return any(step.description == error.because for step in pending)

    def _take_back(self, savepoint: Savepoint) -> None:
        # A key that was mistyped is often why it failed.
        mistyped = [note for note in self._draft.notes[savepoint.notes :] if note.endswith(_UNKNOWN_KEY)]
        self._draft.rollback(savepoint)
        self._draft.notes += mistyped

    def _run(self, section: ComponentSection) -> None:
        component = self._registry[section.name]()
        path = f"/software/components/{section.name}"
        configuration = convert(section, component.configuration)
        for unknown in unknown_keys(section.configuration, component.configuration, path):
            self._draft.notes.append(f"{unknown}{_UNKNOWN_KEY}")
        view = self._view(section.name)
        tasks = Tasks(self._draft, section.name)
        with watching(section.name):
            generator = component.configure(configuration, view)
            with suppress(StopIteration):
                yielded = next(generator)
                # Closed while it is watched: what it has in a `finally` is component code, too.
                with closing(generator):
                    while True:
                        with trusted():
                            changed = tasks.add(yielded)
                        yielded = generator.send(changed)

    def _view(self, name: str) -> PlannedView:
        def refuse(probe: Probe) -> str | None:
            return self._draft.what_alters(name, probe)

        def record(probe: Probe, completed: Completed) -> None:
            answer = sha256(completed.stdout + completed.stderr)
            self._draft.probes.append(Probed(name, probe.argv, completed.status, answer))

        return PlannedView(
            self._draft.overlay,
            self._profile,
            templates=self._draft.known.templates,
            refuse_probe=refuse,
            on_probe=record,
        )

    def _failed(self, name: str, why: str) -> ComponentReport:
        self._draft.reduced_by.append(f"component {name} would fail: {why}")
        return ComponentReport("failed", why, self._version(name))

    def _deferred(self, name: str, why: str) -> ComponentReport:
        self._draft.reduced_by.append(f"component {name} is deferred: {why}")
        return ComponentReport("deferred", why, self._version(name))

    def _version(self, name: str) -> str:
        return self._registry[name].version if name in self._registry else ""


def _where(error: BaseException) -> str:
    """Return what was raised and in which line of which file, for the author of a component."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"
