"""Confirm or revert: whatever becomes of the process that applied, the run is taken back in time or kept (D22)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aquiline.agent import recovering
from aquiline.execution.deadline import Uptime
from tests.agent.making import profile
from tests.cli.conftest import PROGRAM, WAITING, Host, commands_run, shell, until, write


def log_of(host: Host) -> str:
    place = Path(host.state, "deadline.log")
    return place.read_text() if place.exists() else ""


def supervisors(host: Host) -> list[int]:
    """Return the processes, other than this one, that have this host's deadline log open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd" / "2") == f"{host.state}/deadline.log":
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_time_is_up(host: Host) -> None:
    """A run that nobody confirms is taken back when its time is up, by a process that outlived the command."""
    host.write("/etc/motd", "old\n")
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")), "--confirm-within", "1s")

    until(lambda: host.text("/etc/motd") == "old\n")

    until(lambda: "is settled" in log_of(host))
    assert f"run {run} was not confirmed in time: taken back" in log_of(host)
    assert ["undo", "apply"] == [one["kind"] for one in host.answer("log")]
    until(lambda: not supervisors(host))


def test_time_is_up_below_a_relative_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that takes it back finds a root and a state directory that were named from where the person stood."""
    monkeypatch.chdir(host.root)
    host.write("/etc/motd", "old\n")
    wanted = host.profile(write("/etc/motd", "new\n"))
    apply = [*PROGRAM, "--root", ".", "--state", "there", "apply", wanted, "--confirm-within", "1s"]

    assert 18 == subprocess.run(apply, env=host.environment(), capture_output=True, check=False).returncode

    until(lambda: host.text("/etc/motd") == "old\n")
    until(lambda: "is settled" in Path(host.root, "there", "deadline.log").read_text())


def test_apply_is_killed(host: Host) -> None:
    """Kill -9 of the command does not stop the supervisor: the interrupted run is taken back in time."""
    host.write("/etc/motd", "old\n")
    waiting = shell(WAITING, idempotent=True)
    process = host.start("apply", host.profile(write("/etc/motd", "new\n"), waiting), "--confirm-within", "2s")
    until(lambda: commands_run(host))
    process.kill()
    process.communicate()
    host.path("/tmp/stop").touch()

    until(lambda: host.text("/etc/motd") == "old\n")

    until(lambda: "is settled" in log_of(host))
    assert [] == host.answer("status").get("open_runs", [])


def test_confirmed_in_time(host: Host) -> None:
    """A run that is confirmed stays, and the supervisor ends."""
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")), "--confirm-within", "10m")

    found = host.run("confirm", run)

    assert (0, f"run {run}: confirmed\n`aquiline undo {run}` takes it back\n") == (found.returncode, found.stdout)
    until(lambda: not supervisors(host))
    assert "new\n" == host.text("/etc/motd")


def test_cancelled(host: Host) -> None:
    """Undoing a run that waits takes it back at once, and nothing is taken back twice."""
    host.write("/etc/motd", "old\n")
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")), "--confirm-within", "10m")

    assert 0 == host.run("undo", run).returncode

    assert "old\n" == host.text("/etc/motd")
    assert [] == host.answer("status").get("waiting", [])
    until(lambda: not supervisors(host))
    assert ["undo", "apply"] == [one["kind"] for one in host.answer("log")]


def waiting_run(host: Host, seconds: float) -> str:
    """Apply a run that waits for confirmation, with no supervisor to watch it; returns its id."""
    with host.importing(), host.session() as session:
        from aquiline.agent.applying import apply  # noqa: PLC0415

        return apply(session, profile(write("/etc/motd", "new\n")), confirm_within=seconds).run


def test_reboot(host: Host) -> None:
    """Time goes on being counted after a reboot: what was over before it, and what the machine is up since."""
    waiting_run(host, 600.0)
    with host.session() as session:

        def rebooted(seconds: float) -> Uptime:
            return Uptime("another boot", seconds)

        assert [] == recovering.revert_expired(session, now=lambda: rebooted(590.0))
        assert "new\n" == host.text("/etc/motd")
        assert 1 == len(recovering.revert_expired(session, now=lambda: rebooted(601.0)))
    assert None is host.text("/etc/motd")


def test_boot_unit(host: Host) -> None:
    """`confirm --expired`, which the boot unit runs, takes back what is over time and leaves the rest."""
    waiting_run(host, 600.0)
    assert (0, "") == (host.run("confirm", "--expired").returncode, host.run("confirm", "--expired").stdout)
    host.run("confirm")
    run = waiting_run_over(host)

    found = host.run("confirm", "--expired")

    assert (19, f"run {run} was not confirmed in time: it has been taken back\n") == (found.returncode, found.stdout)


def waiting_run_over(host: Host) -> str:
    with host.importing(), host.session() as session:
        from aquiline.agent.applying import apply  # noqa: PLC0415

        return apply(session, profile(write("/etc/other", "new\n")), confirm_within=0.001).run


def test_any_command_fires_it(host: Host) -> None:
    """A command that changes the host first takes back what is over time, and says so."""
    run = waiting_run_over(host)

    found = host.run("apply", host.profile(write("/etc/motd", "hello\n")))

    assert 0 == found.returncode
    assert f"run {run} was not confirmed in time: it has been taken back" in found.stderr
    assert (None, "hello\n") == (host.text("/etc/other"), host.text("/etc/motd"))


def test_too_late(host: Host) -> None:
    """Who confirms too late is told that the run has been taken back: 19."""
    run = waiting_run_over(host)

    assert [19, None] == [host.run("confirm", run).returncode, host.text("/etc/other")]


def test_too_late_by_far(host: Host) -> None:
    """Who confirms after the run was taken back by itself is told so too: 19, until something else is applied."""
    run = waiting_run_over(host)
    host.run("confirm", "--expired")

    found = [host.run("confirm"), host.run("confirm", run)]

    said = f"run {run} was not confirmed in time: it has been taken back\n"
    assert [(19, said), (19, said)] == [(one.returncode, one.stderr) for one in found]
    host.run("apply", host.profile(write("/etc/motd", "hello\n")))
    assert 2 == host.run("confirm").returncode


def test_revert_is_interrupted(host: Host) -> None:
    """A crash inside the revert is gone on from by whoever comes next."""
    run = waiting_run_over(host)
    with host.session() as session, session.changing("test") as journal:
        # What a revert that was killed right after it began leaves behind.
        journal.begin_run(session.header("undo", undoes=(run,)))

    found = host.run("confirm", "--expired")

    assert [19, None] == [found.returncode, host.text("/etc/other")]
    assert [] == host.answer("status").get("open_runs", [])


def test_edited_since(host: Host) -> None:
    """What somebody edited since is left as it is, named, and the rest is taken back: nobody is there to choose."""
    with host.importing(), host.session() as session:
        from aquiline.agent.applying import apply  # noqa: PLC0415

        changes = (write("/etc/motd", "new\n"), write("/etc/other", "new\n"))
        apply(session, profile(*changes), confirm_within=0.001)
    host.write("/etc/motd", "mine\n")

    found = host.run("confirm", "--expired")

    assert 19 == found.returncode
    assert "left as somebody changed it since: /etc/motd\n" in found.stdout
    assert ("mine\n", None) == (host.text("/etc/motd"), host.text("/etc/other"))


def test_nothing_is_imported_while_it_runs(host: Host) -> None:
    """All code that a run needs is there before step 1: the run may replace the program itself (D16)."""
    program = (
        "import sys\n"
        "from aquiline.agent.preloading import preload\n"
        "from aquiline.execution.executor import Executor\n"
        "from aquiline.cli import main\n"
        "before, execute = set(), Executor.execute\n"
        "def watched(self, *rest):\n"
        "    before.update(sys.modules)\n"
        "    try:\n"
        "        return execute(self, *rest)\n"
        "    finally:\n"
        "        print('new:', sorted(set(sys.modules) - before))\n"
        "Executor.execute = watched\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["--root", str(host.root), "apply", host.profile(write("/etc/motd", "x\n"), shell("true"))]
    import subprocess  # noqa: PLC0415

    found = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, env=host.environment()
    )

    assert "new: []" in found.stdout


def test_the_session_ends(host: Host) -> None:
    """The supervisor has a session of its own: the end of a login does not end it."""
    host.done("apply", host.profile(write("/etc/motd", "new\n")), "--confirm-within", "30s")
    (supervisor,) = supervisors(host)

    assert os.getsid(supervisor) not in (os.getsid(0), supervisor)
    host.run("confirm")
    until(lambda: not supervisors(host), 15.0)


def test_nothing_is_brought_while_a_run_waits(host: Host) -> None:
    """While a run waits for confirmation apply and redo are refused and name it; undo is the way out."""
    first = host.done("apply", host.profile(write("/etc/motd", "first\n")))
    host.done("undo", first)
    waiting = host.done("apply", host.profile(write("/etc/issue", "second\n")), "--confirm-within", "1h")

    found = host.run("redo", first)

    assert (21, f"error: run {waiting} waits for confirmation") == (found.returncode, found.stderr.splitlines()[0])
    assert 0 == host.run("undo", waiting).returncode
    assert 0 == host.run("redo", first).returncode


def test_a_freeze_by_policy_holds_undo_too(host: Host) -> None:
    """The policy's freeze refuses undo and redo, as one by hand does."""
    run = host.done("apply", host.profile(write("/etc/motd", "new\n")))
    host.write("/etc/aquiline/policy.toml", 'freeze = "ask Ada"\n')

    assert [21, 21] == [host.run("undo", run).returncode, host.run("redo", run).returncode]
