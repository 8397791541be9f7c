"""What a host is asked: it answers, and changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from aquiline.agent.daemon import reporting
from aquiline.agent.daemon.outbox import ROOM, Letter, Outbox
from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, WriteFile
from aquiline.host.objects import sha256
from aquiline.protocol.changesets import ChangeSet, DriftedObject
from aquiline.protocol.messages import Order, Report, encode_message
from tests.agent.daemon.broker import Broker, files_below, once
from tests.agent.making import Site, profile
from tests.engine.site import tree


def motd(text: str, path: str = "/etc/motd") -> WriteFile:
    return WriteFile(path=path, content=Inline(text.encode()))


ONE = profile(motd("one\n"))
BOTH = profile(motd("one\n"), motd("two\n", "/etc/two"))


def runs_of(site: Site) -> list[str]:
    """Return the runs of the host's journal."""
    with site.session() as session, session.reading() as journal:
        return [run.id for run in journal.runs()]


def ask(
    site: Site, broker: Broker, kind: str, profile_digest: str = "", *change_ids: str,
    again: tuple[str, ...] = (), reverted: str = "",
) -> Report:  # fmt: skip
    """Ask the host, and return its answer."""
    name = f"order-{len(broker.orders)}"
    order = Order(id=name, change="t", kind=kind, profile=profile_digest, change_ids=change_ids, time_to_live=60.0)
    broker.asks(msgspec.structs.replace(order, again=again, reverted=reverted))
    once(site, broker)
    (found,) = [report for report in broker.reports.values() if report.order == name]
    return found


def test_a_test_leaves_no_trace(site: Site, broker: Broker) -> None:
    """A test profile is never live, never in the archive, and gone when it was answered; the host is as it was."""
    before = tree(site.root / "etc")
    found = ask(site, broker, "test", broker.compiles(BOTH))

    assert ("test", 0, ["planned"] * 2) == (found.kind, found.exit_status, [step.status for step in found.steps])
    assert before == tree(site.root / "etc")
    assert [[], []] == [files_below(site.state / name) for name in ("profiles", "spool")]
    assert "" == broker.polls[-1].live.profile


def test_every_step_has_its_undo(site: Site, broker: Broker) -> None:
    """What is reported of a step says how it is taken back, or why it cannot be."""
    site.write("/etc/motd", "old\n")
    forever = RunCommand(argv=("/bin/true",), always=True, undo=CommandUndo(irreversible="nobody knows how"))
    found = ask(site, broker, "test", broker.compiles(profile(motd("new\n"), forever)))

    first, second = (step.undo for step in found.steps)
    assert ("exact", ("restore /etc/motd (4 bytes, mode 0644, root:root)",), "") == (
        first.class_,
        first.commands,
        first.reason,
    )
    assert ("irreversible", (), "nobody knows how") == (second.class_, second.commands, second.reason)


def test_a_profile_that_is_not_to_be_had(site: Site, broker: Broker) -> None:
    """That a test could not be planned is its answer; a broker that is away is asked again."""
    found = ask(site, broker, "test", "0" * 64)
    broker.away.add("profile")
    broker.asks(Order(id="later", change="t", kind="test", profile=broker.compiles(ONE), time_to_live=60.0))
    away = once(site, broker)
    broker.away.clear()

    assert (1, f"no profile {'0' * 64}") == (found.exit_status, found.error)
    assert ["away"] == [one.result for one in away.outcomes]
    assert ["reached"] == [one.result for one in once(site, broker).outcomes]
    assert "later" == broker.last.order


def test_an_undo_that_would_conflict(site: Site, broker: Broker) -> None:
    """A test of an undo names what somebody changed since: 12, as the undo would be."""
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    site.write("/etc/two", "mine\n")
    found = ask(site, broker, "test-undo", broker.compiles(ONE), "c1")

    assert (12, True) == (found.exit_status, "/etc/two" in found.error)
    assert "mine\n" == site.text("/etc/two")


def test_an_undo_that_revert_does_not_agree_with(site: Site, broker: Broker) -> None:
    """A test of an undo foresees that the host would be held."""
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    found = ask(site, broker, "test-undo", broker.compiles(profile(motd("other\n"))), "c1")

    assert ("undo and revert would differ by 1 step: the host would be held",) == found.notes


def test_taken_back_and_laid_again(site: Site, broker: Broker) -> None:
    """A test of an undo that lays others again: the undo, the proof in between, and what comes then."""
    broker.wants(ONE, "c1")
    once(site, broker)
    broker.wants(BOTH, "c1", "c2")
    once(site, broker)
    without = broker.compiles(profile(motd("two\n", "/etc/two")))
    nothing = broker.compiles(profile())

    found = ask(site, broker, "test-undo", without, again=("c2",), reverted=nothing)
    differs = ask(site, broker, "test-undo", without, again=("c2",), reverted=broker.compiles(profile(motd("x\n"))))

    assert ("undo and revert agree", "lays again: c2") == found.notes
    assert [1, 1, 2] == [step.stage for step in found.steps]
    assert [1, 1] == [step.stage for step in differs.steps]
    assert ("undo and revert would differ by 1 step: the host would be held",) == differs.notes


def test_nothing_to_take_back(site: Site, broker: Broker) -> None:
    """A host that never had the change says so."""
    broker.wants(ONE, "c1")
    once(site, broker)

    assert ("nothing to take back",) == ask(site, broker, "test-undo", broker.compiles(ONE), "c1").notes


def test_what_drifted(site: Site, broker: Broker) -> None:
    """A verification says what is not as a run left it, is 3 where something is not, and changes nothing."""
    broker.wants(BOTH, "c1")
    once(site, broker)
    clean = ask(site, broker, "verify")
    site.write("/etc/two", "mine!\n")
    before = tree(site.root / "etc"), runs_of(site)
    found = ask(site, broker, "verify")

    assert (0, ("2 objects: 2 as a run left them, 0 drifted",)) == (clean.exit_status, clean.notes)
    assert (3, ("2 objects: 1 as a run left them, 1 drifted",)) == (found.exit_status, found.notes)
    drifted = DriftedObject(
        object="/etc/two", state="drifted", how=("content: 4 bytes then, 6 bytes now",),
        content=sha256(b"mine!\n"), component="anything",
    )  # fmt: skip
    assert ChangeSet() == broker.bodies[clean.change_set]
    assert ChangeSet(drift=(drifted,)) == broker.bodies[found.change_set]
    assert before == (tree(site.root / "etc"), runs_of(site))


def test_drift_of_a_secret(site: Site, broker: Broker) -> None:
    """Of what nobody else may read sizes are told, and no digest that a secret could be tried out against."""
    broker.wants(profile(WriteFile(path="/etc/key", content=Inline(b"s3cret"), mode=0o600)), "c1")
    once(site, broker)
    site.write("/etc/key", "another s3cret")
    (site.root / "etc/key").chmod(0o600)
    found = ask(site, broker, "verify")

    (drifted,) = broker.bodies[found.change_set].drift
    assert (("content: 6 bytes then, 14 bytes now",), "") == (drifted.how, drifted.content)
    assert b"s3cret" not in encode_message(found) + encode_message(broker.bodies[found.change_set])


def test_drift_without_end(site: Site, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report names so many objects and counts the rest."""
    monkeypatch.setattr(reporting, "_MOST_DRIFT", 1)
    broker.wants(BOTH, "c1")
    once(site, broker)
    for name in ("motd", "two"):
        (site.root / "etc" / name).unlink()
    body = broker.bodies[ask(site, broker, "verify").change_set]

    assert ([("/etc/motd", "gone")], ("and 1 more",)) == ([(one.object, one.state) for one in body.drift], body.notes)


def test_held_and_frozen_hosts_take_tests(site: Site, broker: Broker) -> None:
    """Nothing that holds up targets holds up tests; a target that was held up is reached when it no longer is."""
    with site.session() as session:
        session.freeze("audit")
    broker.wants(ONE, "c1")
    found = ask(site, broker, "test", broker.compiles(BOTH))
    frozen = broker.of_kind("refusal")
    once(site, broker)
    state = broker.polls[-1].state
    with site.session() as session:
        session.thaw()
    once(site, broker)

    assert (0, [21], "frozen") == (found.exit_status, [one.exit_status for one in frozen], state)
    assert (1, "one\n") == (len(broker.of_kind("refusal")), site.text("/etc/motd"))


def test_a_refused_report_holds_up_no_other(site: Site, broker: Broker) -> None:
    """What the broker refuses is kept, and what comes after it is told all the same."""
    run = site.apply(motd("by hand\n")).run
    with site.session() as session, session.changing("test") as journal:
        broker.refuses.add(f"{journal.identity()}/{run}")
    broker.wants(BOTH, "c1")
    first = once(site, broker)
    broker.refuses.clear()
    once(site, broker)

    assert "is not wanted" in first.error
    assert ["c1", ""] == [",".join(one.brought) for one in broker.of_kind("run")]


def test_the_outbox_has_an_end(site: Site) -> None:
    """Of too many reports the oldest go."""
    with site.session() as session:
        session.state.create()
        outbox = Outbox(session.state)
        for number in range(ROOM + 3):
            outbox.put(Letter(Report(id=f"r{number}", tool="", journal="", kind="test")))
        waiting = outbox.waiting()

    assert [f"r{number}" for number in range(3, ROOM + 3)] == sorted(waiting, key=lambda name: int(name[1:]))


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a/b", "", "x" * 500])
def test_names_of_orders_are_no_paths(site: Site, broker: Broker, name: str) -> None:
    """Whatever an order is called, nothing outside of the spool is touched."""
    broker.asks(Order(id=name, change="t", kind="test", profile=broker.compiles(ONE), time_to_live=60.0))
    before = files_below(site.root / "etc")
    once(site, broker)

    assert (name, before) == (broker.last.order, files_below(site.root / "etc"))
    assert [] == files_below(site.state / "spool")
