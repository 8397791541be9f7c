"""A broker in the same process: it keeps what it is told, and says what it is set to say."""

from __future__ import annotations

from pathlib import Path

import msgspec

from aquiline.agent.daemon.agent import Agent, Once
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused
from aquiline.agent.session import Session
from aquiline.profile import Profile
from aquiline.profile.loading import parse_json
from aquiline.profile.profile import canonical
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import (
    Order,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    Target,
    decode_message,
    encode_message,
)
from tests.agent.making import Site


class Broker:
    """Keeps targets, profiles and reports of one host. It is a `Link`."""

    def __init__(self) -> None:
        self.target: Target | None = None
        self.orders: dict[str, Order] = {}
        self.profiles: dict[str, bytes] = {}
        self.polls: list[Poll] = []
        #: In the order in which they were accepted, each once.
        self.reports: dict[str, Report] = {}
        #: Ids of all reports as they came.
        self.came: list[str] = []
        self.bodies: dict[str, ChangeSet] = {}
        self.schemas: dict[str, bytes] = {}
        #: How often a confirmer was reached.
        self.reached = 0
        #: Methods that do not answer.
        self.away: set[str] = set()
        #: Ids of reports that it will not have.
        self.refuses: set[str] = set()
        self.pace = 60.0

    # ---- what a person does ---------------------------------------------------------------------------------------

    def wants(self, profile: Profile | None, *change_ids: str, release: bool = False, **terms: object) -> Target:
        """Set the next target of the host."""
        generation = self.target.generation + 1 if self.target is not None else 1
        digest = "" if profile is None else self.compiles(profile)
        released = generation if release else self.target.released if self.target is not None else 0
        target = Target(generation=generation, profile=digest, change_ids=tuple(sorted(change_ids)), released=released)
        self.target = msgspec.structs.replace(target, **terms)
        return self.target

    def compiles(self, profile: Profile) -> str:
        """Keep a profile; return its digest."""
        # As a profile is that was read from a file: numbers have one form only.
        read = Profile(parse_json(canonical(profile.tree).decode()))
        self.profiles[read.digest] = canonical(read.tree)
        return read.digest

    def asks(self, order: Order) -> None:
        """Ask the host something."""
        self.orders[order.id] = order

    def of_kind(self, kind: str) -> list[Report]:
        """Return the reports of a kind."""
        return [report for report in self.reports.values() if report.kind == kind]

    @property
    def last(self) -> Report:
        """The report that was accepted last."""
        return list(self.reports.values())[-1]

    # ---- what an agent asks ---------------------------------------------------------------------------------------

    def _answers(self, method: str) -> None:
        if method in self.away:
            raise BrokerAway(f"{method}: the broker is away")

    def poll(self, poll: Poll) -> PollAnswer:
        self._answers("poll")
        self.polls.append(decode_message(encode_message(poll), Poll))
        return self.look(poll)

    def look(self, poll: Poll) -> PollAnswer:
        """Return what a poll is answered just now."""
        answered = {report.order for report in self.reports.values()}
        return PollAnswer(
            target=self.target,
            orders=tuple(order for order in self.orders.values() if order.id not in answered),
            pace=self.pace,
            wants_schemas=poll.schemas not in self.schemas,
        )

    def profile(self, digest: str) -> bytes:
        self._answers("profile")
        if digest not in self.profiles:
            raise BrokerRefused(f"no profile {digest}")
        return self.profiles[digest]

    def report(self, report: Report) -> ReportAnswer:
        self._answers("report")
        if report.id in self.refuses:
            raise BrokerRefused(f"report {report.id} is not wanted")
        self.came.append(report.id)
        self.reports.setdefault(report.id, decode_message(encode_message(report), Report))
        has_body = not report.change_set or report.change_set in self.bodies
        return ReportAnswer(wants=() if has_body else (report.change_set,))

    def send_change_set(self, digest: str, change_set: ChangeSet) -> None:
        self._answers("send_change_set")
        found = decode_message(encode_message(change_set), ChangeSet)
        assert digest == change_set_digest(found)
        self.bodies[digest] = found

    def send_schemas(self, digest: str, schemas: bytes) -> None:
        self._answers("send_schemas")
        self.schemas[digest] = schemas

    def reach(self) -> None:
        self._answers("reach")
        self.reached += 1


def agent_of(site: Site, broker: Broker, session: Session) -> Agent:
    """Return the agent of a site's host."""
    return Agent(session, broker, name="h1.example.org")


def once(site: Site, broker: Broker) -> Once:
    """Let a new agent of that host do all there is to do."""
    with site.session() as session:
        return agent_of(site, broker, session).once()


def files_below(path: Path) -> list[str]:
    """Return the names of the files below a directory."""
    return sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())
