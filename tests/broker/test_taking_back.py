"""Undeploying and laying again: what each host is told, whoever it is, and that nothing comes back or stays unasked."""

from __future__ import annotations

import pytest

from aquiline.broker import closing, laying, members, reporting, targets
from aquiline.broker.broker import NotFound, Refused
from aquiline.broker.rendering import render_report
from aquiline.broker.taking_back import last_changes
from aquiline.errors import UsageError
from aquiline.protocol.messages import Enrol, Live
from tests.broker.small import ALICE, BOB, Fleet

# ---- what was undeployed, laid again ---------------------------------------------------------------------------------


def test_a_new_sandbox_does_not_bring_back_what_was_undeployed(fleet: Fleet) -> None:
    """A sandbox begun after an undeploy is deployed as its author sees it, without what was taken back."""
    gone = fleet.deploy({"common/motd": "gone"})
    fleet.undeploy(gone)

    change = fleet.deploy({"common/ntp": "new"})
    fleet.visit()

    assert () == change.relays
    assert {"ntp": "new"} == fleet.tree("web1")


def test_the_same_sandbox_brings_all_of_it_back(fleet: Fleet) -> None:
    """A sandbox that was undeployed is laid again whole, with what was pushed to it since."""
    sandbox = fleet.sandbox({"common/motd": "one", "web1/ntp": "one"})
    first = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.undeploy(first)
    fleet.people.push(sandbox, {"common/ssh": "two"})

    again = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()

    assert (first.id,) == again.relays
    assert {"motd": "one", "ntp": "one", "ssh": "two"} == fleet.tree("web1")


def test_undeployed_and_laid_again_many_times(fleet: Fleet) -> None:
    """Each time with the same lines changed again: it comes back whole every time, and no old revert is in the way."""
    sandbox = fleet.sandbox({"common/motd": "0"})
    for round_ in range(4):
        fleet.people.push(sandbox, {"common/motd": f"{round_}"})
        change = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
        fleet.visit()
        assert {"motd": f"{round_}"} == fleet.tree("web1")
        fleet.undeploy(change)
        fleet.visit()
        assert {} == fleet.tree("web1")
        assert {} == fleet.tree("db1")

    other = fleet.deploy({"common/ntp": "x"})
    last = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    fleet.visit()

    assert {"motd": "3", "ntp": "x"} == fleet.tree("web1")
    assert [other.id, last.id] == [one for one in fleet.target("web1").change_ids if one in (other.id, last.id)]
    with fleet.store.transaction() as tx:
        assert [other.id, last.id] == [one.id for one in targets.in_effect(tx.changes("prod")) if one.kind == "deploy"]


def test_several_undone_and_one_laid_again(fleet: Fleet) -> None:
    """Of two changes that were undone the one whose sandbox is deployed again comes back, the other stays away."""
    first, second = fleet.sandbox({"common/motd": "1"}), fleet.sandbox({"common/ntp": "2"})
    changes = [laying.deploy(fleet.broker, one, "prod", ALICE) for one in (first, second)]
    fleet.visit()
    fleet.undeploy(*reversed(changes))
    fleet.visit()

    laying.deploy(fleet.broker, second, "prod", ALICE)
    fleet.visit()

    assert {"ntp": "2"} == fleet.tree("web1")


# ---- who is told what -----------------------------------------------------------------------------------------------


def test_each_host_is_told_what_is_right_for_it(fleet: Fleet) -> None:
    """A set of changes taken back where hosts have it, are held, moved away, never had it, or came anew."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    for name in ("held", "moved", "new"):
        fleet.add(name)
    one = fleet.deploy({"web1/motd": "1", "held/motd": "1", "moved/motd": "1", "new/motd": "1"})
    two = fleet.deploy({"web1/ntp": "2", "db1/ntp": "2", "held/ntp": "2", "new/ntp": "2"})
    fleet.visit()
    members.hold(fleet.broker, "held", BOB)
    members.manage(fleet.broker, "moved", ALICE, branch="qa")
    fleet.visit("moved")
    anew = fleet.hosts["new"]
    anew.journal, anew.live, anew.runs, anew.tree, anew.generation = "journal-2", Live(), [], {}, 0

    test = fleet.undeploy(two, one, is_test=True)
    change = fleet.undeploy(two, one)
    fleet.visit()

    assert {
        "web1": "done", "db1": "done", "web2": "never-had", "held": "held-out", "moved": "left", "new": "reinstalled",
    } == fleet.states(change)  # fmt: skip
    assert "asked" not in fleet.states(test).values()
    assert [{}, {}, {"motd": "1", "ntp": "2"}, {"motd": "1"}, {}] == [
        fleet.tree(name) for name in ("web1", "db1", "held", "moved", "new")
    ]
    shown = reporting.report(fleet.broker, change.id)
    assert [("installed anew since", "new"), ("left: it is in qa by now", "moved"), ("never had it", "web2")] == [
        (one.what, one.hosts) for one in shown.passed_by
    ]
    assert ["held"] == [one.hosts for one in shown.silent]
    assert "  passed by: installed anew since  x1  new\n" in render_report(shown)
    assert {"done": 2, "held-out": 1, "left": 1, "never-had": 1, "reinstalled": 1} == shown.totals
    members.release(fleet.broker, "held", BOB)
    fleet.visit()
    assert {} == fleet.tree("held")


def test_other_domains_have_nothing_to_do_with_it(fleet: Fleet) -> None:
    """Hosts of another domain are no part of the report, but for those that have the change or are named."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    fleet.add("elsewhere", branch="qa")
    change = fleet.deploy({"web1/motd": "1"})
    fleet.visit()

    found = [
        fleet.undeploy(change, hosts=("elsewhere",)), fleet.undeploy(change, is_test=True), fleet.undeploy(change)
    ]  # fmt: skip

    assert {"elsewhere": "never-had"} == fleet.states(found[0])
    assert [{"web1", "web2", "db1"}] * 2 == [set(fleet.states(one)) for one in found[1:]]


def reinstall(fleet: Fleet, name: str) -> None:
    """Install a host anew, below the same name and machine."""
    host = fleet.hosts[name]
    number = int(host.journal.split("-")[1]) + 1
    host.journal, host.live, host.runs, host.tree, host.generation = f"journal-{number}", Live(), [], {}, 0
    members.revoke_host(fleet.broker, name, ALICE)
    token = members.add_join_token(fleet.broker, ALICE, count=1, seconds=60.0, pattern=name)
    wish = Enrol(join_token=token, name=name, machine_id=f"{number:032x}", journal=host.journal, tool="test")
    members.enrol(fleet.broker, wish)


def test_installed_anew_since_it_had_the_change(fleet: Fleet) -> None:
    """A host that lost its journal since has nothing to take back: said so, for good, and it never gets the change."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()
    reinstall(fleet, "web1")

    test = fleet.undeploy(change, is_test=True)
    undeploy = fleet.undeploy(change)
    assert ("reinstalled", "reinstalled") == (fleet.states(test)["web1"], fleet.states(undeploy)["web1"])
    fleet.visit()

    assert {"web1": "reinstalled", "web2": "done", "db1": "done"} == fleet.states(undeploy)
    assert "closed" == fleet.change(undeploy).state
    assert {} == fleet.tree("web1")
    assert fleet.target("web1").change_ids == fleet.hosts["web1"].live.change_ids
    again = fleet.deploy({"common/ntp": "y"})
    fleet.visit()
    assert "done" == fleet.meaning(again, "web1").state


def test_installed_anew_and_brought_again(fleet: Fleet) -> None:
    """A host that has the change again since it was installed anew takes it back like any other."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()
    reinstall(fleet, "web1")
    fleet.visit()
    assert {"motd": "x"} == fleet.tree("web1")

    undeploy = fleet.undeploy(change)
    fleet.visit()

    assert {"done"} == set(fleet.states(undeploy).values())
    assert {} == fleet.tree("web1")
    assert () == reporting.report(fleet.broker, undeploy.id).passed_by


def test_installed_anew_before_it_was_laid_again(fleet: Fleet) -> None:
    """A host that lost its journal takes nothing back, and gets what is laid again like any other."""
    first = fleet.deploy({"common/a": "a"})
    fleet.deploy({"common/b": "b"})
    fleet.visit()
    reinstall(fleet, "web1")

    undeploy = fleet.undeploy(first, redeploy=True)
    fleet.visit()

    assert ("reinstalled", "done") == (fleet.states(undeploy)["web1"], fleet.states(undeploy.lays[0])["web1"])
    assert {"b": "b"} == fleet.tree("web1") == fleet.tree("web2")


def test_a_host_that_was_held_out_does_not_get_what_is_gone(fleet: Fleet) -> None:
    """Held while a change was deployed and undeployed, and released: it has neither the change nor its profile."""
    kept = fleet.deploy({"common/motd": "stays"})
    fleet.visit()
    members.hold(fleet.broker, "web1", BOB)
    gone = fleet.deploy({"common/ntp": "gone"})
    fleet.undeploy(gone)

    members.release(fleet.broker, "web1", BOB)
    fleet.visit()

    assert {"motd": "stays"} == fleet.tree("web1")
    assert (kept.id in fleet.target("web1").change_ids, gone.id in fleet.target("web1").change_ids) == (True, False)
    assert fleet.target("web2").profile == fleet.target("web1").profile


def test_a_held_host_is_told_no_target(fleet: Fleet) -> None:
    """What a host was to become when a person held it waits until it is released; tests it answers."""
    change = fleet.deploy({"common/motd": "x"})
    members.hold(fleet.broker, "web1", BOB)
    test = laying.ask(fleet.broker, fleet.sandbox({"common/ntp": "y"}), "prod", ALICE)

    fleet.visit()

    assert ({}, {"motd": "x"}) == (fleet.tree("web1"), fleet.tree("web2"))
    assert ("asked", "answered") == (fleet.meaning(change, "web1").state, fleet.meaning(test, "web1").state)
    members.release(fleet.broker, "web1", BOB)
    fleet.visit()
    assert ({"motd": "x"}, "done") == (fleet.tree("web1"), fleet.meaning(change, "web1").state)


def test_taken_back_on_one_host_and_released(fleet: Fleet) -> None:
    """`--host` takes it back there and holds the host; releasing it lays it again, with what came meanwhile."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()

    local = fleet.undeploy(change, hosts=["web1"])
    fleet.visit()
    more = fleet.deploy({"common/ntp": "y"})
    fleet.visit()

    assert ({}, {"motd": "x", "ntp": "y"}) == (fleet.tree("web1"), fleet.tree("web2"))
    assert ({"web1": "done"}, "held-out") == (fleet.states(local), fleet.meaning(more, "web1").state)
    assert "closed" == fleet.change(change).state
    members.release(fleet.broker, "web1", BOB)
    fleet.visit()
    assert {"motd": "x", "ntp": "y"} == fleet.tree("web1")
    assert {change.id, more.id} <= set(fleet.hosts["web1"].live.change_ids)


def test_taken_back_on_one_host_and_then_everywhere(fleet: Fleet) -> None:
    """The host where it was taken back already is left alone, and released it does not get it again."""
    change = fleet.deploy({"common/motd": "x"})
    fleet.visit()
    fleet.undeploy(change, hosts=["web1"])
    fleet.visit()

    everywhere = fleet.undeploy(change)
    fleet.visit()
    members.release(fleet.broker, "web1", BOB)
    fleet.visit()

    assert {"web1": "never-had", "web2": "done", "db1": "done"} == fleet.states(everywhere)
    assert [{}, {}] == [fleet.tree("web1"), fleet.tree("web2")]
    assert change.id not in fleet.target("web1").change_ids


def test_held_out_of_a_change_that_another_one_reverts(fleet: Fleet) -> None:
    """A host that missed a change gets it with the next one even where that leaves its profile as it was."""
    members.hold(fleet.broker, "web1", BOB)
    sandbox = fleet.sandbox({"common/motd": "x"})
    first = laying.deploy(fleet.broker, sandbox, "prod", ALICE)
    members.release(fleet.broker, "web1", BOB)
    second = fleet.deploy({"common/motd": None})
    fleet.visit()

    fleet.undeploy(second)
    fleet.visit()

    assert {"motd": "x"} == fleet.tree("web1") == fleet.tree("web2")
    assert first.id in fleet.hosts["web1"].live.change_ids


def test_a_host_that_compiles_no_more(fleet: Fleet) -> None:
    """Hosts that the change made compile go back to what they were by their own journals, and block nothing later."""
    fleet.deploy({"web1/motd": "fine"})
    fleet.visit()
    bad = fleet.add("bad")
    fleet.deploy({"common/ntp": "1"})
    fleet.visit()
    with fleet.store.transaction() as tx:
        before = tx.target("bad")
    change = fleet.deploy({"bad/motd": "x"})
    fleet.visit()
    assert {"motd": "x", "ntp": "1"} == fleet.tree("bad")

    fleet.undeploy(change)
    fleet.visit()
    after = fleet.deploy({"common/ntp": "2"})
    fleet.visit()

    assert before is not None
    assert ({"ntp": "2"}, "closed") == (fleet.tree("bad"), fleet.change(after).state)
    assert bad.live.change_ids == fleet.target("bad").change_ids


def test_one_that_never_compiled_keeps_nobody_waiting(fleet: Fleet) -> None:
    """A host that does not compile and never did is shown; the others get the change, and it gets all when mended."""
    fleet.people.push(fleet.sandbox({"common/x": "x"}), {})
    first = fleet.deploy({"later/motd": "broken", "common/motd": "1"})
    late = fleet.add("later")
    second = fleet.deploy({"common/ntp": "2"})
    fleet.visit()

    assert ("not-compiled", "done") == (fleet.meaning(second, "later").state, fleet.meaning(second, "web1").state)
    assert {} == fleet.tree("later")
    third = fleet.deploy({"later/motd": "mended"})
    fleet.visit()
    assert {"motd": "mended", "ntp": "2"} == fleet.tree("later")
    assert {first.id, second.id, third.id} <= set(late.live.change_ids)
    with pytest.raises(Refused, match="compiled before"):
        fleet.deploy({"later/motd": "broken"})


def test_made_to_compile_and_taken_back(fleet: Fleet) -> None:
    """The change that made a host compile is undone: it goes back to having nothing, and blocks no deployment."""
    fleet.deploy({"later/motd": "broken"})
    fleet.add("later")
    change = fleet.deploy({"later/motd": "mended"})
    fleet.visit()
    assert {"motd": "mended"} == fleet.tree("later")

    fleet.undeploy(change)
    fleet.visit()
    fleet.deploy({"common/ntp": "x"})
    fleet.visit()

    assert {} == fleet.tree("later")
    assert {"ntp": "x"} == fleet.tree("web1")


# ---- which changes ---------------------------------------------------------------------------------------------------


def test_how_many_and_since_when(fleet: Fleet) -> None:
    """The last ones and those since a date, newest first; more than there are, none, or less than none is refused."""
    first = fleet.deploy({"common/a": "1"})
    fleet.now += 10
    second = fleet.deploy({"common/b": "2"})

    with fleet.store.transaction() as tx:
        assert [second.id, first.id] == last_changes(tx, "prod", last=2)
        assert [second.id] == last_changes(tx, "prod", since=first.created)
        for last, since in ((3, None), (0, None), (0, fleet.now)):
            with pytest.raises(Refused):
                last_changes(tx, "prod", last=last, since=since)
        with pytest.raises(UsageError):
            last_changes(tx, "prod", last=-1)


def test_what_cannot_be_taken_back(fleet: Fleet) -> None:
    """Nothing named, nobody's change, an unknown host, one twice undone: refused in words, and nothing has moved."""
    change = fleet.deploy({"common/a": "1"})
    fleet.undeploy(change)
    head = fleet.branch().commit
    standing = fleet.deploy({"common/b": "1"})

    for names, hosts, error in (
        ((), (), UsageError), (("prod-99",), (), NotFound), ((change.id,), (), Refused),
        ((standing.id,), ("nobody",), NotFound),
    ):  # fmt: skip
        with pytest.raises(error):
            fleet.undeploy(*names, hosts=hosts)
    taken = fleet.undeploy(standing, standing)

    assert ((standing.id,), head) == (taken.undoes, standing.before)
    with pytest.raises(Refused, match="only a test"):
        closing.close_early(fleet.broker, taken.id, ALICE)
