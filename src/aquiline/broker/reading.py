"""What people look at that is no report: branches and hosts with what belongs to them."""

from __future__ import annotations

from typing import Any

import msgspec

from aquiline.broker.broker import Broker, NotFound, host_of
from aquiline.broker.closing import looked_at
from aquiline.broker.records import Branch, Change, ChangeHost, Host, HostTarget
from aquiline.broker.store import Reading
from aquiline.changes.canonical import decode
from aquiline.protocol.messages import Live


class BranchView(msgspec.Struct, frozen=True, kw_only=True):
    """A branch with its hosts and its last changes."""

    branch: Branch
    hosts: tuple[str, ...]
    #: Newest first.
    changes: tuple[Change, ...]


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """A host without its secrets, with what it is to be."""

    name: str
    branch: str
    added: float
    enrolled: float
    seen: float
    tool: str
    state: str
    because: str
    held: str
    live: Live
    #: The generation it has reached, and the one it is to reach.
    generation: int
    target: HostTarget | None
    #: Newest first.
    changes: tuple[ChangeHost, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a change is: cheap to ask for again and again."""

    id: str
    state: str
    #: State to how many hosts; they add up to all that the change concerns.
    totals: dict[str, int]


class ReportView(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it came."""

    id: str
    change: str
    received: float
    late: bool
    report: dict[str, Any]


def reports(broker: Broker, name: str, *, limit: int) -> list[ReportView]:
    """Return what a host reported, newest first."""
    with broker.store.reading() as tx:
        host_of(tx, name)
        return [
            ReportView(
                id=one.id, change=one.change, received=one.received, late=one.late, report=decode(one.body, dict)
            )
            for one in tx.reports_of_host(name, limit=limit)
        ]


def branch(broker: Broker, name: str) -> BranchView:
    """Return a branch; raises `NotFound` where there is none."""
    with broker.store.reading() as tx:
        found = tx.branch(name)
        if found is None:
            raise NotFound(f"there is no branch {name}", hint="`aquiline domain list`, `aquiline sandbox list`")
        hosts = tuple(one.name for one in tx.hosts(name))
        return BranchView(branch=found, hosts=hosts, changes=tuple(tx.changes(name, limit=20)))


def progress(broker: Broker, change_id: str) -> Progress:
    """Return how far a change is; raises `NotFound` where there is none."""
    change = looked_at(broker, change_id)
    with broker.store.reading() as tx:
        return Progress(id=change.id, state=change.state, totals=tx.states_of(change.id))


def hosts(broker: Broker, branch_name: str = "") -> list[HostView]:
    """Return every host, or those of a branch, without their changes."""
    with broker.store.reading() as tx:
        found = tx.hosts(branch_name or None)
        known = tx.targets(one.name for one in found)
        return [_view(one, known.get(one.name)) for one in found]


def host(broker: Broker, name: str) -> HostView:
    """Return a host with its changes; raises `NotFound` where there is none."""
    with broker.store.reading() as tx:
        return _with_changes(tx, _view(host_of(tx, name), tx.target(name)))


def _with_changes(tx: Reading, view: HostView) -> HostView:
    return msgspec.structs.replace(view, changes=tuple(tx.changes_of_host(view.name)))


def _view(one: Host, target: HostTarget | None) -> HostView:
    return HostView(
        name=one.name, branch=one.branch, added=one.added, enrolled=one.enrolled, seen=one.seen, tool=one.tool,
        state=one.state, because=one.because, held=one.held, live=one.live, generation=one.generation, target=target,
    )  # fmt: skip
