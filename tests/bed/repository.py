r"""Repositories inside a host, of tiny packages that the tests make up, in as many versions as they like.

::

    repository = AptRepository(host)
    tool = Deb("tool", "1.0", files={"/etc/tool.conf": "one\n"}, conffiles=("/etc/tool.conf",))
    repository.add(tool, replace(tool, version="2.0"), Deb("daemon", "1.0").with_service())
    host.run(["apt-get", "install", "-y", "tool=1.0"])

The host knows no other repository and needs no network.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .base import built, cache
from .checkout import PROGRAM, installed
from .host import BedHost

#: A postinst (or %post) that fails.
FAILING = "#!/bin/sh\necho 'this one always fails' >&2\nexit 1\n"
#: A postinst that asks a question, and fails where nobody answers.
PROMPTING = "#!/bin/sh\nset -e\nprintf 'Really? '\nread answer\n[ \"$answer\" = yes ]\n"

#: As `dh_installsystemd` writes it: enabled and started at the first installation, restarted by later ones.
SERVICE_POSTINST = """#!/bin/sh
set -e
deb-systemd-helper unmask {unit} >/dev/null || true
if deb-systemd-helper --quiet was-enabled {unit}; then
    deb-systemd-helper enable {unit} >/dev/null || true
else
    deb-systemd-helper update-state {unit} >/dev/null || true
fi
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
    deb-systemd-invoke $([ -n "$2" ] && echo restart || echo start) {unit} >/dev/null || true
fi
"""
SERVICE_PRERM = """#!/bin/sh
set -e
if [ -d /run/systemd/system ] && [ "$1" = remove ]; then
    deb-systemd-invoke stop {unit} >/dev/null || true
fi
"""
SERVICE_POSTRM = """#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = remove ]; then
    deb-systemd-helper mask {unit} >/dev/null || true
elif [ "$1" = purge ]; then
    deb-systemd-helper purge {unit} >/dev/null || true
    deb-systemd-helper unmask {unit} >/dev/null || true
fi
"""
SLEEPING_UNIT = """[Unit]
Description={name} of the tests

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Deb:
    """One version of a Debian package."""

    name: str
    version: str
    #: Path → content.
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    #: Those of `files` that are conffiles.
    conffiles: tuple[str, ...] = ()
    #: ``preinst``, ``postinst``, ``prerm``, ``postrm``, also ``config`` and ``templates`` → text.
    scripts: Mapping[str, str] = field(default_factory=dict)
    #: Further control fields: ``Depends``, ``Conflicts``, ``Breaks``, ``Replaces``, ``Provides``, ….
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def control(self) -> str:
        """The text of its control file."""
        own = {"Package": self.name, "Version": self.version, "Architecture": "all"}
        rest = {"Maintainer": "Tests <tests@example.org>", "Description": f"{self.name} of the tests"}
        return "".join(f"{name}: {value}\n" for name, value in {**own, **rest, **self.fields}.items())

    def with_service(self, unit_text: str | None = None) -> Deb:
        """Return it with ``NAME.service``, which sleeps by default, and the scripts debhelper makes for it."""
        unit = f"{self.name}.service"
        made = {"postinst": SERVICE_POSTINST, "prerm": SERVICE_PRERM, "postrm": SERVICE_POSTRM}
        scripts = {name: text.replace("{unit}", unit) for name, text in made.items()}
        text = unit_text or SLEEPING_UNIT.format(name=self.name)
        files = {**self.files, f"/lib/systemd/system/{unit}": text}
        return replace(self, files=files, scripts={**scripts, **self.scripts})

    def build(self, directory: Path) -> Path:
        """Make the package's file in `directory` and return it."""
        with tempfile.TemporaryDirectory() as tree:
            parts = {**self.files, "/DEBIAN/control": self.control}
            parts |= {f"/DEBIAN/{name}": text for name, text in self.scripts.items()}
            if self.conffiles:
                parts["/DEBIAN/conffiles"] = "".join(f"{path}\n" for path in self.conffiles)
            for path, content in parts.items():
                file = Path(f"{tree}{path}")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.encode() if isinstance(content, str) else content)
                is_program = path.startswith(("/DEBIAN/p", "/DEBIAN/config", "/etc/init.d/")) or "bin/" in path
                file.chmod(0o755 if is_program else 0o644)
            Path(tree).chmod(0o755)
            made = directory / f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
            command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, str(made)]
            subprocess.run(command, check=True, capture_output=True)
            return made


def aquiline_deb(version: str) -> Deb:
    """Return this checkout's aquiline, with what it needs, as a package that says it is `version`."""
    lib = installed() / "lib"
    places = {file: f"/usr/lib/python3/dist-packages/{file.relative_to(lib)}" for file in lib.rglob("*")}
    # bytecode belongs to the mtimes of the files it was made from
    files = {place: file.read_bytes() for file, place in places.items() if file.is_file() and file.suffix != ".pyc"}
    module = lib / "aquiline/__init__.py"
    says = re.sub(r'(?<=__version__ = ").*(?=")', version, module.read_text())
    changed = {places[module]: says.encode(), "/usr/bin/aquiline": PROGRAM.encode()}
    return Deb("aquiline", version, files=files | changed, fields={"Depends": "python3"})


@dataclass(frozen=True, slots=True)
class Repacked:
    """A package that a host has, made into a file again: with its scripts, and as another version if need be."""

    #: The host's tree.
    root: Path
    name: str
    #: The version that it says it is; where others are named in its fields, they are as the host has them.
    version: str
    #: The version that the host has; also in fields such as ``Depends: other (= VERSION)``.
    old: str
    #: Path → what is added at the end of that file.
    added: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def control(self) -> str:
        """The text of its control file."""
        records = (self.root / "var/lib/dpkg/status").read_text().split("\n\n")
        record = next(one for one in records if one.startswith(f"Package: {self.name}\n"))
        fields = [one for one in re.split(r"\n(?! )", record) if not one.startswith(("Status:", "Conffiles:"))]
        return "".join(f"{one}\n" for one in fields).replace(self.old, self.version)

    def build(self, directory: Path) -> Path:
        """Make the package's file in `directory` and return it."""
        notes = self.root / "var/lib/dpkg/info"
        info = next(one for one in notes.glob(f"{self.name}*.list") if one.stem.partition(":")[0] == self.name)
        paths = [line for line in info.read_text().splitlines() if line != "/."]
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            (tree / "DEBIAN").mkdir(parents=True)
            (Path(place) / "paths").write_text("".join(f".{path}\n" for path in paths))
            pack = f"tar -C {self.root} -c --no-recursion -T {place}/paths | tar -C {tree} -xp"
            subprocess.run(["sh", "-euc", pack], check=True)
            for path, data in self.added.items():
                with (tree / path.lstrip("/")).open("ab") as file:
                    file.write(data)
            (tree / "DEBIAN/control").write_text(self.control)
            for part in ("conffiles", "preinst", "postinst", "prerm", "postrm"):
                script = info.with_suffix(f".{part}")
                if script.exists():
                    shutil.copy2(script, tree / "DEBIAN" / part)
            tree.chmod(0o755)
            made = directory / f"{self.name}_{self.version}_repacked.deb"
            command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(made)]
            subprocess.run(command, check=True, capture_output=True)
            return made


class AptRepository:
    """A repository in a host, and its only one."""

    def __init__(self, host: BedHost) -> None:
        self.host = host
        #: The directory of the repository, seen from outside.
        self.directory = host.root / "srv/apt"
        self.directory.mkdir(parents=True)
        (self.directory / "Packages").touch()
        shutil.rmtree(host.root / "etc/apt/sources.list.d")
        (host.root / "etc/apt/sources.list.d").mkdir()
        (host.root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/apt ./\n")

    def add(self, *debs: Deb | Repacked) -> None:
        """Add packages, and have the host read the index."""
        for deb in debs:
            file = deb.build(self.directory)
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            with (self.directory / "Packages").open("a") as index:
                index.write(f"{deb.control}Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {digest}\n\n")
        self.update()

    def withdraw(self, name: str, version: str) -> None:
        """Take one version away, as mirrors do, and have the host read the index."""
        index = self.directory / "Packages"
        records = index.read_text().split("\n\n")[:-1]
        kept = [one for one in records if not one.startswith(f"Package: {name}\nVersion: {version}\n")]
        assert len(kept) < len(records), f"there is no {name} {version}"
        index.write_text("".join(f"{one}\n\n" for one in kept))
        self.update()

    def update(self) -> None:
        """Have the host read the index."""
        self.host.run(["apt-get", "update", "-q"])


@dataclass(frozen=True, slots=True)
class Rpm:
    """One version of an rpm package."""

    name: str
    version: str
    release: str = "1"
    #: Path → content.
    files: Mapping[str, str] = field(default_factory=dict)
    #: Those of `files` that are ``%config(noreplace)``.
    conffiles: tuple[str, ...] = ()
    #: ``pre``, ``post``, ``preun``, ``postun``, ``pretrans``, ``posttrans`` → shell text.
    scripts: Mapping[str, str] = field(default_factory=dict)
    #: Further tags, some of them lists: ``Requires``, ``Conflicts``, ``Obsoletes``, ``Provides``, ….
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> str:
        """The text of its spec file."""
        own = {"Name": self.name, "Version": self.version, "Release": self.release, "BuildArch": "noarch"}
        return "\n".join(self._lines({**own, "License": "none", "Summary": f"{self.name} of the tests", **self.tags}))

    def _lines(self, tags: Mapping[str, str]) -> Iterator[str]:
        yield from (f"{name}: {value}" for name, value in tags.items())
        yield from ("%description", "Of the tests.", "%install")
        for path, text in self.files.items():
            yield f"mkdir -p %{{buildroot}}{Path(path).parent}"
            yield f"printf %%s {shlex.quote(text.replace('%', '%%'))} > %{{buildroot}}{path}"
        for name, text in self.scripts.items():
            yield from (f"%{name}", text.replace("%", "%%"))
        yield "%files"
        for path in self.files:
            mode = "0755" if "bin/" in path else "0644"
            yield f"%attr({mode}, root, root) {'%config(noreplace) ' if path in self.conffiles else ''}{path}"
        yield ""


#: What every package with a script requires, and no rpm on a Debian host provides.
SHELL = Rpm("sh", "1", tags={"Provides": "/bin/sh"})
REPOSITORY = "[bed]\nname=bed\nbaseurl=file:///srv/rpm\ngpgcheck=0\nmetadata_expire=0\n"


class DnfRepository:
    """A repository in a host of the base tree `RPM`, and its only one; the dummy that provides /bin/sh is installed."""

    def __init__(self, host: BedHost) -> None:
        self.host = host
        #: The directory of the repository, seen from outside.
        self.directory = host.root / "srv/rpm"
        self.directory.mkdir(parents=True)
        (host.root / "etc/yum.repos.d/bed.repo").write_text(REPOSITORY)
        self.add(SHELL)
        host.run(["dnf", "-y", "install", SHELL.name])

    def add(self, *rpms: Rpm) -> None:
        """Add packages, and have the host read the index."""
        for rpm in rpms:
            for file in self._build(rpm).glob("*.rpm"):
                shutil.copy(file, self.directory)
        self.update()

    def _build(self, rpm: Rpm) -> Path:
        """Return a directory with the package's file, built by the host's rpmbuild if nobody did before."""

        def build(half: Path) -> None:
            work = self.host.root / "srv/rpm-build"
            work.mkdir()
            (work / "spec").write_text(rpm.spec)
            self.host.run(["rpmbuild", "-bb", "--define", "_topdir /srv/rpm-build", "/srv/rpm-build/spec"])
            shutil.copytree(work / "RPMS/noarch", half)
            shutil.rmtree(work)

        return built(cache() / "rpms" / hashlib.sha256(rpm.spec.encode()).hexdigest()[:16], build)

    def withdraw(self, name: str, version: str) -> None:
        """Take one version away, as mirrors do, and have the host read the index."""
        (file,) = self.directory.glob(f"{name}-{version}-*.rpm")
        file.unlink()
        self.update()

    def update(self) -> None:
        """Have the host read the index."""
        self.host.run(["createrepo_c", "--quiet", "--update", "/srv/rpm"])
        self.host.run(["dnf", "-q", "makecache"])
