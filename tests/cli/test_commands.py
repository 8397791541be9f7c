"""What the commands say, to people and to machines."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aquiline.agent.exporting import read_export
from aquiline.changes.kinds import MakeDirectory
from tests.cli.conftest import PROGRAM, WAITING, Host, commands_run, shell, until, write


def test_plan_as_json(host: Host) -> None:
    """`plan --json` has at least digest, components, coverage and steps with what the contract names."""
    found = host.answer("plan", host.profile(write("/etc/motd", "hello\n")))

    assert {"anything": "planned"} == found["components"]
    assert {"digest", "coverage"} <= set(found)
    assert {"component", "kind", "description", "certain", "undo"} <= set(found["steps"][0])


def test_plan_leaves_no_trace(host: Host) -> None:
    """A dry-run makes nothing, not even the state directory."""
    host.run("plan", host.profile(write("/etc/motd", "hello\n")))

    assert (False, None) == (host.state.exists(), host.text("/etc/motd"))


def test_saved_plan_is_private(host: Host) -> None:
    """A saved plan is its owner's alone, also where it replaces a file that everybody could read, or a link."""
    plan, elsewhere = host.top / "plan", host.top / "elsewhere"
    elsewhere.write_text("mine\n")
    plan.symlink_to(elsewhere)

    host.run("plan", host.profile(write("/etc/motd", "hello\n")), "--out", str(plan))

    assert (0o600, "mine\n") == (stat.S_IMODE(plan.lstat().st_mode), elsewhere.read_text())


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_saved_plan_is_damaged(host: Host, damage: str) -> None:
    """A saved plan that was edited or cut short is refused, and nothing is done."""
    plan = host.top / "plan"
    host.run("plan", host.profile(write("/etc/motd", "hello\n")), "--out", str(plan))
    text = plan.read_text()
    plan.write_text(text.replace("/etc/motd", "/etc/moto") if damage == "flipped" else text[:-40])

    found = host.run("apply", str(plan))

    assert (1, None) == (found.returncode, host.text("/etc/moto"))
    assert "the saved plan is damaged" in found.stderr


def test_steps_are_said_as_they_happen(host: Host) -> None:
    """Steps go to stderr, what became of the run to stdout, with the command that takes it back."""
    found = host.run("apply", host.profile(write("/etc/motd", "hello\n")))

    run = host.answer("log")[0]["id"]
    assert "    1 done    anything: write /etc/motd (mode 0644, root:root)\n" == found.stderr
    assert f"run {run}: done\n`aquiline undo {run}` takes it back\n" == found.stdout


@pytest.mark.parametrize("also_does_something", [False, True])
def test_apply_says_what_it_left_out(host: Host, also_does_something: bool) -> None:
    """A component that failed and one that is not installed are named, with why, whether there was a run or not."""
    wanted = json.loads(Path(host.profile(write("/etc/motd", "hello\n"))).read_text())
    components = wanted["software"]["components"]
    good = components if also_does_something else {}
    wanted["software"]["components"] = {**good, "filecopy": {"services": 5}, "unheard": {}}
    (host.top / "profile.json").write_text(json.dumps(wanted))

    found = host.run("apply", str(host.top / "profile.json"))

    assert 15 == found.returncode
    assert "  filecopy: /software/components/filecopy/services: found int 5" in found.stdout
    assert "  unheard: no such component is installed here" in found.stdout


def test_undo_says_what_goes_and_what_stays(host: Host) -> None:
    """Undoing a run in the middle says in words which run goes and which stays."""
    first = host.done("apply", host.profile(write("/etc/one", "1\n")), "--change-id", "c1")
    second = host.done("apply", host.profile(write("/etc/two", "2\n")), "--change-id", "c2")

    shown = host.run("undo", first, "--dry-run").stdout

    assert shown.startswith(f"takes back:\n  run {first} of ")
    assert ", change c1: 1 step\nstays, though it came later:\n" in shown
    assert f"  run {second} of " in shown
    assert "1\n" == host.text("/etc/one")


def test_undo_does_not_list_what_was_undone_already(host: Host) -> None:
    """What stays, though it came later, is what stands: a run that was taken back does not."""
    first = host.done("apply", host.profile(write("/etc/one", "1\n")))
    second = host.done("apply", host.profile(write("/etc/two", "2\n")))
    assert second in host.run("undo", first, "--dry-run").stdout
    host.done("undo", second)

    assert "came later" not in host.run("undo", first, "--dry-run").stdout


def test_a_user_without_an_account(host: Host) -> None:
    """Who has a number and no name is called by the number: that is no reason to stop."""
    anonymous = {"LOGNAME": "", "USER": "", "LNAME": "", "USERNAME": "", "SUDO_USER": ""}
    code = (
        "import os, pwd, sys\n"
        "def none(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = none\n"
        "from aquiline.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", str(host.root), "apply", host.profile(write("/etc/one", "1\n"))],
        env={**host.environment(), **anonymous}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (0, "0") == (done.returncode, host.answer("log")[0]["user"]), done.stderr


def test_undo_of_several(host: Host) -> None:
    """--last takes back the last runs that still stand, --to those that began after a date."""
    for name in ("one", "two", "three"):
        host.done("apply", host.profile(write(f"/etc/{name}", f"{name}\n")))

    assert 0 == host.run("undo", "--last", "2").returncode
    assert ["one\n", None, None] == [host.text(f"/etc/{name}") for name in ("one", "two", "three")]
    assert 0 == host.run("undo", "--to", "2020-01-01").returncode
    assert None is host.text("/etc/one")
    assert "nothing to take back\n" == host.run("undo", "--last", "1").stdout


def test_undo_twice(host: Host) -> None:
    """Undoing what is undone is an error that names redo; redo brings it again, and can be undone."""
    run = host.done("apply", host.profile(write("/etc/motd", "hello\n")))
    host.run("undo")

    again = host.run("undo", run)

    assert 2 == again.returncode
    redone = host.run("redo", run)
    assert (0, "hello\n") == (redone.returncode, host.text("/etc/motd"))
    assert 0 == host.run("undo", host.answer("log")[0]["id"]).returncode
    assert None is host.text("/etc/motd")


def test_merge_is_shown_before_it_is_written(host: Host) -> None:
    """With --merge the later edit stays, what the run put in goes, and the result is shown first."""
    lines = "".join(f"line {number}\n" for number in range(12))
    host.write("/etc/hosts", lines)
    host.done("apply", host.profile(write("/etc/hosts", "ours\n" + lines)))
    host.write("/etc/hosts", "ours\n" + lines + "theirs\n")

    found = host.run("undo", "--merge", "/etc/hosts")

    assert (0, lines + "theirs\n") == (found.returncode, host.text("/etc/hosts"))
    assert "merged /etc/hosts:\n" in found.stderr
    assert found.stderr.index("  -ours\n") < found.stderr.index("1 done")


def test_skip_is_heeded_without_conflict(host: Host) -> None:
    """--skip leaves a path as it is, in conflict or not, and with it the directory that the run made for it."""
    directory = MakeDirectory(path="/etc/site.d")
    host.done("apply", host.profile(directory, write("/etc/site.d/a", "a\n"), write("/etc/motd", "hello\n")))

    found = host.run("undo", "--skip", "/etc/site.d/a")

    assert [0, "a\n", None] == [found.returncode, host.text("/etc/site.d/a"), host.text("/etc/motd")]
    assert "skipped: /etc/site.d/a\n" in found.stderr


def test_choice_for_a_strange_path(host: Host) -> None:
    """A choice for a path that no step touched is refused: it was meant for another one."""
    host.done("apply", host.profile(write("/etc/motd", "hello\n")))

    found = host.run("undo", "--skip", "/etc/modt")

    assert [2, "hello\n"] == [found.returncode, host.text("/etc/motd")]
    assert "error: no step that would be taken back touched /etc/modt\n" in found.stderr


def test_recover_looks_while_a_run_is_under_way(host: Host) -> None:
    """A run that is under way is not taken for an interrupted one."""
    process = host.start("apply", host.profile(shell(WAITING)))
    until(lambda: commands_run(host))

    found = host.run("recover", "--dry-run")

    host.path("/tmp/stop").touch()
    process.communicate()
    assert 10 == found.returncode
    assert f"error: apply (pid {process.pid}, user " in found.stderr


def test_secrets_stay_home(host: Host) -> None:
    """A secret is in no text and no JSON of any command, unless show is asked for it."""
    secret, newer, newest = "correct horse battery", "staple 17", "third 42"
    host.write("/etc/password", f"{secret}\n", mode=0o600)
    profile = host.profile(write("/etc/password", f"{newer}\n", mode=0o600))
    texts = [host.run("plan", profile), host.run("--json", "plan", profile), host.run("apply", profile)]
    texts += [host.run("show", "--diff"), host.run("--json", "show"), host.run("undo", "--dry-run")]
    host.write("/etc/password", f"{newest}\n", mode=0o600)
    texts += [host.run("undo"), host.run("undo", "--force", "/etc/password")]

    said = "".join(one.stdout + one.stderr for one in texts)

    assert [] == [one for one in (secret, newer, newest) if one in said]
    # JSON holds content in base64.
    assert '"redacted": [\n    1\n  ]' in texts[4].stdout
    assert '"data"' not in texts[4].stdout
    assert '"data"' in host.run("--json", "show", "last~1", "--with-secrets").stdout


def test_show_as_json_is_complete(host: Host) -> None:
    """What `show --json` prints reads back as the records of the run, undo included."""
    host.write("/etc/motd", "old\n")
    run = host.done("apply", host.profile(write("/etc/motd", "new\n"), shell("true")))

    found = read_export(host.run("--json", "show", run).stdout)

    assert (run, str(host.root), str(host.state)) == (found.run.id, found.root, found.state)
    assert ["exact", "command"] == [one.undo.class_ for one in found.steps]
    assert ["done", "done"] == [one.status for one in found.steps]
    assert ["/etc/motd"] == [at.path for at in found.steps[0].observed]


def test_show_compares_effects(host: Host) -> None:
    """Show says that the effect was the predicted one, or at which step it was not."""
    host.run("apply", host.profile(write("/etc/motd", "new\n")))
    assert "stage 1: the actual effect is the predicted one\n" in host.run("show").stdout

    host.run("apply", host.profile(write("/etc/motd", "newer\n"), shell("exit 3"), write("/etc/late", "x\n")))
    assert "not as predicted: step 2, 3\n" in host.run("show").stdout


def test_script_is_what_is_on_disk(host: Host) -> None:
    """`script --undo` prints the exact bytes that are on disk, and they take the run back."""
    host.write("/etc/motd", "old\n")
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")))

    text = host.run("script", run, "--undo").stdout

    assert Path(host.state, "undo", f"{run}.sh").read_text() == text
    subprocess.run(["sh", str(host.state / "undo" / f"{run}.sh")], check=True, capture_output=True)
    assert "old\n" == host.text("/etc/motd")


def test_forward_script(host: Host) -> None:
    """`script` prints what does the run again."""
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")))

    text = host.run("script", run).stdout

    assert text.startswith(f"#!/bin/sh\n# Does run {run} of aquiline again.\n")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_errors_as_json(host: Host) -> None:
    """With --json, before or after the command, an error is besides an object where the answer would have been."""
    expected = {"error": "no run 'last'", "hint": "`aquiline log` lists them", "exit_status": 2}

    before, after = host.run("--json", "show", "zz"), host.run("show", "zz", "--json")

    assert before.stdout == after.stdout
    assert set(expected) == set(json.loads(before.stdout))
    assert 2 == json.loads(before.stdout)["exit_status"] == before.returncode
    assert before.stderr.startswith("error: no run 'zz' in ")


def test_misspelt_command(host: Host) -> None:
    """A misspelt command is a usage error that names the nearest one."""
    assert "error: there is no command 'aply'\n\nhint: did you mean `aquiline apply`?\n" == host.run("aply").stderr


@pytest.mark.parametrize("value", ["10", "0m", "soon"])
def test_durations(host: Host, value: str) -> None:
    """A duration has a unit; what has none is refused with examples."""
    found = host.run("apply", "x", "--confirm-within", value)

    assert 2 == found.returncode
    assert f"{value!r} is no duration: expected 90s, 10m, 2h or 1d" in found.stderr


def test_dates(host: Host) -> None:
    """What is no ISO 8601 date is refused with examples."""
    found = host.run("undo", "--to", "yesterday")

    assert 2 == found.returncode
    assert "'yesterday' is no ISO 8601 date: expected 2026-03-01" in found.stderr


def test_reader_goes_away(host: Host) -> None:
    """A reader that has had enough ends the command quietly."""
    host.run("apply", host.profile(*(write(f"/etc/{number}", "x\n") for number in range(300))))
    command = [*PROGRAM, "--root", str(host.root), "show", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert b"" == process.stderr.read()
    process.stderr.close()
    process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_state_is_somebody_elses(host: Host) -> None:
    """A state directory that belongs to somebody else is a clear error with a hint."""
    host.state.mkdir(parents=True)
    os.chown(host.state, 1234, 1234)

    found = host.run("apply", host.profile(write("/etc/motd", "hello\n")))

    assert 1 == found.returncode
    assert "the state directory belongs to user 1234, expected 0\n\nhint: " in found.stderr


def test_status(host: Host) -> None:
    """Status says what is live, what waits and how far back undo reaches."""
    run = host.done("apply", host.profile(write("/etc/motd", "x\n")), "--change-id", "c7", "--confirm-within", "10m")

    found = host.run("status").stdout

    assert f"by run {run}\nchanges:       c7\n" in found
    assert f"waits:         run {run}, " in found
    assert f"undo reaches:  1 run, to {run} of " in found
    host.run("confirm")


def test_log(host: Host) -> None:
    """Log lists the newest first and says what was taken back by what."""
    first = host.done("apply", host.profile(write("/etc/motd", "x\n")), "--change-id", "c7")
    undo = host.done("undo")

    lines = host.run("log").stdout.splitlines()

    assert ["run", undo, first] == [line.split()[0] for line in lines]
    assert lines[2].endswith(f"brings c7; taken back by {undo}")
    assert [undo] == [one["id"] for one in host.answer("log", "--last", "1")]
