"""Packages by dnf 4 and rpm.

Theory of operation

1. dnf is a Python program: `driver.py` asks it through its own interface, run by the Python that dnf itself runs with.
2. A transaction is named whole, package files that are kept first; dnf resolves it once more, and where it would touch
   anything else nothing is done.
3. A failing script of a package does not make rpm fail. The driver reports each, and all is compared with the targets.
4. rpm installs the new version before it erases the old: killed in between, both are there. The one that is not the
   target is erased, without its scripts, before anything else is done.

A package is called by its name, with its architecture where that is a foreign one, and with its version where several
versions may stand side by side (kernels).

dnf itself has no holds; its plugin versionlock has (`aquiline.host.packages.versionlock`). Where that is not on a host,
nothing is held there.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from aquiline.errors import HostError
from aquiline.host.objects import ABSENT, Absent, Package
from aquiline.host.packages.holder import wait_for
from aquiline.host.packages.kept import KeptFiles
from aquiline.host.packages.versionlock import VersionLocks, entries_of, is_locked
from aquiline.host.packages.versions import is_older_rpm
from aquiline.host.protocol import Command, Completed, Reading

_LOCKS = ("/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock")
#: While dnf changes packages its process number is in here.
_DNF_LOCK = "/var/lib/dnf/rpmdb_lock.pid"
#: Where rpm's database, dnf's reasons and what dnf takes for a kernel are.
_DATABASES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/dnf", "/etc/dnf")
_LIMIT = 3600.0
#: Bytes of an answer, compressed: all paths of some thousand packages.
_ANSWER = 64 * 1024 * 1024
#: Two versions of one package, of which an interrupted transaction left one too many.
DOUBLED = "doubled"
_Wanted = tuple[str, str, str]


class DnfPackages:
    """Packages of a `host` with dnf; package files are kept in `kept`; `say` is told whom is waited for."""

    def __init__(self, host: Reading, kept: KeptFiles, say: Callable[[str], None] = lambda _line: None) -> None:
        self._host = host
        self._kept = kept
        self._say = say
        # Read now: it may be upgraded while the run goes on (D16).
        self._driver = Path(__file__).with_name("driver.py").read_text("utf-8")
        self._native = ""
        #: The stamp of the files that were read, and what the driver made of them.
        self._answered: tuple[tuple[object, ...], list[dict[str, Any]]] | None = None
        self._locks = VersionLocks(host)
        self.manager = "dnf"

    # ---- looking --------------------------------------------------------------------------------------------------

    def installed(self) -> Mapping[str, Package]:
        """Return what rpm's database holds, with dnf's reasons as marks."""
        found: dict[str, Package] = {}
        locks = self._locks.entries()
        for one in self._listed():
            key = self._key(one)
            before = found.get(key)
            if before is not None:
                versions = ", ".join(sorted((*before.version.split(", "), one["evr"])))
                is_held = before.hold or is_locked(locks, **_nevra(one))
                found[key] = Package(versions, DOUBLED, one["auto"], is_held)
            else:
                found[key] = Package(one["evr"], "installed", one["auto"], is_locked(locks, **_nevra(one)))
        return dict(sorted(found.items()))

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        """Return what dnf resolves the request to."""
        installed = self.installed()
        wanted = [
            _wanted(name, version)
            for name, version in sorted(install.items())
            if name.startswith("@") or name not in installed or not _has_version(installed[name], version)
        ]
        surplus = [_wanted(name, "") for name in sorted(remove) if name in installed]
        if not wanted and not surplus:
            return {}
        answer = self._ask("simulate", install=wanted, remove=surplus)
        outcome: dict[str, Package | Absent] = {self._key(one): ABSENT for one in answer["goes"]}
        locks = self._locks.entries()
        for one in answer["comes"]:
            key = self._key(one)
            now = installed.get(key)
            auto = now.auto if now is not None else one["reason"] in ("dependency", "weak-dependency")
            hold = (now is not None and now.hold) or is_locked(locks, **_nevra(one))
            outcome[key] = Package(one["evr"], auto=auto, hold=hold)
        return dict(sorted(outcome.items()))

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        """Follow what packages require and recommend; what dnf protects always stays."""
        answer = self._ask("surplus", named=[_wanted(name, "") for name in sorted(named)])
        return tuple(sorted(self._key(one) for one in answer["packages"] if one["name"] != "gpg-pubkey"))

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Look among the kept files and in the repositories."""
        missing = [one for one in wanted if self._kept.file(*file_pattern(*one)) is None]
        if not missing:
            return ()
        offered = {tuple(one) for one in self._ask("offered", wanted=[_wanted(*one) for one in missing])["offered"]}
        return tuple(one for one in missing if _wanted(*one) not in offered)

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        """Read the lists of the kept files that are in reach, else the repository's."""
        if not wanted:
            return {}
        kept = [file for one in wanted if (file := self._kept.within_reach(*file_pattern(*one))) is not None]
        answer = self._ask("contents", wanted=[_wanted(*one) for one in wanted], files=kept)
        return {
            one: None if paths is None else tuple(paths) for one, paths in zip(wanted, answer["files"], strict=True)
        }

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        """Ask rpm; what it does not know is said on lines of other words."""
        if not paths:
            return ()
        done = self._run(("rpm", "-qf", "--qf", "owner\\t%{NAME}\\t%{ARCH}\\n", "--", *sorted(paths)))
        lines = done.stdout.decode(errors="replace").splitlines()
        found = [line.split("\t")[1:] for line in lines if line.startswith("owner\t")]
        return tuple(sorted(self._key(one) for one in self._listed() if [one["name"], one["arch"]] in found))

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        """Return what rpm calls configuration files."""
        if not names:
            return ()
        done = self._run(("rpm", "-qc", *(_bare(name) for name in sorted(names))))
        lines = done.stdout.decode(errors="surrogateescape").splitlines()
        return tuple(line for line in lines if line.startswith("/"))

    def is_older(self, version: str, other: str) -> bool:
        """Compare as rpm does."""
        return is_older_rpm(version, other)

    # ---- changing -------------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait for the locks of rpm and of dnf; the latter only where its process numbers are ours."""
        files = _LOCKS if self._host.offline else (*_LOCKS, _DNF_LOCK)
        wait_for("dnf", [self._host.root.rstrip("/") + path for path in files], say=self._say)

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        """Have dnf download what is not kept, and check its signature."""
        missing = [one for one in wanted if self._kept.file(*file_pattern(*one)) is None]
        if not missing:
            return
        with self._kept.filling() as folder:
            self._ask("fetch", wanted=[_wanted(*one) for one in missing], folder=folder)
        lost = [
            f"{name} {version}" for name, version in missing if self._kept.file(*file_pattern(name, version)) is None
        ]
        if lost:
            raise HostError(f"cannot be fetched: {', '.join(lost)}")

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        """Bring packages to their targets in one transaction of dnf, then set marks."""
        self.wait()
        self._part_doubled(targets)
        scripts = self._change(targets)
        self._mark(targets)
        self._hold(targets)
        found = self.installed()
        wrong = [
            f"package {name} is {_state(found.get(name))}, expected {_state(target)}"
            for name, target in sorted(targets.items())
            if found.get(name, ABSENT) != target
        ]
        if wrong or scripts:
            raise HostError("; ".join((*scripts, *wrong)))
        return ""

    def _part_doubled(self, targets: Mapping[str, Package | Absent]) -> None:
        """Erase the version too many that a killed transaction left, and lay the right one over what it overwrote."""
        found = self.installed()
        for name in sorted(targets):
            now, target = found.get(name), targets[name]
            if now is None or now.status != DOUBLED:
                continue
            versions = now.version.split(", ")
            stays = target.version if isinstance(target, Package) and target.version in versions else versions[-1]
            for version in versions:
                if version != stays:
                    self._run(("rpm", "-e", "--nodeps", "--noscripts", f"{_bare(name)}-{version.split(':')[-1]}"))
            file = self._kept.inside(*file_pattern(name, stays))
            if file is not None:
                self._run(("rpm", "-U", "--nodeps", "--oldpackage", "--replacepkgs", "--noscripts", file))

    def _change(self, targets: Mapping[str, Package | Absent]) -> list[str]:
        listed = self._listed()
        found = {self._key(one): one for one in listed}
        install, remove, files, allowed = [], [], [], []
        for name, target in sorted(targets.items()):
            now = found.get(name)
            allowed += [(one["name"], one["arch"], one["evr"]) for one in listed if self._key(one) == name]
            if isinstance(target, Absent):
                remove += [_wanted(name, "")] if now is not None else []
            elif now is None or now["evr"] != target.version:
                install.append(_wanted(name, target.version))
                file = self._kept.inside(*file_pattern(name, target.version))
                files += [file] if file is not None else []
                bare, architecture, version = _wanted(name, target.version)
                architectures = [architecture] if architecture else [self._native, "noarch"]
                allowed += [(bare, one, version) for one in architectures]
        if not install and not remove:
            return []
        answer = self._ask("transact", install=install, remove=remove, files=files, allowed=allowed)
        return list(answer["scripts"])

    def _mark(self, targets: Mapping[str, Package | Absent]) -> None:
        found = self.installed()
        for verb, auto in (("install", False), ("remove", True)):
            names = [
                _bare(name)
                for name, target in sorted(targets.items())
                if isinstance(target, Package)
                and name in found
                and target.auto is auto
                and found[name].auto is not auto
            ]
            if names:
                self._run(("dnf", "-q", "-C", "-y", "mark", verb, *names))

    def _hold(self, targets: Mapping[str, Package | Absent]) -> None:
        """Lock what is to be held to the version that it has now, and nothing else."""
        found = self.installed()
        stale, wanted = set[str](), []
        for one in self._listed():
            target, now = targets.get(self._key(one)), found[self._key(one)]
            if isinstance(target, Package) and target.hold is not now.hold:
                stale.update(entries_of(self._locks.entries(), one["name"], one["arch"]))
                wanted += [f"{one['name']}-{one['evr']}"] if target.hold else []
        if wanted and not self._locks.is_here:
            raise HostError(f"{', '.join(wanted)} cannot be held: dnf's plugin versionlock is not on this host")
        for verb, words in (("delete", sorted(stale)), ("add", wanted)):
            if words:
                self._run(("dnf", "-q", "-y", "--disablerepo=*", "versionlock", verb, *words))

    # ---- asking ---------------------------------------------------------------------------------------------------

    def _listed(self) -> list[dict[str, Any]]:
        """Return what the driver says is installed; asked anew where any file that it reads was written since."""
        stamp = self._stamp()
        if self._answered is None or self._answered[0] != stamp:
            answer = self._ask("installed")
            self._native = answer["native"]
            self._answered = stamp, [one for one in answer["packages"] if one["name"] != "gpg-pubkey"]
        return self._answered[1]

    def _stamp(self) -> tuple[object, ...]:
        """Return times, sizes and identities of the files that say what is installed; taken before they are read."""
        found: list[object] = []
        for folder in _DATABASES:
            names = self._host.names(folder) if self._host.status(folder) is not None else ()
            for path in (f"{folder}/{name}" for name in names if not name.endswith((".lock", ".pid"))):
                status = self._host.status(path)
                found.append((path, status.mtime_ns, status.size, status.inode) if status is not None else path)
        return tuple(found)

    def _key(self, one: Mapping[str, Any]) -> str:
        name = str(one["name"])
        if one["many"]:
            return f"{name}={one['evr']}"
        return name if one["arch"] in ("noarch", self._native) else f"{name}:{one['arch']}"

    def _ask(self, what: str, **question: Any) -> dict[str, Any]:
        stdin = json.dumps({"ask": what, **question}).encode()
        done = self._host.run(Command((*self._python(), "-c", self._driver), stdin, {}, _LIMIT, _ANSWER))
        lines = done.stdout.decode(errors="replace").splitlines()
        try:
            answer: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(lines[-1])))
        except (IndexError, ValueError, zlib.error):
            text = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise HostError(f"dnf cannot be asked: {text[-1] if text else f'exit status {done.status}'}") from None
        if answer.get("error"):
            raise HostError(f"dnf refuses: {answer['error']}")
        return answer

    def _python(self) -> tuple[str, ...]:
        """Return the interpreter that dnf runs with."""
        first = self._host.read("/usr/bin/dnf-3" if self._is_link() else "/usr/bin/dnf").split(b"\n", 1)[0]
        if not first.startswith(b"#!"):
            raise HostError("dnf is no Python program here: only dnf 4 is known", path="/usr/bin/dnf")
        return tuple(first[2:].decode().split()[:1])

    def _is_link(self) -> bool:
        status = self._host.status("/usr/bin/dnf")
        return status is not None and status.type == "symlink"

    def _run(self, argv: tuple[str, ...]) -> Completed:
        return self._host.run(Command(argv, timeout=_LIMIT))


def _nevra(one: Mapping[str, Any]) -> dict[str, str]:
    return {"name": one["name"], "evr": one["evr"], "arch": one["arch"]}


def _wanted(name: str, version: str) -> _Wanted:
    """Return name, architecture and version of what is called `name`."""
    bare, _, many = name.partition("=")
    bare, _, architecture = bare.partition(":")
    return bare, architecture, version or many


def _bare(name: str) -> str:
    """Return what rpm and dnf call the package on their command lines."""
    bare, architecture, version = _wanted(name, "")
    return bare + (f"-{version.split(':')[-1]}" if version else "") + (f".{architecture}" if architecture else "")


def file_pattern(name: str, version: str) -> tuple[str, str]:
    """Return how the name of a package's file begins and ends."""
    bare, architecture, wanted = _wanted(name, version)
    return f"{bare}-{wanted.split(':')[-1]}.", f"{architecture}.rpm"


def _has_version(now: Package, version: str) -> bool:
    return now.status == "installed" and version in ("", now.version, now.version.split(":")[-1])


def _state(found: Package | Absent | None) -> str:
    if not isinstance(found, Package):
        return "not there"
    marks = [word for word, is_set in (("automatic", found.auto), ("held", found.hold)) if is_set]
    return " ".join([found.status, found.version, *(f"({', '.join(marks)})" for _ in marks[:1])])
