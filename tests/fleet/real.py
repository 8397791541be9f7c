"""Hosts below a temporary root, with the real agent and engine, and a broker in the same process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from aquiline.agent.daemon.agent import Agent
from aquiline.agent.daemon.link import BrokerRefused
from aquiline.agent.session import Session
from aquiline.broker import answering
from aquiline.broker.broker import Broker
from aquiline.broker.compiling import Compiled, CompileFailed
from aquiline.broker.records import Host
from aquiline.errors import AquilineError
from aquiline.profile import Profile, escape
from aquiline.protocol.changesets import ChangeSet
from aquiline.protocol.messages import Live, Poll, PollAnswer, Report, ReportAnswer, encode_message
from tests.fleet.histories import FilesCompiler, Tree


class RealCompiler(FilesCompiler):
    """As `FilesCompiler`; the profile has a component that writes each entry to a file below /etc."""

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        return {host: self._as_component(found) for host, found in super().compile(source, hosts).items()}

    def _as_component(self, found: Compiled | CompileFailed) -> Compiled | CompileFailed:
        if isinstance(found, CompileFailed):
            return found
        services = {escape(f"/etc/{key}"): {"config": value, "perms": "0644"} for key, value in found.profile.items()}
        filecopy = {"active": True, "dispatch": True, "services": services}
        tree = {"software": {"components": {"filecopy": filecopy}}}
        return Compiled(tree, Profile(tree).digest)


def entries_of(profile: bytes) -> Tree:
    """Return the entries that a profile of `RealCompiler` was made of."""
    services = json.loads(profile)["software"]["components"]["filecopy"]["services"]
    return {key.removeprefix("_2fetc_2f"): value["config"] for key, value in services.items()}


class HereLink:
    """The way to a broker in the same process: the functions that HTTP would call."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name
        #: Report each time twice, as if the first answer had been lost.
        self.twice = False

    def _host(self) -> Host:
        with self._broker.store.transaction() as tx:
            found = tx.host(self._name)
        assert found is not None
        return found

    def poll(self, poll: Poll) -> PollAnswer:
        return answering.answer(self._broker, self._host(), poll)

    def profile(self, digest: str) -> bytes:
        try:
            return answering.profile(self._broker, self._host(), digest)
        except AquilineError as error:
            raise BrokerRefused(error.message) from None

    def report(self, report: Report) -> ReportAnswer:
        if self.twice:
            answering.receive(self._broker, self._host(), report)
        return answering.receive(self._broker, self._host(), report)

    def send_change_set(self, digest: str, change_set: ChangeSet) -> None:
        answering.keep_change_set(self._broker, self._host(), digest, encode_message(change_set))

    def send_schemas(self, digest: str, schemas: bytes) -> None:
        answering.keep_schemas(self._broker, self._host(), digest, schemas)

    def reach(self) -> None:
        """A broker in the same process is reached."""


class RealHost:
    """A host of a random history: as `SmallHost`, and real."""

    def __init__(self, name: str, broker: Broker, *, root: Path, machine_id: str) -> None:
        self.name = name
        self.broker = broker
        self._root = root
        (root / "etc").mkdir(parents=True)
        (root / "etc/machine-id").write_text(f"{machine_id}\n")
        (root / "etc/by-hand").write_text(name)
        self._link = HereLink(broker, name)
        self.fuse: int | None = None

    def record(self) -> Host:
        with self.broker.store.transaction() as tx:
            found = tx.host(self.name)
        assert found is not None
        return found

    def visit(self) -> None:
        """Poll, do all there is, report."""
        with Session(str(self._root)) as session:
            done = Agent(session, self._link, name=self.name).once()
        assert not done.error

    def send(self, *, twice: bool = False) -> None:
        """From now on report each time once or twice."""
        self._link.twice = twice

    @property
    def tree(self) -> Tree:
        """What is there now."""
        return {path.name: path.read_text() for path in (self._root / "etc").iterdir() if path.name != "machine-id"}

    @property
    def live(self) -> Live:
        """What the journal says is live."""
        with Session(str(self._root)) as session, session.reading() as journal:
            pointer = journal.live()
        return Live(pointer.profile, pointer.change_ids) if pointer is not None else Live()

    @property
    def held(self) -> bool:
        """Whether the agent holds the host."""
        return (self._root / "var/lib/aquiline/agent/held.json").exists()

    def profile(self, digest: str) -> Tree:
        """Return the entries of a profile that the broker has."""
        if not digest:
            return {}
        with self.broker.store.transaction() as tx:
            found = tx.content("profile", digest)
        assert found is not None
        return entries_of(found)

    def is_interrupted(self) -> bool:
        """A run in this process always ends."""
        return False

    def as_history_says(self, initial: Tree) -> Tree:
        """Return the tree that the profiles of the runs that stand make of the one before the first."""
        if not (self._root / "var/lib/aquiline/journal.db").exists():
            return dict(initial)
        with Session(str(self._root)) as session, session.reading() as journal:
            runs = sorted(journal.runs(), key=lambda run: run.sequence)
            undone = {name for run in runs if run.header.kind == "undo" for name in run.header.undoes}
            profiles = [run.header.profile for run in runs if run.header.kind == "apply" and run.id not in undone]
        found = dict(initial)
        for digest in profiles:
            found.update(self.profile(digest))
        return found
