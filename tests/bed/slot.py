"""A slot: what one test process owns on this machine, and how nothing of it stays.

Theory of operation

1. A slot is a number. Whoever holds the lock on its file in /run/aquiline-bed owns everything named after it: the
   bridge ``aqbN`` with 10.77.N.1/24, network namespaces ``aqbN-*``, cgroups ``aqbN`` and the directory in its file.
2. The lock is dropped by the kernel when its process dies, however it dies. So a slot whose lock can be had holds
   leftovers at most, and whoever gets the lock sweeps them away.
3. Kernel limits that many hosts need are raised by the first slot and put back by the last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

from .base import Missing, cache, install_programs, locked, run_or_miss

SLOTS = Path("/run/aquiline-bed")
MOST_SLOTS = 250
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
#: Each booted host needs about six instances of inotify.
ENOUGH_INSTANCES = 2048


class Slot:
    """A number that is ours until `close`, with its bridge, its cgroups and its directory.

    Raise `Missing` where this machine cannot have hosts.
    """

    def __init__(self) -> None:
        check_capabilities()
        SLOTS.mkdir(exist_ok=True, mode=0o700)
        with locked(SLOTS / "lock"):
            sweep_all()
            self.number, self._lock = claim()
            raise_limits()
        self.name = f"aqb{self.number}"
        self.address = f"10.77.{self.number}.1"
        self.directory = cache() / "runs" / self.name
        self.directory.mkdir(parents=True)
        run_or_miss(["ip", "link", "add", self.name, "type", "bridge"], "network bridges")
        run_or_miss(["ip", "address", "add", f"{self.address}/24", "dev", self.name], "network addresses")
        run_or_miss(["ip", "link", "set", self.name, "up"], "network bridges")

    def close(self) -> None:
        """Take away all that this slot has on the machine."""
        with locked(SLOTS / "lock"):
            sweep(self.number)
            (SLOTS / str(self.number)).unlink()
            self._lock.close()
            restore_limits()


def claim() -> tuple[int, IO[str]]:
    for number in range(1, MOST_SLOTS):
        if (lock := locked_slot(number)) is not None:
            lock.truncate()
            json.dump({"pid": os.getpid(), "worker": os.environ.get("PYTEST_XDIST_WORKER"), "bed": str(cache())}, lock)
            lock.flush()
            return number, lock
    raise Missing("a free slot: too many test processes have hosts")


def locked_slot(number: int) -> IO[str] | None:
    """Return the slot's file with its lock held, or None where somebody else holds it."""
    lock = (SLOTS / str(number)).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def sweep_all() -> None:
    """Sweep the slots of runs that were killed."""
    for file in SLOTS.glob("[0-9]*"):
        lock = locked_slot(int(file.name))
        if lock is not None:
            sweep(int(file.name))
            file.unlink()
            lock.close()


def sweep(number: int) -> None:
    """Take away all that is named after a slot: processes, cgroups, mounts, network and files."""
    name = f"aqb{number}"
    for hierarchy in hierarchies():
        remove_cgroup(hierarchy / name)
    for namespace in Path("/run/netns").glob(f"{name}-*"):
        remove_network(namespace.name)
    subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    directory = bed_of(number) / "runs" / name
    for mount in mounts_below(directory):
        subprocess.run(["umount", mount], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


def bed_of(number: int) -> Path:
    """Return the cache directory of the process that has or had the slot."""
    try:
        return Path(json.loads((SLOTS / str(number)).read_text())["bed"])
    except ValueError:  # killed before it wrote, so it had nothing yet
        return cache()


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points below a directory, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if point.startswith(f"{directory}/")]


def remove_network(name: str) -> None:
    """Delete a network namespace, and the outer end of its link, which the kernel would delete a little later."""
    subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


# ---- control groups ------------------------------------------------------------------------------------------------


def hierarchies() -> list[Path]:
    """Return the cgroup file systems a booted host needs its own group in; the one with ``cgroup.kill`` comes first."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            found.insert(0, Path(fields.split()[4]))
        elif kind.startswith("cgroup ") and fields.split()[4].endswith(("/systemd", "/memory", "/pids")):
            found.append(Path(fields.split()[4]))
    return found


def kill_cgroup(group: Path, timeout: float = 10) -> None:
    """Kill every process in a group of cgroup2 at once, and wait until they are gone."""
    if not (group / "cgroup.kill").exists():
        return
    (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + timeout
    while "populated 1" in (group / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes in {group} outlive cgroup.kill")
        time.sleep(0.005)


def remove_cgroup(group: Path, timeout: float = 10) -> None:
    """Kill what is in a group, where it can, and remove it with all groups below."""
    kill_cgroup(group)
    deadline = time.monotonic() + timeout
    for directory, _, _ in os.walk(group, topdown=False):
        # dead processes leave the hierarchies of cgroup v1 a moment later
        while True:
            try:
                os.rmdir(directory)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                break


# ---- limits and capabilities ---------------------------------------------------------------------------------------


def raise_limits() -> None:
    before = SLOTS / "inotify"
    if not before.exists():
        before.write_text(INSTANCES.read_text())
    INSTANCES.write_text(str(max(int(before.read_text()), ENOUGH_INSTANCES)))


def restore_limits() -> None:
    before = SLOTS / "inotify"
    if not list(SLOTS.glob("[0-9]*")):
        INSTANCES.write_text(before.read_text())
        before.unlink()


def check_capabilities() -> None:
    """Raise `Missing`, naming the capability that this machine lacks."""
    if os.geteuid() != 0:
        raise Missing("root")
    install_programs()
    run_or_miss(["unshare", "-n", "-m", "-p", "-u", "-i", "-f", "true"], "namespaces (network, mount, process, …)")
    groups = hierarchies()
    if not groups or not os.access(groups[0], os.W_OK):
        raise Missing("a writable cgroup2 file system")
    probe = groups[0] / f"aqb-probe-{os.getpid()}"
    try:
        probe.mkdir()
        can_kill = (probe / "cgroup.kill").exists()
        probe.rmdir()
    except OSError as error:
        raise Missing(f"a writable cgroup2 file system: {error}") from None
    if not can_kill:
        raise Missing("cgroup.kill (Linux 5.14)")
