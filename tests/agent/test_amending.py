"""An undo that was recorded wrong is corrected, by hand and by rule."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aquiline.agent.amending import amend, amend_by_rules, load_rules, load_undo
from aquiline.agent.undoing import redo, select, undo
from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    Inline,
    Probe,
    ReactCommand,
    Remove,
    Restore,
    RunCommand,
    Touches,
    WriteFile,
)
from aquiline.changes.steps import Undo
from aquiline.errors import AquilineError, UsageError
from aquiline.host.objects import ABSENT, Metadata, RegularFile
from tests.agent.making import Site

RIGHT = Undo("command", "take the flag away", (RunCommand(argv=("sh", "-c", "echo down > /etc/flag"), always=True),))
WRONG = CommandUndo(changes=(RunCommand(argv=("sh", "-c", "echo wrong > /etc/flag"), always=True),))


def raise_flag(name: str = "flag") -> RunCommand:
    """Return a command whose undo is wrong."""
    return RunCommand(
        argv=("sh", "-c", f"echo up > /etc/{name}"), always=True, undo=WRONG, touches=Touches(paths=(f"/etc/{name}",))
    )


def rule_file(place: Path, undo: dict[str, Any], mode: int = 0o644, **conditions: Any) -> Path:
    rule = {"component": "anything", "reason": "1.2 took the flag down wrong", "undo": undo, **conditions}
    path = place / "rules.json"
    path.write_bytes(msgspec.json.encode({"format": 1, "rule": [rule]}))
    path.chmod(mode)
    return path


def undo_last(site: Site) -> int:
    with site.session() as session:
        with session.reading() as journal:
            runs = select(session, journal)
        return undo(session, runs).exit_status


def run_script(site: Site, run: str) -> int:
    return subprocess.run(["dash", site.state / f"undo/{run}.sh"], check=False, capture_output=True).returncode


# ---- by hand ------------------------------------------------------------------------------------------------------


def test_an_amended_undo_is_what_undo_does(site: Site) -> None:
    """After amending, undo runs the corrected undo and not the one that the component recorded."""
    site.with_shell()
    run = site.apply(raise_flag()).run
    with site.session() as session:
        amended = amend(session, run, 1, RIGHT, reason="it wrote the wrong word")

    assert 0 == undo_last(site)
    assert "down\n" == site.text("/etc/flag")
    assert (WRONG.changes, RIGHT) == (amended.before.changes, amended.after)


def test_an_amended_undo_is_what_the_script_does(site: Site) -> None:
    """The undo script, under dash and with nothing of ours, runs the corrected undo too."""
    site.write("/etc/flag", "before\n")
    run = site.apply(WriteFile(path="/etc/flag", content=Inline(b"up\n"))).run
    right = Undo("exact", "write what is right", (WriteFile(path="/etc/flag", content=Inline(b"down\n")),))
    with site.session() as session:
        amend(session, run, 1, right, reason="it is not what was there")

    assert 0 == run_script(site, run)
    assert "down\n" == site.text("/etc/flag")


def test_what_was_recorded_first_stays(site: Site) -> None:
    """The journal keeps the step as it was written, every amendment, its reason and who made it."""
    run = site.apply(WriteFile(path="/etc/flag", content=Inline(b"up\n"))).run
    first = Undo("irreversible", "nothing", (), "it cannot be")
    second = Undo("exact", "remove it", (Remove(path="/etc/flag"),))
    with site.session() as session:
        amend(session, run, 1, first, reason="one")
        amend(session, run, 1, second, reason="two")
        with session.reading() as journal:
            record = journal.step(run, 1)
            reasons = [one.data["reason"] for one in journal.events(run, 1) if one.what == "amended"]

    assert ["one", "two"] == reasons
    assert "restore" == record.known.undo.changes[0].__struct_config__.tag
    assert second == record.undo


def test_an_amended_undo_can_be_redone(site: Site) -> None:
    """Redo takes the corrected undo back, from what that undo found."""
    site.write("/etc/flag", "before\n")
    run = site.apply(WriteFile(path="/etc/flag", content=Inline(b"up\n"))).run
    with site.session() as session:
        right = Undo("exact", "remove it", (Remove(path="/etc/flag"),))
        amend(session, run, 1, right, reason="it has to go")
    undo_last(site)
    gone = site.text("/etc/flag")
    with site.session() as session:
        with session.reading() as journal:
            record = journal.run(run)
        redo(session, record)

    assert (None, "up\n") == (gone, site.text("/etc/flag"))


def test_a_dry_run_of_amend_writes_nothing(site: Site) -> None:
    """It is checked and shown, and the journal and the script stay as they are."""
    run = site.apply(WriteFile(path="/etc/flag", content=Inline(b"up\n"))).run
    script = (site.state / f"undo/{run}.sh").read_bytes()
    with site.session() as session:
        right = Undo("exact", "remove it", (Remove(path="/etc/flag"),))
        shown = amend(session, run, 1, right, reason="x", is_dry_run=True)
        with session.reading() as journal:
            record = journal.step(run, 1)

    assert right == shown.after
    assert None is record.amended
    assert script == (site.state / f"undo/{run}.sh").read_bytes()


MISSING = Restore(path="/etc/flag", object=RegularFile(Metadata(0o644, 0, 0), 1, "0" * 64))
COMMAND = RunCommand(argv=("true",), always=True)
NONSENSE: list[tuple[Undo, str]] = [
    (Undo("exact", "", (Remove(path="/etc/flag"),)), "it has no description"),
    (Undo("exact", "x", (COMMAND,)), "it holds a command, so its class is command"),
    (Undo("command", "x"), "it has no changes"),
    (Undo("irreversible", "x"), "it is irreversible and says no reason"),
    (Undo("irreversible", "x", (COMMAND,), "y"), "it is irreversible and has changes"),
    (Undo("exact", "x", (MISSING,)), "there is no pre-image 0000"),
    (Undo("exact", "x", (Restore(path="/a", object=ABSENT, kept="f-1"),)), "no inode is kept as f-1"),
    (Undo("command", "x", (ReactCommand(argv=("true",)),)), "a reaction is taken back by reactions"),
]


@pytest.mark.parametrize(("nonsense", "why"), NONSENSE, ids=[why for _, why in NONSENSE])
def test_an_undo_that_cannot_work_is_refused(site: Site, nonsense: Undo, why: str) -> None:
    """What could not take the step back, or contradicts itself, is refused before anything is written."""
    run = site.apply(WriteFile(path="/etc/flag", content=Inline(b"up\n"))).run
    with site.session() as session, pytest.raises(UsageError, match=why):
        amend(session, run, 1, nonsense, reason="x")


def test_a_step_that_has_not_happened_is_not_amended(site: Site, tmp_path: Path) -> None:
    """Neither by hand nor by rule: the run is recovered first, and a rule finds the step the next time."""
    site.with_shell()
    failing = RunCommand(argv=("sh", "-c", "exit 1"), always=True)
    run = site.apply(failing, raise_flag()).run
    with site.session() as session:
        with pytest.raises(UsageError, match="that step is planned: recover the run first"):
            amend(session, run, 2, RIGHT, reason="x")
        found = amend_by_rules(session, load_rules(rule_file(tmp_path, TEMPLATE, path="/etc/flag")))

    assert ((), 0) == (found.amended, found.right_already)


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    """A key that no undo has is named, not passed over."""
    path = tmp_path / "undo.json"
    path.write_text(
        '{"class": "exact", "description": "x", "changes": [{"kind": "remove", "path": "/a", "paht": "/b"}]}'
    )
    with pytest.raises(UsageError, match=r"an undo has no changes\.0\.paht"):
        load_undo(path)


def test_an_undo_is_read_from_json(tmp_path: Path) -> None:
    """The file holds what `show --json` writes of an undo."""
    path = tmp_path / "undo.json"
    path.write_bytes(msgspec.json.encode(RIGHT))

    assert RIGHT == load_undo(path)


# ---- by rules -----------------------------------------------------------------------------------------------------

TEMPLATE = {
    "class": "command",
    "description": "take {path} down",
    "changes": [{"kind": "run_command", "argv": ["sh", "-c", 'echo "down" > "$0"', "{path}"], "always": True}],
}


def test_rules_correct_what_matches_and_nothing_else(site: Site, tmp_path: Path) -> None:
    """Component, version, kind, path and argv all have to match; the template is filled with what did."""
    site.with_shell()
    run = site.apply(raise_flag("flag"), raise_flag("other")).run
    rules = load_rules(rule_file(tmp_path, TEMPLATE, kind="run_command", path="/etc/fl*", versions=">=1.0, <1.3"))
    with site.session() as session:
        found = amend_by_rules(session, rules)

    assert [(run, 1, "take /etc/flag down")] == [(one.run, one.step, one.after.description) for one in found.amended]
    assert 0 == undo_last(site)
    assert "down\n" == site.text("/etc/flag")


def test_rules_are_idempotent(site: Site, tmp_path: Path) -> None:
    """The second time nothing is amended, nothing is recorded, and no script is touched."""
    site.with_shell()
    run = site.apply(raise_flag()).run
    rules = load_rules(rule_file(tmp_path, TEMPLATE))
    with site.session() as session:
        amend_by_rules(session, rules)
        script = (site.state / f"undo/{run}.sh").read_bytes()
        again = amend_by_rules(session, rules)
        with session.reading() as journal:
            amendments = [one for one in journal.events(run, 1) if one.what == "amended"]

    assert ((), 1, 1) == (again.amended, again.right_already, len(amendments))
    assert script == (site.state / f"undo/{run}.sh").read_bytes()


def test_a_dry_run_of_rules_shows_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    """What would be amended is shown; the journal stays."""
    site.with_shell()
    run = site.apply(raise_flag()).run
    with site.session() as session:
        shown = amend_by_rules(session, load_rules(rule_file(tmp_path, TEMPLATE)), is_dry_run=True)
        with session.reading() as journal:
            record = journal.step(run, 1)

    assert 1 == len(shown.amended)
    assert None is record.amended


def test_a_rule_leaves_what_a_person_amended(site: Site, tmp_path: Path) -> None:
    """A step that somebody corrected by hand matches, is listed, and keeps that person's undo."""
    site.with_shell()
    run = site.apply(raise_flag()).run
    with site.session() as session:
        amend(session, run, 1, RIGHT, reason="by hand")
        found = amend_by_rules(session, load_rules(rule_file(tmp_path, TEMPLATE)))
        with session.reading() as journal:
            record = journal.step(run, 1)

    assert ((), 1) == (found.amended, len(found.by_hand))
    assert RIGHT == record.undo


UNMATCHED: list[dict[str, Any]] = [
    {"component": "other"},
    {"versions": ["1.0", "1.1"]},
    {"versions": ">1.2"},
    {"versions": "<1.2.0"},
    {"kind": "write_file"},
    {"path": "/usr/*"},
    {"description": "lower *"},
    {"argv": ["sh", "-c", "*down*"]},
    {"argv": ["sh"]},
]


@pytest.mark.parametrize("conditions", UNMATCHED, ids=str)
def test_every_condition_of_a_rule_has_to_match(site: Site, tmp_path: Path, conditions: dict[str, Any]) -> None:
    """One condition that does not match is enough to leave a step alone."""
    site.with_shell()
    site.apply(raise_flag())
    with site.session() as session:
        found = amend_by_rules(session, load_rules(rule_file(tmp_path, TEMPLATE, **conditions)))

    assert ((), 0, ()) == (found.amended, found.right_already, found.by_hand)


MATCHED: list[dict[str, Any]] = [
    {"versions": ["1.1", "1.2"]},
    {"versions": "==1.2.0"},
    {"versions": ">=1.2,<1.10"},
    {"argv": ["sh", "-c", "*up*"]},
    {"description": "run *"},
]


@pytest.mark.parametrize("conditions", MATCHED, ids=str)
def test_what_a_rule_matches_is_amended(site: Site, tmp_path: Path, conditions: dict[str, Any]) -> None:
    """Lists and ranges of versions, globs of arguments and of descriptions."""
    site.with_shell()
    site.apply(raise_flag())
    with site.session() as session:
        found = amend_by_rules(session, load_rules(rule_file(tmp_path, TEMPLATE, **conditions)))

    assert 1 == len(found.amended)


def test_toml_rules_are_read(tmp_path: Path) -> None:
    """The example of the manual is a rule file."""
    manual = Path(__file__).parents[2] / "docs/reference/amend-rules.md"
    example = manual.read_text().split("```toml\n")[1].split("```")[0]
    path = tmp_path / "rules.toml"
    path.write_text(example)
    path.chmod(0o644)

    assert ["ntpd"] == [rule.component for rule in load_rules(path).rule]


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_rules_that_others_can_write_are_refused(tmp_path: Path, mode: int) -> None:
    """Their commands would run as root."""
    with pytest.raises(AquilineError, match="only root can write"):
        load_rules(rule_file(tmp_path, TEMPLATE, mode))


def test_rules_of_another_owner_and_behind_a_link_are_refused(tmp_path: Path) -> None:
    """The file has to be root's, and be the file itself."""
    path = rule_file(tmp_path, TEMPLATE)
    (tmp_path / "link.json").symlink_to(path)
    with pytest.raises(AquilineError):
        load_rules(tmp_path / "link.json")
    path.chmod(0o644)
    os.chown(path, 1234, 0)
    with pytest.raises(AquilineError, match="only root can write"):
        load_rules(path)


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({**TEMPLATE, "description": "{who}"}, {}, "nothing is known for"),
    ({**TEMPLATE, "klass": "x"}, {}, "an undo has no klass"),
    (TEMPLATE, {"versions": "about 1.2"}, "is no range of versions"),
    (TEMPLATE, {"color": "red"}, "is no rule file"),
    (
        {**TEMPLATE, "changes": [{"kind": "run_script", "language": "shell", "text": "rm {path}"}]},
        {},
        "a script's text is taken as it is",
    ),
]


@pytest.mark.parametrize(("template", "conditions", "why"), BAD, ids=[why for *_, why in BAD])
def test_a_bad_rule_is_refused_when_read(
    tmp_path: Path, template: dict[str, Any], conditions: dict[str, Any], why: str
) -> None:
    """A rule file is checked whole before any step is looked at."""
    with pytest.raises(UsageError, match=why):
        load_rules(rule_file(tmp_path, template, **conditions))


def test_a_rule_works_by_the_script_too(site: Site, tmp_path: Path) -> None:
    """The undo script of every amended run runs the corrected undo."""
    site.write("/etc/flag", "before\n")
    changes: tuple[Change, ...] = (WriteFile(path="/etc/flag", content=Inline(b"up\n")),)
    run = site.apply(*changes).run
    template = {"class": "exact", "description": "x", "changes": [{"kind": "remove", "path": "{path}"}]}
    with site.session() as session:
        amend_by_rules(session, load_rules(rule_file(tmp_path, template, kind="write_file")))

    assert 0 == run_script(site, run)
    assert None is site.text("/etc/flag")


def test_braces_in_a_template_are_doubled(site: Site, tmp_path: Path) -> None:
    """Two braces stand for one."""
    site.with_shell()
    site.apply(raise_flag())
    with site.session() as session:
        found = amend_by_rules(session, load_rules(rule_file(tmp_path, {**TEMPLATE, "description": "{{a}} {step}"})))

    assert ["{a} 1"] == [one.after.description for one in found.amended]


def test_probes_do_not_stand_in_the_way(site: Site) -> None:
    """A command that was settled by its probe is amended like any other."""
    site.with_shell()
    guarded = msgspec.structs.replace(
        raise_flag(), always=False, done_when=Probe(argv=("sh", "-c", "read x < /etc/flag"))
    )
    run = site.apply(guarded).run
    with site.session() as session:
        amend(session, run, 1, RIGHT, reason="x")

    assert 0 == undo_last(site)
    assert "down\n" == site.text("/etc/flag")
