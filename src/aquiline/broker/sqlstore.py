"""The broker's store on a relational database: SQLite by default, PostgreSQL by its URL.

A transaction on SQLite takes the write lock at its beginning: it never has to give up half way because somebody else
wrote. It is durable when it ends (``synchronous=FULL``). One that only reads takes no lock: it sees the database as it
was at its first look, and nobody waits for anybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    ExceptionContext,
    Row,
    Table,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from aquiline.broker import tables
from aquiline.broker.migrating import migrate
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
from aquiline.broker.store import Reading, Transaction
from aquiline.changes.canonical import decode, encode
from aquiline.errors import AquilineError

_Record = TypeVar("_Record", bound=msgspec.Struct)
#: Values in one question to the database: SQLite takes no more than 32,766.
_AT_ONCE = 5000
#: Option of a connection whose transaction only reads.
_READS = "aquiline_reads"


class StoreError(AquilineError):
    """The database refused."""


class SqlStore:
    """A `Store` on SQLAlchemy."""

    def __init__(self, url: str) -> None:
        """Open the database that `url` names and bring its tables up to date; ``sqlite://`` alone is in memory.

        Raises:
            StoreError: it cannot be opened, or is of a newer version of this program.
        """
        self._engine = _engine(url)
        # In memory there is one connection, which can be in one transaction.
        self._turn: AbstractContextManager[object] = threading.RLock() if _is_in_memory(url) else nullcontext()
        try:
            migrate(self._engine)
        except SQLAlchemyError as error:
            raise StoreError(f"the database cannot be opened: {error}", hint="check the URL and its owner") from None

    @classmethod
    def in_file(cls, path: str | Path) -> SqlStore:
        """Open the SQLite database at `path`, readable by its owner only."""
        try:
            Path(path).touch(mode=0o600)
        except OSError as error:
            raise StoreError(f"the database {path} cannot be made: {error.strerror}") from None
        return cls(f"sqlite:///{path}")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin; commit at the end of the block, roll back where it raises.

        Raises:
            StoreError: the database refused.
        """
        try:
            with self._turn, self._engine.begin() as connection:
                yield _SqlTransaction(connection)
        except SQLAlchemyError as error:
            raise StoreError(f"the database refused: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Begin to read; what is written in the block is refused.

        Raises:
            StoreError: the database refused.
        """
        try:
            with self._turn, self._engine.connect() as connection:
                reading = connection.execution_options(**{_READS: True})
                with reading.begin():
                    yield _SqlTransaction(reading)
        except SQLAlchemyError as error:
            raise StoreError(f"the database refused: {error}") from error

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _is_in_memory(url: str) -> bool:
    return url in ("sqlite://", "sqlite:///:memory:")


def _engine(url: str) -> Engine:
    if _is_in_memory(url):
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_on_sqlite)
    else:
        event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _refuse_value)
    return engine


def _refuse_value(context: ExceptionContext) -> None:
    """Say of a value that no column takes what is said of any other refusal; drivers raise what they like."""
    if isinstance(context.original_exception, OverflowError | UnicodeError):
        raise StoreError(f"the database takes no such value: {context.original_exception}")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: it would do so too late.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_on_sqlite(connection: Connection) -> None:
    reads = bool(connection.get_execution_options().get(_READS))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


class _SqlTransaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ---- branches --------------------------------------------------------------------------------------------------

    def branch(self, name: str) -> Branch | None:
        return next(map(_branch, self._rows(tables.branch, name=name)), None)

    def branches(self) -> Sequence[Branch]:
        return sorted(map(_branch, self._rows(tables.branch)), key=lambda one: one.name)

    def put_branch(self, branch: Branch) -> None:
        self._put(tables.branch, branch, {"name": branch.name}, commit_id=branch.commit, serial=branch.serial)

    def remove_branch(self, name: str) -> None:
        self._connection.execute(delete(tables.branch).where(tables.branch.c.name == name))

    def move_branch(self, name: str, *, expected: str, to: str) -> bool:
        is_expected = and_(tables.branch.c.name == name, tables.branch.c.commit_id == expected)
        return self._connection.execute(update(tables.branch).where(is_expected).values(commit_id=to)).rowcount == 1

    def next_serial(self, domain: str) -> int:
        table = tables.branch
        self._connection.execute(update(table).where(table.c.name == domain).values(serial=table.c.serial + 1))
        row = self._connection.execute(select(table.c.serial).where(table.c.name == domain)).one_or_none()
        if row is None:
            raise StoreError(f"there is no domain {domain}")
        return int(row[0])

    # ---- hosts -----------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host | None:
        return self._one(tables.host, Host, name=name)

    def hosts(self, branch: str | None = None) -> Sequence[Host]:
        found = self._all(tables.host, Host) if branch is None else self._all(tables.host, Host, branch=branch)
        return sorted(found, key=lambda one: one.name)

    def host_of_credential(self, credential: str) -> Host | None:
        return self._one(tables.host, Host, credential=credential) if credential else None

    def put_host(self, host: Host) -> None:
        self._put(tables.host, host, {"name": host.name}, branch=host.branch, credential=host.credential or None)

    def remove_host(self, name: str) -> None:
        for table, column in ((tables.target, tables.target.c.host), (tables.host, tables.host.c.name)):
            self._connection.execute(delete(table).where(column == name))

    def target(self, host: str) -> HostTarget | None:
        return self._one(tables.target, HostTarget, host=host)

    def targets(self, hosts: Iterable[str]) -> dict[str, HostTarget]:
        return {one.host: one for one in self._among(tables.target, tables.target.c.host, hosts, HostTarget)}

    def put_target(self, target: HostTarget) -> None:
        self._put(tables.target, target, {"host": target.host}, generation=target.generation)

    # ---- changes ---------------------------------------------------------------------------------------------------

    def change(self, change_id: str) -> Change | None:
        return self._one(tables.change, Change, id=change_id)

    def changes(self, domain: str | None = None, *, limit: int = 0) -> Sequence[Change]:
        return self._newest(tables.change, Change, limit, {} if domain is None else {"domain": domain})

    def put_change(self, change: Change) -> None:
        self._put(tables.change, change, {"id": change.id}, domain=change.domain)

    def change_host(self, change: str, host: str) -> ChangeHost | None:
        return self._one(tables.change_host, ChangeHost, change=change, host=host)

    def change_hosts(self, change: str) -> Sequence[ChangeHost]:
        return sorted(self._all(tables.change_host, ChangeHost, change=change), key=lambda one: one.host)

    def states_of(self, change: str) -> dict[str, int]:
        table = tables.change_host
        query = select(table.c.state, func.count()).where(table.c.change == change).group_by(table.c.state)
        return {row[0]: row[1] for row in sorted(self._connection.execute(query))}

    def is_waited_for(self, change: str) -> bool:
        table = tables.change_host
        query = select(table.c.host).where(_equals(table, {"change": change, "state": "asked"})).limit(1)
        return self._connection.execute(query).first() is not None

    def change_sets_of(self, change: str) -> set[str]:
        table = tables.change_host
        query = select(table.c.change_set).distinct().where(table.c.change == change)
        return {row[0] for row in self._connection.execute(query)} - {""}

    def left_alone(self, changes: Iterable[str]) -> dict[str, set[str]]:
        table = tables.change_host
        found: dict[str, set[str]] = {}
        for some in _portions(changes):
            is_so = and_(table.c.change.in_(some), table.c.state == "unchanged")
            for host, change in self._connection.execute(select(table.c.host, table.c.change).where(is_so)):
                found.setdefault(host, set()).add(change)
        return found

    def changes_of_host(self, host: str, *, states: Iterable[str] = ()) -> Sequence[ChangeHost]:
        table = tables.change_host
        joined = table.join(tables.change, table.c.change == tables.change.c.id)
        query = select(table.c.record).select_from(joined).where(table.c.host == host)
        wanted = sorted(states)
        if wanted:
            query = query.where(table.c.state.in_(wanted))
        return self._decoded(query.order_by(tables.change.c.number.desc()), ChangeHost)

    def put_change_host(self, record: ChangeHost) -> None:
        self._put(
            tables.change_host, record, {"change": record.change, "host": record.host},
            state=record.state, change_set=record.change_set,
        )  # fmt: skip

    def approvals(self, change: str) -> Sequence[Approval]:
        return self._newest(tables.approval, Approval, 0, {"change": change})

    def put_approval(self, approval: Approval) -> None:
        self._add(tables.approval, approval, change=approval.change)

    # ---- orders and reports ----------------------------------------------------------------------------------------

    def order(self, order_id: str) -> StoredOrder | None:
        return self._one(tables.order, StoredOrder, id=order_id)

    def orders_for(self, host: str, now: float) -> Sequence[StoredOrder]:
        table = tables.order
        waits = and_(table.c.host == host, table.c.answered == 0, table.c.expires > now)
        return self._decoded(select(table.c.record).where(waits).order_by(table.c.id), StoredOrder)

    def put_order(self, order: StoredOrder) -> None:
        self._put(
            tables.order, order, {"id": order.id},
            host=order.host, change=order.change, expires=order.expires, answered=int(order.answered),
        )  # fmt: skip

    def add_report(self, report: StoredReport) -> bool:
        if self._rows(tables.report, host=report.host, id=report.id):
            return False
        self._add(tables.report, report, host=report.host, id=report.id, change=report.change)
        return True

    def report(self, report_id: str) -> StoredReport | None:
        return self._one(tables.report, StoredReport, id=report_id)

    def reports_of_change(self, change: str) -> Sequence[StoredReport]:
        return self._newest(tables.report, StoredReport, 0, {"change": change})

    def drop_report(self, host: str, report_id: str) -> None:
        self._connection.execute(delete(tables.report).where(_equals(tables.report, {"host": host, "id": report_id})))

    def reports_of_host(self, host: str, *, limit: int = 0) -> Sequence[StoredReport]:
        return self._newest(tables.report, StoredReport, limit, {"host": host})

    # ---- content by digest -----------------------------------------------------------------------------------------

    def content(self, kind: str, digest: str) -> bytes | None:
        rows = self._rows(tables.content, kind=kind, digest=digest)
        return bytes(rows[0].data) if rows else None

    def contents(self, kind: str) -> set[str]:
        table = tables.content
        return {row[0] for row in self._connection.execute(select(table.c.digest).where(table.c.kind == kind))}

    def drop_content(self, kind: str, digest: str) -> None:
        table = tables.content
        self._connection.execute(delete(table).where(_equals(table, {"kind": kind, "digest": digest})))

    def has_content(self, kind: str, digests: Iterable[str]) -> set[str]:
        found: set[str] = set()
        table = tables.content
        for some in _portions(digests):
            query = select(table.c.digest).where(and_(table.c.kind == kind, table.c.digest.in_(some)))
            found.update(row[0] for row in self._connection.execute(query))
        return found

    def put_content(self, kind: str, digest: str, data: bytes) -> None:
        if not self.has_content(kind, [digest]):
            self._connection.execute(insert(tables.content).values(kind=kind, digest=digest, data=data))

    # ---- people and credentials ------------------------------------------------------------------------------------

    def person(self, name: str) -> Person | None:
        return self._one(tables.person, Person, name=name)

    def person_of_token(self, token: str) -> Person | None:
        return self._one(tables.person, Person, token=token) if token else None

    def people(self) -> Sequence[Person]:
        return sorted(self._all(tables.person, Person), key=lambda one: one.name)

    def put_person(self, person: Person) -> None:
        self._put(tables.person, person, {"name": person.name}, token=person.token)

    def join_token(self, token: str) -> JoinToken | None:
        return next(map(_join_token, self._rows(tables.join_token, token=token)), None)

    def join_tokens(self) -> Sequence[JoinToken]:
        return sorted(map(_join_token, self._rows(tables.join_token)), key=lambda one: (one.created, one.id))

    def put_join_token(self, token: JoinToken) -> None:
        self._put(tables.join_token, token, {"id": token.id}, token=token.token, left=token.left, expires=token.expires)

    def use_join_token(self, token_id: str, now: float) -> bool:
        table = tables.join_token
        is_good = and_(table.c.id == token_id, table.c.left > 0, table.c.expires > now)
        return self._connection.execute(update(table).where(is_good).values(left=table.c.left - 1)).rowcount == 1

    # ---- audit, leases ---------------------------------------------------------------------------------------------

    def audit(self, entry: AuditEntry) -> None:
        self._add(tables.audit, entry, about=entry.about)

    def audit_entries(self, *, about: str = "", limit: int = 1000) -> Sequence[AuditEntry]:
        table = tables.audit
        query = select(table.c.number, table.c.record).order_by(table.c.number.desc()).limit(limit)
        rows = self._connection.execute(query.where(table.c.about == about) if about else query)
        return [msgspec.structs.replace(decode(row.record, AuditEntry), number=row.number) for row in rows]

    def lease(self, domain: str, holder: str, now: float, seconds: float) -> Lease | None:
        table = tables.lease
        row = self._connection.execute(select(table).where(table.c.domain == domain)).one_or_none()
        if row is None:
            found = Lease(domain=domain, holder=holder, fence=1, expires=now + seconds)
            self._connection.execute(insert(table).values(**msgspec.structs.asdict(found)))
            return found
        if row.holder not in ("", holder) and row.expires > now:
            return None
        fence = row.fence + (row.holder != holder or row.expires <= now)
        found = Lease(domain=domain, holder=holder, fence=fence, expires=now + seconds)
        is_as_read = and_(table.c.domain == domain, table.c.fence == row.fence, table.c.holder == row.holder)
        taken = self._connection.execute(update(table).where(is_as_read).values(**msgspec.structs.asdict(found)))
        return found if taken.rowcount == 1 else None

    def holds_lease(self, lease: Lease, now: float) -> bool:
        found = self.open_lease(lease.domain, now)
        return found is not None and (found.holder, found.fence) == (lease.holder, lease.fence)

    def end_lease(self, lease: Lease) -> None:
        table = tables.lease
        is_ours = and_(table.c.domain == lease.domain, table.c.fence == lease.fence, table.c.holder == lease.holder)
        self._connection.execute(update(table).where(is_ours).values(holder="", expires=0.0))

    def open_lease(self, domain: str, now: float) -> Lease | None:
        table = tables.lease
        is_open = and_(table.c.domain == domain, table.c.holder != "", table.c.expires > now)
        row = self._connection.execute(select(table).where(is_open)).one_or_none()
        return None if row is None else Lease(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it

    # ---- how records lie in tables ---------------------------------------------------------------------------------

    def _rows(self, table: Table, **values: object) -> Sequence[Row[Any]]:
        return self._connection.execute(select(table).where(_equals(table, values))).all()

    def _decoded(self, query: Any, kind: type[_Record]) -> list[_Record]:
        return [decode(row.record, kind) for row in self._connection.execute(query)]

    def _one(self, table: Table, kind: type[_Record], **values: object) -> _Record | None:
        return next(iter(self._all(table, kind, **values)), None)

    def _all(self, table: Table, kind: type[_Record], **values: object) -> list[_Record]:
        return self._decoded(select(table.c.record).where(_equals(table, values)), kind)

    def _newest(self, table: Table, kind: type[_Record], limit: int, values: Mapping[str, object]) -> list[_Record]:
        query = select(table.c.record).where(_equals(table, values)).order_by(table.c.number.desc())
        return self._decoded(query.limit(limit) if limit else query, kind)

    def _among(self, table: Table, column: Any, values: Iterable[str], kind: type[_Record]) -> Iterator[_Record]:
        for some in _portions(values):
            yield from self._decoded(select(table.c.record).where(column.in_(some)), kind)

    def _add(self, table: Table, record: msgspec.Struct, **columns: object) -> None:
        self._connection.execute(insert(table).values(record=encode(record), **columns))

    def _put(self, table: Table, record: msgspec.Struct, key: Mapping[str, object], **columns: object) -> None:
        values = columns | {"record": encode(record)}
        if self._connection.execute(update(table).where(_equals(table, key)).values(**values)).rowcount == 0:
            self._connection.execute(insert(table).values(**key, **values))


def _equals(table: Table, values: Mapping[str, object]) -> Any:
    return and_(True, *(table.c[name] == value for name, value in values.items()))


def _portions(values: Iterable[str]) -> Iterator[list[str]]:
    found = sorted(set(values))
    return (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))


def _branch(row: Row[Any]) -> Branch:
    return msgspec.structs.replace(decode(row.record, Branch), commit=row.commit_id, serial=row.serial)


def _join_token(row: Row[Any]) -> JoinToken:
    return msgspec.structs.replace(decode(row.record, JoinToken), left=row.left)
