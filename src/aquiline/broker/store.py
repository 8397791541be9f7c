"""What the broker asks of its database: a protocol, so that one conformance suite holds every implementation.

All work is done in short transactions. What is claimed (a lease, a join token's use, a branch's commit, a generation)
is claimed by compare-and-set, so that it works alike on SQLite and PostgreSQL (D23).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from aquiline.broker.records import (
    Approval,
    AuditEntry,
    Branch,
    Change,
    ChangeHost,
    Host,
    HostTarget,
    JoinToken,
    Lease,
    Person,
    StoredOrder,
    StoredReport,
)


class Reading(Protocol):
    """Reads that see the database as it was at one moment, whatever is written meanwhile."""

    # ---- branches --------------------------------------------------------------------------------------------------

    def branch(self, name: str) -> Branch | None: ...
    def branches(self) -> Sequence[Branch]: ...

    # ---- hosts -----------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host | None: ...
    def hosts(self, branch: str | None = None) -> Sequence[Host]: ...
    def host_of_credential(self, credential: str) -> Host | None: ...
    def target(self, host: str) -> HostTarget | None: ...
    def targets(self, hosts: Iterable[str]) -> dict[str, HostTarget]: ...

    # ---- changes ---------------------------------------------------------------------------------------------------

    def change(self, change_id: str) -> Change | None: ...
    def changes(self, domain: str | None = None, *, limit: int = 0) -> Sequence[Change]:
        """Return changes, newest first."""
        ...

    def change_host(self, change: str, host: str) -> ChangeHost | None: ...
    def change_hosts(self, change: str) -> Sequence[ChangeHost]: ...
    def states_of(self, change: str) -> dict[str, int]:
        """Return how many hosts of a change are in which state; sorted."""
        ...

    def is_waited_for(self, change: str) -> bool:
        """Return whether any host of a change is ``asked``; MUST NOT take longer the more hosts there are."""
        ...

    def change_sets_of(self, change: str) -> set[str]:
        """Return the digests of the change-sets that hosts of a change have named."""
        ...

    def left_alone(self, changes: Iterable[str]) -> dict[str, set[str]]:
        """Return which of these changes left a host ``unchanged``, by host: in one question, whatever the fleet."""
        ...

    def changes_of_host(self, host: str, *, states: Iterable[str] = ()) -> Sequence[ChangeHost]:
        """Return what changes meant to a host, newest first; only those in one of `states` where any is named."""
        ...

    def approvals(self, change: str) -> Sequence[Approval]: ...

    # ---- orders and reports ----------------------------------------------------------------------------------------

    def order(self, order_id: str) -> StoredOrder | None: ...
    def orders_for(self, host: str, now: float) -> Sequence[StoredOrder]:
        """Return the orders that a host has not answered and that have not expired."""
        ...

    def report(self, report_id: str) -> StoredReport | None: ...
    def reports_of_change(self, change: str) -> Sequence[StoredReport]:
        """Return the reports about a change; those of an empty one are of runs that nobody ordered."""
        ...

    def reports_of_host(self, host: str, *, limit: int = 0) -> Sequence[StoredReport]: ...

    # ---- content by digest -----------------------------------------------------------------------------------------

    def content(self, kind: str, digest: str) -> bytes | None:
        """Return what is kept under a digest; `kind` is ``profile``, ``change-set`` or ``schemas``."""
        ...

    def contents(self, kind: str) -> set[str]:
        """Return the digests of all that is kept of a kind."""
        ...

    def has_content(self, kind: str, digests: Iterable[str]) -> set[str]: ...

    # ---- people and credentials ------------------------------------------------------------------------------------

    def person(self, name: str) -> Person | None: ...
    def person_of_token(self, token: str) -> Person | None: ...
    def people(self) -> Sequence[Person]: ...
    def join_token(self, token: str) -> JoinToken | None: ...
    def join_tokens(self) -> Sequence[JoinToken]: ...

    # ---- audit, leases ---------------------------------------------------------------------------------------------

    def audit_entries(self, *, about: str = "", limit: int = 1000) -> Sequence[AuditEntry]: ...
    def holds_lease(self, lease: Lease, now: float) -> bool: ...
    def open_lease(self, domain: str, now: float) -> Lease | None: ...


class Transaction(Reading, Protocol):
    """Reads and writes that happen together or not at all. `put` writes a record whole, by its key."""

    # ---- branches --------------------------------------------------------------------------------------------------

    def put_branch(self, branch: Branch) -> None: ...
    def remove_branch(self, name: str) -> None: ...
    def move_branch(self, name: str, *, expected: str, to: str) -> bool:
        """Set the commit of a branch if it is the expected one; return whether it was."""
        ...

    def next_serial(self, domain: str) -> int:
        """Return the next serial of a domain; no two callers get the same."""
        ...

    # ---- hosts -----------------------------------------------------------------------------------------------------

    def put_host(self, host: Host) -> None: ...
    def remove_host(self, name: str) -> None: ...
    def put_target(self, target: HostTarget) -> None: ...

    # ---- changes ---------------------------------------------------------------------------------------------------

    def put_change(self, change: Change) -> None: ...
    def put_change_host(self, record: ChangeHost) -> None: ...
    def put_approval(self, approval: Approval) -> None: ...

    # ---- orders and reports ----------------------------------------------------------------------------------------

    def put_order(self, order: StoredOrder) -> None: ...
    def add_report(self, report: StoredReport) -> bool:
        """Keep a report; return False where one of this id from this host is kept already."""
        ...

    def drop_report(self, host: str, report_id: str) -> None:
        """Forget a report; none there is success."""
        ...

    # ---- content by digest -----------------------------------------------------------------------------------------

    def drop_content(self, kind: str, digest: str) -> None:
        """Forget what is kept under a digest; none there is success."""
        ...

    def put_content(self, kind: str, digest: str, data: bytes) -> None: ...

    # ---- people and credentials ------------------------------------------------------------------------------------

    def put_person(self, person: Person) -> None: ...
    def put_join_token(self, token: JoinToken) -> None: ...
    def use_join_token(self, token_id: str, now: float) -> bool:
        """Take one use of a token; return False where none is left or it has expired."""
        ...

    # ---- audit, leases ---------------------------------------------------------------------------------------------

    def audit(self, entry: AuditEntry) -> None: ...
    def lease(self, domain: str, holder: str, now: float, seconds: float) -> Lease | None:
        """Take the lease of a domain, or prolong one's own; None where somebody else has it."""
        ...

    def end_lease(self, lease: Lease) -> None: ...


class Store(Protocol):
    """The broker's memory."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin; commit at the end of the block, roll back where it raises."""
        ...

    def reading(self) -> AbstractContextManager[Reading]:
        """Begin to read. It MUST NOT wait for whoever writes, nor let them wait; a write in it MUST be refused."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
