"""The base trees of the bed: whole Debian hosts, built once for each machine and kept.

A tree is kept under the directory named by ``AQUILINE_BED`` (/var/cache/aquiline-bed otherwise) by the digest of its
recipe, so a changed recipe is another tree. It is built beside its place, under a lock that all test processes of the
machine share, and moved there when it is whole: half a tree is never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Programs the bed needs on this machine, with the Debian package of each.
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "dpkg-deb": "dpkg",
}
SUITE = "bookworm"


class Missing(Exception):
    """This machine cannot make hosts; says which capability it lacks."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into a base tree."""

    name: str
    #: mmdebstrap's variant: what is there before `include`.
    variant: str
    include: tuple[str, ...]
    #: Shell text run at the end, the tree as its first argument.
    customize: str

    @property
    def digest(self) -> str:
        """Name of the tree: changes with the recipe."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


COMMON = ("systemd", "systemd-sysv", "dbus", "python3", "iproute2", "iputils-ping", "procps", "kmod", "cron")
TOOLS = ("acl", "attr", "rsync", "sudo", "less", "logrotate")

# No name server (nobody waits for one), host keys and ids that are not those of the machine, and no first boot.
ALIKE = """
: > "$1/etc/resolv.conf"
: > "$1/etc/machine-id"
rm -f "$1/etc/hostname"
rm -rf "$1"/var/lib/apt/lists/*
"""

DEBIAN = Recipe(
    "debian",
    "minbase",
    (*COMMON, *TOOLS, "curl", "ca-certificates", "nginx-light", "openssh-server", "chrony"),
    ALIKE,
)
#: Debian's dnf and rpm, with apt and dpkg taken out, so that there is one package manager as on Red Hat's kin.
RPM = Recipe(
    "rpm",
    "minbase",
    (*COMMON, *TOOLS, "dnf", "dnf-plugins-core", "rpm", "createrepo-c"),
    ALIKE
    + """
chroot "$1" dpkg --purge --force-all apt
rm -rf "$1"/usr/bin/dpkg* "$1"/usr/sbin/dpkg* "$1"/var/lib/dpkg "$1"/etc/apt "$1"/var/lib/apt
mkdir -p "$1"/etc/yum.repos.d "$1"/etc/dnf/vars "$1"/etc/rpm
# of dnf's plugins the one with the holds; Debian has them in one package, and one of them makes a repository of its own
cd "$1/usr/lib/python3/dist-packages/dnf-plugins"
find . -type f ! -name 'versionlock*.py*' -delete
cd "$1/etc/dnf/plugins"
find . -type f ! -name 'versionlock.*' -delete
echo '%_dbpath /var/lib/rpm' > "$1"/etc/rpm/macros
echo 12 > "$1"/etc/dnf/vars/releasever
""",
)


def cache() -> Path:
    """Return the directory where base trees and running hosts are kept."""
    directory = Path(os.environ.get("AQUILINE_BED", "/var/cache/aquiline-bed"))
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    return directory


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_programs() -> None:
    """Install what the bed needs and this machine lacks; raise `Missing` where that fails."""
    lacking = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        raise Missing(f"programs of the Debian packages {', '.join(lacking)}")
    subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)
    command = ["apt-get", "install", "-yq", "--no-install-recommends", *lacking]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise Missing(f"the Debian packages {', '.join(lacking)}: {done.stderr.strip()[-500:]}")


def machine_sources() -> list[str]:
    """Return the machine's own apt source files that hold Debian's main component of the suite."""
    wanted = re.compile(rf"^(Suites:(.*\s)?{SUITE}(\s|$)|deb (\[.*\] )?\S+ {SUITE} (.* )?main\b)", re.MULTILINE)
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))]
    return [str(file) for file in files if file.is_file() and wanted.search(file.read_text())]


def built(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, made by `build` if nobody did: once, whole or not at all, whoever else asks for it."""
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(f"{directory.name}.lock")):
        if not directory.is_dir():
            half = directory.with_name(f"{directory.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            build(half)
            os.rename(half, directory)
    return directory


def base(recipe: Recipe = DEBIAN) -> Path:
    """Return the base tree of `recipe`, built if need be (about 40 s); nobody may write to it.

    Raise `Missing` where it cannot be built.
    """
    if os.geteuid() != 0:
        raise Missing("root")

    def bootstrap(half: Path) -> None:
        install_programs()
        options = [f"--variant={recipe.variant}", f"--include={','.join(recipe.include)}"]
        run_or_miss(["mmdebstrap", *options, SUITE, str(half), *machine_sources()], f"base tree {recipe.name}")
        run_or_miss(["sh", "-euc", recipe.customize, "sh", str(half)], f"base tree {recipe.name}")

    return built(cache() / "bases" / f"{recipe.name}-{recipe.digest}", bootstrap)


def run_or_miss(command: Sequence[str], what: str) -> None:
    """Run a command; raise `Missing`, naming `what`, where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Missing(f"{what}: {' '.join(command[:2])} …: {(done.stderr or done.stdout).strip()[-500:]}")
