"""A run in a cgroup of its own, so that whatever stops the service which started it does not stop the run (D16).

An agent, a scheduler or a remote shell may be restarted by the very run that they started: by an upgrade of their
package, by a change of their configuration. systemd then kills all that is in the cgroup of that service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
#: Seconds.
_PATIENCE = 30


def leave_service(root: str) -> str:
    """Move this process, with what it will start, to a scope of its own; return the service that still holds it.

    Empty where it is in none, or no longer: below another root than the system's, without systemd, in a login session.
    """
    service = _service() if Path(root).resolve() == Path("/") else ""
    if not service:
        return ""
    program = shutil.which("busctl")
    if program is None:
        return service
    scope = f"aquiline-run-{os.getpid()}.scope"
    asked = [program, "call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", "1"]
    asked += ["PIDs", "au", "1", str(os.getpid()), "0"]
    if subprocess.run(asked, check=False, capture_output=True, timeout=_PATIENCE).returncode:
        return service
    end = time.monotonic() + _PATIENCE
    while _service() and time.monotonic() < end:
        time.sleep(0.01)  # systemd has put it in its queue
    return _service()


def _service() -> str:
    """Return the service of systemd in whose cgroup this process is, empty where it is in none."""
    if not Path("/run/systemd/system").is_dir():
        return ""
    for line in Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.split("/")
        if controllers in ("", "name=systemd"):
            for part in parts:
                if part.endswith(".service"):
                    return part
    return ""
