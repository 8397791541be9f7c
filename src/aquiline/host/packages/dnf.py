"""Packages by dnf 4 and rpm.

Theory of operation

1. dnf is a Python program: `driver.py` asks it through its own interface, run by the Python that dnf itself runs with.
2. A transaction is named whole, package files that are kept first; dnf resolves it once more, and where it would touch
   anything else nothing is done.
3. A failing script of a package does not make rpm fail. The driver reports each, and all is compared with the targets.
4. rpm installs the new version before it erases the old: killed in between, both are there. The one that is not the
   target is erased, without its scripts, before anything else is done.

A package is called by its name, with its architecture where that is a foreign one, and with its version where several
versions may stand side by side (kernels). Holds are the versionlock plugin's file, and treated as a file.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aquiline.errors import HostError
from aquiline.host.objects import ABSENT, Absent, Package
from aquiline.host.packages.holder import wait_for
from aquiline.host.packages.kept import KeptFiles
from aquiline.host.packages.versions import is_older_rpm
from aquiline.host.protocol import Command, Completed, Reading

_LOCKS = ("/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock")
_LIMIT = 3600.0
#: Two versions of one package, of which an interrupted transaction left one too many.
DOUBLED = "doubled"
_Wanted = tuple[str, str, str]


class DnfPackages:
    """Packages of a `host` with dnf; package files are kept in `kept`."""

    def __init__(self, host: Reading, kept: KeptFiles) -> None:
        self._host = host
        self._kept = kept
        # Read now: it may be upgraded while the run goes on (D16).
        self._driver = Path(__file__).with_name("driver.py").read_text("utf-8")
        self._native = ""
        self.manager = "dnf"

    # ---- looking --------------------------------------------------------------------------------------------------

    def installed(self) -> Mapping[str, Package]:
        """Return what rpm's database holds, with dnf's reasons as marks."""
        found: dict[str, Package] = {}
        for one in self._listed():
            key = self._key(one)
            before = found.get(key)
            if before is not None:
                versions = ", ".join(sorted((*before.version.split(", "), one["evr"])))
                found[key] = Package(versions, DOUBLED, one["auto"])
            else:
                found[key] = Package(one["evr"], "installed", one["auto"])
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
        for one in answer["comes"]:
            key = self._key(one)
            now = installed.get(key)
            auto = now.auto if now is not None else one["reason"] in ("dependency", "weak-dependency")
            outcome[key] = Package(one["evr"], auto=auto)
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

    def contents(self, name: str, version: str) -> tuple[str, ...] | None:
        """Read the kept file's list, else the repository's."""
        file = self._kept.inside(*file_pattern(name, version))
        if file is None:
            files = self._ask("contents", wanted=_wanted(name, version))["files"]
            return None if files is None else tuple(files)
        done = self._run(("rpm", "-qlp", "--nosignature", file))
        lines = done.stdout.decode(errors="surrogateescape").splitlines()
        return None if done.status else tuple(line for line in lines if line.startswith("/"))

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
        """Wait for rpm's lock; dnf waits for its own by itself."""
        wait_for([self._host.root.rstrip("/") + path for path in _LOCKS])

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

    # ---- asking ---------------------------------------------------------------------------------------------------

    def _listed(self) -> list[dict[str, Any]]:
        answer = self._ask("installed")
        self._native = answer["native"]
        return [one for one in answer["packages"] if one["name"] != "gpg-pubkey"]

    def _key(self, one: Mapping[str, Any]) -> str:
        name = str(one["name"])
        if one["many"]:
            return f"{name}={one['evr']}"
        return name if one["arch"] in ("noarch", self._native) else f"{name}:{one['arch']}"

    def _ask(self, what: str, **question: Any) -> dict[str, Any]:
        stdin = json.dumps({"ask": what, **question}).encode()
        done = self._host.run(Command((*self._python(), "-c", self._driver), stdin, {}, _LIMIT))
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
    return f"{found.status} {found.version}{' (automatic)' if found.auto else ''}"
