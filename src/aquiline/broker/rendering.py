"""A fleet report as text: one screen for the summary, then every group; `show` opens a group's diffs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aquiline.broker.comparing import Delta
from aquiline.broker.reporting import Addendum, Count, FleetReport, Group
from aquiline.changes.text import visible
from aquiline.protocol.changesets import ChangeSetStep, DriftedObject

_KIND = {
    "deploy": "deployment",
    "test": "test deployment",
    "undeploy": "undeployment",
    "test-undeploy": "test undeployment",
    "move": "move",
    "verify": "verification",
}
_WOULD = {"test", "test-undeploy"}
#: What text that was made for people has besides letters: backslashes of what is escaped already, tabs of diffs.
_READABLE = "\\\t"
#: Hosts of one line before the rest is only counted.
_LONGEST = 300


def render_report(report: FleetReport, *, show: str = "") -> str:
    """Return the report as text; `show` names the group whose steps are shown with their diffs, ``all`` all of them."""
    sections = [list(_headline(report)), list(_surprises(report))]
    sections += [list(_group(one, report, opened=show in (one.name, "all"))) for one in report.groups]
    sections.append(list(_end(report)))
    if report.addendum is not None:
        sections.append(list(_addendum(report.addendum)))
        sections += [list(_group(one, report, opened=show in (one.name, "all"))) for one in report.addendum.groups]
    return "\n".join("".join(f"{line}\n" for line in section) for section in sections if section)


def _headline(report: FleetReport) -> Iterator[str]:
    what = f"{report.sandbox} on {report.domain}" if report.sandbox else f"on {report.domain}"
    if report.undoes:
        what = f"of {', '.join(report.undoes)} {what}"
    yield f"{report.change}  {_KIND.get(report.kind, report.kind)} {what}, by {visible(report.author)}, {report.state}"
    if report.reason:
        yield f"reason: {visible(report.reason)}"
    if report.relays:
        yield f"lays again: {', '.join(report.relays)}"
    totals = ", ".join(f"{count} {state.replace('-', ' ')}" for state, count in report.totals.items())
    yield f"fleet {report.fleet}: {totals or 'no hosts'}"
    if report.steps:
        unknown = report.steps - report.predicted
        verb = "would take" if report.kind in _WOULD else "takes"
        yield f"{verb} {_count(report.steps, 'step')}; {report.predicted} foreseen, {unknown} not"
    if report.compared:
        yield f"as predicted: {report.as_predicted} of {report.compared}"


def _surprises(report: FleetReport) -> Iterator[str]:
    yield from _lines("would fail" if report.kind in _WOULD else "failed", report.failed)
    yield from _lines("irreversible", report.irreversible)
    if report.differ:
        yield f"! not as predicted: {_hosts(report.differ)}"
    yield from _lines("unknown until run", report.unknown)
    yield from _lines("services", report.disturbs)
    yield from _lines("corrects drift", report.corrective)
    yield from _lines("drifted", report.drift)
    yield from _lines("silent", report.silent)
    yield from _lines("passed by", report.passed_by, sign=" ")


def _lines(word: str, counts: Sequence[Count], *, sign: str = "!") -> Iterator[str]:
    for one in counts:
        yield f"{sign} {word}: {visible(one.what)}  x{one.count}  {_hosts(one.hosts)}"


def _hosts(names: str) -> str:
    return names if len(names) <= _LONGEST else f"{names[:_LONGEST]}…"


def _group(group: Group, report: FleetReport, *, opened: bool) -> Iterator[str]:
    sign = "=" if group.is_reference else "!" if group.exit_status else "~"
    share = f"{group.count * 100 // report.fleet} %" if report.fleet else ""
    hosts = group.hosts if opened else _hosts(group.hosts)
    yield f"{sign} {group.name}  {_count(group.count, 'host')}, {share}  {hosts}"
    if group.same_as:
        yield f"    as {group.same_as}"
        if not opened and group.same_as in {one.name for one in report.groups if not one.incomplete}:
            return
    if group.error:
        yield f"    failed ({group.exit_status}): {visible(group.error)}"
    for name, state in group.components.items():
        yield f"    component {visible(name)}: {visible(state)}"
    yield from (f"    note: {visible(note)}" for note in group.notes)
    if group.incomplete:
        yield "    its change-set has not arrived, or was forgotten by retention"
    elif group.drift:
        yield from map(_drifted, group.drift)
    elif not group.steps and not group.exit_status:
        yield "    as the last run left it" if report.kind == "verify" else "    nothing to do"
    if opened:
        for step in group.steps:
            # Its host has made it for people to read; what another one may have put there is escaped none the less.
            yield from (f"    {visible(line, keep=_READABLE)}" for line in step.text.splitlines())
    elif group.deltas:
        yield f"    the reference, but for {_count(len(group.deltas), 'step')}:"
        for delta in group.deltas:
            yield from _delta(delta)
    else:
        yield from (f"    {_step(step)}" for step in group.steps)


def _drifted(one: DriftedObject) -> str:
    # Contents that read alike and are not: the digest tells them apart.
    content = f" [{visible(one.content[:12])}]" if one.content else ""
    how = "; ".join(map(visible, one.how))
    return f"    {visible(one.state)}: {visible(one.object)}: {how}{content}   {visible(one.component)}".rstrip()


def _delta(delta: Delta) -> Iterator[str]:
    yield f"    {delta.sign} {_step(delta.step)}"
    yield from (f"        {visible(line, keep=_READABLE)}" for line in delta.differs)


def _step(step: ChangeSetStep) -> str:
    undo = f"no undo: {step.reason or step.undo}" if step.undo_class == "irreversible" else f"undo: {step.undo}"
    marks = "" if step.certain == "certain" else f" [{visible(step.certain)}]"
    marks += " [drift]" if step.cause == "corrective" else ""
    return f"{step.number}. {visible(step.component)}: {visible(step.description)}{marks}   {visible(undo)}"


def _end(report: FleetReport) -> Iterator[str]:
    if report.approve:
        yield f"approve with: aquiline approve {report.change} {report.approve}"
    yield f"digest {report.digest}"


def _addendum(addendum: Addendum) -> Iterator[str]:
    what = (
        f"{_count(addendum.answered, 'host')} answered  {addendum.hosts}" if addendum.answered else "change-sets came"
    )
    yield f"after it closed: {what}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
