"""A host is brought to its target, and says what happened (D17, D18, D19)."""

from __future__ import annotations

import shutil

from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, WriteFile
from aquiline.profile import Profile
from aquiline.protocol.messages import Live, Order
from tests.agent.daemon.broker import Broker, once
from tests.agent.making import Site, profile


def motd(text: str, path: str = "/etc/motd") -> WriteFile:
    return WriteFile(path=path, content=Inline(text.encode()))


PLAIN: dict[str, dict[str, object]] = {"plain": {}}
PLAIN_COMPONENT = '''
    """Writes a file."""

    import msgspec

    from aquiline.changes.kinds import Inline, WriteFile
    from aquiline.planning.component import Changes, Component, View


    class Configuration(msgspec.Struct):
        pass


    class Plain(Component[Configuration]):
        name = "plain"
        version = "1"
        configuration = Configuration

        def configure(self, configuration: Configuration, host: View) -> Changes:
            yield WriteFile(path="/etc/plain", content=Inline(b"plain\\n"))
'''
BASE = profile()
ONE = profile(motd("one on h1.example.org\n"))
BOTH = profile(motd("one on h1.example.org\n"), motd("two\n", "/etc/two"))
TWO = profile(motd("two\n", "/etc/two"))


def test_deployed_and_taken_back(site: Site, broker: Broker) -> None:
    """Changes come one after the other; taking one back is undo, and what it leaves is what the branch says."""
    site.write("/etc/motd", "old\n")
    broker.wants(ONE, "c1")
    first = once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    both = (site.text("/etc/motd"), site.text("/etc/two"))
    broker.wants(ONE, "c1")

    last = once(site, broker)

    assert [0, 0] == [first.exit_status, last.exit_status]
    assert ("one on h1.example.org\n", "two\n") == both
    assert ("one on h1.example.org\n", None) == (site.text("/etc/motd"), site.text("/etc/two"))
    assert [("apply", ("c1",), ()), ("apply", ("c2",), ()), ("undo", (), ("c2",))] == [
        (one.run_kind, one.brought, one.took_away) for one in broker.of_kind("run")
    ]
    assert Live(ONE.digest, ("c1",)) == broker.polls[-1].live
    assert ("idle", 3) == (broker.polls[-1].state, broker.polls[-1].generation)


def test_nothing_twice(site: Site, broker: Broker) -> None:
    """A target that was reached is not tried again, and what was reported is not reported again."""
    broker.wants(ONE, "c1")
    once(site, broker)
    site.write("/etc/motd", "somebody's\n")

    assert () == once(site, broker).outcomes
    assert "somebody's\n" == site.text("/etc/motd")
    assert 1 == len(broker.came)


def test_predicted_is_actual(site: Site, broker: Broker) -> None:
    """The test of a profile has the change-set and the effect of the run that brings it, to the digest."""
    site.write("/etc/motd", "this is h1.example.org\n")
    broker.asks(Order(id="t1", change="t", kind="test", profile=broker.compiles(BOTH), time_to_live=60.0))
    once(site, broker)
    broker.wants(BOTH, "c1")
    once(site, broker)

    test, run = broker.of_kind("test")[0], broker.of_kind("run")[0]
    assert (test.change_set, test.effect, run.effect) == (run.change_set, run.effect, run.actual)
    assert [run.change_set] == list(broker.bodies)
    assert "⟦name⟧" in broker.bodies[run.change_set].steps[0].text
    assert "h1.example.org" == run.facts["name"]


def test_predicted_undo_is_actual(site: Site, broker: Broker) -> None:
    """The same of an undo, whose text names the run by a placeholder; and it is foreseen that revert agrees."""
    site.write("/etc/motd", "this is h1.example.org\n")
    broker.wants(TWO, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    order = Order(
        id="t2", change="t", kind="test-undo", profile=broker.compiles(TWO), change_ids=("c1",), time_to_live=60.0
    )
    broker.asks(order)
    once(site, broker)
    broker.wants(TWO, "c1")
    once(site, broker)

    test, run = broker.of_kind("test")[0], broker.of_kind("run")[2]
    assert (test.change_set, test.effect, run.effect) == (run.change_set, run.effect, run.actual)
    assert ("undo and revert agree",) == test.notes
    assert broker.of_kind("run")[1].run == run.facts["run"]


def test_part_of_a_set(site: Site, broker: Broker) -> None:
    """A host that got two changes in one run loses one by undo, and gets the other again by planning (D18)."""
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    order = Order(
        id="t", change="t", kind="test-undo", profile=broker.compiles(ONE), change_ids=("c1",), time_to_live=60.0
    )
    broker.asks(order)
    once(site, broker)
    broker.wants(ONE, "c1")
    once(site, broker)

    assert ("one on h1.example.org\n", None) == (site.text("/etc/motd"), site.text("/etc/two"))
    assert ("by re-planning: c1",) == broker.of_kind("test")[0].notes
    assert [("c1", "c2"), (), ("c1",)] == [one.brought for one in broker.of_kind("run")]
    assert [(), ("c1", "c2"), ()] == [one.took_away for one in broker.of_kind("run")]
    assert Live(ONE.digest, ("c1",)) == broker.polls[-1].live


def test_held_and_released(site: Site, broker: Broker) -> None:
    """Where undo does not leave what the branch compiles to, the host is held until a person releases it (D19)."""
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    reverted = profile(motd("other\n"))
    broker.wants(reverted, "c1")

    held = once(site, broker)

    assert [("held", 21)] == [(one.result, one.exit_status) for one in held.outcomes]
    assert ("held", "one on h1.example.org\n") == (broker.polls[-1].state, site.text("/etc/motd"))
    (refusal,) = broker.of_kind("refusal")
    assert (("undo and revert differ: held",), 1) == (refusal.notes, len(broker.bodies[refusal.change_set].steps))
    broker.wants(profile(motd("third\n")), "c1", "c3")
    assert ["held"] == [one.result for one in once(site, broker).outcomes]
    broker.wants(reverted, "c1", release=True)

    assert ["reached"] == [one.result for one in once(site, broker).outcomes]
    assert ("idle", "other\n") == (broker.polls[-1].state, site.text("/etc/motd"))


def test_held_where_undo_gives_back_what_had_drifted(site: Site, broker: Broker) -> None:
    """Undo gives back what was there; where that is not what the profile says which is live again, the host is held."""
    broker.wants(ONE, "c1")
    once(site, broker)
    site.write("/etc/motd", "drifted\n")
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    broker.wants(ONE, "c1")

    assert ["held"] == [one.result for one in once(site, broker).outcomes]
    assert "drifted\n" == site.text("/etc/motd")
    broker.wants(ONE, "c1", release=True)
    assert ["reached"] == [one.result for one in once(site, broker).outcomes]
    assert "one on h1.example.org\n" == site.text("/etc/motd")


def test_undo_and_revert_agree(site: Site, broker: Broker) -> None:
    """What a branch compiles to after a revert is live without a step, where the host is that already."""
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    again = profile(motd("one on h1.example.org\n"), motd("one on h1.example.org\n"))
    broker.wants(again, "c1")
    once(site, broker)

    assert (("undo and revert agree",), ()) == (broker.last.notes, broker.last.steps)
    assert Live(again.digest, ("c1",)) == broker.polls[-1].live


def test_not_what_was_approved(site: Site, broker: Broker) -> None:
    """A host that would do something else than what was approved for it does nothing: 14."""
    broker.wants(ONE, "c1", effect="0" * 64)

    assert [("failed", 14)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]
    assert (None, 14) == (site.text("/etc/motd"), broker.last.exit_status)
    broker.wants(ONE, "c1", effect=broker.last.effect)
    assert [0] == [one.exit_status for one in once(site, broker).outcomes]


def test_irreversible(site: Site, broker: Broker) -> None:
    """What has no undo is not done unless the target allows it, and the refusal shows the plan: 13."""
    forever = RunCommand(argv=("/bin/true",), always=True, undo=CommandUndo(irreversible="nobody knows how"))
    site.with_shell()
    shutil.copy(site.path("/bin/dash"), site.path("/bin/true"))
    broker.wants(profile(forever), "c1")

    assert [("failed", 13)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]
    assert (1, 13) == (len(broker.bodies[broker.last.change_set].steps), broker.last.exit_status)
    broker.wants(profile(forever), "c1", allow_irreversible=True)
    assert [("reached", 0)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]


def test_a_component_that_fails(site: Site, broker: Broker) -> None:
    """What could be planned is done, and the rest is tried again where a person asks for it."""
    components = {"anything": {"changes": [{"kind": "no such kind"}]}, **PLAIN}
    site.install("plain", PLAIN_COMPONENT, "1")
    broker.wants(Profile({"software": {"components": components}}), "c1")

    assert [("failed", 15)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]
    assert ("partial", 15, "plain\n") == (broker.last.status, broker.last.exit_status, site.text("/etc/plain"))
    assert "failed" == broker.polls[-1].state
    assert () == once(site, broker).outcomes
    broker.wants(Profile({"software": {"components": components}}), "c1", release=True)
    assert [("failed", 15)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]


def test_a_conflict(site: Site, broker: Broker) -> None:
    """What somebody changed since is not overwritten: nothing changes, and the report names it: 12."""
    broker.wants(ONE, "c1")
    once(site, broker)
    site.write("/etc/motd", "mine\n")
    broker.wants(BASE)

    assert [("failed", 12)] == [(one.result, one.exit_status) for one in once(site, broker).outcomes]
    assert "mine\n" == site.text("/etc/motd")
    assert ("refusal", 12) == (broker.last.kind, broker.last.exit_status)
    assert "/etc/motd" in broker.last.error
    assert () == once(site, broker).outcomes


def test_runs_by_hand_are_reported(site: Site, broker: Broker) -> None:
    """A run that a person began at the host is reported like any other."""
    run = site.apply(motd("by hand\n")).run
    once(site, broker)

    assert [(run, 0, 0)] == [(one.run, one.generation, one.exit_status) for one in broker.of_kind("run")]


def test_confirmed_by_reaching(site: Site, broker: Broker) -> None:
    """A run with a deadline is confirmed once a confirmer is reached, which is tried before it too (D22)."""
    broker.wants(ONE, "c1", confirm_within=60.0)
    once(site, broker)

    assert (2, 0, ("confirmed",)) == (broker.reached, broker.last.exit_status, broker.last.notes)


def test_no_confirmer(site: Site, broker: Broker) -> None:
    """Without a confirmer such a run does not begin, and is begun when there is one."""
    broker.wants(ONE, "c1", confirm_within=60.0)
    broker.away.add("reach")
    away = once(site, broker)
    broker.away.clear()

    assert (["away"], []) == ([one.result for one in away.outcomes], broker.of_kind("run"))
    assert ["reached"] == [one.result for one in once(site, broker).outcomes]
