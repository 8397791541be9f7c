"""Commands run by the real host: when they are over, what they get and what is kept of what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.errors import HostError, NotPossibleHere
from aquiline.host import RealHost
from aquiline.host.protocol import Command, Completed


@pytest.fixture
def host() -> Iterator[RealHost]:
    with RealHost("/") as host:
        yield host


def shell(text: str, *, timeout: float = 20, stdin: bytes = b"") -> Command:
    return Command(("sh", "-c", text), timeout=timeout, stdin=stdin)


def test_output_and_status(host: RealHost) -> None:
    """Both outputs and the exit status come back."""
    assert Completed(3, b"out\n", b"err\n") == host.run(shell("echo out; echo err >&2; exit 3"))


def test_a_signal_is_a_status(host: RealHost) -> None:
    """A command ended by signal n has status 128 + n."""
    assert 137 == host.run(shell("kill -KILL $$")).status


def test_the_environment_is_fixed(host: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of our own environment, umask or directory reaches a command; what the command adds does."""
    monkeypatch.setenv("SECRET", "ours")
    monkeypatch.chdir("/tmp")
    command = Command(("sh", "-c", "umask; pwd; env | grep -v -e ^PWD -e ^SHLVL -e ^_= | sort"), environment={"X": "1"})

    lines = host.run(command).stdout.decode().splitlines()

    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert ["0022", "/", "HOME=/", "LC_ALL=C", path, "X=1"] == lines


def test_input_is_given_whole_and_then_ends(host: RealHost) -> None:
    """More input than a pipe holds arrives whole, and the command sees its end."""
    data = os.urandom(400_000)

    assert b"400000\n" == host.run(Command(("wc", "-c"), stdin=data)).stdout


def test_input_that_nobody_reads_is_no_error(host: RealHost) -> None:
    """A command that ends, or closes its input, without reading it has done nothing wrong."""
    assert Completed(0, b"", b"") == host.run(Command(("true",), stdin=bytes(400_000)))
    assert b"x\n" == host.run(shell("exec <&-; sleep 0.1; echo x", stdin=bytes(400_000))).stdout


def test_no_descriptor_of_ours_is_inherited(host: RealHost) -> None:
    """A command has its standard three descriptors and no other."""
    inherited = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        names = host.run(shell("ls /proc/$$/fd")).stdout.split()
    finally:
        os.close(inherited)

    assert {b"0", b"1", b"2"} == set(names) - {b"10", b"255"}


def test_it_is_over_when_its_main_process_ends(host: RealHost) -> None:
    """A daemon that keeps the output open does not keep us; what was said before the end is kept."""
    began = time.monotonic()
    done = host.run(shell("sleep 30 & echo $!; printf '%070000d' 0"))
    took = time.monotonic() - began
    daemon = int(done.stdout.split(b"\n")[0])
    os.kill(daemon, 9)

    assert took < 5
    assert 70_000 < len(done.stdout)


def test_the_first_and_last_of_much_output_are_kept(host: RealHost) -> None:
    """Of output without end the first and the last 64 KiB are kept, and how much is left out is said."""
    done = host.run(shell("echo first; head -c 3000000 /dev/zero; echo last"))

    assert done.stdout.startswith(b"first\n")
    assert done.stdout.endswith(b"last\n")
    assert b"[%d bytes left out]" % (3_000_011 - 128 * 1024) in done.stdout
    assert len(done.stdout) < 128 * 1024 + 100


def test_time_up_kills_the_whole_group(host: RealHost, tmp_path: Path) -> None:
    """When its time is up, the command and its children are killed, those that ignore SIGTERM too."""
    marker = tmp_path / "alive"
    began = time.monotonic()
    done = host.run(shell(f"trap '' TERM; (trap '' TERM; sleep 2.5; touch {marker}) & sleep 20", timeout=0.2))
    took = time.monotonic() - began
    time.sleep(max(0.0, 2.8 - took))

    assert (True, 137) == (done.timed_out, done.status)
    assert took < 2.5
    assert not marker.exists()


def test_time_up_for_one_that_obeys(host: RealHost) -> None:
    """A command that ends on SIGTERM is not waited for any longer, and what it said is kept."""
    began = time.monotonic()
    done = host.run(shell("echo said; exec sleep 20", timeout=0.2))

    assert Completed(143, b"said\n", b"", timed_out=True) == done
    assert time.monotonic() - began < 1


def test_it_has_a_session_of_its_own(host: RealHost) -> None:
    """No terminal of ours is its own, and no Ctrl-C of ours reaches it."""
    assert b"yes\n" == host.run(shell("test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo yes")).stdout


@pytest.mark.parametrize("program", ["no-such-program-anywhere", "/no/such/program", "/etc/passwd", "/etc"])
def test_a_missing_program_is_not_possible_here(host: RealHost, program: str) -> None:
    """What is not there, or cannot be run, is said to be missing, and names itself."""
    with pytest.raises(NotPossibleHere, match=program):
        host.run(Command((program,)))


def test_a_missing_interpreter_is_not_possible_here(host: RealHost, tmp_path: Path) -> None:
    """A script whose interpreter is missing is no riddle of 'no such file'."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)

    with pytest.raises(NotPossibleHere, match="names an interpreter"):
        host.run(Command((str(script),)))


def test_what_cannot_be_started_is_an_error(host: RealHost, tmp_path: Path) -> None:
    """A program that is no program, an argument with a NUL, and no program at all are clear errors."""
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\0\1\2")
    rubbish.chmod(0o755)

    for argv in ((str(rubbish),), ("echo", "a\0b"), (), ("",)):
        with pytest.raises(HostError):
            host.run(Command(argv))


def test_a_program_may_be_a_link(host: RealHost, tmp_path: Path) -> None:
    """The name of a program may be a link, as /usr/bin/awk is."""
    os.symlink("/bin/echo", tmp_path / "say")

    assert b"hi\n" == host.run(Command((str(tmp_path / "say"), "hi"))).stdout


def test_it_holds_no_directory_while_a_command_runs(host: RealHost) -> None:
    """A command may unmount what we looked at before: we keep no descriptor in it."""
    host.observe("/etc/passwd")
    before = len(os.listdir("/proc/self/fd"))
    host.run(Command(("true",)))

    assert before - 1 >= len(os.listdir("/proc/self/fd"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a root with a static program in it: busybox where there is one, else dash and its libraries."""
    (tmp_path / "bin").mkdir()
    program = shutil.which("dash") or "/bin/sh"
    shutil.copy(program, tmp_path / "bin/sh")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for word in listed.split():
        if word.startswith("/"):
            (tmp_path / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, tmp_path / word[1:])
    return tmp_path


def test_offline_a_command_runs_inside_the_root(image: Path) -> None:
    """Below another root a command is chrooted, and sees that root only."""
    (image / "only-here").write_text("yes")

    with RealHost(str(image)) as host:
        done = host.run(shell("read word < /only-here; echo $word; pwd; test -e /proc/self || echo alone"))

    assert (True, Completed(0, b"yes\n/\nalone\n", b"")) == (host.offline, done)


def test_offline_a_program_of_the_real_root_does_not_count(image: Path) -> None:
    """What the root does not hold cannot be run there, and a link in it leads nowhere outside."""
    os.symlink("/usr/bin/env", image / "bin/env")

    with RealHost(str(image)) as host:
        for program in ("env", "ls"):
            with pytest.raises(NotPossibleHere, match=program):
                host.run(Command((program,)))


def test_offline_units_do_not_react(tmp_path: Path) -> None:
    """Below another root there is nobody to reload, to start or to stop, and that is said."""
    with RealHost(str(tmp_path)) as host:
        with pytest.raises(NotPossibleHere, match="offline: not run"):
            host.units.react("x.service", "reload")
        with pytest.raises(NotPossibleHere, match="offline: not run"):
            host.units.daemon_reload()
        with pytest.raises(NotPossibleHere, match="offline: not run"):
            host.units.set_active("x.service", True)
        with pytest.raises(NotPossibleHere, match="no package manager"):
            host.packages.installed()


#: Says what became of a reaction.
REACTS = """
from aquiline.errors import NotPossibleHere
from aquiline.host import RealHost

try:
    RealHost("/").units.react("x.service", "restart")
except NotPossibleHere as refused:
    print(refused)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a systemd that runs here")
def test_without_systemd_units_do_not_react() -> None:
    """Where systemd is not the service manager, a reaction says so."""
    hidden = 'mount -t tmpfs none /run && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, sys.executable, REACTS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "no systemd is running here" in done.stdout, done.stderr
