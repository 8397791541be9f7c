"""Packages by apt and dpkg.

Theory of operation

1. What is installed is read from dpkg's and apt's own files (`aquiline.host.packages.dpkg`).
2. What a request means is what ``apt-get --simulate`` prints for it. Carrying it out names every package with its exact
   version, simulates once more, and refuses where apt would now touch anything else.
3. Configuration files that are there stay (``--force-confold``, ``--force-confdef``): nobody is asked anything. What
   apt takes as no longer needed stays too: an undo removes what it is told and nothing else.
4. Before that, what an interrupted dpkg left is brought to an end; afterwards marks are set, and all is compared with
   the targets: exit status 0 is not success.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from aquiline.errors import HostError
from aquiline.host.objects import ABSENT, Absent, Package
from aquiline.host.packages import dpkg
from aquiline.host.packages.holder import wait_for
from aquiline.host.packages.kept import KeptFiles
from aquiline.host.packages.versions import is_older_deb
from aquiline.host.protocol import Command, Completed, Reading

_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
_QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "UCF_FORCE_CONFFOLD": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
}
_APT = ("apt-get", "--yes", "--quiet", "--quiet", "-oAPT::Sandbox::User=root")
_EXACTLY = (
    "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
    "-oAPT::Get::AutomaticRemove=false", "-oAPT::Get::Show-User-Simulation-Note=false",
)  # fmt: skip
_KEEPING = ("-oDpkg::Options::=--force-confold", "-oDpkg::Options::=--force-confdef", "-oDpkg::Use-Pty=0")
_DPKG = ("dpkg", "--force-confold", "--force-confdef")
#: Seconds that a transaction may take.
_LIMIT = 3600.0
#: Names in one call: what its answer takes stays well below what is kept of a command's output.
_NAMES_AT_ONCE = 100
#: Bytes kept of what a command prints: of one whose every line counts, and of others.
_LISTS, _OUTPUT = 64 * 1024 * 1024, 64 * 1024
#: Below an offline root nobody starts a daemon (invoke-rc.d(8)).
_POLICY = "/usr/sbin/policy-rc.d"
_NO_DAEMONS = (
    b"#!/bin/sh\n# Put here by aquiline while it installs packages; remove it if nothing of it is running.\nexit 101\n"
)


class AptPackages:
    """Packages of a Debian `host`; package files are kept in `kept`; `say` is told whom is waited for."""

    def __init__(self, host: Reading, kept: KeptFiles, say: Callable[[str], None] = lambda _line: None) -> None:
        self._host = host
        self._kept = kept
        self._say = say
        self._native = ""
        self.manager = "apt"

    # ---- looking --------------------------------------------------------------------------------------------------

    def installed(self) -> Mapping[str, Package]:
        """Return what dpkg's and apt's files say."""
        known = self._records()
        return dpkg.packages(
            known, dpkg.automatic(self._text("/var/lib/apt/extended_states")), self._architecture(known)
        )

    def simulate(self, install: Mapping[str, str], remove: Collection[str]) -> Mapping[str, Package | Absent]:
        """Return what apt's simulation of the request says."""
        installed = self.installed()
        wanted = [
            f"{name}={version}" if version else name
            for name, version in sorted(install.items())
            if not _is_right(installed.get(name), version)
        ]
        surplus = [f"{name}-" for name in sorted(remove) if installed.get(name, Package("", "config-files")).version]
        if not wanted and not surplus:
            return {}
        done = self._simulate((*wanted, *surplus), "--allow-downgrades", "--allow-change-held-packages")
        outcome = dpkg.simulated(done.stdout.decode(errors="replace"), self._architecture(self._records()))
        return {name: self._becoming(name, version, installed, install) for name, version in sorted(outcome.items())}

    def surplus(self, named: Collection[str]) -> tuple[str, ...]:
        """Follow dependencies and recommendations; what is essential, protected or required always stays."""
        known = self._records()
        return dpkg.surplus(known, named, self._architecture(known))

    def lacking(self, wanted: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Look among the kept files, in apt's cache and in its index."""
        missing = [one for one in wanted if self._kept.file(*file_pattern(*one)) is None and not self._cached(*one)]
        offered = self._offered(name for name, _ in missing) if missing else set()
        return tuple(one for one in missing if one not in offered)

    def contents(self, wanted: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[str, ...] | None]:
        """Read the packages' own lists, where files are on this host or in a repository that is a directory of it."""
        files = {one: file for one in wanted if (file := self._file(*one)) is not None}
        files |= self._local_repository_files([one for one in wanted if one not in files])
        if not files:
            return dict.fromkeys(wanted)
        # each is a line with its name, lines of paths, and a line that says that all went well
        listing = 'for file do printf "//%s\\n" "$file"; dpkg-deb --fsys-tarfile "$file" | tar -t && echo //; done'
        done = self._run(("sh", "-c", listing, "sh", *files.values()), keep=_LISTS)
        listed = _listed(done.stdout.decode(errors="surrogateescape").splitlines())
        return {one: listed.get(files.get(one, "")) for one in wanted}

    def owners(self, paths: Collection[str]) -> tuple[str, ...]:
        """Ask dpkg; a path that it does not know is nobody's."""
        if not paths:
            return ()
        done = self._host.run(Command(("dpkg-query", "--search", "--", *sorted(paths))))
        native = self._architecture(self._records())
        return dpkg.owners(done.stdout.decode(errors="surrogateescape"), native)

    def configuration(self, names: Collection[str]) -> tuple[str, ...]:
        """Return dpkg's conffiles."""
        known = self._records()
        native = self._architecture(known)
        return tuple(
            path
            for (name, architecture), stanza in known.items()
            if dpkg.called(name, architecture, native) in names
            for path in dpkg.conffiles(stanza)
        )

    def is_older(self, version: str, other: str) -> bool:
        """Compare as deb-version(7) says."""
        return is_older_deb(version, other)

    # ---- changing -------------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait for the locks of apt and dpkg."""
        wait_for("apt", [self._host.root.rstrip("/") + path for path in _LOCKS], say=self._say)

    def fetch(self, wanted: Collection[tuple[str, str]]) -> None:
        """Take files from apt's cache, else download them."""
        missing = [one for one in wanted if self._kept.file(*file_pattern(*one)) is None]
        for name, version in list(missing):
            cached = self._cached(name, version)
            if cached is not None:
                self._kept.take(cached)
                missing.remove((name, version))
        if not missing:
            return
        with self._kept.filling() as folder:
            words = [f"{name}={version}" for name, version in missing]
            download = 'cd "$1" && shift && exec apt-get --quiet --quiet -oAPT::Sandbox::User=root download "$@"'
            done = self._run(("sh", "-c", download, "sh", folder, *words))
        lost = [
            f"{name} {version}" for name, version in missing if self._kept.file(*file_pattern(name, version)) is None
        ]
        if done.status or lost:
            raise HostError(
                f"cannot be fetched: {', '.join(lost)}{_why(done)}", hint="`apt-get update`, then try again"
            )

    def transact(self, targets: Mapping[str, Package | Absent]) -> str:
        """Bring packages to their targets by apt-get, then purge, then set marks."""
        self.wait()
        with self._no_daemons():
            said = [*self._end_interrupted(targets), *self._change(targets), *self._purge(targets)]
            self._mark(targets)
        wrong = self._differing(targets)
        output = "".join(said)
        if wrong:
            raise HostError(f"{'; '.join(wrong)}{_last_error(output)}")
        return output

    def _end_interrupted(self, targets: Mapping[str, Package | Absent]) -> Iterator[str]:
        """Bring to an end what dpkg was doing when it was killed, or what failed."""
        open_ones = {
            name: one for name, one in self.installed().items() if one.status not in ("installed", "config-files")
        }
        if not open_ones and not self._updates():
            return
        for name, one in open_ones.items():
            if one.status != "half-installed":
                continue
            target = targets.get(name, one)
            file = self._kept_inside(name, target.version) if isinstance(target, Package) and target.version else None
            if file is not None:
                yield self._try((*_DPKG, "--unpack", file))
            elif name in targets:
                yield self._try((*_DPKG, "--force-remove-reinstreq", "--remove", name))
        yield self._try((*_DPKG, "--configure", "--pending"))

    def _change(self, targets: Mapping[str, Package | Absent]) -> Iterator[str]:
        found = self.installed()
        words: list[str] = []
        is_again = False
        for name, target in sorted(targets.items()):
            now = found.get(name)
            if isinstance(target, Package) and target.version:
                if now is None or now.version != target.version or now.status != "installed":
                    words.append(self._kept_inside(name, target.version) or f"{name}={target.version}")
                    is_again |= now is not None and now.version == target.version
            elif now is not None and now.version:
                words.append(f"{name}-")
        if not words:
            return
        options = (*_EXACTLY, *(("--reinstall",) if is_again else ()))
        self._refuse_more(words, options, targets)
        locked = f"-oDPkg::Lock::Timeout={_LIMIT:g}"
        done = self._run((*_APT, *options, *_KEEPING, locked, "install", *words))
        yield (done.stdout + done.stderr).decode(errors="replace")

    def _refuse_more(
        self, words: Sequence[str], options: tuple[str, ...], targets: Mapping[str, Package | Absent]
    ) -> None:
        """Refuse where apt would do anything else than what was planned: nothing has been changed yet."""
        done = self._simulate(words, *options)
        outcome = dpkg.simulated(done.stdout.decode(errors="replace"), self._architecture(self._records()))
        more = []
        for name, version in outcome.items():
            target = targets.get(name)
            planned = target.version if isinstance(target, Package) else ""
            if target is None or planned != version:
                more.append(f"{name} to {version}" if version else f"{name} away")
        if more:
            raise HostError(f"apt would now also bring {', '.join(sorted(more))}", hint="plan again")

    def _purge(self, targets: Mapping[str, Package | Absent]) -> Iterator[str]:
        found = self.installed()
        names = [name for name, target in sorted(targets.items()) if isinstance(target, Absent) and name in found]
        if names:
            yield self._try((*_DPKG, "--purge", *names))

    def _mark(self, targets: Mapping[str, Package | Absent]) -> None:
        found = self.installed()
        pairs = [
            (name, found[name], target)
            for name, target in sorted(targets.items())
            if isinstance(target, Package) and target.version and found.get(name, ABSENT) != ABSENT
        ]
        for verb, names in (
            ("auto", [name for name, now, target in pairs if target.auto and not now.auto]),
            ("manual", [name for name, now, target in pairs if now.auto and not target.auto]),
            ("hold", [name for name, now, target in pairs if target.hold and not now.hold]),
            ("unhold", [name for name, now, target in pairs if now.hold and not target.hold]),
        ):
            if names:
                self._try(("apt-mark", verb, *names))

    def _differing(self, targets: Mapping[str, Package | Absent]) -> list[str]:
        found = self.installed()
        return [
            f"package {name} is {_state(found.get(name))}, expected {_state(target)}"
            for name, target in sorted(targets.items())
            if found.get(name, ABSENT) != target
        ]

    # ---- apt and dpkg ---------------------------------------------------------------------------------------------

    def _records(self) -> dict[tuple[str, str], dict[str, str]]:
        folder = "/var/lib/dpkg/updates"
        return dpkg.records(
            self._text("/var/lib/dpkg/status"), [self._text(f"{folder}/{one}") for one in self._updates()]
        )

    def _updates(self) -> list[str]:
        return [name for name in self._host.names("/var/lib/dpkg/updates") if name.isdigit()]

    def _text(self, path: str) -> str:
        return self._host.read(path).decode(errors="surrogateescape") if self._host.status(path) is not None else ""

    def _architecture(self, known: Mapping[tuple[str, str], object]) -> str:
        """Return the architecture of dpkg itself, which is that of the host."""
        if not self._native:
            self._native = next((architecture for name, architecture in known if name == "dpkg"), "")
        return self._native

    def _simulate(self, words: Sequence[str], *options: str) -> Completed:
        done = self._run(("apt-get", "--simulate", "-oDebug::NoLocking=true", *options, "install", *words))
        if done.status:
            raise HostError(f"apt refuses {' '.join(words)}{_why(done)}")
        return done

    def _becoming(
        self, name: str, version: str, installed: Mapping[str, Package], requested: Mapping[str, str]
    ) -> Package | Absent:
        now = installed.get(name)
        if version:
            is_new = now is None or not now.version
            return Package(
                version, auto=name not in requested if is_new or now is None else now.auto, hold=bool(now and now.hold)
            )
        leaves = self.configuration([name]) or self._host.status(f"/var/lib/dpkg/info/{name}.postrm") is not None
        return Package("", "config-files") if leaves else ABSENT

    def _offered(self, names: Iterator[str]) -> set[tuple[str, str]]:
        listed = sorted(set(names))
        offered: set[tuple[str, str]] = set()
        for start in range(0, len(listed), _NAMES_AT_ONCE):
            done = self._run(("apt-cache", "madison", *listed[start : start + _NAMES_AT_ONCE]))
            for line in done.stdout.decode(errors="replace").splitlines():
                fields = [field.strip() for field in line.split("|")]
                if len(fields) == 3 and not fields[2].endswith("Sources"):
                    offered.add((fields[0], fields[1]))
        return offered

    def _file(self, name: str, version: str) -> str | None:
        """Return the path, below the root, of the package's file where it is kept in reach, or cached."""
        return self._kept.within_reach(*file_pattern(name, version)) or self._cached(name, version)

    def _kept_inside(self, name: str, version: str) -> str | None:
        return self._kept.inside(*file_pattern(name, version))

    def _cached(self, name: str, version: str) -> str | None:
        folder = "/var/cache/apt/archives"
        prefix, suffix = file_pattern(name, version)
        return next((f"{folder}/{one}" for one in self._host.names(folder) if _fits(one, prefix, suffix)), None)

    def _local_repository_files(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the paths, below the root, of those of which a repository that is a directory has the file."""
        offered = self._offered(name for name, _ in wanted) if wanted else set()
        asked = [one for one in wanted if one in offered]
        if not asked:
            return {}
        words = [f"{name}={version}" for name, version in asked]
        done = self._run(("apt-get", "--print-uris", "download", *words), keep=_LISTS)
        found = re.findall(r"^'(?:file|copy):(/[^']*)' (\S+)", done.stdout.decode(errors="replace"), re.MULTILINE)
        paths = {file: path for uri, file in found if (path := self._at(uri)) is not None}
        return {one: path for one in asked for file, path in paths.items() if _fits(file, *file_pattern(*one))}

    def _at(self, uri: str) -> str | None:
        path = os.path.normpath(uri.replace("%3a", ":") if self._host.status(uri) is None else uri)
        return path if self._host.status(path) is not None else None

    def _try(self, argv: tuple[str, ...]) -> str:
        """Run what may fail: what became of it is compared with the targets in the end."""
        done = self._run(argv)
        return (done.stdout + done.stderr).decode(errors="replace")

    def _run(self, argv: tuple[str, ...], keep: int = _OUTPUT) -> Completed:
        return self._host.run(Command(argv, environment=_QUIET, timeout=_LIMIT, keep=keep))

    @contextmanager
    def _no_daemons(self) -> Iterator[None]:
        """Let no script of a package start a daemon below an offline root; a file left by a crash is taken over."""
        place = self._host.root.rstrip("/") + _POLICY
        if not self._host.offline or (
            self._host.status(_POLICY) is not None and self._host.read(_POLICY) != _NO_DAEMONS
        ):
            yield
            return
        folder = os.path.dirname(place)
        before = os.stat(folder)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o755), "wb") as file:
            file.write(_NO_DAEMONS)
        made = os.stat(folder)
        try:
            yield
        finally:
            now = os.stat(folder)
            os.unlink(place)
            # what we put there and took away is no change of the directory
            was = before if now.st_mtime_ns == made.st_mtime_ns else now
            os.utime(folder, ns=(was.st_atime_ns, was.st_mtime_ns))


def _is_right(now: Package | None, version: str) -> bool:
    return now is not None and now.status == "installed" and version in ("", now.version)


def file_pattern(name: str, version: str) -> tuple[str, str]:
    """Return how the name of a package's file begins and ends, as apt writes it."""
    bare, _, architecture = name.partition(":")
    escaped = version.replace("%", "%25").replace(":", "%3a")
    return f"{bare}_{escaped}_", f"{architecture}.deb"


def _listed(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths in each package file that could be read to its end."""
    listed: dict[str, tuple[str, ...]] = {}
    file, paths = "", list[str]()
    for line in lines:
        if line == "//":
            listed[file] = tuple(paths)
        elif line.startswith("//"):
            file, paths = line.removeprefix("//"), []
        elif line not in ("./", "."):
            paths.append(line.removeprefix(".").rstrip("/"))
    return listed


def _fits(file: str, prefix: str, suffix: str) -> bool:
    return file.startswith(prefix) and file.endswith(suffix)


def _state(found: Package | Absent | None) -> str:
    if not isinstance(found, Package):
        return "not there"
    marks = [word for word, is_set in (("automatic", found.auto), ("held", found.hold)) if is_set]
    return " ".join([found.status, found.version, *(f"({', '.join(marks)})" for _ in marks[:1])]).strip()


def _why(done: Completed) -> str:
    return _last_error((done.stdout + done.stderr).decode(errors="replace"))


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "dpkg: error", "error:", "Error"))]
    return f": {errors[-1]}" if errors else f": {lines[-1]}" if lines else ""
