"""Secrets stay home (P10): nothing that is printed, sent or readable by others holds one."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    EditFile,
    Inline,
    Probe,
    RunCommand,
    RunScript,
    Validate,
    WriteFile,
)
from aquiline.changes.perform import command_of
from aquiline.cli.running import run as aquiline
from aquiline.host.objects import sha256
from tests.agent.making import Site, profile

NEW = "correct-horse-battery"
OLD = "staple-of-old"
SECRETS = (NEW, OLD)
TRACES = [spelling for one in SECRETS for spelling in (one, base64.b64encode(one.encode()).decode()[:-4])]

EDITED = f"key = {NEW}\n".encode()
UNEDITED = f"key = {OLD}\n".encode()
PROBE = Probe(argv=("sh", "-c", "exit 1", NEW))

#: A secret in every place where a change can have one.
CHANGES: tuple[Change, ...] = (
    WriteFile(path="/etc/declared", content=Inline(NEW.encode()), secret=True),
    WriteFile(path="/etc/private", content=Inline(NEW.encode()), mode=0o600),
    WriteFile(path="/etc/opened", content=Inline(b"nothing any more\n"), mode=0o644),
    EditFile(path="/etc/edited", content=Inline(EDITED), edited_sha256=sha256(UNEDITED), secret=True),
    Validate(
        path="/etc/checked", content=Inline(NEW.encode()), argv=("sh", "-c", 'cat "$0"; exit 0', "{}"), secret=True
    ),
    WriteFile(path="/etc/checked", content=Inline(NEW.encode()), secret=True),
    RunCommand(
        argv=("sh", "-c", f"echo {NEW}; cat; echo $TOKEN", NEW), stdin=NEW.encode(), environment={"TOKEN": NEW},
        guard=Probe(argv=("sh", "-c", "exit 0", NEW)), always=True, secret=True,
        undo=CommandUndo(changes=(RunCommand(argv=("sh", "-c", "exit 0", NEW), always=True),)),
    ),
    RunCommand(argv=("sh", "-c", "exit 0", NEW), always=True, secret=True, undo=CommandUndo(itself=True)),
    RunScript(
        language="shell", text=f": {NEW}", arguments={"token": NEW}, environment={"TOKEN": NEW}, always=True,
        secret=True,
    ),
)  # fmt: skip
FAILING = RunCommand(argv=("sh", "-c", f"echo {NEW} >&2; exit 3", NEW), always=True, secret=True)


@pytest.fixture
def secretive(site: Site) -> Site:
    site.with_shell()
    site.write("/etc/private", OLD, 0o600)
    site.write("/etc/opened", OLD, 0o600)
    site.write("/etc/declared", OLD, 0o640)
    site.write("/etc/edited", UNEDITED.decode(), 0o600)
    return site


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    return written(tmp_path / "profile.json", *CHANGES)


def written(path: Path, *changes: Change) -> Path:
    path.write_bytes(msgspec.json.encode(profile(*changes).tree))
    return path


def said(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return all that a command prints, on both streams."""
    aquiline([*arguments, "--root", str(site.root), "--state", str(site.state)])
    captured = capsys.readouterr()
    return captured.out + captured.err


def traces(text: str) -> list[str]:
    return [one for one in TRACES if one in text]


def test_the_search_finds_a_secret_in_clear_and_in_base64() -> None:
    """The tests below would notice."""
    in_record = json.dumps(msgspec.to_builtins(Inline(NEW.encode())))

    assert [NEW, TRACES[1]] == [*traces(f"x{NEW}x"), *traces(in_record)]


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_plan_holds_no_secret(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """Neither new nor old content, arguments, input, environment, probes or undo are in a plan."""
    text = said(secretive, capsys, "plan", str(wanted), *options)

    assert "/etc/declared" in text
    assert [] == traces(text)


def test_a_live_run_and_what_is_asked_of_it_hold_no_secret(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What apply, log, show (with diffs and as JSON), status and undo print holds none."""
    found = [said(secretive, capsys, "apply", str(wanted), "--allow-irreversible", "--json")]
    with secretive.session() as session, session.reading() as journal:
        run = journal.run("last").id
    commands: tuple[tuple[str, ...], ...] = (
        ("log",), ("log", "--json"), ("show",), ("show", "--diff"), ("show", "--json"), ("status",),
        ("status", "--json"), ("verify",), ("verify", "--json"), ("blame", "/etc/declared"),
        ("fsck",), ("fsck", "--json"), ("blame", "/etc/private", "--json"), ("gc", "--purge-secrets", "--dry-run"),
        ("undo", "--dry-run"), ("undo", "--dry-run", "--json"), ("undo",), ("show",),
        ("show", "--diff"), ("show", "--json"), ("redo", run), ("show", "--json"), ("undo", "--json"),
    )  # fmt: skip
    found += [said(secretive, capsys, *command) for command in commands]

    assert OLD == secretive.text("/etc/declared")
    assert [] == [(traces(text), text) for text in found if traces(text)]


def test_drift_of_a_secret_shows_no_content(secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify and blame name what differs, and neither what was there nor what is."""
    said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
    secretive.write("/etc/declared", f"{OLD} and {NEW}", 0o640)
    secretive.write("/etc/private", f"{OLD} and {NEW}", 0o644)
    text = said(secretive, capsys, "verify") + said(secretive, capsys, "verify", "--json")
    text += said(secretive, capsys, "blame", "/etc/private")
    text += said(secretive, capsys, "blame", "/etc/declared", "--json")

    assert "/etc/private (secret): content: 21 bytes then, 39 bytes now; mode: 0600 then, 0644 now" in text
    assert [] == traces(text)


def test_a_command_that_fails_betrays_no_secret(
    secretive: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it printed is not in the error, the log or the journal's notes."""
    failing = written(tmp_path / "failing.json", FAILING)
    text = said(secretive, capsys, "apply", str(failing), "--allow-irreversible")
    text += said(secretive, capsys, "show") + said(secretive, capsys, "show", "--json")

    assert "failed" in text
    assert [] == traces(text)


def test_a_checker_that_fails_betrays_no_secret(
    secretive: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checker that quotes the line it does not like is not quoted, where that line is a secret."""
    quoting = Validate(
        path="/etc/checked", content=Inline(NEW.encode()), secret=True,
        argv=("sh", "-c", 'read x < "$0"; echo "bad: $x"; exit 1', "{}"),
    )  # fmt: skip
    write = WriteFile(path="/etc/checked", content=Inline(NEW.encode()), secret=True)
    failing = written(tmp_path / "failing.json", quoting, write)
    text = said(secretive, capsys, "plan", str(failing)) + said(secretive, capsys, "apply", str(failing))

    assert "/etc/checked is not valid" in text
    assert [] == traces(text)


def test_a_conflict_over_a_secret_shows_no_content(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Undo names what differs, and shows neither side."""
    said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
    secretive.write("/etc/declared", f"{OLD} and {NEW}", 0o640)
    secretive.write("/etc/opened", f"{OLD} and {NEW}", 0o644)
    text = said(secretive, capsys, "undo") + said(secretive, capsys, "undo", "--dry-run", "--json")

    assert "/etc/declared" in text
    assert [] == traces(text)


def test_the_undo_script_is_private_and_its_words_hold_no_secret(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has to hold what it runs, so it is 0700; what it prints, as a list or while it works, holds no secret."""
    said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
    (script,) = (secretive.state / "undo").glob("*.sh")
    printed = "".join(
        subprocess.run(["dash", script, option], check=False, capture_output=True, text=True).stdout
        for option in ("--list", "--dry-run")
    )

    assert 0o700 == script.stat().st_mode & 0o777
    assert "/etc/declared" in printed
    assert [] == traces(printed)


def test_the_forward_script_leaves_secrets_out(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `aquiline script` prints names the steps that hold secrets, and has none."""
    said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
    text = said(secretive, capsys, "script", "last")

    assert [] == traces(text)


def test_descriptions_in_the_journal_hold_no_secret(
    secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Descriptions of steps and of their undo, outputs, notes and causes are safe to send."""
    said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
    said(secretive, capsys, "undo")
    with secretive.session() as session, session.reading() as journal:
        words = [
            text
            for run in journal.runs()
            for record in journal.steps(run.id)
            for text in (
                record.description, record.output, record.note, record.known.undo.description,
                record.known.undo.reason, str(record.known.cause), *record.known.because,
            )
        ]  # fmt: skip

    assert [] == traces("\n".join(words))


def test_the_state_directory_is_nobody_elses(secretive: Site, wanted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every folder is 0700 and every file 0600 (scripts 0700), whatever the umask: only root reads any of it.

    Left out are objects that stand in for others, with the metadata of those: attributes and kept inodes.
    """
    before = os.umask(0)
    try:
        said(secretive, capsys, "apply", str(wanted), "--allow-irreversible")
        said(secretive, capsys, "undo")
        said(secretive, capsys, "freeze", "--reason", "x")
    finally:
        os.umask(before)
    modes = {str(path.relative_to(secretive.state)): path.lstat().st_mode & 0o7777 for path in walked(secretive.state)}

    assert 0o700 == modes.pop(".")
    assert "frozen" in modes
    assert {} == {path: f"{mode:o}" for path, mode in modes.items() if mode & 0o077}


def walked(state: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(state):
        if not re.search(r"/(attributes|links)(/|$)", folder):
            yield Path(folder)
            yield from (Path(folder, name) for name in files)


def test_no_argument_of_a_process_holds_the_text_of_a_script() -> None:
    """The text and arguments of a script reach its process by input or environment, where other users cannot read."""
    scripts = [
        RunScript(language="python", text=f"# {NEW}", arguments=[NEW], always=True),
        RunScript(language="shell", text=f"# {NEW}", arguments=[NEW], always=True),
    ]

    assert [] == traces("\n".join(word for one in scripts for word in command_of(one).argv))
