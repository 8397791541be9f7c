"""Where a host stands, by its journal: what was brought, taken back, brought again, cut short."""

from __future__ import annotations

from aquiline.agent.daemon.standpoint import standpoint
from aquiline.agent.reconciling import Standing, Standpoint
from aquiline.agent.undoing import redo, undo
from aquiline.changes.kinds import CommandUndo, Inline, RunCommand, WriteFile
from tests.agent.making import Site


def write(name: str) -> WriteFile:
    return WriteFile(path=f"/etc/{name}", content=Inline(b"x\n"))


FAILS = RunCommand(argv=("/nowhere",), always=True, undo=CommandUndo(changes=()))


def at(site: Site) -> Standpoint:
    with site.session() as session, session.reading() as journal:
        return standpoint(journal)


def take_back(site: Site, *runs: str) -> str:
    with site.session() as session:
        with session.reading() as journal:
            chosen = [journal.run(run) for run in runs]
        return undo(session, chosen).run


def stands(site: Site) -> list[str]:
    return [one.run for one in at(site).standing]


def test_runs_stand_newest_first(site: Site) -> None:
    """What is live is the union of what runs brought (D18); taking one back leaves the others."""
    first = site.apply(write("one"), change_ids=("c1",)).run
    second = site.apply(write("one"), write("two"), change_ids=("c2", "c3")).run
    third = site.apply(write("one"), write("two"), write("three"), change_ids=("c4",)).run

    assert (Standing(third, ("c4",)), Standing(second, ("c2", "c3")), Standing(first, ("c1",))) == at(site).standing
    assert ("c1", "c2", "c3", "c4") == at(site).live.change_ids
    take_back(site, second)
    assert ([third, first], ("c1", "c4")) == (stands(site), at(site).live.change_ids)
    take_back(site, third)
    assert ([first], ("c1",)) == (stands(site), at(site).live.change_ids)
    take_back(site, first)
    assert ([], (), "") == (stands(site), at(site).live.change_ids, at(site).live.profile)


def test_what_was_taken_back_stays_so(site: Site) -> None:
    """Taking back what came later brings nothing again that was taken back before."""
    first = site.apply(write("one"), change_ids=("c1",)).run
    site.apply(write("one"), write("two"), change_ids=("c2",))
    third = site.apply(write("one"), write("two"), write("three"), change_ids=("c3",)).run
    take_back(site, first)
    take_back(site, third)

    assert ("c2",) == at(site).live.change_ids


def test_a_redo_stands_in_the_place_of_its_run(site: Site) -> None:
    """What was laid again stands once, under the redo, and is live beside the rest; undoing either takes it back."""
    site.apply(write("one"), change_ids=("c1",))
    run = site.apply(write("one"), write("two"), change_ids=("c2",)).run
    take_back(site, run)
    with site.session() as session:
        with session.reading() as journal:
            found = journal.run(run)
        again = redo(session, found).run

    assert again == stands(site)[0]
    assert run not in stands(site)
    assert ("c1", "c2") == at(site).live.change_ids
    take_back(site, again)
    assert ("c1",) == at(site).live.change_ids


def test_a_run_that_failed_stands_where_it_did_something(site: Site) -> None:
    """A failed run brought nothing that is live, and stands as long as anything of it does."""
    idle = site.apply(FAILS, change_ids=("c1",)).run
    half = site.apply(write("one"), FAILS, change_ids=("c1",)).run

    assert ([half], ()) == (stands(site), at(site).live.change_ids)
    assert idle != half
    take_back(site, half)
    assert [] == stands(site)


def test_a_run_without_a_step_stands(site: Site) -> None:
    """A change that had nothing to do on this host was brought all the same."""
    site.apply(write("one"), change_ids=("c1",))
    run = site.apply(write("one"), change_ids=("c2",)).run

    assert (run, ("c1", "c2")) == (stands(site)[0], at(site).live.change_ids)
    take_back(site, run)
    assert ("c1",) == at(site).live.change_ids


def test_a_run_that_did_not_end(site: Site) -> None:
    """It says what it brings; an undo that did not end brings nothing, and can always be finished."""
    run = site.apply(write("one"), change_ids=("c1",)).run
    with site.session() as session, session.changing("test") as journal:
        begun = journal.begin_run(session.header("apply", change_ids=("c2",))).id

    assert Standing(begun, ("c2",)) == at(site).interrupted
    with site.session() as session, session.changing("test") as journal:
        journal.end_run(begun, "undone")
        taking = journal.begin_run(session.header("undo", undoes=(run,), change_ids=("c0",))).id
    assert Standing(taking, ()) == at(site).interrupted


def test_the_identity_of_a_journal(site: Site) -> None:
    """It stays the same as long as the journal does, and is another one in the next."""
    run = site.apply(write("one")).run
    with site.session() as session, session.changing("test") as journal:
        first = journal.identity()
    with site.session() as session, session.reading() as journal:
        assert (first, run) == (journal.identity(), journal.runs()[0].id)
    for name in ("journal.db", "undo"):
        place = site.state / name
        place.rename(site.state / f"{name}.gone")
    (site.state / "undo").mkdir()
    with site.session() as session, session.changing("test") as journal:
        assert first != journal.identity()
