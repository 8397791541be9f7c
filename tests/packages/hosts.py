"""Real hosts on which aquiline installs packages: what one does on them, and what differs afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bed.host import BedHost, BedProcess
from tests.bed.snapshot import ACCOUNTS, Difference, HostSnapshot, diff


def profile(packages: Mapping[str, str | None], packager: str = "apt", **configuration: Any) -> dict[str, Any]:
    """Return a profile that wants these packages, by name and version, and lets others stay."""
    return {
        "software": {
            "components": {
                "spma": {"active": True, "dispatch": True, "packager": packager, "userpkgs": "yes", **configuration}
            },
            "packages": {
                escaped(name): {} if version is None else {escaped(version): {"arch": {"all": "bed"}}}
                for name, version in packages.items()
            },
        }
    }


def escaped(text: str) -> str:
    """Return `text` as Quattor escapes keys."""
    return "".join(
        one if one.isalnum() and (position or not one.isdigit()) else f"_{ord(one):02x}"
        for position, one in enumerate(text)
    )


def aquiline(host: BedHost, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run aquiline in the host."""
    return host.run(["aquiline", *words], check=check, timeout=300)


def give(host: BedHost, wanted: Mapping[str, Any], name: str = "/root/profile.json") -> str:
    """Put a profile into the host; return its path there."""
    Path(f"{host.root}{name}").write_text(json.dumps(wanted))
    return name


def apply(
    host: BedHost, wanted: Mapping[str, Any], *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Apply a profile."""
    return aquiline(host, "apply", give(host, wanted), *words, check=check)


def changed(before: HostSnapshot, after: HostSnapshot) -> list[str]:
    """Return all that differs, in words, but for what is written down as never restored."""
    return [str(one) for one in diff(before, after) if not may_differ(one, after)]


#: The profiles that the tests put there. What else may differ is listed in docs/reference/what-undo-leaves.md.
MAY_DIFFER = frozenset({"/root", "/root/profile.json"})
#: Their lines are put back, one by one: others may be somebody else's by then. So they get the time of the undo.
ACCOUNT_FILES = frozenset(f"/etc/{name}" for name in ACCOUNTS)
#: Scripts of Python's packages compile what is in here, whichever way its version changes.
COMPILED = "__pycache__"
#: Of a package of which nothing but configuration was left before.
LEFT_FIELDS = ("version", "conffiles")


def may_differ(one: Difference, after: HostSnapshot) -> bool:
    """Whether this is on the list."""
    is_left = one.part == "packages" and one.name in after.packages and "config-files" in after.packages[one.name].state
    is_account_file = one.what == "mtime_ns" and one.name in ACCOUNT_FILES
    is_compiled = one.what == "mtime_ns" and COMPILED in one.name.split("/")
    return one.name in MAY_DIFFER or is_account_file or is_compiled or (is_left and one.what in LEFT_FIELDS)


def hold(host: BedHost, lock: str) -> BedProcess:
    """Start a process that holds a lock file of a package manager until /run/let-go is there."""
    python = "import fcntl,os,sys,time; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); open('/run/held','w')"
    wait = "\nwhile not os.path.exists('/run/let-go'): time.sleep(0.02)"
    holder = host.start(["python3", "-c", python + wait, lock])
    wait_for(host, "/run/held")
    return holder


def says(process: BedProcess, text: str) -> str:
    """Return the line on stderr with `text`, as soon as it is there; what came before is read away."""
    assert process.popen.stderr is not None
    line = next((line for line in process.popen.stderr if text in line), None)
    assert line is not None, f"it ended without saying {text!r}"
    return line


def wait_for(host: BedHost, path: str, seconds: float = 30) -> None:
    """Return once `path` is there in the host."""
    host.run(["sh", "-c", f"until [ -e {path} ]; do sleep 0.02; done"], timeout=seconds)
