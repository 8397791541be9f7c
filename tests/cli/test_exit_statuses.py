"""The exit statuses are a contract: one test for each."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from aquiline.journal.state import StateDirectory
from tests.cli.conftest import WAITING, Host, commands_run, shell, until, write


def test_0_done_or_nothing_to_do(host: Host) -> None:
    """A run that is done is 0, and so is one that has nothing to do."""
    profile = host.profile(write("/etc/motd", "hello\n"))

    assert [0, 0] == [host.run("apply", profile).returncode for _ in range(2)]
    assert "nothing to do\n" == host.run("apply", profile).stdout


def test_1_error(host: Host) -> None:
    """What has no status of its own is 1, said as an error and not as a traceback."""
    found = host.run("plan", "/no/such/profile.json")

    assert 1 == found.returncode
    assert "error: /no/such/profile.json: no such file\n" == found.stderr


def test_2_usage(host: Host) -> None:
    """A command line that makes no sense is 2, and names the help."""
    found = host.run("apply", "x", "--on-failure", "explode")

    assert 2 == found.returncode
    assert "hint: `aquiline apply --help`" in found.stderr


def test_3_something_to_do(host: Host) -> None:
    """With --exit-code a plan with something to do is 3, and one without is 0."""
    profile = host.profile(write("/etc/motd", "hello\n"))

    assert 0 == host.run("plan", profile).returncode
    assert 3 == host.run("plan", profile, "--exit-code").returncode
    host.done("apply", profile)
    assert 0 == host.run("plan", profile, "--exit-code").returncode


def test_10_locked(host: Host) -> None:
    """A host that another process changes is 10, and that process is named."""
    with StateDirectory(host.state).lock("some work"):
        found = host.run("apply", host.profile(write("/etc/motd", "hello\n")))

    assert 10 == found.returncode
    assert f"some work (pid {os.getpid()}" in found.stderr


@pytest.fixture
def killed(host: Host) -> str:
    """A run that was killed inside its second step; its id."""
    profile = host.profile(write("/etc/motd", "hello\n"), shell(WAITING), write("/etc/late", "late\n"))
    process = host.start("apply", profile)
    until(lambda: commands_run(host))
    process.kill()
    process.communicate()
    host.path("/tmp/stop").touch()
    return str(host.answer("log")[0]["id"])


def test_11_interrupted_or_in_doubt(host: Host, killed: str) -> None:
    """An interrupted run is 11 and both ways out are named; so is a step that nothing decides, until somebody does."""
    refused = host.run("apply", host.profile(write("/etc/motd", "hello\n")))
    looked = host.run("recover", "--dry-run")
    doubtful = host.run("recover")
    assumed = host.run("recover", "--assume", "2=done")

    assert [11, 11, 11, 0] == [one.returncode for one in (refused, looked, doubtful, assumed)]
    assert (
        f"error: run {killed} (apply) stopped half way: 1 of 3 steps done\n\n"
        "hint: `aquiline recover` takes it back to how it was; `aquiline recover --finish` completes it\n"
    ) == refused.stderr
    assert "in-doubt: whether it ran, or how far, cannot be told from here" in looked.stdout
    assert "--assume 2=done|not-done" in doubtful.stderr
    assert None is host.text("/etc/motd")


def test_11_finished(host: Host, killed: str) -> None:
    """`recover --finish` does what the run had still to do."""
    found = host.run("recover", "--finish", "--assume", f"{killed}/2=not-done")

    assert (0, f"run {killed}: done\n") == (found.returncode, found.stdout)
    assert "late\n" == host.text("/etc/late")


def test_12_conflict(host: Host) -> None:
    """An object that somebody changed is 12: nothing is changed, both sides are shown, the flags are named."""
    host.write("/etc/motd", "old\n")
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")))
    host.write("/etc/motd", "new\nmine\n")

    found = host.run("undo")

    assert 12 == found.returncode
    assert "new\nmine\n" == host.text("/etc/motd")
    assert f"error: /etc/motd: content changed since run {run} left it\n" in found.stderr
    assert "    +mine\n" in found.stderr
    assert "  decide with --skip or --force /etc/motd" in found.stderr


def test_13_irreversible(host: Host) -> None:
    """A step without undo is refused with 13 before anything is done, unless that is allowed."""
    profile = host.profile(write("/etc/motd", "hello\n"), shell("true", undo=None))

    refused = host.run("apply", profile)

    assert (13, None) == (refused.returncode, host.text("/etc/motd"))
    assert "nobody knows how" in refused.stderr
    assert 0 == host.run("apply", profile, "--allow-irreversible").returncode


def test_14_stale(host: Host) -> None:
    """A saved plan is 14 where the host differs from what it was made for, and where any run came between."""
    plan = str(host.top / "plan")
    profile = host.profile(write("/etc/motd", "hello\n"))
    host.run("plan", profile, "--out", plan)
    host.write("/etc/motd", "somebody was faster\n")
    assert 14 == host.run("apply", plan).returncode
    assert "somebody was faster\n" == host.text("/etc/motd")

    host.path("/etc/motd").unlink()
    assert 0 == host.run("apply", plan).returncode
    assert 14 == host.run("apply", plan).returncode


def test_15_step_failed(host: Host) -> None:
    """A step that fails is 15: what was done before stays, and the way back is named."""
    found = host.run("apply", host.profile(write("/etc/motd", "hello\n"), shell("exit 7"), write("/etc/late", "x")))

    run = host.answer("log")[0]["id"]
    assert 15 == found.returncode
    assert f"run {run}: failed\n`aquiline undo {run}` takes it back\n" == found.stdout
    assert ("hello\n", None) == (host.text("/etc/motd"), host.text("/etc/late"))
    undone = host.run("undo")
    assert (0, None) == (undone.returncode, host.text("/etc/motd"))
    assert "exit 7: it failed, and nothing tells how much of it happened" in undone.stderr


def test_15_component_failed(host: Host) -> None:
    """A component that would fail makes the plan 15, and the run, which does the others."""
    place = host.top / "profile.yaml"
    place.write_text("software: {components: {anything: {changes: [{kind: no_such_kind}]}}}\n")

    assert [15, 15] == [host.run(command, str(place)).returncode for command in ("plan", "apply")]


def test_15_require_coverage(host: Host) -> None:
    """Reduced coverage alone is 0, or 15 before anything is done where coverage is required."""
    profile = host.profile(shell("echo x > /etc/motd"))

    assert 0 == host.run("plan", profile).returncode
    assert 15 == host.run("plan", profile, "--require-coverage").returncode
    assert 15 == host.run("apply", profile, "--require-coverage").returncode
    assert ([], None) == (host.answer("log"), host.text("/etc/motd"))


def test_16_failed_and_undone(host: Host) -> None:
    """With --on-failure undo a failed run is taken back and 16."""
    meddles = shell("echo meddled > /etc/late", undo="echo -n > /etc/late")
    profile = host.profile(write("/etc/motd", "hello\n"), meddles, write("/etc/late", "late\n"))

    found = host.run("apply", profile, "--on-failure", "undo")

    assert (16, None, "") == (found.returncode, host.text("/etc/motd"), host.text("/etc/late"))
    assert "failed and undone by run " in found.stdout


def test_17_undo_incomplete(host: Host) -> None:
    """An undo that leaves a step which has none is 17 and names it; the rest is taken back."""
    profile = host.profile(write("/etc/motd", "hello\n"), shell("true", undo=None))
    host.run("apply", profile, "--allow-irreversible")

    dry, found = host.run("undo", "--dry-run"), host.run("undo")

    assert [17, 17] == [dry.returncode, found.returncode]
    assert "nobody knows how" in dry.stdout
    assert "nobody knows how" in found.stderr
    assert None is host.text("/etc/motd")


def test_18_applied_not_confirmed(host: Host) -> None:
    """A run that waits for confirmation is 18; no other run starts; confirming keeps it."""
    found = host.run("apply", host.profile(write("/etc/motd", "hello\n")), "--confirm-within", "10m")
    other = host.run("apply", host.profile(write("/etc/motd", "other\n")))
    confirmed = host.run("confirm")

    assert [18, 21, 0] == [found.returncode, other.returncode, confirmed.returncode]
    assert "hello\n" == host.text("/etc/motd")


def test_19_reverted(host: Host) -> None:
    """Who confirms too late gets 19: the run has been taken back."""
    run = host.done("apply", host.profile(write("/etc/motd", "hello\n")), "--confirm-within", "1s")
    with StateDirectory(host.state).lock("to keep the supervisor waiting"):
        time.sleep(1.2)
    found = host.run("confirm")

    assert 19 == found.returncode
    until(lambda: host.text("/etc/motd") is None)
    assert run in Path(host.state, "deadline.log").read_text() + found.stderr


def test_20_failed_and_undo_failed(host: Host) -> None:
    """Where taking a failed run back fails too it is 20, and the script is named that does it by hand."""
    profile = host.profile(shell("true", undo="exit 9"), shell("exit 7"))

    found = host.run("apply", profile, "--on-failure", "undo")

    assert 20 == found.returncode
    assert "--undo` prints the way back by hand" in found.stdout


def test_21_frozen(host: Host) -> None:
    """A frozen host is 21, and who froze it and why is said; thawed, it works."""
    host.run("freeze", "--reason", "disk swap, ask Ada")
    profile = host.profile(write("/etc/motd", "hello\n"))

    found = host.run("apply", profile)

    assert 21 == found.returncode
    assert "disk swap, ask Ada" in found.stderr
    assert [0, 0] == [host.run("thaw").returncode, host.run("apply", profile).returncode]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_130_interrupted(host: Host, number: signal.Signals) -> None:
    """Ctrl-C lets the step under way end, starts no other, and leaves a run that can be taken back."""
    host.write("/etc/motd", "old\n")
    process = host.start("apply", host.profile(write("/etc/motd", "new\n"), shell(WAITING), write("/etc/late", "x")))
    until(lambda: commands_run(host))
    process.send_signal(number)
    time.sleep(0.2)
    host.path("/tmp/stop").touch()
    out, err = process.communicate(timeout=30)

    assert (130, None) == (process.returncode, host.text("/etc/late"))
    assert ": interrupted\n" in out
    assert "stopping after the steps that are under way" in err
    assert 0 == host.run("undo").returncode
    assert "old\n" == host.text("/etc/motd")


def test_130_second_time_kills_the_command(host: Host) -> None:
    """A second Ctrl-C kills the command that is running, and the run still ends as it should."""
    process = host.start("apply", host.profile(write("/etc/motd", "new\n"), shell(WAITING)))
    until(lambda: commands_run(host))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert 130 == process.returncode
    assert "failed" == host.answer("log")[0]["status"]
    assert not Path(f"/proc/{host.text('/tmp/pid')}".strip()).exists()


def test_130_undo(host: Host) -> None:
    """An undo that is interrupted stops between two steps, and undoing the run again goes on from there."""
    run = host.done("apply", host.profile(write("/etc/motd", "new\n"), shell("true", undo=WAITING)))
    process = host.start("undo", run)
    until(lambda: commands_run(host))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    host.path("/tmp/stop").touch()
    _, err = process.communicate(timeout=30)

    assert (130, "new\n") == (process.returncode, host.text("/etc/motd"))
    assert f"hint: `aquiline undo {run}` goes on" in err
    assert (0, None) == (host.run("undo", run).returncode, host.text("/etc/motd"))
