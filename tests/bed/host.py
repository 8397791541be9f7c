"""Hosts that can be thrown away: an overlay over a base tree, a network of their own, systemd as PID 1.

`Bed` makes them, for one test process; `BedHost` is one. ::

    with Bed() as bed:
        host = bed.host("web01")
        host.boot()
        host.run(["systemctl", "stop", "cron"])
        before = host.snapshot()

What dies here dies at any instant, but writes that were not synced are not lost: the page cache survives.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Self

from .base import DEBIAN, Missing, Recipe, base, run_or_miss
from .checkout import PROGRAM, PYTHON, installed
from .slot import Slot, hierarchies, kill_cgroup, remove_cgroup, remove_network
from .snapshot import HostSnapshot, take

#: Nothing of the tests' own environment reaches a host.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
#: Puts itself into the cgroups before `--`, then becomes the command behind it.
INTO_CGROUPS = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
#: systemctl reboot ends systemd-nspawn with this status, poweroff with 0.
REBOOTED = 133


class CommandFailed(AssertionError):
    """A command in a host ended with another status than 0."""

    def __init__(self, host: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{host}: {done.args}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        self.done = done


class BootFailed(AssertionError):
    """A host did not come up, or not down, in time; carries the end of its console."""


class BedProcess:
    """A command that runs in a host."""

    def __init__(self, popen: subprocess.Popen[str], group: Path) -> None:
        self.popen = popen
        self._group = group

    def kill(self) -> None:
        """Kill -9 the command and everything it started that did not leave its cgroup, all at once."""
        kill_cgroup(self._group)
        self.popen.wait()

    def communicate(self, stdin: str | None = None, timeout: float = 60) -> tuple[str, str]:
        """Return all it prints on stdout and stderr, once it ended; kill it when that takes `timeout` seconds."""
        try:
            return self.popen.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close(self) -> None:
        """Forget what nobody read of it; it has ended."""
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        self.popen.wait()


class BedHost:
    """One host, made by `Bed.host`: not booted at first."""

    def __init__(self, slot: Slot, index: int, name: str, lower: Path) -> None:
        self.name = name
        self.id = f"{slot.name}-{index}"
        self.address = f"10.77.{slot.number}.{9 + index}"
        self.directory = slot.directory / str(index)
        #: The host's whole tree, seen from outside; readable and writable while it runs, and after.
        self.root = self.directory / "root"
        self._slot = slot
        self._groups = [hierarchy / slot.name / str(index) for hierarchy in hierarchies()]
        self._commands = count()
        self._started: list[BedProcess] = []
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._mount(lower)
        self._connect()
        (self.root / "etc/hostname").write_text(f"{name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")

    def _mount(self, lower: Path) -> None:
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)
        # redirect_dir: directories of the base can be renamed; index: links between its files survive a write
        options = f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work"
        command = ["mount", "-t", "overlay", self.id, "-o", f"{options},redirect_dir=on,index=on", str(self.root)]
        run_or_miss(command, "overlay mounts")

    def _connect(self) -> None:
        gateway = self._slot.address
        run_or_miss(["ip", "netns", "add", self.id], "network namespaces")
        for arguments in (
            f"link add {self.id} type veth peer name eth0 netns {self.id}",
            f"link set {self.id} master {self._slot.name} up",
            f"-n {self.id} address add {self.address}/24 dev eth0",
            f"-n {self.id} link set eth0 up",
            f"-n {self.id} link set lo up",
            f"-n {self.id} route add default via {gateway}",
        ):
            run_or_miss(["ip", *arguments.split()], "virtual network links")

    # ---- power ----------------------------------------------------------------------------------------------------

    @property
    def booted(self) -> bool:
        """Whether systemd runs in it."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def boot(self, *options: str, timeout: float = 60) -> str:
        """Start systemd, with more `options` of systemd-nspawn; return `running` or `degraded` once it is that.

        Raise `BootFailed` when that takes more than `timeout` seconds.
        """
        assert not self.booted, f"{self.name} runs already"
        self._tidy_cgroups()
        for group in self._groups:
            group.mkdir(parents=True, exist_ok=True)
        nspawn = ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self.id}", "--boot"]
        nspawn += [f"--hostname={self.name}", f"--network-namespace-path=/run/netns/{self.id}"]
        nspawn += ["--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"]
        nspawn += ["--resolv-conf=off", "--timezone=off", *options]
        command = ["sh", "-c", INTO_CGROUPS, "sh", *map(str, self._groups), "--", *nspawn]
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        return self._wait_until_up(time.monotonic() + timeout)

    @property
    def console(self) -> Path:
        """The file with all that its consoles said, over all boots."""
        return self.directory / "console"

    def _wait_until_up(self, deadline: float) -> str:
        state = "no systemd"
        while time.monotonic() < deadline and self.booted:
            self._leader = self._leader or self._find_leader()
            if self._leader is not None:
                left = max(1, deadline - time.monotonic())
                state = self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=left).stdout.strip()
                if state in {"running", "degraded"}:
                    return state
            time.sleep(0.02)
        end = self.console.read_text(errors="replace")[-2000:]
        self.kill()
        raise BootFailed(f"{self.name} is not up: {state or 'no answer'}\n{end}")

    def _find_leader(self) -> int | None:
        assert self._nspawn is not None
        pid = self._nspawn.pid
        try:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        except FileNotFoundError:
            pass  # it ended between the two looks
        return None

    def kill(self) -> None:
        """Cut the power: every process of the host dies at once. Does nothing to a host that is off."""
        kill_cgroup(self._groups[0])
        if self._nspawn is not None:
            self._nspawn.wait()
        self._tidy_cgroups()

    def halt(self, timeout: float = 60) -> None:
        """Shut down in order."""
        assert self._leader is not None, f"{self.name} is off"
        os.kill(self._leader, signal.SIGRTMIN + 4)
        self.wait_until_down(timeout)

    def reboot(self, timeout: float = 60) -> str:
        """Shut down in order and boot again; return the state as `boot` does."""
        self.run(["systemctl", "reboot"], check=False)
        self.wait_until_down(timeout)
        return self.boot(timeout=timeout)

    def wait_until_down(self, timeout: float = 60) -> int:
        """Wait for a host that goes down by itself; return `REBOOTED` where it wants to boot again, else 0."""
        assert self._nspawn is not None, f"{self.name} is off"
        try:
            status = self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BootFailed(f"{self.name} does not go down") from None
        self._tidy_cgroups()
        return status

    def _tidy_cgroups(self) -> None:
        for group in self._groups:
            remove_cgroup(group)
        self._leader = None

    def close(self) -> None:
        """Cut the power and take the host off the machine, with all its files."""
        self.kill()
        for process in self._started:
            process.close()
        remove_network(self.id)
        busy = subprocess.run(["umount", str(self.root)], check=False, capture_output=True).returncode
        if busy:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)
        shutil.rmtree(self.directory)
        assert not busy, (
            f"{self.name}: somebody still has files open below {self.root} (a RealHost that is not closed?)"
        )

    # ---- commands -------------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside, with nothing of our environment, and wait for it.

        A host that is not booted gets process, mount, network and host name spaces of its own for each command.
        Raise `CommandFailed` where the status is not 0 and `check` is set, `subprocess.TimeoutExpired` when it takes
        more than `timeout` seconds: it is killed then.
        """
        process = self.start(argv, stdin=stdin is not None, environment=environment)
        stdout, stderr = process.communicate(stdin, timeout)
        done = subprocess.CompletedProcess(list(argv), process.popen.returncode, stdout, stderr)
        if check and done.returncode:
            raise CommandFailed(self.name, done)
        return done

    def start(
        self, argv: Sequence[str], *, stdin: bool = False, environment: Mapping[str, str] | None = None
    ) -> BedProcess:
        """Start a command as `run` does; `stdin` says whether it has one to be written to, else it is empty."""
        group = self._groups[0] / "commands" / str(next(self._commands))
        group.mkdir(parents=True)
        popen = subprocess.Popen(
            ["sh", "-c", INTO_CGROUPS, "sh", str(group), "--", *self._entering(), *argv],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            env=ENVIRONMENT | dict(environment or {}),
            start_new_session=True,
        )
        self._started.append(BedProcess(popen, group))
        return self._started[-1]

    def _entering(self) -> list[str]:
        if self._leader is not None:
            return ["nsenter", "-t", str(self._leader), "-a", "--"]
        inside = 'echo "$1" > /proc/sys/kernel/hostname; root=$2; shift 2; exec chroot "$root" "$@"'
        spaces = ["unshare", "-m", "-p", "-u", "-i", "-f", "--kill-child", f"--mount-proc={self.root}/proc"]
        return ["nsenter", f"--net=/run/netns/{self.id}", *spaces, "sh", "-c", inside, "sh", self.name, str(self.root)]

    # ---- what it holds --------------------------------------------------------------------------------------------

    def install_aquiline(self) -> None:
        """Put this checkout's aquiline, with what it needs, where the host's own python3 finds it, and its command."""
        packages = self.root / f"usr/local/lib/python{PYTHON}/dist-packages"
        shutil.copytree(installed() / "lib", packages, dirs_exist_ok=True)
        program = self.root / "usr/local/bin/aquiline"
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def snapshot(self) -> HostSnapshot:
        """Return all there is to compare of the host (see `HostSnapshot`); about a second."""
        return take(self)


class Bed:
    """The hosts of one test process; raise `Missing` where this machine cannot have any."""

    def __init__(self) -> None:
        self.slot = Slot()
        self._indexes = count(1)
        self._hosts: list[BedHost] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(self, name: str = "host", recipe: Recipe = DEBIAN) -> BedHost:
        """Return a new host, not booted, of the base tree of `recipe`; about 50 ms once the base is there."""
        host = BedHost(self.slot, next(self._indexes), name, base(recipe))
        self._hosts.append(host)
        return host

    def __iter__(self) -> Iterator[BedHost]:
        return iter(self._hosts)

    def clear(self) -> None:
        """Take all hosts off the machine."""
        while self._hosts:
            self._hosts.pop().close()
        self._indexes = count(1)

    def close(self) -> None:
        """Take away the hosts and all else that this process has on the machine."""
        try:
            self.clear()
        finally:
            self.slot.close()


__all__ = ["Bed", "BedHost", "BedProcess", "BootFailed", "CommandFailed", "Missing"]
