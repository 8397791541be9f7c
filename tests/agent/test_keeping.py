"""What is kept for undo, what goes, and how the commands say it."""

from __future__ import annotations

import json
import os

import pytest

from aquiline.agent.keeping import collect, purge
from aquiline.agent.undoing import preview
from aquiline.changes.kinds import Inline, WriteFile
from aquiline.cli.running import run as aquiline
from aquiline.journal.check import check
from aquiline.journal.retention import Policy
from tests.agent.making import Site

EVERYTHING = Policy(days=0.0)


def token(text: str) -> WriteFile:
    return WriteFile(path="/etc/token", content=Inline(text.encode()), mode=0o600)


def motd(text: str) -> WriteFile:
    return WriteFile(path="/etc/motd", content=Inline(text.encode()))


def ask(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit status of a command and what it answers."""
    status = aquiline([*arguments, "--root", str(site.root), "--state", str(site.state)])
    return status, capsys.readouterr().out


# ---- gc -----------------------------------------------------------------------------------------------------------


def test_gc_drops_old_runs_with_the_inodes_they_kept(site: Site) -> None:
    """A run that is not the last for its objects goes; the inode it had kept for its undo goes with it."""
    site.write("/etc/motd", "shared\n")
    site.path("/etc/again").hardlink_to(site.path("/etc/motd"))
    old = site.apply(motd("one\n")).run
    new = site.apply(motd("two\n")).run
    kept = len(list((site.state / "links").iterdir()))
    with site.session() as session:
        found = collect(session, EVERYTHING)

    assert found.dropped is not None
    assert (old,) == found.dropped.runs
    assert [(old, True), (new, False)] == [(one.run, one.drop) for one in found.runs]
    assert (1, []) == (kept, list((site.state / "links").iterdir()))
    assert 1 == site.path("/etc/again").stat().st_nlink


def test_a_dry_run_of_gc_drops_nothing(site: Site) -> None:
    """It says what would go; pre-images, scripts and journal stay."""
    site.write("/etc/motd", "old\n")
    site.apply(motd("one\n"))
    site.apply(motd("two\n"))
    before = sorted(os.listdir(site.state / "undo"))
    with site.session() as session:
        found = collect(session, EVERYTHING, is_dry_run=True)
        health = check(session.state)

    assert None is found.dropped
    assert [True, False] == [one.drop for one in found.runs]
    assert before == sorted(os.listdir(site.state / "undo"))
    assert health.is_sound


# ---- secrets ------------------------------------------------------------------------------------------------------


def test_purged_secrets_are_gone_and_said_to_be(site: Site) -> None:
    """Old contents of secrets are removed; fsck and undo say so, and everything else of the run can be undone."""
    site.write("/etc/token", "old secret", 0o600)
    site.write("/etc/motd", "old\n")
    run = site.apply(token("new secret"), motd("new\n")).run
    with site.session() as session:
        purged = purge(session, 0.0)
        health = check(session.state).runs
        with session.reading() as journal:
            runs = [journal.run(run)]
        shown = preview(session, runs)
        stored = [b"".join(session.preimages.chunks(digest)) for digest in session.preimages.digests()]

    assert ((run,), 1, len("old secret")) == (purged.runs, purged.preimages, purged.bytes)
    assert [b"old\n"] == stored
    assert [("undoable-but-for", 1)] == [(one.verdict, len(one.reasons)) for one in health]
    assert "was purged" in health[0].reasons[0]
    assert [f"the pre-image of /etc/token was purged: a secret of run {run}"] == [one.reason for one in shown.stays]
    assert ["/etc/motd"] == [step.after[0].path for step in shown.plan.steps]


def test_a_dry_run_of_purging_removes_nothing(site: Site) -> None:
    """It counts what would go."""
    site.write("/etc/token", "old secret", 0o600)
    run = site.apply(token("new secret")).run
    with site.session() as session:
        found = purge(session, 0.0, is_dry_run=True)
        health = check(session.state)

    assert ((run,), 1) == (found.runs, found.preimages)
    assert health.is_sound


def test_secrets_of_young_and_waiting_runs_stay(site: Site) -> None:
    """Younger than asked, or waiting for confirmation: the way back stays whole."""
    site.write("/etc/token", "old secret", 0o600)
    run = site.apply(token("new secret"), confirm_within=600.0).run
    with site.session() as session:
        young = purge(session, 1.0)
        waiting = purge(session, 0.0)
        health = check(session.state)

    assert ((), ()) == (young.runs, young.spared)
    assert ((), ((run, "it waits for confirmation"),)) == (waiting.runs, waiting.spared)
    assert health.is_sound


def test_a_secret_that_a_younger_run_needs_stays(site: Site) -> None:
    """Content is removed only where every run that needs it is old enough."""
    site.write("/etc/token", "old secret", 0o600)
    site.apply(token("new secret"))
    site.write("/etc/other", "old secret", 0o600)
    site.apply(WriteFile(path="/etc/other", content=Inline(b"x"), mode=0o600), confirm_within=600.0)
    with site.session() as session:
        found = purge(session, 0.0)
        health = check(session.state)

    assert 0 == found.preimages
    assert health.is_sound


# ---- what the commands say ----------------------------------------------------------------------------------------


def test_fsck_says_what_is_lost(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Undoable, undoable but for, lost: text and JSON say the same, and the exit status is 1 unless all is sound."""
    site.write("/etc/motd", "old\n")
    run = site.apply(motd("new\n"), WriteFile(path="/etc/other", content=Inline(b"x"))).run
    sound = ask(site, capsys, "fsck")
    with site.session() as session:
        for digest in session.preimages.digests():
            session.preimages.path(digest).write_bytes(b"bit rot")
    status, text = ask(site, capsys, "fsck")
    as_json = json.loads(ask(site, capsys, "fsck", "--json")[1])

    assert (0, f"run {run}: undoable\n1 runs, 1 undoable; sound\n") == sound
    assert 1 == status
    assert f"run {run}: undoable but for" in text
    assert (False, "undoable-but-for") == (as_json["sound"], as_json["runs"][0]["verdict"])


def test_gc_says_what_it_keeps_and_why(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run has a line with the reason."""
    first = site.apply(motd("one\n")).run
    second = site.apply(motd("two\n")).run
    status, text = ask(site, capsys, "gc", "--keep-days", "0", "--dry-run")

    assert 0 == status
    assert f"run {first}: would drop: older than 0 days" in text
    assert f"run {second}: kept: it was the last to touch some object" in text


def test_gc_says_what_it_purged(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run that lost a secret has a line."""
    site.write("/etc/token", "old secret", 0o600)
    run = site.apply(token("new secret")).run
    status, text = ask(site, capsys, "gc", "--purge-secrets")

    assert 0 == status
    assert f"run {run}: its secrets purged" in text
    assert 2 == ask(site, capsys, "gc", "--older-than", "3")[0]


def test_verify_says_what_drifted(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 3 only if asked for; the lines name object, difference, run and step."""
    run = site.apply(motd("new\n")).run
    clean = ask(site, capsys, "verify", "--exit-code")
    site.write("/etc/motd", "mine\n")
    status, text = ask(site, capsys, "verify", "--exit-code")

    assert (0, "1 objects: 1 as a run left them, 0 drifted\n") == clean
    assert 3 == status
    assert f"  /etc/motd: content: 4 bytes then, 5 bytes now; left by {run}/1\n" in text
    assert 0 == ask(site, capsys, "verify")[0]
    assert ["/etc/motd"] == [one["path"] for one in json.loads(ask(site, capsys, "verify", "--json")[1])["drift"]]


def test_blame_says_who_made_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Run, step, component and change IDs are in the text and in the JSON."""
    run = site.apply(motd("new\n"), change_ids=("c7",)).run
    _, text = ask(site, capsys, "blame", "/etc/motd")
    as_json = json.loads(ask(site, capsys, "blame", "/etc/motd", "--json")[1])

    assert f"/etc/motd: made by step 1 of run {run}\n" in text
    assert "changes    c7" in text
    assert ["c7"] == as_json["made_by"]["change_ids"]


def test_amend_shows_before_and_after(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Both undos are shown, and the usage of the two forms is not mixed up."""
    run = site.apply(motd("new\n")).run
    undo = site.root / "undo.json"
    undo.write_text('{"class": "exact", "description": "go", "changes": [{"kind": "remove", "path": "/etc/motd"}]}')
    arguments = ("amend", run, "1", "--undo", str(undo), "--reason", "because")
    status, text = ask(site, capsys, *arguments)

    assert 0 == status
    assert "  before exact: " in text
    assert "  after  exact: go\n" in text
    assert "  reason because\n" in text
    assert 2 == ask(site, capsys, "amend", run, "1")[0]
    assert 2 == ask(site, capsys, *arguments, "--rules", "x")[0]


def test_undo_from_a_file_is_shown_and_done(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The command takes a run back by `show --json` alone: first as a dry-run, then for real, conflicts included."""
    site.write("/etc/motd", "old\n")
    run = site.apply(motd("new\n")).run
    export = site.root / "run.json"
    export.write_text(ask(site, capsys, "show", run, "--json")[1])
    for name in os.listdir(site.state):
        if name.startswith("journal.db"):
            os.unlink(site.state / name)
    site.write("/etc/motd", "mine\n")
    conflict = ask(site, capsys, "undo", "--from", str(export), "--dry-run")
    site.write("/etc/motd", "new\n")
    shown = ask(site, capsys, "undo", "--from", str(export), "--dry-run")
    done = ask(site, capsys, "undo", "--from", str(export))

    assert 12 == conflict[0]
    assert "conflict: /etc/motd" in conflict[1]
    assert 0 == shown[0]
    assert "restore /etc/motd" in shown[1]
    assert 0 == done[0]
    assert "old\n" == site.text("/etc/motd")
    assert 2 == ask(site, capsys, "undo", run, "--from", str(export))[0]
