"""Taking a change back from below later ones, which are laid again, each with an ID of its own; all or nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from aquiline.broker import laying, members, reporting, taking_back
from aquiline.broker.broker import Blocked, Broker, Refused
from aquiline.broker.records import Change
from aquiline.changes.canonical import decode
from aquiline.errors import BranchMoved, HostFrozen, MergeConflict, PlanStale, UsageError
from aquiline.protocol.messages import Report
from tests.broker.small import ALICE, BOB, Fleet
from tests.broker.test_at_once_and_dying import moved_outside, until_it_lives


def standing(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    """Return the deployments in effect in their order, with those that they lay again."""
    with fleet.store.transaction() as tx:
        changes = sorted(tx.changes("prod"), key=lambda one: one.serial)
    return {one.id: one.relays for one in changes if one.kind == "deploy" and one.state in ("open", "closed")}


def as_it_is(fleet: Fleet) -> tuple[object, ...]:
    """Return all that a change could move, and everything that is known of changes and hosts."""
    with fleet.store.transaction() as tx:
        changes = {one.id: (one.state, one.taken_back) for one in tx.changes()}
        found = (changes, tx.targets(fleet.hosts), tx.hosts())
    return (fleet.branch().commit, fleet.repository.head("prod"), *found)


def three(fleet: Fleet) -> tuple[Change, Change, Change]:
    """Deploy three changes that have nothing to do with each other; each is a run of its own."""
    fleet.visit()
    found = []
    for name in ("a", "b", "c"):
        found.append(fleet.deploy({f"common/{name}": name}))
        fleet.visit()
    return found[0], found[1], found[2]


def reports(fleet: Fleet, host: str) -> list[Report]:
    """Return what a host reported, oldest first."""
    with fleet.store.transaction() as tx:
        return [decode(one.body, Report) for one in reversed(tx.reports_of_host(host))]


def test_taken_back_from_below(fleet: Fleet) -> None:
    """The first of three goes, everywhere and in git; the others are what they were, by changes that say so."""
    one, two, last = three(fleet)
    runs = len(fleet.hosts["web1"].runs)

    undeploy = fleet.undeploy(one, redeploy=True)
    fleet.visit()

    second, third = undeploy.lays
    assert {second: (two.id,), third: (last.id,)} == standing(fleet)
    assert ((one.id, two.id, last.id), (two.id, last.id)) == (undeploy.undoes, undeploy.relays)
    assert [{"b": "b", "c": "c"}] * 3 == [fleet.tree(name) for name in fleet.hosts]
    brought = [run.change_ids for run in fleet.hosts["web1"].runs[runs:] if run.change_ids]
    assert [(second,), (third,)] == brought
    assert all(run.undone for run in fleet.hosts["web1"].runs if {one.id, two.id, last.id} & set(run.change_ids))
    for change in (undeploy.id, second, third):
        assert {"web1": "done", "web2": "done", "db1": "done"} == fleet.states(change)
        assert "closed" == fleet.change(change).state
    assert {"Change-Id": third, "Lays-Again": last.id, "Deployed-By": "alice", "Reason": "because"} == (
        fleet.repository.trailers(fleet.repository.head("prod"))
    )
    assert ["b", "c"] == [
        name.split("/")[1] for name in fleet.repository.changed_files(one.before, fleet.branch().commit)
    ]
    assert (two.source, two.sandbox, undeploy.id) == (
        fleet.change(second).source, fleet.change(second).sandbox, fleet.change(second).laid_by
    )  # fmt: skip
    assert fleet.is_whole()


def test_between_it_is_proved_that_undo_and_revert_agree(fleet: Fleet) -> None:
    """A host is told one after the other: without all of them first, which it proves, then with each one again."""
    one, two, last = three(fleet)
    before = fleet.target("web1")

    undeploy = fleet.undeploy(one, redeploy=True)

    target = fleet.target("web1")
    gone = set(before.change_ids) - {one.id, two.id, last.id}
    told = [(set(each.change_ids) - gone, each.change) for each in (*target.way, target)]
    second, third = undeploy.lays
    assert [(set(), undeploy.id), ({second}, second), ({second, third}, third)] == told
    assert [1, 2, 3] == [each.generation - before.generation for each in (*target.way, target)]
    fleet.visit("web1")
    done = [one for one in reports(fleet, "web1") if one.generation > before.generation]
    assert [("undo", 1, ()), ("apply", 2, (second,)), ("apply", 3, (third,))] == [
        (each.run_kind, each.generation - before.generation, each.brought) for each in done
    ]


def test_named_in_the_middle(fleet: Fleet) -> None:
    """What is named goes, first and third; what is not is laid again, second and fourth."""
    one, two, last = three(fleet)
    fourth = fleet.deploy({"common/d": "d"})
    fleet.visit()

    undeploy = fleet.undeploy(one, last, redeploy=True)
    fleet.visit()

    assert [(two.id,), (fourth.id,)] == list(standing(fleet).values())
    assert {"b": "b", "d": "d"} == fleet.tree("web1")
    assert fleet.change(undeploy).relays == (two.id, fourth.id)


def test_nothing_came_after_it(fleet: Fleet) -> None:
    """The last change is taken back as ever."""
    one, two, last = three(fleet)

    undeploy = fleet.undeploy(last, redeploy=True)
    fleet.visit()

    assert ((), ()) == (undeploy.lays, undeploy.relays)
    assert {one.id: (), two.id: ()} == standing(fleet)
    assert {"a": "a", "b": "b"} == fleet.tree("web1")


def test_without_it_they_block(fleet: Fleet) -> None:
    """Later changes are listed, with both ways on."""
    one, two, last = three(fleet)

    with pytest.raises(Blocked) as refused:
        fleet.undeploy(one)

    assert (last.id, two.id) == refused.value.changes
    assert f"aquiline undeploy {last.id} {two.id} {one.id}" in (refused.value.hint or "")
    assert f"aquiline undeploy {one.id} --redeploy" in (refused.value.hint or "")


def test_what_cannot_be_laid_again(fleet: Fleet) -> None:
    """A later change that goes on from what is taken back: it is named with the file, and nothing has moved."""
    one = fleet.deploy({"common/motd": "one"})
    two = fleet.deploy({"common/ntp": "x"})
    last = fleet.deploy({"common/motd": "one and two"})
    fleet.visit()
    before = as_it_is(fleet)

    for is_test in (True, False):
        with pytest.raises(MergeConflict) as refused:
            fleet.undeploy(one, redeploy=True, is_test=is_test)
        assert f"{last.id} cannot be laid again without {one.id}: common/motd" == refused.value.message
        assert f"aquiline undeploy {last.id} {two.id} {one.id}" in (refused.value.hint or "")
        assert before == as_it_is(fleet)


def test_what_does_not_compile_without_it(fleet: Fleet) -> None:
    """A host that a later change breaks where the first one is gone keeps all of it from happening."""
    one = fleet.deploy({f"{name}/motd": "fine" for name in fleet.hosts})
    two = fleet.deploy({"common/motd": "broken"})
    fleet.visit()
    before = as_it_is(fleet)

    for is_test in (True, False):
        with pytest.raises(Refused, match=f"{two.id} cannot be laid again: 3 hosts that compiled before") as refused:
            fleet.undeploy(one, redeploy=True, is_test=is_test)
        assert f"aquiline undeploy {two.id} {one.id}" in (refused.value.hint or "")
        assert before == as_it_is(fleet)


def test_one_that_leaves_nothing(fleet: Fleet) -> None:
    """A later change that took out what the first one brought is empty without it, and keeps its place."""
    one = fleet.deploy({"common/motd": "x", "common/a": "a"})
    two = fleet.deploy({"common/motd": None})
    three_ = fleet.deploy({"common/c": "c"})
    fleet.visit()

    undeploy = fleet.undeploy(one, redeploy=True)
    fleet.visit()

    assert {"unchanged"} == set(fleet.states(undeploy.lays[0]).values())
    assert [(two.id,), (three_.id,)] == list(standing(fleet).values())
    assert {"c": "c"} == fleet.tree("web1")
    fleet.undeploy(*reversed(undeploy.lays))
    fleet.visit()
    assert {} == fleet.tree("web1")


def test_laid_again_and_taken_back(fleet: Fleet) -> None:
    """What was laid again is a change like any other: taken back alone, and brought again whole by its sandbox."""
    sandbox = fleet.sandbox({"common/b": "b", "web1/more": "m"})
    one = fleet.deploy({"common/a": "a"})
    laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()
    laid = fleet.undeploy(one, redeploy=True).lays[0]
    fleet.visit()

    fleet.undeploy(laid)
    fleet.visit()
    assert [{}, {}] == [fleet.tree("web1"), fleet.tree("web2")]
    again = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()

    assert laid in again.relays
    assert ({"b": "b", "more": "m"}, {"b": "b"}) == (fleet.tree("web1"), fleet.tree("web2"))


def test_again_and_again(fleet: Fleet) -> None:
    """One after the other goes from below until only the last is left, which was laid again each time."""
    changes = [fleet.deploy({f"common/{number}": "x"}) for number in range(4)]
    fleet.visit()
    for number in range(3):
        fleet.undeploy(next(iter(standing(fleet))), redeploy=True)
        fleet.visit()
        assert {f"{left}" for left in range(number + 1, 4)} == set(fleet.tree("web1"))
        assert fleet.is_whole()

    (last,) = standing(fleet)
    seen = []
    while fleet.change(last).relays:
        seen.append(last := fleet.change(last).relays[0])
    assert changes[-1].id == seen[-1]
    assert 3 == len(seen)


def test_what_was_laid_again_is_not_brought_once_more(fleet: Fleet) -> None:
    """Brought again by its sandbox, laid again when another one went: from then on it is there, and edited as any."""
    sandbox = fleet.sandbox({"common/a": "a", "common/b": "b"})
    below = fleet.deploy({"common/c": "c"})
    fleet.undeploy(laying.deploy(fleet.broker, sandbox, "prod", ALICE))
    laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.undeploy(below, redeploy=True)
    fleet.deploy({"common/a": "another", "common/b": None})

    fleet.people.push(sandbox, {"common/d": "d"})
    last = laying.deploy(fleet.broker, sandbox, "prod", ALICE)

    assert ((), ["common/d"]) == (last.relays, fleet.repository.changed_files(last.before, last.after))


def test_each_host_is_told_what_is_right_for_it(fleet: Fleet) -> None:
    """Those that have none of it are left alone, held ones follow once they are released, those elsewhere stay."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    for name in ("held", "moved", "off"):
        fleet.add(name)
    one = fleet.deploy({f"{name}/a": "a" for name in ("web1", "held", "moved", "off")})
    fleet.deploy({f"{name}/b": "b" for name in ("web1", "web2", "held", "off")})
    fleet.visit()
    members.hold(fleet.broker, "held", BOB)
    members.manage(fleet.broker, "moved", ALICE, branch="qa")
    fleet.visit("moved")
    generation = fleet.target("db1").generation

    undeploy = fleet.undeploy(one, redeploy=True)
    (second,) = undeploy.lays
    fleet.visit("web1", "web2", "db1", "held", "moved")

    assert {
        "db1": "never-had",
        "web1": "done",
        "web2": "done",
        "held": "held-out",
        "moved": "left",
        "off": "asked",
    } == (fleet.states(undeploy))
    assert {"db1": "unchanged", "web1": "done", "web2": "done", "held": "held-out", "off": "asked"} == (
        fleet.states(second)
    )
    assert generation == fleet.target("db1").generation
    assert [{"b": "b"}, {"b": "b"}, {"a": "a", "b": "b"}] == [fleet.tree(name) for name in ("web1", "web2", "held")]
    members.release(fleet.broker, "held", BOB)
    fleet.visit()
    assert [{"b": "b"}] * 2 == [fleet.tree(name) for name in ("held", "off")]
    assert {one.id, *undeploy.relays}.isdisjoint(fleet.hosts["held"].live.change_ids)
    assert {"done"} == {fleet.meaning(each, "off").state for each in (undeploy, second)}


def test_what_comes_meanwhile_is_all_that_is_told(fleet: Fleet) -> None:
    """A host that was off for it, and for what came after, becomes what it is to be at once."""
    one, *_ = three(fleet)
    undeploy = fleet.undeploy(one, redeploy=True)
    late = fleet.deploy({"common/d": "d"})

    assert () == fleet.target("web1").way
    fleet.visit()

    assert {"b": "b", "c": "c", "d": "d"} == fleet.tree("web1")
    assert {"done"} == {fleet.meaning(each, "web1").state for each in (undeploy.id, *undeploy.lays, late.id)}
    assert {*undeploy.lays, late.id} == set(fleet.hosts["web1"].runs[-1].change_ids)


def test_the_test_asks_each_host(fleet: Fleet) -> None:
    """Nothing moves and no ID is used up; every host is asked what undoing would do, and laying again."""
    one, two, last = three(fleet)
    before = fleet.branch().commit, fleet.target("web1"), standing(fleet)

    test = fleet.undeploy(one, redeploy=True, is_test=True)

    with fleet.store.transaction() as tx:
        (order,) = tx.orders_for("web1", fleet.now)
    assert ("test-undo", (two.id, last.id)) == (order.kind, order.again)
    assert set(order.change_ids) == set(fleet.target("web1").change_ids) - {one.id, two.id, last.id}
    assert order.reverted == fleet.meaning(test, "web1").after != order.profile
    assert ((), (two.id, last.id)) == (test.lays, reporting.report(fleet.broker, test.id).relays)
    fleet.visit()
    assert {"answered": 3} == reporting.report(fleet.broker, test.id).totals
    assert before == (fleet.branch().commit, fleet.target("web1"), standing(fleet))
    undeploy = fleet.undeploy(one, redeploy=True)
    assert order.profile == fleet.target("web1").profile
    assert fleet.meaning(test, "web1").planned == fleet.meaning(undeploy, "web1").predicted != ""


def test_who_would_get_more_than_it_had_is_asked(fleet: Fleet) -> None:
    """A later change that does something to a host only where the first one is gone: the test asks that host too."""
    fleet.deploy({"web1/motd": "own"})
    one = fleet.deploy({"web1/ntp": "covers", "common/a": "a"})
    two = fleet.deploy({"common/ntp": "covered"})
    fleet.visit()
    assert {"web1": "unchanged", "web2": "done", "db1": "done"} == fleet.states(two)

    test = fleet.undeploy(one, redeploy=True, is_test=True)
    fleet.visit()
    undeploy = fleet.undeploy(one, redeploy=True)
    fleet.visit()

    assert {"answered"} == set(fleet.states(test).values())
    assert {"motd": "own", "ntp": "covered"} == fleet.tree("web1")
    assert {"done"} == set(fleet.states(undeploy.lays[0]).values())


def test_what_is_refused(fleet: Fleet) -> None:
    """One host; a domain that is frozen, takes only what was approved, was moved outside: and nothing has moved."""
    one, *_ = three(fleet)
    before = as_it_is(fleet)

    with pytest.raises(UsageError, match="not on one host"):
        fleet.undeploy(one, redeploy=True, hosts=["web1"])
    assert before == as_it_is(fleet)
    members.freeze_domain(fleet.broker, "prod", ALICE, "stop")
    with pytest.raises(HostFrozen):
        fleet.undeploy(one, redeploy=True)
    members.freeze_domain(fleet.broker, "prod", ALICE, "")
    members.set_rules(fleet.broker, "prod", ALICE, needs_approval=True)
    with pytest.raises(PlanStale, match="only what was approved"):
        fleet.undeploy(one, redeploy=True)
    members.set_rules(fleet.broker, "prod", ALICE, needs_approval=False)
    moved_outside(fleet, {"common/motd": "evil"})
    with pytest.raises(Refused, match="moved outside"):
        fleet.undeploy(one, redeploy=True)
    members.reset_domain(fleet.broker, "prod", ALICE)
    assert before == as_it_is(fleet)


@pytest.mark.slow
def test_killed_anywhere(fleet: Fleet) -> None:
    """At every transaction and around the move of the ref: all of it has come about, or nothing."""
    first = [fleet.deploy({"common/a0": "x"}).id]
    fleet.deploy({"common/b": "b"})
    fleet.deploy({"common/c": "c"})
    fleet.visit()
    outcomes: list[bool] = []

    def check(lives: bool) -> None:
        fleet.visit()
        assert fleet.is_whole()
        tree: Mapping[str, str] = fleet.tree("web1")
        is_gone = f"a{len(first) - 1}" not in tree
        assert {"b": "b", "c": "c"}.items() <= tree.items()
        assert len(standing(fleet)) == len(tree)
        assert len(tree) == (2 if is_gone else 3)
        assert is_gone == ("undone" == fleet.change(first[-1]).state)
        assert tree == fleet.tree("db1")
        assert is_gone or not lives
        with fleet.store.transaction() as tx:
            states = {one.id: one.state for one in tx.changes("prod")}
            groups = [one for one in tx.changes("prod") if one.lays]
        for one in groups:
            assert {"failed"} == {states[name] for name in (one.id, *one.lays)} or (
                "failed" not in {states[name] for name in (one.id, *one.lays)}
            )
        outcomes.append(is_gone)
        if is_gone and not lives:
            fleet.undeploy(*standing(fleet))
            first.append(fleet.deploy({f"common/a{len(first)}": "x"}).id)
            fleet.deploy({"common/b": "b"})
            fleet.deploy({"common/c": "c"})
            fleet.visit()

    def work(broker: Broker) -> None:
        taking_back.undeploy(broker, [first[-1]], ALICE, redeploy=True)

    died = until_it_lives(fleet, work, check)

    assert died > 6
    assert {True, False} == set(outcomes)


def test_a_ref_that_moves_in_the_last_moment(fleet: Fleet) -> None:
    """The domain was pushed to between intent and move: the undeploy and what it lays have failed together."""
    one, two, last = three(fleet)
    head, targets = fleet.branch().commit, fleet.target("web1")
    move = fleet.repository.move

    class Pushed:
        def move(self, name: str, *, expected: str, to: str) -> None:
            move(name, expected=expected, to=fleet.repository.head(sandbox))
            move(name, expected=expected, to=to)

        def __getattr__(self, name: str) -> object:
            return getattr(fleet.repository, name)

    sandbox = fleet.sandbox({"common/motd": "outside"})
    broker = fleet.another_broker("slow")
    broker.repository = Pushed()  # type: ignore[assignment]  # a repository that somebody pushes to

    with pytest.raises(BranchMoved):
        taking_back.undeploy(broker, [one.id], ALICE, redeploy=True)

    with fleet.store.transaction() as tx:
        states = [each.state for each in tx.changes("prod", limit=3)]
    assert ["failed"] * 3 == states
    assert (head, targets) == (fleet.branch().commit, fleet.target("web1"))
    members.reset_domain(fleet.broker, "prod", ALICE)
    fleet.undeploy(one, redeploy=True)
    fleet.visit()
    assert {"b": "b", "c": "c"} == fleet.tree("web1")
    assert {two.id, last.id}.isdisjoint(standing(fleet))
