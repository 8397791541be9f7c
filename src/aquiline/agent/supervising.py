"""The process that takes a run back when nobody confirms it in time (D22).

Theory of operation

1. It is started before the run opens anything: forked twice, in a session of its own, so that neither the death of the
   command that started it nor the end of the login session ends it, and it has every module that it will need.
2. Told which run to watch, it answers, and only then does the run take its first step.
3. It looks every few seconds: a run that was confirmed or taken back ends it; while the run waits it writes down how
   much of the deadline is over, so that a reboot does not lose that; when the time is up it takes the run back.
4. Where that fails (the host is locked, the disk is full) it says so in ``STATE/deadline.log`` and tries again.

It is not the only one that may fire a deadline: a timer of systemd, the boot unit and the next command do so too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from aquiline.agent.preloading import preload
from aquiline.agent.recovering import revert_expired, waiting
from aquiline.agent.session import Session
from aquiline.errors import AquilineError
from aquiline.execution import deadline
from aquiline.journal.store import Journal

#: Seconds between two ticks.
TICK = 5.0
#: Seconds until it tries again what failed.
PATIENCE = 5.0
#: Seconds in which it must answer.
_ANSWER = 30.0
_LOG = "deadline.log"


class Supervisor:
    """The starting side: a process that waits to be told what to watch."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def watch(self, run: str) -> None:
        """Return once it watches `run`; raises `AquilineError` where it does not."""
        self._channel.settimeout(_ANSWER)
        try:
            self._channel.sendall(run.encode())
            answer = self._channel.recv(16)
        except OSError:
            answer = b""
        self.dismiss()
        if answer != b"watching":
            raise AquilineError(
                "the supervisor that would take the run back did not start, so the run did not either",
                hint=f"its log is {_LOG} in the state directory",
            )

    def dismiss(self) -> None:
        """Let go of it: where it has nothing to watch, it ends."""
        self._channel.close()


def start(root: str, state: str | None) -> Supervisor:
    """Start a supervisor for the host below `root`. Nothing of that host may be open yet, and no thread may run."""
    preload(later_stages=False)
    # It will not stay in this directory.
    root, state = str(Path(root).absolute()), str(Path(state).absolute()) if state is not None else None
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _detach(ours, theirs, root, state)
    theirs.close()
    os.waitpid(child, 0)
    return Supervisor(ours)


def _detach(ours: socket.socket, theirs: socket.socket, root: str, state: str | None) -> None:
    """Become a process that belongs to nobody; does not return."""
    try:
        ours.close()
        # Whatever the starting process holds (a lock, a pipe that somebody reads to its end) is not for us to hold.
        _close_all_but(theirs)
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        os.chdir("/")
        with Session(root, state) as session:
            _redirect(session.state.path)
            _supervise(session, theirs)
    except BaseException as error:  # noqa: BLE001  # of a forked process nothing may run on but its own code
        with contextlib.suppress(OSError):
            _log(f"gave up: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _close_all_but(channel: socket.socket) -> None:
    with contextlib.suppress(FileNotFoundError):  # no /proc, as in a bare chroot: then they stay open
        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if number > 2 and number != channel.fileno():
                with contextlib.suppress(OSError):
                    os.close(number)


def _redirect(state: Path) -> None:
    """Leave the terminal of whoever started us: what is said goes to the log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(state / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, source in enumerate((nothing, log, log)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(log)


def _log(text: str) -> None:
    os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n".encode("utf-8", "backslashreplace"))


def _supervise(session: Session, channel: socket.socket) -> None:
    run = channel.recv(64).decode()
    if not run:
        return  # the run did not begin after all
    if run not in waiting(session):
        raise AquilineError(f"run {run} does not wait for confirmation")
    channel.sendall(b"watching")
    channel.close()
    _log(f"watching run {run}")
    while True:
        try:
            left = waiting(session).get(run)
            if left is None:
                _log(f"run {run} is settled")
                return
            if left <= 0:
                for one in revert_expired(session):
                    _log(f"run {one.run} was not confirmed in time: taken back" + _skipped(one.skipped))
                continue
            time.sleep(min(left, TICK))
            _tick(session, run)
        except (AquilineError, OSError) as error:
            _log(f"run {run} cannot be taken back yet: {error}")
            time.sleep(PATIENCE)


def _skipped(paths: tuple[str, ...]) -> str:
    return f"; left as somebody changed them since: {', '.join(paths)}" if paths else ""


def _tick(session: Session, run: str) -> None:
    with Journal.open(session.state) as journal:
        if journal.run(run).awaits_confirmation:
            deadline.tick(journal, run)


def start_timer(run: str, seconds: float, root: str, state: str) -> bool:
    """Ask systemd to fire the deadline too, where it runs this system; return whether it will.

    A failure is no error: the supervisor is what the run relies upon.
    """
    program = shutil.which("systemd-run")
    if Path(root).resolve() != Path("/") or not Path("/run/systemd/system").is_dir() or program is None:
        return False
    # as this process: who was told to leave no bytecode beside the code leaves none
    interpreter = [sys.executable, "-P", *(["-B"] if sys.dont_write_bytecode else [])]
    aquiline = [*interpreter, "-m", "aquiline.cli", "--state", state, "confirm", "--expired"]
    timer = [program, "--quiet", "--collect", f"--unit=aquiline-deadline-{run}", f"--on-active={seconds + 1:.0f}s"]
    started = subprocess.run([*timer, *aquiline], check=False, capture_output=True, timeout=30)
    return started.returncode == 0
