"""Running git: by arguments and never a shell, in an environment of our own, within a time.

Nobody's configuration is read but the repository's, no hook runs, nothing is asked of a terminal. What people push is
data: no filter, merge driver or replacement object of theirs has any effect on what the broker does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from aquiline.broker.locks import sweep_locks
from aquiline.errors import RepositoryError

#: Seconds for one command of git's.
TIMEOUT = 120.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {
    "PATH": _PATH,
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_EDITOR": "false",
}
_SETTINGS = ("core.hooksPath=/dev/null", "core.quotePath=false", "gc.auto=0", "protocol.allow=never")
_LOCAL_FETCH = "protocol.file.allow=always"
_MESSAGE_LIMIT = 4000
#: How git says that somebody else is at it, or has left a lock.
_LOCKED = re.compile(rb"\.lock'?: File exists")
_log = logging.getLogger("aquiline.broker")


class Git:
    """Git in one folder: a bare repository, or a scratch clone."""

    def __init__(self, folder: Path, *, timeout: float = TIMEOUT, started: float = 0.0) -> None:
        self.folder = folder
        self._timeout = timeout
        #: Locks that are older than this may be those of a git that is gone; 0: none is looked for.
        self._started = started

    def __call__(
        self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None, accepted: int = 0
    ) -> str:
        """Return what ``git ARGUMENTS`` prints, no line end; raise `RepositoryError` unless it exits `accepted`."""
        found = self.run(*arguments, given=given, environment=environment)
        if found.returncode != accepted:
            raise refused(arguments, found)
        return found.stdout.decode(errors="surrogateescape").rstrip("\n")

    def run(
        self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Return what became of ``git ARGUMENTS``, whatever its exit status; `RepositoryError` if it takes too long."""
        found = self._run(*arguments, given=given, environment=environment)
        is_locked = found.returncode != 0 and _LOCKED.search(found.stderr) is not None
        return self._run(*arguments, given=given, environment=environment) if is_locked and self.unlock() else found

    def unlock(self) -> bool:
        """Remove the locks that nobody holds any more; return whether there were any."""
        swept = sweep_locks(self.folder, started=self._started) if self._started else []
        for name in swept:
            _log.warning("%s was left by a git that is gone, and is gone now", self.folder / name)
        return bool(swept)

    def _run(
        self, *arguments: str, given: bytes, environment: Mapping[str, str] | None
    ) -> subprocess.CompletedProcess[bytes]:
        with self.started(*arguments, environment=environment) as process:
            try:
                out, err = process.communicate(given, timeout=self._timeout)
            except subprocess.TimeoutExpired:
                raise RepositoryError(f"git {arguments[0]} took more than {self._timeout:g} seconds") from None
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextlib.contextmanager
    def started(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start ``git ARGUMENTS`` with pipes; when the block is left, it and its children are gone."""
        settings = [word for setting in (*_SETTINGS, _LOCAL_FETCH) for word in ("-c", setting)]
        try:
            process = subprocess.Popen(
                ["git", *settings, *arguments],
                cwd=self.folder,
                env={**_ENVIRONMENT, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except FileNotFoundError:
            if not self.folder.is_dir():
                raise RepositoryError(f"{self.folder}: no such folder") from None
            raise RepositoryError("git is not installed", hint="install git on the broker's machine") from None
        except OSError as error:
            raise RepositoryError(f"git {arguments[0]} cannot be started: {error.strerror}") from None
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                # A process that is gone takes nothing more: why it went stands on its stderr.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was started in a group of its own, with its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def refused(arguments: tuple[str, ...], found: subprocess.CompletedProcess[bytes]) -> RepositoryError:
    """Return the error for a command that git refused."""
    said = (found.stderr or found.stdout).decode(errors="replace").strip()[:_MESSAGE_LIMIT]
    hint = "if no git is running there, remove the file" if ".lock'" in said else ""
    return RepositoryError(f"git {arguments[0]} failed: {said or f'exit status {found.returncode}'}", hint=hint)
