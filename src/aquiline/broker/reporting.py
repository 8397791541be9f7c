"""The fleet report of one change: hosts that do the same shown once, the surprising first, nobody left out (P9).

Theory of operation

1. Every host of the change is in exactly one state; the totals of all states are the fleet.
2. Hosts that answered are grouped by the digest of their change-set and by how it went. Nothing else splits a group, so
   the report is as long as there are distinct change-sets.
3. The largest group that is well is the reference and is shown whole; each other group is shown by the steps it has
   more or less than that one or that differ, or whole where it has little in common with it. Groups are ordered by
   surprise, then by size, then by name.
4. Nothing in it depends on the clock or on the order in which answers came: equal answers are equal bytes, and the
   digest at its end is over all of it.
5. What came after a question was closed is its addendum: shown below, and no part of the digest (D21).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from aquiline.broker.broker import Broker, change_of
from aquiline.broker.closing import looked_at, why_silent
from aquiline.broker.comparing import Delta, deltas
from aquiline.broker.naming import Folding, without_its_own
from aquiline.broker.records import Change, ChangeHost, Host
from aquiline.broker.store import Reading
from aquiline.changes.canonical import pack
from aquiline.protocol.changesets import ChangeSet, ChangeSetStep, DriftedObject
from aquiline.protocol.messages import decode_message

_SILENT = ("asked", "held-out", "not-compiled")
_PASSED_BY = ("never-had", "left", "reinstalled")


class Group(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Hosts to which the same is done, and for which it went the same."""

    #: ``G1``, in the order of the report.
    name: str
    #: Folded: ``web[001-412]``.
    hosts: str
    count: int
    change_set: str
    #: 0, or how a command would have exited.
    exit_status: int = 0
    #: Why it failed, where it did.
    error: str = ""
    steps: tuple[ChangeSetStep, ...] = ()
    #: Components that are neither planned nor unchanged, with why.
    components: dict[str, str] = {}
    #: Of a verification: what is not as the last run left it.
    drift: tuple[DriftedObject, ...] = ()
    #: What a person must know besides.
    notes: tuple[str, ...] = ()
    #: Against the reference; empty of the reference itself, where there is none, and where it has too little in common.
    deltas: tuple[Delta, ...] = ()
    is_reference: bool = False
    #: The body of its change-set had not arrived when that counted, or was forgotten.
    incomplete: bool = False
    #: Of an addendum: the group of the report that has the same change-set, and went the same.
    same_as: str = ""


class Count(msgspec.Struct, frozen=True):
    """Something that a person should see, on how many hosts, and on which."""

    what: str
    count: int
    hosts: str


class Addendum(msgspec.Struct, frozen=True, kw_only=True):
    """What came when a question was closed: answers, and change-sets of answers that had come in time."""

    #: Hosts that answered late, and which.
    answered: int
    hosts: str
    #: What they would do, and what came of groups whose change-set was missing; ``L1``, ``L2``.
    groups: tuple[Group, ...]


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one change would do, does or did to the fleet."""

    change: str
    kind: str
    state: str
    domain: str
    sandbox: str
    author: str
    reason: str
    undoes: tuple[str, ...]
    relays: tuple[str, ...]
    #: Hosts in the change: the fleet as far as it is concerned.
    fleet: int
    #: State to how many; they add up to `fleet`.
    totals: dict[str, int]
    #: Those who have not answered, were held out or could not compile, by reason.
    silent: tuple[Count, ...]
    #: Those whom it passes by: they never had what is taken back, were installed anew since, or left the domain (D18).
    passed_by: tuple[Count, ...]
    failed: tuple[Count, ...]
    irreversible: tuple[Count, ...]
    disturbs: tuple[Count, ...]
    unknown: tuple[Count, ...]
    corrective: tuple[Count, ...]
    #: Of a verification: what drifted, by object.
    drift: tuple[Count, ...]
    #: Steps over all hosts, and how many of them were foreseen.
    steps: int
    predicted: int
    #: Hosts whose live run was planned as predicted by the test, and whose effect was as planned.
    as_predicted: int
    compared: int
    differ: str
    groups: tuple[Group, ...]
    #: What an approval is for; empty until a test is closed.
    approve: str
    digest: str
    #: None where nothing came late; the digest is over all but this.
    addendum: Addendum | None = None


def report(broker: Broker, change_id: str) -> FleetReport:
    """Return the report of a change as it is now."""
    looked_at(broker, change_id)
    with broker.store.reading() as tx:
        change = change_of(tx, change_id)
        records = tx.change_hosts(change_id)
        hosts = {host.name: host for host in tx.hosts()}
        bodies = _bodies(tx, records)
    return report_of(change, records, bodies, hosts)


def _bodies(tx: Reading, records: Sequence[ChangeHost]) -> dict[str, ChangeSet]:
    found = {}
    named = {record.change_set for record in records} | {one.late.change_set for one in records if one.late is not None}
    for digest in sorted(named - {""}):
        data = tx.content("change-set", digest)
        if data is not None:
            found[digest] = decode_message(data, ChangeSet)
    return found


def report_of(
    change: Change, records: Sequence[ChangeHost], bodies: Mapping[str, ChangeSet], hosts: Mapping[str, Host]
) -> FleetReport:
    """Return the report of `change`: a function of what hosts answered."""
    fold = Folding()
    in_time = {digest: body for digest, body in bodies.items() if digest not in change.missing}
    groups = _groups(records, in_time, fold)
    seen = _seen(records, in_time)
    compared = [record for record in records if record.predicted and record.planned]
    differ = [one.host for one in records if _differs(one)]
    found = FleetReport(
        change=change.id, kind=change.kind, state=change.state, domain=change.domain, sandbox=change.sandbox,
        author=change.author, reason=change.reason, undoes=change.undoes, relays=change.relays,
        fleet=len(records),
        totals=dict(sorted(Counter(record.state for record in records).items())),
        silent=_counts(_whys((one for one in records if one.state in _SILENT), hosts), fold),
        passed_by=_counts(_whys((one for one in records if one.state in _PASSED_BY), hosts), fold),
        failed=_counts(
            (
                (without_its_own(one.because, one.host) or f"exit status {one.exit_status}", [one.host])
                for one in records
                if one.state == "failed"
            ),
            fold,
        ),
        irreversible=_counts(_said_of(seen, _irreversible), fold),
        disturbs=_counts(_said_of(seen, lambda step: step.disturbs), fold),
        unknown=_counts(_said_of(seen, lambda step: step.description if step.certain != "certain" else ""), fold),
        corrective=_counts(_said_of(seen, lambda step: step.description if step.cause == "corrective" else ""), fold),
        drift=_counts(_drifted(seen), fold),
        steps=sum(len(body.steps) * len(names) for names, body in seen),
        predicted=sum(body.predicted * len(names) for names, body in seen),
        as_predicted=sum(1 for record in compared if not _differs(record)),
        compared=len(compared),
        differ=fold(differ) if differ else "",
        groups=groups,
        approve=change.digest if change.kind == "test" else "",
        digest="",
    )  # fmt: skip
    return msgspec.structs.replace(
        found, digest=_digest(found), addendum=_addendum(change, records, bodies, groups, fold)
    )


def _digest(found: FleetReport) -> str:
    """Return the digest of a report that has none yet; its addendum comes after it."""
    said = {name: getattr(found, name) for name in found.__struct_fields__ if name != "addendum"}
    return hashlib.sha256(b"aquiline fleet report 1\n" + pack(said)).hexdigest()


def _whys(records: Iterable[ChangeHost], hosts: Mapping[str, Host]) -> Iterator[tuple[str, list[str]]]:
    """Return why hosts have nothing to say, each with its host; without what is a host's own."""
    for one in records:
        yield without_its_own(why_silent(one, hosts.get(one.host)), one.host), [one.host]


def _differs(record: ChangeHost) -> bool:
    if record.actual and record.planned and record.actual != record.planned:
        return True
    return bool(record.predicted and record.planned and record.predicted != record.planned)


def _seen(records: Iterable[ChangeHost], bodies: Mapping[str, ChangeSet]) -> list[tuple[list[str], ChangeSet]]:
    """Return the hosts of each change-set: what it says is looked at once, however many they are."""
    members: dict[str, list[str]] = {}
    for record in records:
        if record.change_set in bodies:
            members.setdefault(record.change_set, []).append(record.host)
    return [(names, bodies[digest]) for digest, names in members.items()]


def _counts(found: Iterable[tuple[str, Iterable[str]]], fold: Folding) -> tuple[Count, ...]:
    by_what: dict[str, set[str]] = {}
    for what, names in found:
        by_what.setdefault(what, set()).update(names)
    ordered = sorted(by_what.items(), key=lambda one: (-len(one[1]), one[0]))
    return tuple(Count(what, len(names), fold(names)) for what, names in ordered)


def _said_of(
    seen: Sequence[tuple[list[str], ChangeSet]], words: Callable[[ChangeSetStep], str]
) -> Iterator[tuple[str, list[str]]]:
    """Return what `words` says of the steps of hosts, with these; of an empty text nothing."""
    for names, body in seen:
        for what in sorted(set(map(words, body.steps))):
            if what:
                yield what, names


def _drifted(seen: Sequence[tuple[list[str], ChangeSet]]) -> Iterator[tuple[str, list[str]]]:
    for names, body in seen:
        for what in sorted({one.object for one in body.drift}):
            yield what, names


def _irreversible(step: ChangeSetStep) -> str:
    return f"{step.description}: {step.reason}" if step.undo_class == "irreversible" else ""


# ---- groups --------------------------------------------------------------------------------------------------------


class _Key(msgspec.Struct, frozen=True):
    """What hosts of one group have in common."""

    change_set: str
    exit_status: int
    error: str


def _key(record: ChangeHost) -> _Key:
    why = without_its_own(record.because, record.host) if record.exit_status else ""
    return _Key(record.change_set, record.exit_status, why)


def _groups(records: Sequence[ChangeHost], bodies: Mapping[str, ChangeSet], fold: Folding) -> tuple[Group, ...]:
    members: dict[_Key, list[str]] = {}
    for record in records:
        if record.change_set or record.exit_status:
            members.setdefault(_key(record), []).append(record.host)
    groups = [_group(key, names, bodies, fold) for key, names in members.items()]
    well = [one for one in groups if not one.exit_status and not one.incomplete and one.steps]
    reference = min(well, key=lambda one: (-one.count, one.change_set), default=None)
    ordered = sorted(groups, key=_by_surprise(reference))
    return tuple(
        msgspec.structs.replace(one, name=f"G{number}", is_reference=one is reference, deltas=_deltas(reference, one))
        for number, one in enumerate(ordered, 1)
    )


def _addendum(
    change: Change,
    records: Sequence[ChangeHost],
    bodies: Mapping[str, ChangeSet],
    groups: Sequence[Group],
    fold: Folding,
) -> Addendum | None:
    """Return what came when `change` was closed; `groups` are those of its report."""
    late: dict[_Key, list[str]] = {}
    for record in records:
        if record.late is not None:
            why = without_its_own(record.late.because, record.host)
            key = _Key(record.late.change_set, record.late.exit_status, why)
            late.setdefault(key, []).append(record.host)
    answered = [name for names in late.values() for name in names]
    for record in records:
        if record.change_set in change.missing and record.change_set in bodies:
            late.setdefault(_key(record), []).append(record.host)
    if not late:
        return None
    known = {_Key(one.change_set, one.exit_status, one.error): one.name for one in groups}
    found = [
        msgspec.structs.replace(_group(key, names, bodies, fold), same_as=known.get(key, ""))
        for key, names in late.items()
    ]
    ordered = sorted(found, key=_by_surprise(None))
    named = (msgspec.structs.replace(one, name=f"L{number}") for number, one in enumerate(ordered, 1))
    return Addendum(answered=len(answered), hosts=fold(answered) if answered else "", groups=tuple(named))


def _group(key: _Key, names: Sequence[str], bodies: Mapping[str, ChangeSet], fold: Folding) -> Group:
    body = bodies.get(key.change_set)
    return Group(
        name="", hosts=fold(names), count=len(names), change_set=key.change_set, exit_status=key.exit_status,
        error=key.error, steps=body.steps if body else (), components=body.components if body else {},
        drift=body.drift if body else (), notes=body.notes if body else (),
        incomplete=body is None and bool(key.change_set),
    )  # fmt: skip


def _by_surprise(reference: Group | None) -> Callable[[Group], tuple[int, int, str, str]]:
    """Return what groups are sorted by: surprise, then size, then name."""
    return lambda one: (_calm(one, reference), -one.count, one.change_set, one.hosts)


def _calm(group: Group, reference: Group | None) -> int:
    """Return how little a group surprises: the worst first, the reference after all that differ from it."""
    if group.exit_status or any(state.startswith("failed") for state in group.components.values()):
        return 0
    if group.drift or any(step.undo_class == "irreversible" for step in group.steps):
        return 1
    if any(step.certain == "unknown" for step in group.steps) or group.incomplete:
        return 2
    if group is reference:
        return 4
    return 3 if group.steps else 5


def _deltas(reference: Group | None, group: Group) -> tuple[Delta, ...]:
    return () if reference is None or group is reference else deltas(reference.steps, group.steps)
