"""Hosts that are off, slow, edited, cloned, installed anew, moved, or wrong about the time."""

from __future__ import annotations

import msgspec
import pytest

from aquiline.broker import answering, laying, members
from aquiline.broker.broker import Refused
from aquiline.protocol.messages import Enrol, Live
from tests.broker.small import ALICE, BOB, Fleet


def test_a_laptop_gets_three_at_once_and_loses_one(fleet: Fleet) -> None:
    """It was off for three changes and brings them in one run; the last is undone there by re-planning the others."""
    laptop = fleet.add("laptop")
    fleet.visit()
    one, two, three = (fleet.deploy({f"common/{name}": name}) for name in ("a", "b", "c"))
    laptop.visit()
    runs = len(laptop.runs)

    fleet.undeploy(three)
    laptop.visit()

    assert {"a": "a", "b": "b"} == fleet.tree("laptop")
    assert [(one.id, two.id, three.id), (one.id, two.id)] == [run.change_ids for run in laptop.runs[runs - 1 :]]
    assert "done" == fleet.meaning(three, "laptop").state
    assert (one.id, two.id) == tuple(name for name in laptop.live.change_ids if name in (one.id, two.id, three.id))


def test_back_after_months(fleet: Fleet) -> None:
    """A host that was off for deployments, undeploys and their second try becomes what all others are."""
    away = fleet.add("away")
    fleet.visit()
    for number in range(3):
        change = fleet.deploy({"common/motd": f"{number}", f"common/{number}": "x"})
        fleet.visit("web1")
        if number == 1:
            fleet.undeploy(change)
            fleet.visit("web1")
        fleet.now += 30 * 86400.0

    away.visit()

    assert fleet.tree("web1") == fleet.tree("away")
    assert fleet.target("away").generation == away.generation
    assert away.live.change_ids == fleet.target("away").change_ids


def test_undo_and_revert_differ(fleet: Fleet) -> None:
    """What undo leaves is not what the reverted branch says: the host holds itself, until it is released."""
    change = fleet.deploy({"common/motd": "new"})
    fleet.visit()
    other = fleet.deploy({"common/ntp": "x"})
    fleet.visit()
    fleet.undeploy(other)
    fleet.visit()
    host = fleet.hosts["web1"]
    host.tree["motd"] = "edited"
    host.live = Live("0" * 64, host.live.change_ids)
    host.generation = 0

    host.visit()

    record = fleet.record("web1")
    assert ("agent", True) == (record.held_by, bool(host.held))
    late = fleet.deploy({"common/ssh": "x"})
    assert "held-out" == fleet.meaning(late, "web1").state
    members.release(fleet.broker, "web1", BOB)
    fleet.visit()
    assert ("", 0) == (fleet.record("web1").held, host.held)
    assert {"motd": "new", "ssh": "x"} == fleet.tree("web1")
    assert {change.id, late.id} <= set(host.live.change_ids)
    assert "done" == fleet.meaning(late, "web1").state or late.id in host.live.change_ids


def test_a_released_host_does_not_fall_back_into_its_hold(fleet: Fleet) -> None:
    """It says that it is held until it has heard of its release; that does not hold it again."""
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    host = fleet.hosts["web1"]
    held = msgspec.structs.replace(host.poll(), state="held", because="undo and revert differ")
    answering.answer(fleet.broker, host.record(), held)
    assert "agent" == fleet.record("web1").held_by

    members.release(fleet.broker, "web1", BOB)
    answering.answer(fleet.broker, host.record(), held)

    assert "" == fleet.record("web1").held
    heard = msgspec.structs.replace(held, generation=fleet.target("web1").generation)
    answering.answer(fleet.broker, host.record(), heard)
    assert "agent" == fleet.record("web1").held_by


def test_a_hold_that_ends_by_itself(fleet: Fleet) -> None:
    """Where undo and revert agree after all, the host says so and is no longer held; a person's hold stays."""
    host = fleet.hosts["web1"]
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    held = msgspec.structs.replace(host.poll(), state="held", because="undo and revert differ")
    answering.answer(fleet.broker, host.record(), held)

    host.visit()
    assert "" == fleet.record("web1").held

    members.hold(fleet.broker, "web1", BOB)
    host.visit()
    assert "person" == fleet.record("web1").held_by


def test_reports_that_overtake_each_other(fleet: Fleet) -> None:
    """An earlier run that is reported after a later one is kept, and changes nothing of where the host stands."""
    change = fleet.deploy({"common/motd": "x"})
    host = fleet.hosts["web1"]
    answered = answering.answer(fleet.broker, host.record(), host.poll())
    assert answered.target is not None
    host._reach(answered.target)
    report = host.reports[-1]
    early = msgspec.structs.replace(
        report, id="early", sequence=report.sequence - 1, status="failed", exit_status=15, error="it failed first",
        live=Live(),
    )  # fmt: skip
    host.reports.append(early)

    host.send(twice=True)

    assert ("done", 0) == (fleet.meaning(change, "web1").state, fleet.meaning(change, "web1").exit_status)
    assert host.live == fleet.record("web1").live
    assert {report.id, "early"} == set(fleet.meaning(change, "web1").reports)


def test_a_later_failure_counts(fleet: Fleet) -> None:
    """A run that was taken back after all, because nobody confirmed it, is a failure, whatever was said before."""
    change = fleet.deploy({"common/motd": "x"})
    host = fleet.hosts["web1"]
    answered = answering.answer(fleet.broker, host.record(), host.poll())
    assert answered.target is not None
    host._reach(answered.target)
    report = host.reports[-1]
    host.send()

    reverted = msgspec.structs.replace(
        report, id="late", sequence=report.sequence + 1, run_kind="undo", exit_status=19, error="nobody confirmed it",
        live=Live(),
    )  # fmt: skip
    answering.receive(fleet.broker, host.record(), reverted)

    assert ("failed", 19) == (fleet.meaning(change, "web1").state, fleet.meaning(change, "web1").exit_status)
    assert Live() == fleet.record("web1").live


def test_a_clock_that_is_hours_off(fleet: Fleet) -> None:
    """What a host says of the time is for show: orders live by the broker's clock, reports count by their sequence."""
    test = laying.ask(fleet.broker, fleet.sandbox({"common/motd": "x"}), "prod", ALICE, seconds=60.0)
    host = fleet.hosts["web1"]
    orders = answering.answer(fleet.broker, host.record(), host.poll()).orders
    for order, hours in zip(orders, (-9.0,), strict=True):
        host._answer(order)
        host.reports = [msgspec.structs.replace(one, when=fleet.now + hours * 3600) for one in host.reports]
    host.send()

    assert [60.0] == [order.time_to_live for order in orders]
    assert "answered" == fleet.meaning(test, "web1").state
    with fleet.store.transaction() as tx:
        assert [fleet.now] == [one.received for one in tx.reports_of_host("web1")]


def test_a_clone_is_refused(fleet: Fleet) -> None:
    """Two machines with one credential: the copy is told nothing, the other one goes on."""
    fleet.deploy({"common/motd": "x"})
    host = fleet.hosts["web1"]
    copy = msgspec.structs.replace(host.poll(), machine_id="f" * 32)

    with pytest.raises(Refused, match="copy"):
        answering.answer(fleet.broker, host.record(), copy)

    fleet.visit("web1")
    assert {"motd": "x"} == fleet.tree("web1")


def test_installed_anew(fleet: Fleet) -> None:
    """It enrols again, is marked as re-installed for what it was asked and never said, and becomes what it is to be."""
    old = fleet.deploy({"common/motd": "x"})
    fleet.visit()
    asked = fleet.deploy({"common/ntp": "y"})
    members.revoke_host(fleet.broker, "web1", ALICE)
    token = members.add_join_token(fleet.broker, ALICE, count=1, seconds=60.0, pattern="web1")
    wish = Enrol(join_token=token, name="web1", machine_id="e" * 32, journal="journal-2", tool="test")

    members.enrol(fleet.broker, wish)

    assert ("done", "reinstalled") == (fleet.meaning(old, "web1").state, fleet.meaning(asked, "web1").state)
    host = fleet.hosts["web1"]
    host.journal, host.live, host.runs, host.tree, host.generation = "journal-2", Live(), [], {}, 0
    host.visit()
    assert ({"motd": "x", "ntp": "y"}, "done") == (fleet.tree("web1"), fleet.meaning(asked, "web1").state)
    fleet.undeploy(asked)
    host.visit()
    assert {"motd": "x"} == fleet.tree("web1")


def test_a_host_with_another_name_is_another_host(fleet: Fleet) -> None:
    """Renamed, it is added and enrolled under its new name; the old name's credential is not good for it."""
    fleet.deploy({"common/motd": "x"})
    fleet.visit()
    token = members.add_join_token(fleet.broker, ALICE, count=1, seconds=60.0, pattern="*")
    wish = Enrol(join_token=token, name="www1", machine_id="0" * 32, journal="journal-1", tool="test")
    with pytest.raises(Refused, match="no such host"):
        members.enrol(fleet.broker, wish)

    host = fleet.add("www1")
    host.visit()

    assert {"motd": "x"} == fleet.tree("www1")


# ---- moves -----------------------------------------------------------------------------------------------------------


def test_there_and_back(fleet: Fleet) -> None:
    """A move is tested, done and undone: the host is as those at home are by now, whatever happened there meanwhile."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    fleet.deploy({"common/qa": "yes"}, domain="qa")
    stays = fleet.deploy({"common/stays": "x"})
    goes = fleet.deploy({"common/goes": "x"})
    fleet.visit()
    test = members.manage(fleet.broker, "web1", ALICE, branch="qa", is_test=True)
    fleet.visit("web1")
    assert "answered" == fleet.meaning(test, "web1").state

    move = members.manage(fleet.broker, "web1", ALICE, branch="qa")
    fleet.visit("web1")
    assert "yes" == fleet.tree("web1")["qa"]
    left = fleet.undeploy(goes)
    comes = fleet.deploy({"common/comes": "x"})
    assert ("left", {"web2", "db1"}) == (fleet.meaning(left, "web1").state, set(fleet.states(comes)))
    members.undo_move(fleet.broker, fleet.change(move), ALICE)
    fleet.visit()

    assert {"stays": "x", "comes": "x"} == fleet.tree("web2") == fleet.tree("web1")
    assert {stays.id, comes.id} <= set(fleet.hosts["web1"].live.change_ids)
    assert not {goes.id, move.id} & set(fleet.hosts["web1"].live.change_ids)
    fleet.undeploy(comes)
    fleet.visit()
    assert {"stays": "x"} == fleet.tree("web1")


def test_back_by_another_move(fleet: Fleet) -> None:
    """A host that comes back has what stands there, and nothing of what was taken back while it was away."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    goes = fleet.deploy({"common/goes": "x"})
    fleet.visit()
    members.manage(fleet.broker, "web1", ALICE, branch="qa")
    fleet.visit("web1")
    fleet.undeploy(goes)
    fleet.deploy({"common/comes": "x"})

    members.manage(fleet.broker, "web1", ALICE, branch="prod")
    fleet.visit()

    assert {"comes": "x"} == fleet.tree("web2") == fleet.tree("web1")


def test_a_move_that_cannot_be_undone(fleet: Fleet) -> None:
    """Later changes, a hold, a home that is no more: refused, and the host stays where it is."""
    members.add_domain(fleet.broker, "qa", ALICE, start="prod")
    box = fleet.sandbox({"common/motd": "x"})
    members.manage(fleet.broker, "web1", ALICE, branch=box)
    move = members.manage(fleet.broker, "web1", ALICE, branch="qa")
    members.hold(fleet.broker, "web1", BOB)
    with pytest.raises(Refused, match="is held"):
        members.undo_move(fleet.broker, move, ALICE)
    members.release(fleet.broker, "web1", BOB)
    later = fleet.deploy({"common/ntp": "y"}, domain="qa")
    with pytest.raises(Refused, match="later changes"):
        members.undo_move(fleet.broker, move, ALICE)
    fleet.undeploy(later)
    members.remove_sandbox(fleet.broker, box, ALICE)

    with pytest.raises(Refused, match="is no more"):
        members.undo_move(fleet.broker, move, ALICE)

    assert "qa" == fleet.record("web1").branch


def test_a_member_that_is_none_after_all(fleet: Fleet) -> None:
    """Undoing what made it a member leaves it with nothing; the next deployment gives it all that stands."""
    first = fleet.deploy({"common/motd": "x"})
    host = fleet.add("new")
    fleet.visit()
    with fleet.store.transaction() as tx:
        joined = tx.change(tx.changes_of_host("new")[0].change)
    assert joined is not None

    members.undo_move(fleet.broker, joined, ALICE)
    fleet.visit()
    assert ({}, ()) == (fleet.tree("new"), host.live.change_ids)
    second = fleet.deploy({"common/ntp": "y"})
    fleet.visit()

    assert {"motd": "x", "ntp": "y"} == fleet.tree("new")
    fleet.undeploy(second)
    fleet.undeploy(first)
    fleet.visit()
    assert {} == fleet.tree("new") == fleet.tree("web1")
