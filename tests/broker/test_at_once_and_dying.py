"""Two people at once, brokers that die, domains that somebody else moves: one thing happens, once, or nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from aquiline.broker import laying, members, taking_back
from aquiline.broker.adopting import adopt
from aquiline.broker.broker import LEASE, Broker, Refused
from aquiline.broker.compiling import Compiled, CompileFailed
from aquiline.broker.going_live import finish, settle
from aquiline.errors import BranchMoved, HostFrozen
from tests.broker.small import ALICE, BOB, Fleet, Killed, Mortal
from tests.fleet.histories import FilesCompiler

Work = Callable[[Broker], object]


class Meanwhile(FilesCompiler):
    """Lets something happen while hosts are compiled."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        self._happens()
        return super().compile(source, hosts)


def meanwhile(fleet: Fleet, happens: Callable[[], object], name: str = "slow") -> Broker:
    """Return a broker of the fleet in which something happens, once, while it compiles."""
    left = [happens]

    def once() -> None:
        if left:
            left.pop()()

    return Broker(fleet.store, fleet.repository, Meanwhile(once), now=lambda: fleet.now, name=name)


# ---- at once ---------------------------------------------------------------------------------------------------------


def test_two_people_deploy_at_once(fleet: Fleet) -> None:
    """While one deploys, another is told who does, and nothing of theirs has moved; afterwards it is their turn."""
    other = fleet.sandbox({"common/ntp": "bob's"})
    told: list[str] = []

    def try_too() -> None:
        for attempt in (
            lambda: laying.deploy(fleet.broker, other, "prod", BOB),
            lambda: members.manage(fleet.broker, "web1", BOB, branch="prod"),
            lambda: members.reset_domain(fleet.broker, "prod", BOB),
        ):
            with pytest.raises(Refused) as refused:
                attempt()
            told.append(refused.value.message)

    laying.deploy(meanwhile(fleet, try_too), fleet.sandbox({"common/motd": "alice's"}), "prod", ALICE)
    laying.deploy(fleet.broker, other, "prod", BOB)
    fleet.visit()

    assert ["prod is being changed by alice"] * 3 == told
    assert {"motd": "alice's", "ntp": "bob's"} == fleet.tree("web1")
    assert fleet.is_whole()


def test_threads_that_deploy_at_once(fleet: Fleet) -> None:
    """Of many deployments at once those that are not refused all go live, one after the other."""
    sandboxes = [fleet.sandbox({f"common/{number}": "x"}) for number in range(4)]
    barrier = threading.Barrier(len(sandboxes))
    done: list[str] = []

    def deploy(sandbox: str) -> None:
        barrier.wait(timeout=60)
        with contextlib.suppress(Refused):
            done.append(laying.deploy(fleet.broker, sandbox, "prod", ALICE).id)

    threads = [threading.Thread(target=deploy, args=(one,)) for one in sandboxes]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    fleet.visit()

    assert done
    assert fleet.is_whole()
    assert {f"{number}" for number in range(4) if len(done) == 4} <= set(fleet.tree("web1"))
    assert len(done) == len(fleet.tree("web1"))
    assert set(done) <= set(fleet.hosts["web1"].live.change_ids)


def test_a_lease_that_was_lost_while_compiling(fleet: Fleet) -> None:
    """Who compiled for so long that somebody else has changed the domain meanwhile changes nothing."""
    first = fleet.sandbox({"common/motd": "late"})

    def overtaken() -> None:
        fleet.now += LEASE
        fleet.deploy({"common/motd": "early"})

    attempts: list[Work] = [
        lambda broker: laying.deploy(broker, first, "prod", ALICE),
        lambda broker: members.manage(broker, "web1", ALICE, branch="prod"),
        lambda broker: members.add_host(broker, "new1", ALICE, branch="prod"),
    ]
    for attempt in attempts:
        with pytest.raises(Refused, match="so long"):
            attempt(meanwhile(fleet, overtaken))
        fleet.visit()
        assert {"motd": "early"} == fleet.tree("web1")
        assert fleet.is_whole()
        fleet.undeploy(taking_back_last(fleet))
    deployed = fleet.deploy({"common/motd": "x"})
    with pytest.raises(Refused, match="so long"):
        taking_back.undeploy(meanwhile(fleet, lambda: setattr(fleet, "now", fleet.now + LEASE)), [deployed.id], ALICE)
    assert "open" == fleet.change(deployed).state


def taking_back_last(fleet: Fleet) -> str:
    """Return the ID of the last deployment in effect."""
    with fleet.store.transaction() as tx:
        return taking_back.last_changes(tx, "prod", last=1)[0]


def test_a_long_compilation_keeps_its_lease(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is prolonged for as long as its broker lives: nobody takes the domain from who only needs longer."""
    monkeypatch.setattr("aquiline.broker.broker.LEASE", 0.2)
    clock = threading.Event()
    seen: list[bool] = []

    def wait() -> None:
        for _ in range(20):
            with fleet.store.transaction() as tx:
                before = tx.open_lease("prod", fleet.now)
            fleet.now += 0.1
            until = threading.Event()
            for _ in range(200):
                with fleet.store.transaction() as tx:
                    lease = tx.open_lease("prod", fleet.now)
                if lease is not None and before is not None and lease.expires > before.expires:
                    break
                until.wait(0.01)
            seen.append(lease is not None)
        clock.set()

    laying.deploy(meanwhile(fleet, wait), fleet.sandbox({"common/motd": "x"}), "prod", ALICE)

    assert clock.is_set()
    assert [True] * 20 == seen


def test_a_broker_that_was_given_up_moves_nothing(fleet: Fleet) -> None:
    """One that slept between its intent and the ref is given up by the next; when it wakes, it puts the ref back."""
    slow = fleet.another_broker("slow")
    real_move = fleet.repository.move

    class Sleeps:
        def move(self, name: str, *, expected: str, to: str) -> None:
            if to != expected and not slept:
                slept.append(True)
                fleet.now += LEASE
                settle(fleet.broker)
            real_move(name, expected=expected, to=to)

        def __getattr__(self, name: str) -> object:
            return getattr(fleet.repository, name)

    slept: list[bool] = []
    slow.repository = Sleeps()  # type: ignore[assignment]  # a repository that is slow

    with pytest.raises(Refused, match="given up"):
        laying.deploy(slow, fleet.sandbox({"common/motd": "x"}), "prod", ALICE)

    fleet.visit()
    assert [True] == slept
    assert {} == fleet.tree("web1")
    assert fleet.is_whole()


def test_what_another_broker_finished_is_done(fleet: Fleet) -> None:
    """A change whose ref has moved, and which another broker finished, is finished for its own broker too."""
    slow = fleet.another_broker("slow")
    move = fleet.repository.move

    class Sleeps:
        def move(self, name: str, *, expected: str, to: str) -> None:
            move(name, expected=expected, to=to)
            fleet.now += LEASE
            settle(fleet.broker)

        def __getattr__(self, name: str) -> object:
            return getattr(fleet.repository, name)

    slow.repository = Sleeps()  # type: ignore[assignment]  # a repository that is slow

    change = laying.deploy(slow, fleet.sandbox({"common/motd": "x"}), "prod", ALICE)

    before = fleet.target("web1")
    with fleet.store.transaction() as tx:
        assert "open" == finish(tx, change.id).state
    assert ("open", before) == (change.state, fleet.target("web1"))


def test_a_settling_broker_leaves_the_living_alone(fleet: Fleet) -> None:
    """A broker that starts while another one is between intent and ref finishes nothing of what that one is at."""
    states: list[str] = []
    real_move = fleet.repository.move
    working = fleet.another_broker("working")

    class Looks:
        def move(self, name: str, *, expected: str, to: str) -> None:
            settle(fleet.broker)
            with fleet.store.transaction() as tx:
                states.append(tx.changes("prod")[0].state)
            real_move(name, expected=expected, to=to)

        def __getattr__(self, name: str) -> object:
            return getattr(fleet.repository, name)

    working.repository = Looks()  # type: ignore[assignment]  # a repository in which one can look

    assert "open" == laying.deploy(working, fleet.sandbox({"common/motd": "x"}), "prod", ALICE).state
    assert ["intended"] == states


def test_held_while_it_compiles(fleet: Fleet) -> None:
    """A host that a person holds while a deployment compiles is held out of it; one that is released is in it."""
    members.hold(fleet.broker, "web2", BOB)

    def others_act() -> None:
        members.hold(fleet.broker, "web1", BOB)
        members.release(fleet.broker, "web2", BOB)

    change = laying.deploy(meanwhile(fleet, others_act), fleet.sandbox({"common/motd": "x"}), "prod", ALICE)

    assert {"db1": "asked", "web1": "held-out", "web2": "asked"} == fleet.states(change)


def test_frozen_while_it_compiles(fleet: Fleet) -> None:
    """A domain that is frozen meanwhile takes nothing any more."""
    sandbox = fleet.sandbox({"common/motd": "x"})

    with pytest.raises(HostFrozen):
        laying.deploy(
            meanwhile(fleet, lambda: members.freeze_domain(fleet.broker, "prod", BOB, "stop")), sandbox, "prod", ALICE
        )
    with pytest.raises(HostFrozen):
        members.manage(fleet.broker, "web1", ALICE, branch="prod")

    assert fleet.is_whole()


# ---- dying -----------------------------------------------------------------------------------------------------------


def until_it_lives(fleet: Fleet, work: Work, check: Callable[[bool], None]) -> int:
    """Let `work` be done by brokers that die one step later each, each followed by one that settles; count the dead."""
    for fuse in range(100):
        mortal = Mortal(fuse)
        dying = fleet.another_broker(f"dying-{fuse}", mortal)
        try:
            work(dying)
        except Killed:
            fleet.restarted()
            check(False)
        else:
            check(True)
            return fuse
    raise AssertionError("it never ends")


def test_killed_anywhere_in_a_deployment(fleet: Fleet) -> None:
    """At every transaction and around the move of the ref: afterwards all of it has happened, or nothing."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    outcomes: list[bool] = []

    def check(lives: bool) -> None:
        fleet.visit()
        assert fleet.is_whole()
        has_it = {"motd": "x"} == fleet.tree("web1")
        assert has_it or not fleet.tree("web1")
        assert has_it or not lives
        outcomes.append(has_it)
        if has_it and not lives:
            fleet.undeploy(taking_back_last(fleet))
            fleet.visit()
            assert {} == fleet.tree("web1")

    died = until_it_lives(fleet, lambda broker: laying.deploy(broker, sandbox, "prod", ALICE), check)

    assert died > 6
    assert {True, False} == set(outcomes)


def test_killed_anywhere_in_an_undeploy(fleet: Fleet) -> None:
    """The same for taking back; what was taken back by a broker that died can be laid again whole."""
    sandbox = fleet.sandbox({"common/motd": "x", "web1/ntp": "y"})
    changes = [laying.deploy(fleet.broker, sandbox, "prod", ALICE)]
    fleet.visit()
    outcomes: list[bool] = []

    def check(lives: bool) -> None:
        fleet.visit()
        assert fleet.is_whole()
        is_gone = not fleet.tree("web1")
        assert is_gone or {"motd": "x", "ntp": "y"} == fleet.tree("web1")
        assert is_gone == ("undone" == fleet.change(changes[-1]).state)
        outcomes.append(is_gone)
        if is_gone and not lives:
            changes.append(laying.deploy(fleet.broker, sandbox, "prod", ALICE))
            fleet.visit()
            assert {"motd": "x", "ntp": "y"} == fleet.tree("web1")

    until_it_lives(fleet, lambda broker: taking_back.undeploy(broker, [changes[-1].id], ALICE), check)

    assert {True, False} == set(outcomes)


def test_killed_anywhere_in_an_undeploy_on_one_host(fleet: Fleet) -> None:
    """Either the host is told and held, or nothing is known of it."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()

    def check(lives: bool) -> None:
        fleet.visit()
        assert fleet.is_whole()
        assert {"motd": "x"} == fleet.tree("web2")
        assert bool(fleet.record("web1").held) == (not fleet.tree("web1"))
        assert fleet.record("web1").held or not lives
        if fleet.record("web1").held and not lives:
            members.release(fleet.broker, "web1", ALICE)
            fleet.visit()
            assert {"motd": "x"} == fleet.tree("web1")

    until_it_lives(fleet, lambda broker: taking_back.undeploy(broker, [change.id], ALICE, hosts=["web1"]), check)


def test_killed_anywhere_in_what_members_do(fleet: Fleet) -> None:
    """Branches and moves can be tried again after any death, and come about once."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")

    works: dict[str, Work] = {
        "box": lambda broker: members.add_sandbox(broker, "box", ALICE, start="prod"),
        "dev": lambda broker: members.add_domain(broker, "dev", ALICE, start="prod"),
    }
    for arrived, work in works.items():

        def check(lives: bool, name: str = arrived) -> None:
            with fleet.store.transaction() as tx:
                if not lives and tx.branch(name) is not None:
                    tx.remove_branch(name)

        until_it_lives(fleet, work, check)
        assert fleet.branch(arrived).commit == fleet.repository.head(arrived)

    def moved(lives: bool) -> None:
        fleet.visit()
        assert fleet.is_whole()
        assert fleet.record("web1").branch == "qa" or not lives

    until_it_lives(fleet, lambda broker: members.manage(broker, "web1", ALICE, branch="qa"), moved)


# ---- moved outside ---------------------------------------------------------------------------------------------------


def moved_outside(fleet: Fleet, files: Mapping[str, str | None]) -> str:
    """Move the domain's ref behind the broker's back to a commit with these files; return it."""
    sandbox = fleet.sandbox(files)
    commit = fleet.repository.head(sandbox)
    fleet.repository.move("prod", expected=fleet.repository.head("prod"), to=commit)
    return commit


def test_a_domain_that_was_moved_outside(fleet: Fleet) -> None:
    """Nothing is built on it: test, deployment and undeploy say what to do; reset puts it back where hosts are."""
    change = fleet.deploy({"common/motd": "x"})
    moved_outside(fleet, {"common/motd": "evil"})
    sandbox = fleet.sandbox({"common/ntp": "y"})

    attempts: list[Work] = [
        lambda broker: laying.ask(broker, sandbox, "prod", ALICE),
        lambda broker: laying.deploy(broker, sandbox, "prod", ALICE),
        lambda broker: taking_back.undeploy(broker, [change.id], ALICE),
    ]
    for attempt in attempts:
        with pytest.raises(Refused, match="moved outside") as refused:
            attempt(fleet.broker)
        assert "domain reset prod" in (refused.value.hint or "")
        assert "domain adopt prod" in (refused.value.hint or "")
    assert fleet.branch().commit == fleet.branch(sandbox).commit

    members.reset_domain(fleet.broker, "prod", ALICE)
    laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()

    assert fleet.is_whole()
    assert {"motd": "x", "ntp": "y"} == fleet.tree("web1")


def test_what_was_pushed_outside_is_adopted(fleet: Fleet) -> None:
    """Adopting makes it a deployment: change ID, author, targets, undo; and nothing is lost of it when laid again."""
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    moved_outside(fleet, {"common/motd": "by hand"})

    change = adopt(fleet.broker, "prod", ALICE)
    fleet.visit()

    assert ("deploy", "open", "alice") == (change.kind, change.state, change.author)
    assert change.id == fleet.repository.trailers(fleet.repository.head("prod"))["Change-Id"]
    assert {"motd": "by hand"} == fleet.tree("web1")
    assert fleet.is_whole()
    fleet.undeploy(change)
    fleet.visit()
    assert {"motd": "x"} == fleet.tree("web1")
    with pytest.raises(Refused, match="nothing to adopt"):
        adopt(fleet.broker, "prod", ALICE)


def test_what_cannot_be_adopted(fleet: Fleet) -> None:
    """What does not compile, rewrites what was deployed, or goes around approval and freeze is refused; all stays."""
    first = fleet.branch().commit
    fleet.deploy({"common/motd": "x"})
    head = fleet.branch().commit

    fleet.repository.move("prod", expected=head, to=first)
    with pytest.raises(Refused, match="rewritten"):
        adopt(fleet.broker, "prod", ALICE)
    members.reset_domain(fleet.broker, "prod", ALICE)
    found = moved_outside(fleet, {"web1/motd": "broken"})
    with pytest.raises(Refused, match="compiled before"):
        adopt(fleet.broker, "prod", ALICE)
    members.freeze_domain(fleet.broker, "prod", ALICE, "stop")
    with pytest.raises(HostFrozen):
        adopt(fleet.broker, "prod", ALICE)

    assert found == fleet.repository.head("prod")
    assert head == fleet.branch().commit


def test_killed_anywhere_while_adopting(fleet: Fleet) -> None:
    """What was pushed is adopted whole, or still to be adopted."""
    moved_outside(fleet, {"common/motd": "by hand"})
    outcomes: list[bool] = []

    def check(lives: bool) -> None:
        fleet.visit()
        with fleet.store.transaction() as tx:
            assert not [one for one in tx.changes() if one.state == "intended"]
        assert fleet.is_whole() or not lives
        outcomes.append(fleet.is_whole())
        if fleet.is_whole():
            assert "by hand" == fleet.tree("web1")["motd"]
        if fleet.is_whole() and not lives:
            moved_outside(fleet, {f"common/{len(outcomes)}": "x"})

    until_it_lives(fleet, lambda broker: adopt(broker, "prod", ALICE), check)

    assert {True, False} == set(outcomes)


def test_a_ref_that_moves_in_the_last_moment(fleet: Fleet) -> None:
    """The domain was pushed to between intent and move: the change has failed at once, and nothing was told."""
    sandbox = fleet.sandbox({"common/motd": "x"})
    before = fleet.branch().commit
    broker = fleet.another_broker("other")
    real_move = fleet.repository.move

    class Overtaken:
        def move(self, name: str, *, expected: str, to: str) -> None:
            real_move(name, expected=expected, to=fleet.repository.head(sandbox))
            real_move(name, expected=expected, to=to)

        def __getattr__(self, name: str) -> object:
            return getattr(fleet.repository, name)

    broker.repository = Overtaken()  # type: ignore[assignment]  # a repository that somebody else moves

    with pytest.raises(BranchMoved):
        laying.deploy(broker, sandbox, "prod", ALICE)

    with fleet.store.transaction() as tx:
        assert "failed" == tx.changes("prod")[0].state
    assert before == fleet.branch().commit
