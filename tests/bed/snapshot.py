"""A snapshot of a whole host, and what differs between two.

It reads on its own, not with the code under test. Of the tree it holds what undo promises (type, content, owner, group,
mode, modification time, extended attributes, link target, links between names), of packages versions, marks, holds,
states and conffiles, of units whether they are enabled and active, of accounts the lines of their files.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import BedHost

#: Not compared as files: what is compared as packages instead, what every boot and every command writes, our journal,
#: and the repositories of the tests, which stand for the world outside.
NOT_COMPARED = (
    "/dev",
    "/proc",
    "/run",
    "/srv/apt",
    "/srv/rpm",
    "/sys",
    "/tmp",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/aquiline",
    "/var/lib/dnf",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",
)
ACCOUNTS = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
UNIT_TYPES = "service,socket,timer,path,target,mount"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the tree."""

    type: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...] = ()
    #: SHA-256 of a file, target of a link, number of a device.
    content: str = ""
    #: All names of a file that has several.
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """One package that the package manager knows: `config-files` ones too."""

    version: str
    #: dpkg's three words (``install ok installed``; ``hold`` is the first of a held one), or ``installed`` of rpm.
    state: str
    #: Whether it was only installed because another needs it.
    automatic: bool
    #: Each conffile with the digest the package manager keeps of it, as delivered.
    conffiles: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit that has a file or is not inactive."""

    enabled: str = ""
    #: Active and sub state; nothing for one that is inactive.
    active: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was."""

    #: The part of the snapshot: tree, packages, units, accounts.
    part: str
    #: A path, the name of a package or unit, an account file.
    name: str
    #: What of it differs: ``mode``, ``version``, …; or ``came``, ``went``.
    what: str
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        values = "" if self.what in {"came", "went"} else f": {self.before!r} → {self.after!r}"
        return f"{self.part}: {self.name}: {self.what}{values}"


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """A host as it was."""

    tree: Mapping[str, Entry]
    packages: Mapping[str, Package]
    units: Mapping[str, Unit]
    #: Account file → its lines by their first field.
    accounts: Mapping[str, Mapping[str, str]]


def diff(before: HostSnapshot, after: HostSnapshot) -> tuple[Difference, ...]:
    """Return all that differs, in order of part and name; `str` of each is one readable line."""
    found: list[Difference] = []
    for part in ("tree", "packages", "units"):
        found += differences(part, getattr(before, part), getattr(after, part))
    for file in ACCOUNTS:
        found += lines_differing(file, before.accounts[file], after.accounts[file])
    return tuple(found)


def differences(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield Difference(part, name, "came" if old is None else "went", old, new)
        elif old != new:
            for field in fields(old):
                values = getattr(old, field.name), getattr(new, field.name)
                if values[0] != values[1]:
                    yield Difference(part, name, field.name, *values)


def lines_differing(file: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            what = "came" if old is None else "went" if new is None else "line"
            yield Difference("accounts", f"{file}:{name}", what, old, new)


# ---- reading -------------------------------------------------------------------------------------------------------


def take(host: BedHost) -> HostSnapshot:
    """Return a snapshot of a host, booted or not; of one that is not booted no unit is active."""
    has_dpkg = (host.root / "usr/bin/dpkg-query").exists()
    return HostSnapshot(
        tree=dict(sorted(tree(host.root))),
        packages=dpkg_packages(host) if has_dpkg else rpm_packages(host),
        units=units(host),
        accounts={file: account_lines(host.root / "etc" / file) for file in ACCOUNTS},
    )


def tree(root: Path) -> Iterator[tuple[str, Entry]]:
    names: dict[tuple[int, int], list[str]] = {}
    found: list[tuple[str, os.stat_result]] = []
    for path, status in walk(str(root), ""):
        found.append((path, status))
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names.setdefault((status.st_dev, status.st_ino), []).append(path)
    for path, status in found:
        yield path, entry(f"{root}{path}", status, tuple(sorted(names.get((status.st_dev, status.st_ino), ()))))


def walk(root: str, directory: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(f"{root}{directory}/") as entries:
        for one in entries:
            path = f"{directory}/{one.name}"
            if path not in NOT_COMPARED:
                yield path, one.stat(follow_symlinks=False)
                if one.is_dir(follow_symlinks=False):
                    yield from walk(root, path)


def entry(path: str, status: os.stat_result, names: tuple[str, ...]) -> Entry:
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFREG:
            content, kind = digest(path, status), "file"
        case stat.S_IFLNK:
            content, kind = os.readlink(path), "symlink"
        case stat.S_IFDIR:
            content, kind = "", "directory"
        case other:
            content, kind = str(status.st_rdev), f"special {other:o}"
    attributes = sorted(os.listxattr(path, follow_symlinks=False))
    return Entry(
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in attributes),
        content=content,
        names=names if len(names) > 1 else (),
    )


#: Digests of files read before. All hosts and base trees are on one file system, whose inode numbers an overlay shows,
#: and no inode gets another content without another ctime.
KNOWN: dict[tuple[int, int, int, int], str] = {}
#: A file changed as recently may be changed again without the clock of its file system moving on.
RECENT_NS = 2_000_000_000


def digest(path: str, status: os.stat_result) -> str:
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if (known := KNOWN.get(identity)) is not None:
        return known
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - status.st_ctime_ns > RECENT_NS:
        KNOWN[identity] = found
    return found


def dpkg_packages(host: BedHost) -> dict[str, Package]:
    form = "${binary:Package}\t${Version}\t${Status}\t${Conffiles}\f"
    shown = host.run(["dpkg-query", "-W", "-f", form]).stdout
    automatic = apt_automatic(host.root / "var/lib/apt/extended_states")
    found = {}
    for record in shown.split("\f")[:-1]:
        name, version, state, conffiles = record.split("\t")
        files = tuple((line.split()[0], " ".join(line.split()[1:])) for line in conffiles.splitlines() if line.strip())
        found[name] = Package(version, state, name.partition(":")[0] in automatic, files)
    return found


def apt_automatic(states: Path) -> set[str]:
    """Return the packages that apt marks as automatic."""
    records = states.read_text().split("\n\n") if states.exists() else []
    values = [dict(line.split(": ", 1) for line in record.splitlines()) for record in records if record.strip()]
    return {value["Package"] for value in values if value.get("Auto-Installed") == "1"}


def rpm_packages(host: BedHost) -> dict[str, Package]:
    form = "%{NAME}.%{ARCH}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t[%{FILEFLAGS} %{FILEDIGESTS} %{FILENAMES}\v]\f"
    shown = host.run(["rpm", "-qa", "--qf", form]).stdout
    wanted = set(host.run(["dnf", "-q", "-C", "history", "userinstalled"]).stdout.splitlines()) if shown else set()
    found = {}
    for record in shown.split("\f")[:-1]:
        name, version, files = record.split("\t")
        # bit 0 of a file's flags says that it is a configuration file
        parts = [file.split(" ", 2) for file in files.split("\v") if file]
        conffiles = tuple((path, digest) for flags, digest, path in parts if int(flags) & 1)
        bare, _, architecture = name.rpartition(".")
        by_hand = f"{bare}-{version}.{architecture}" in wanted
        found[name] = Package(version, "installed", not by_hand, conffiles)
    return found


def units(host: BedHost) -> dict[str, Unit]:
    environment = {} if host.booted else {"SYSTEMD_OFFLINE": "1"}
    command = ["systemctl", "--no-legend", "--plain", "--no-pager", f"--type={UNIT_TYPES}"]
    files = host.run([*command, "list-unit-files"], environment=environment).stdout
    found = {line.split()[0]: Unit(enabled=line.split()[1]) for line in files.splitlines()}
    if host.booted:
        for line in host.run([*command, "list-units", "--all"]).stdout.splitlines():
            name, _, active, sub, *_ = line.split()
            # Mounts below /run come and go with the service that has credentials; /run itself is not compared either.
            if active != "inactive" and not (name.startswith("run-") and name.endswith(".mount")):
                found[name] = Unit(found.get(name, Unit()).enabled, f"{active} ({sub})")
    return found


def account_lines(file: Path) -> dict[str, str]:
    lines = file.read_text(errors="surrogateescape").splitlines() if file.exists() else []
    found: dict[str, str] = {}
    for line in lines:
        # sub-ids may have several lines of one name
        name = line.partition(":")[0]
        found[name] = f"{found[name]}\n{line}" if name in found else line
    return found
