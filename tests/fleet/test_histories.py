"""Fleets in random histories: what every host is, is what its history says."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aquiline.broker import laying, members, reporting, taking_back, targets
from aquiline.broker.broker import Asker, Blocked, Broker, Refused
from aquiline.broker.rendering import render_report
from aquiline.broker.repository import Repository
from aquiline.broker.sqlstore import SqlStore
from aquiline.errors import MergeConflict, NothingToDeploy
from aquiline.protocol.messages import Enrol
from tests.fleet.histories import Died, FilesCompiler, People, SmallHost
from tests.fleet.real import RealCompiler, RealHost

ALICE = Asker("alice", "because")
HOSTS = ("web1", "web2", "db1")
KEYS = st.sampled_from(["motd", "ntp", "sshd"])
DOMAINS = st.sampled_from(["prod", "prod", "prod", "qa"])
NAMES = st.sampled_from(HOSTS)
PLACES = st.sampled_from(["common", *HOSTS])


class Fleets(RuleBasedStateMachine):
    """One domain to begin with, three hosts, sandboxes as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.place = place = Path(self._folder.name)
        self.now = 1_000_000.0
        self.broker = Broker(
            SqlStore("sqlite://"), Repository.create(place / "repository.git"), self.compiler(), now=lambda: self.now
        )
        self.people = People(place / "clone", place / "repository.git")
        self.hosts: dict[str, SmallHost | RealHost] = {}
        self.off: set[str] = set()
        self.sandboxes: list[str] = []
        self.initial: dict[str, dict[str, str]] = {}
        self.counter = 0

    def compiler(self) -> FilesCompiler:
        """Return what makes profiles of files."""
        return FilesCompiler()

    def teardown(self) -> None:
        self.broker.store.close()
        self._folder.cleanup()

    @initialize()
    def begin(self) -> None:
        for domain in ("prod", "qa"):
            members.add_domain(self.broker, domain, ALICE, start="prod" if domain == "qa" else "")
        token = members.add_join_token(self.broker, ALICE, count=len(HOSTS), seconds=60.0, pattern="*")
        for number, name in enumerate(HOSTS):
            members.add_host(self.broker, name, ALICE, branch="prod")
            wish = Enrol(join_token=token, name=name, machine_id=f"{number:032x}", journal="journal-1", tool="test")
            members.enrol(self.broker, wish)
            self.hosts[name] = self.made(name, f"{number:032x}")
            self.initial[name] = {"by-hand": name}

    def made(self, name: str, machine_id: str) -> SmallHost | RealHost:
        """Return a host that has never been changed."""
        return SmallHost(name, self.broker, tree={"by-hand": name})

    @rule(
        action=st.sampled_from(
            [*["deliver"] * 4, "deliver_more", "deliver_again", *["undeploy_last"] * 3, "undeploy_some",
             "undeploy_the_first_of_several", *["undeploy_from_below"] * 2, "move", "hold_or_release"]
        ),
        which=st.integers(0, 9), key=KEYS, place=PLACES, domain=DOMAINS, name=NAMES,
        back=st.integers(1, 3), flag=st.booleans(),
    )  # fmt: skip
    def people_act(
        self, *, action: str, which: int, key: str, place: str, domain: str, name: str, back: int, flag: bool
    ) -> None:
        match action:
            case "deliver":
                self.deliver(key, place, domain, is_tested=flag)
            case "deliver_more" if self.sandboxes:
                self.deliver_more(which, key, place, domain, gone=flag)
            case "deliver_again" if self.sandboxes:
                self.deploy(self.sandboxes[which % len(self.sandboxes)], domain)
            case "undeploy_last":
                self.undeploy(domain, 1, is_test=False)
            case "undeploy_some":
                self.undeploy(domain, back, is_test=flag)
            case "undeploy_the_first_of_several":
                self.undeploy_the_first_of_several(domain)
            case "undeploy_from_below":
                self.undeploy_from_below(domain, which, is_test=flag and back == 1)
            case "move":
                self.move(name, domain)
            case "hold_or_release":
                self.hold_or_release(name)

    @rule(
        action=st.sampled_from(["visit", "die", "all", "all", "off or on", "time"]),
        name=NAMES, fuse=st.integers(0, 2), twice=st.booleans(), seconds=st.sampled_from([1.0, 700.0, 90_000.0]),
    )  # fmt: skip
    def hosts_act(self, action: str, name: str, fuse: int, twice: bool, seconds: float) -> None:
        match action:
            case "visit":
                self.visit(name, twice)
            case "die":
                self.die(name, fuse)
            case "all":
                self.everybody_visits()
            case "off or on":
                self.off ^= {name}
            case "time":
                self.now += seconds

    # ---- people ----

    def deliver(self, key: str, place: str, domain: str, *, is_tested: bool) -> None:
        """Somebody begins a sandbox, changes a file, and deploys it."""
        self.counter += 1
        name = f"s{self.counter}"
        members.add_sandbox(self.broker, name, ALICE, start=domain)
        self.sandboxes.append(name)
        self.people.push(name, {f"{place}/{key}": name})
        if is_tested:
            self.ask(name, domain)
        self.deploy(name, domain)

    def deliver_more(self, which: int, key: str, place: str, domain: str, *, gone: bool) -> None:
        """Somebody goes on in a sandbox, in which much may have been undeployed or deployed elsewhere."""
        self.counter += 1
        name = self.sandboxes[which % len(self.sandboxes)]
        self.people.push(name, {f"{place}/{key}": None if gone else f"{name}.{self.counter}"})
        self.deploy(name, domain)

    def ask(self, sandbox: str, domain: str) -> None:
        try:
            change = laying.ask(self.broker, sandbox, domain, ALICE)
        except (MergeConflict, NothingToDeploy):
            return
        self.check_report(change.id)

    def deploy(self, sandbox: str, domain: str) -> None:
        before = self.broker.repository.head(domain)
        with self.broker.store.transaction() as tx:
            undone = [one for one in tx.changes(domain) if one.state == "undone" and one.sandbox == sandbox]
        try:
            change = laying.deploy(self.broker, sandbox, domain, ALICE)
        except (MergeConflict, NothingToDeploy):
            assert before == self.broker.repository.head(domain)
            return
        assert change.after == self.broker.repository.head(domain)
        if undone:
            self.check_laid_again(sandbox, change.after)
        self.check_report(change.id)

    def check_laid_again(self, sandbox: str, commit: str) -> None:
        """All that the sandbox says of a file, nobody else having touched it since, is in what was deployed (D20)."""
        with tempfile.TemporaryDirectory() as folder:
            wanted, found = Path(folder, "wanted"), Path(folder, "found")
            self.broker.repository.export(self.broker.repository.head(sandbox), wanted)
            self.broker.repository.export(commit, found)
            ours = {path.relative_to(wanted): path.read_text() for path in wanted.rglob("*") if path.is_file()}
            for path, text in ours.items():
                if text.partition(".")[0] == sandbox:
                    assert (found / path).exists(), f"{path} of {sandbox} was left out"

    def undeploy(self, domain: str, back: int, is_test: bool) -> None:
        with self.broker.store.transaction() as tx:
            deployed = [one for one in targets.in_effect(tx.changes(domain)) if one.kind == "deploy"]
        if len(deployed) < back:
            return
        with self.broker.store.transaction() as tx:
            names = taking_back.last_changes(tx, domain, last=back)
        change = taking_back.undeploy(self.broker, names, ALICE, is_test=is_test)
        self.check_report(change.id)

    def undeploy_the_first_of_several(self, domain: str) -> None:
        with self.broker.store.transaction() as tx:
            deployed = [one for one in targets.in_effect(tx.changes(domain)) if one.kind == "deploy"]
        if len(deployed) < 2:
            return
        with pytest.raises(Blocked) as refused:
            taking_back.undeploy(self.broker, [deployed[0].id], ALICE)
        assert tuple(one.id for one in reversed(deployed[1:])) == refused.value.changes

    def undeploy_from_below(self, domain: str, which: int, *, is_test: bool) -> None:
        """One change of several goes, and those after it are laid again, or nothing happens at all."""
        with self.broker.store.transaction() as tx:
            deployed = [one for one in targets.in_effect(tx.changes(domain)) if one.kind == "deploy"]
        if not deployed:
            return
        at = which % len(deployed)
        before = self.broker.repository.head(domain), [one.id for one in deployed]
        try:
            change = taking_back.undeploy(self.broker, [deployed[at].id], ALICE, is_test=is_test, redeploy=True)
        except MergeConflict:
            assert before == (self.broker.repository.head(domain), self.standing(domain))
            return
        later = [one.id for one in deployed[at + 1 :]]
        assert tuple(later) == change.relays
        self.check_report(change.id)
        if is_test:
            assert before == (self.broker.repository.head(domain), self.standing(domain))
            return
        assert [*before[1][:at], *change.lays] == self.standing(domain)
        with self.broker.store.transaction() as tx:
            assert [(name,) for name in later] == [tx.change(name).relays for name in change.lays]  # type: ignore[union-attr]
        for name in change.lays:
            self.check_report(name)

    def standing(self, domain: str) -> list[str]:
        """Return the deployments in effect, in their order."""
        with self.broker.store.transaction() as tx:
            return [one.id for one in targets.in_effect(tx.changes(domain)) if one.kind == "deploy"]

    def move(self, name: str, domain: str) -> None:
        if self.hosts[name].record().held:
            with pytest.raises(Refused, match="is held"):
                members.manage(self.broker, name, ALICE, branch=domain)
        else:
            members.manage(self.broker, name, ALICE, branch=domain)

    def hold_or_release(self, name: str) -> None:
        if self.hosts[name].record().held:
            members.release(self.broker, name, ALICE)
        else:
            members.hold(self.broker, name, ALICE)

    # ---- hosts ----

    def die(self, name: str, fuse: int) -> None:
        """The host visits and loses power in the middle; what it had not sent is sent when it is back."""
        host = self.hosts[name]
        if name in self.off:
            return
        host.fuse = fuse
        with contextlib.suppress(Died):
            host.visit()
        host.fuse = None

    def visit(self, name: str, twice: bool) -> None:
        if name not in self.off:
            self.hosts[name].send(twice=twice)
            self.hosts[name].visit()

    def everybody_visits(self) -> None:
        """Whoever can be reached is, or is held, what the broker wants; nothing that was undone has left a trace."""
        for name, host in self.hosts.items():
            if name not in self.off:
                host.visit()
                self.check_arrived(host)

    # ---- what always holds ----

    def check_arrived(self, host: SmallHost | RealHost) -> None:
        with self.broker.store.transaction() as tx:
            target = tx.target(host.name)
            assert target is not None
            changes = {one.id: one for one in tx.changes()}
        if host.held or host.record().held_by == "person":
            return  # it is told nothing until it is released
        assert (target.profile, target.change_ids) == (host.live.profile, host.live.change_ids)
        # What was undone in a domain that the host has left by now stays on it, and the report says so (D18).
        ours = [changes[name] for name in host.live.change_ids if changes[name].domain == host.record().branch]
        assert all(one.state != "undone" for one in ours)
        profile = host.profile(target.profile)
        assert profile == {key: host.tree.get(key) for key in profile}

    def check_report(self, change: str) -> None:
        found = reporting.report(self.broker, change)
        assert found.fleet == sum(found.totals.values())
        assert found == reporting.report(self.broker, change)
        assert render_report(found) == render_report(reporting.report(self.broker, change))

    @invariant()
    def every_tree_is_what_its_history_says(self) -> None:
        for name, host in self.hosts.items():
            if not host.is_interrupted():
                assert host.as_history_says(self.initial[name]) == host.tree

    @invariant()
    def database_and_git_agree(self) -> None:
        with self.broker.store.transaction() as tx:
            for branch in tx.branches():
                if branch.kind == "domain":
                    assert branch.commit == self.broker.repository.head(branch.name)


class RealFleets(Fleets):
    """The same, with the real agent and engine on temporary roots."""

    def compiler(self) -> FilesCompiler:
        return RealCompiler()

    def made(self, name: str, machine_id: str) -> SmallHost | RealHost:
        return RealHost(name, self.broker, root=self.place / name, machine_id=machine_id)


class TestHistories(Fleets.TestCase):  # type: ignore[valid-type,misc]
    """A few histories, on every change of the code."""

    settings = settings(
        max_examples=4, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )


@pytest.mark.slow
class TestManyHistories(Fleets.TestCase):  # type: ignore[valid-type,misc]
    """Over a hundred histories."""

    settings = settings(
        max_examples=110,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )


@pytest.mark.slow
class TestRealHistories(RealFleets.TestCase):  # type: ignore[valid-type,misc]
    """Some histories with real hosts."""

    settings = settings(
        max_examples=10,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
