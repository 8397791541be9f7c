"""The broker's parts, and what every use case needs of them: who asks, what time it is, whom to wake."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from aquiline.broker.compiling import Checked, Compiled, CompileFailed, Compiler, Schemas
from aquiline.broker.records import AuditEntry, Branch, Change, Host, Lease
from aquiline.broker.repository import Repository
from aquiline.broker.scratch import scratch_folder
from aquiline.broker.slots import REPORTS_PER_SECOND, Slots
from aquiline.broker.store import Reading, Store, Transaction
from aquiline.changes.canonical import decode, encode
from aquiline.errors import AquilineError, HostFrozen

_log = logging.getLogger("aquiline.broker")
#: Seconds for which a domain is still kept by a broker that died while it changed it; a living one prolongs it.
LEASE = 20.0
#: Bytes that are kept of one host in a day, where nobody says otherwise: several first deployments of 5,000 files.
HOST_BUDGET = 64 * 1024 * 1024


class NotFound(AquilineError):
    """There is no branch, host or change of that name."""


class Refused(AquilineError):
    """What was asked for does not fit what is: nothing has moved."""


class Blocked(Refused):
    """Later changes stand on the one that would be taken back."""

    def __init__(self, message: str, *, changes: Sequence[str], hint: str) -> None:
        super().__init__(message, hint=hint)
        #: Newest first.
        self.changes = tuple(changes)


class Asker(msgspec.Struct, frozen=True):
    """Who asks for something, and why."""

    name: str
    reason: str = ""
    justification: str = ""


Compilation = Mapping[str, Compiled | CompileFailed]


class Broker:
    """The store, the repository and the compiler of one fleet."""

    def __init__(
        self,
        store: Store,
        repository: Repository,
        compiler: Compiler,
        *,
        now: Callable[[], float] = time.time,
        name: str = "broker",
        host_budget: int = HOST_BUDGET,
        reports_per_second: int = REPORTS_PER_SECOND,
    ) -> None:
        self.store = store
        self.repository = repository
        self.now = now
        self.name = name
        #: Bytes that are kept of one host in a day, at most.
        self.host_budget = host_budget
        #: When hosts that finish together may report.
        self.slots = Slots(reports_per_second)
        self._compiler = compiler
        self.bell = Bell()
        #: By digest, ready to check with.
        self._schemas: dict[str, Schemas] = {}

    def compile(self, commit: str, hosts: Sequence[str]) -> Compilation:
        """Return what `hosts` are to be by `commit`."""
        if not hosts:
            return {}
        checked = Checked(self._compiler, self._schemas_of(hosts))
        with scratch_folder("compile") as folder:
            source = Path(folder, "source")
            self.repository.export(commit, source)
            return checked.compile(source, hosts)

    def _schemas_of(self, hosts: Sequence[str]) -> Callable[[str], Schemas | None]:
        """Return what says which schemas a host has; hosts that have the same share them, made ready once."""
        with self.store.reading() as tx:
            digests = {one.name: one.schemas for one in map(tx.host, hosts) if one is not None and one.schemas}
            bodies = {digest: tx.content("schemas", digest) for digest in set(digests.values())}
        for digest, body in bodies.items():
            if body is not None and digest not in self._schemas:
                try:
                    self._schemas[digest] = Schemas(decode(body, dict[str, Any]))
                except AquilineError as error:
                    # A host that says nonsense of its components is not checked by it; its run tells.
                    _log.warning("schemas %s are passed over: %s", digest, error.message)
        return lambda host: self._schemas.get(digests.get(host, ""))

    @contextmanager
    def leased(self, domain: str, who: str) -> Iterator[Lease]:
        """Keep everybody else from moving a domain, however long it takes.

        Raises:
            Refused: somebody else does just that.
        """
        holder = f"{self.name}/{threading.get_ident()}/{who}"
        with self.store.transaction() as tx:
            lease = tx.lease(domain, holder, self.now(), LEASE)
            other = None if lease is not None else tx.open_lease(domain, self.now())
        if lease is None:
            raise Refused(
                f"{domain} is being changed by {other.holder.split('/', 2)[-1] if other else 'somebody else'}",
                hint="try again when that is over",
            )
        try:
            with self._prolonged(lease):
                yield lease
        finally:
            with self.store.transaction() as tx:
                tx.end_lease(lease)

    @contextmanager
    def _prolonged(self, lease: Lease) -> Iterator[None]:
        """Prolong a lease for as long as it is held: a short one is soon free where its broker has died."""
        is_over = threading.Event()

        def prolong() -> None:
            while not is_over.wait(LEASE / 4):
                try:
                    with self.store.transaction() as tx:
                        if not tx.holds_lease(lease, self.now()):
                            return
                        tx.lease(lease.domain, lease.holder, self.now(), LEASE)
                except AquilineError as error:
                    # The next try may do; if none does, the lease is lost, and who relied on it is refused.
                    _log.warning("the lease of %s was not prolonged: %s", lease.domain, error.message)

        thread = threading.Thread(target=prolong, name=f"lease of {lease.domain}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def refuse_lost(self, tx: Transaction, lease: Lease) -> None:
        """Raise `Refused` where a lease was lost: what was prepared under it may be out of date."""
        if not tx.holds_lease(lease, self.now()):
            raise Refused(
                f"{lease.domain} was not changed: that took so long that somebody else may be changing it now",
                hint="try again",
            )

    def audit(self, tx: Transaction, who: str, what: str, about: str = "", **details: object) -> None:
        """Write down who did what."""
        tx.audit(
            AuditEntry(when=self.now(), who=who, what=what, about=about, details=encode(details) if details else "")
        )


class Bell:
    """Wakes whoever waits for news about a host or change; only a hint, so that nothing depends on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Callable[[], object]]] = {}
        #: There will be no more news: whoever waits need wait no longer.
        self.is_over = False

    def ring(self, *names: str) -> None:
        """Say that there may be news about the hosts or changes of these names."""
        with self._lock:
            called = [listener for name in names for listener in self._listeners.get(name, ())]
        for listener in called:
            listener()

    def end(self) -> None:
        """Wake everybody, for the last time."""
        with self._lock:
            self.is_over = True
            names = tuple(self._listeners)
        self.ring(*names)

    @contextmanager
    def listening(self, name: str, listener: Callable[[], object]) -> Iterator[None]:
        """Call `listener`, from any thread, whenever there may be news about `name`."""
        with self._lock:
            self._listeners.setdefault(name, []).append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners[name].remove(listener)
                if not self._listeners[name]:
                    del self._listeners[name]


def domain_of(tx: Reading, name: str) -> Branch:
    """Return the domain of this name; raises `NotFound` where there is none."""
    found = tx.branch(name)
    if found is None or found.kind != "domain":
        raise NotFound(f"there is no domain {name}", hint="`aquiline domain list` names them")
    return found


def sandbox_of(tx: Reading, name: str) -> Branch:
    """Return the sandbox of this name; raises `NotFound` where there is none."""
    found = tx.branch(name)
    if found is None or found.kind != "sandbox":
        raise NotFound(f"there is no sandbox {name}", hint="`aquiline sandbox list` names them")
    return found


def host_of(tx: Reading, name: str) -> Host:
    """Return the host of this name; raises `NotFound` where there is none."""
    found = tx.host(name)
    if found is None:
        raise NotFound(f"there is no host {name}", hint="`aquiline host list` names them")
    return found


def change_of(tx: Reading, change_id: str) -> Change:
    """Return the change of this ID; raises `NotFound` where there is none."""
    found = tx.change(change_id)
    if found is None:
        raise NotFound(f"there is no change {change_id}", hint="`aquiline changes` lists them")
    return found


def refuse_frozen(branch: Branch) -> None:
    """Raise `HostFrozen` where nothing may be deployed on a branch."""
    if branch.frozen:
        raise HostFrozen(f"{branch.name} is frozen: {branch.frozen}", hint=f"`aquiline thaw --domain {branch.name}`")


def new_change_id(tx: Transaction, domain: str) -> tuple[str, int]:
    """Return the next change ID of a domain with its serial."""
    serial = tx.next_serial(domain)
    return f"{domain}-{serial}", serial
