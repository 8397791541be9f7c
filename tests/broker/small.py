"""A fleet of small hosts in this process, for directed tests; and a broker that dies where a test wants it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aquiline.broker import laying, members, taking_back
from aquiline.broker.broker import LEASE, Asker, Broker
from aquiline.broker.going_live import settle
from aquiline.broker.records import Branch, Change, ChangeHost, Host, HostTarget
from aquiline.broker.repository import Repository
from aquiline.broker.sqlstore import SqlStore
from aquiline.broker.store import Reading, Store, Transaction
from aquiline.protocol.messages import Enrol
from tests.fleet.histories import FilesCompiler, People, SmallHost

ALICE = Asker("alice", "because")
BOB = Asker("bob", "because")


class Killed(BaseException):
    """The broker's process is no more."""


class Mortal:
    """Counts what cannot be taken back: begun and ended transactions and moved refs; the broker dies at the n-th."""

    def __init__(self, fuse: int | None = None) -> None:
        self.fuse = fuse

    def refuse_dead(self) -> None:
        """Do nothing more: whoever is dead does not even look."""
        if self.fuse == 0:
            raise Killed

    def tick(self) -> None:
        """Come nearer to death; whoever is dead stays dead."""
        if self.fuse is not None:
            if self.fuse == 0:
                raise Killed
            self.fuse -= 1


class MortalStore:
    """A store whose user may die before and after every transaction."""

    def __init__(self, store: Store, mortal: Mortal) -> None:
        self._store = store
        self._mortal = mortal

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._mortal.tick()
        with self._store.transaction() as tx:
            yield tx
        self._mortal.tick()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        self._mortal.refuse_dead()
        with self._store.reading() as tx:
            yield tx

    def close(self) -> None:
        self._store.close()


class MortalRepository:
    """A repository whose user may die before and after a ref moves."""

    def __init__(self, repository: Repository, mortal: Mortal) -> None:
        self._repository = repository
        self._mortal = mortal

    def move(self, name: str, *, expected: str, to: str) -> None:
        self._mortal.tick()
        self._repository.move(name, expected=expected, to=to)
        self._mortal.tick()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)


class Fleet:
    """A broker, somebody who pushes, and small hosts in the domain ``prod``."""

    def __init__(self, place: Path, *, hosts: tuple[str, ...] = ("web1", "web2", "db1")) -> None:
        self.now = 1_000_000.0
        self.store = SqlStore("sqlite://")
        self.repository = Repository.create(place / "repository.git")
        self.broker = self.another_broker("broker")
        self.people = People(place / "clone", place / "repository.git")
        self.hosts: dict[str, SmallHost] = {}
        self._counter = 0
        members.add_domain(self.broker, "prod", ALICE)
        for name in hosts:
            self.add(name)

    def another_broker(self, name: str, mortal: Mortal | None = None) -> Broker:
        """Return one more broker of the same fleet."""
        if mortal is None:
            return Broker(self.store, self.repository, FilesCompiler(), now=lambda: self.now, name=name)
        repository: Any = MortalRepository(self.repository, mortal)
        return Broker(MortalStore(self.store, mortal), repository, FilesCompiler(), now=lambda: self.now, name=name)

    def restarted(self) -> None:
        """A broker that starts after another one has died finishes what that had begun."""
        self.now += LEASE
        settle(self.broker)

    # ---- people ----

    def add(self, name: str, branch: str = "prod") -> SmallHost:
        """Add a host and enrol it."""
        token = members.add_join_token(self.broker, ALICE, count=1, seconds=60.0, pattern="*")
        members.add_host(self.broker, name, ALICE, branch=branch)
        number = len(self.hosts)
        members.enrol(
            self.broker,
            Enrol(join_token=token, name=name, machine_id=f"{number:032x}", journal="journal-1", tool="test"),
        )
        self.hosts[name] = SmallHost(name, self.broker, tree={"by-hand": name})
        return self.hosts[name]

    def sandbox(self, files: Mapping[str, str | None], *, domain: str = "prod") -> str:
        """Begin a sandbox and push files to it."""
        self._counter += 1
        name = f"s{self._counter}"
        members.add_sandbox(self.broker, name, ALICE, start=domain)
        self.people.push(name, files)
        return name

    def deploy(self, files: Mapping[str, str | None], *, domain: str = "prod", **more: Any) -> Change:
        """Deploy files by a new sandbox."""
        return laying.deploy(self.broker, self.sandbox(files, domain=domain), domain, ALICE, **more)

    def undeploy(self, *changes: Change | str, **more: Any) -> Change:
        """Take changes back."""
        names = [one if isinstance(one, str) else one.id for one in changes]
        return taking_back.undeploy(self.broker, names, ALICE, **more)

    def visit(self, *names: str) -> None:
        """Let hosts poll and do what they are told; all of them where none is named."""
        for name in names or self.hosts:
            self.hosts[name].visit()

    # ---- looking ----

    def change(self, change: Change | str) -> Change:
        """Return a change as it is now."""
        with self.store.transaction() as tx:
            found = tx.change(change if isinstance(change, str) else change.id)
        assert found is not None
        return found

    def branch(self, name: str = "prod") -> Branch:
        """Return a branch as it is now."""
        with self.store.transaction() as tx:
            found = tx.branch(name)
        assert found is not None
        return found

    def record(self, name: str) -> Host:
        """Return a host as it is now."""
        return self.hosts[name].record()

    def target(self, name: str) -> HostTarget:
        """Return the target of a host as it is now."""
        with self.store.transaction() as tx:
            found = tx.target(name)
        assert found is not None
        return found

    def meaning(self, change: Change | str, name: str) -> ChangeHost:
        """Return what a change means to a host."""
        with self.store.transaction() as tx:
            found = tx.change_host(change if isinstance(change, str) else change.id, name)
        assert found is not None
        return found

    def states(self, change: Change | str) -> dict[str, str]:
        """Return what a change means to every host, in a word."""
        with self.store.transaction() as tx:
            return {one.host: one.state for one in tx.change_hosts(change if isinstance(change, str) else change.id)}

    def tree(self, name: str) -> dict[str, str]:
        """Return what is on a host, but for what was there before."""
        return {key: value for key, value in self.hosts[name].tree.items() if key != "by-hand"}

    def is_whole(self) -> bool:
        """Whether database and git agree, and nothing is left half done."""
        with self.store.transaction() as tx:
            domains = [one for one in tx.branches() if one.kind == "domain"]
            intended = [one for one in tx.changes() if one.state == "intended"]
        return not intended and all(one.commit == self.repository.head(one.name) for one in domains)
