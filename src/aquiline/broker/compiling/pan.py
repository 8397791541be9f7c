"""Profiles from Pan templates: runs an installed ``panc``, the compiler of Quattor's sites.

Each host has an object template ``FOLDER/NAME.pan``, where FOLDER is ``hosts`` unless told otherwise. Panc is called as

    panc --formats json --include-path DIR[:DIR…] --output-dir DIR TEMPLATE…

with up to a few hundred templates at a time. It writes ``NAME.json`` for each template that compiles, goes on with the
others when one does not, and says on its output what is wrong, naming the template.
Source of options and output: panc 10, its command line and its JSON formatter.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

from aquiline.broker.compiling.outcome import Compiled, CompileFailed, compiled, failed, is_host, misnamed
from aquiline.broker.scratch import scratch_folder
from aquiline.errors import CompilerMissing, ProfileError
from aquiline.profile import load

#: Templates in one call: more make the command line too long, and lose more when one call takes too long.
BATCH = 500
#: Bytes of panc's output that are kept.
MAX_OUTPUT = 64 << 10
_MAX_SAID = 2000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _TooLong(Exception):
    """The compiler was stopped."""


class Pan:
    """The compiler for Pan templates."""

    def __init__(
        self,
        program: Path | str,
        *,
        include: Sequence[str] = (".",),
        folder: str = "hosts",
        timeout: float = 1800.0,
        java_home: str = "",
    ) -> None:
        """Run `program`, an absolute path; look for templates in the folders `include` of a source, in this order.

        A call that takes more than `timeout` seconds is stopped, and its hosts fail.
        """
        self._program = Path(program)
        self._include = tuple(include)
        self._folder = folder
        self._timeout = timeout
        self._environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8"} | ({"JAVA_HOME": java_home} if java_home else {})

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        """Return for each of `hosts` its profile, or what is wrong; raise `CompilerMissing` where there is no panc."""
        self.refuse_missing()
        root = source.resolve()
        found = {host: self._absent(root, host) for host in hosts}
        there = [host for host, failure in found.items() if failure is None]
        outcomes: dict[str, Compiled | CompileFailed] = {host: one for host, one in found.items() if one is not None}
        for start in range(0, len(there), BATCH):
            outcomes.update(self._batch(root, there[start : start + BATCH]))
        return {host: outcomes[host] for host in hosts}

    def refuse_missing(self) -> None:
        """Raise `CompilerMissing` where there is no panc."""
        if not self._program.is_absolute() or not os.access(self._program, os.X_OK) or self._program.is_dir():
            raise CompilerMissing(
                f"{self._program}: no panc there, expected the absolute path of a program",
                hint="install panc, and name it: aquiline broker --compiler pan --panc /opt/panc/bin/panc",
            )

    def hosts(self, source: Path) -> tuple[str, ...]:
        """Return the names of the object templates, sorted."""
        names = (file.name.removesuffix(".pan") for file in (source / self._folder).glob("*.pan"))
        return tuple(sorted(filter(is_host, names)))

    def _absent(self, root: Path, host: str) -> CompileFailed | None:
        if not is_host(host):
            return failed(host, "/", found=f"the name {host!r}", expected="a host's name")
        file = self._template(host)
        if not (root / file).is_file():
            return failed(host, file, found="no such file", expected="an object template for each host")
        return None

    def _template(self, host: str) -> str:
        return f"{self._folder}/{host}.pan"

    def _batch(self, root: Path, hosts: Sequence[str]) -> Iterator[tuple[str, Compiled | CompileFailed]]:
        with scratch_folder("panc") as scratch:
            output = Path(scratch) / "profiles"
            output.mkdir()
            include = ":".join(str((root / folder).resolve()) for folder in self._include)
            arguments = [str(self._program), "--formats", "json", "--include-path", include]
            arguments += ["--output-dir", str(output), *(str(root / self._template(host)) for host in hosts)]
            try:
                said = self._run(arguments, Path(scratch))
            except _TooLong:
                said = f"it took more than {self._timeout:g} seconds for {len(hosts)} hosts"
            for host in hosts:
                yield host, self._outcome(host, output, said.replace(f"{root}/", ""))

    def _outcome(self, host: str, output: Path, said: str) -> Compiled | CompileFailed:
        file = self._template(host)
        places = [output / f"{host}.json", output / self._folder / f"{host}.json"]
        made = next((place for place in places if place.is_file() and not place.is_symlink()), None)
        if made is None:
            why = _about(file, said)
            return CompileFailed(host, file, why, "a template that compiles", f"{host}: {file}: panc says: {why}")
        try:
            tree = load(made).tree
        except ProfileError as error:
            why = str(error).removeprefix(f"{made}: ")
            return failed(host, file, found=f"what panc wrote is no profile: {why}", expected="a profile")
        return misnamed(host, tree) or compiled(tree)

    def _run(self, arguments: list[str], scratch: Path) -> str:
        """Return the beginning of what the compiler says; stop it, with its children, when its time is over."""
        process = subprocess.Popen(
            arguments,
            cwd=scratch,
            env={**self._environment, "HOME": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            return _read(process, time.monotonic() + self._timeout).decode(errors="replace")
        except BaseException:
            # It is not waited for yet, so the group is still its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            process.wait()
            if process.stdout:
                process.stdout.close()


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout
    kept = b""
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _TooLong
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            kept = (kept + chunk)[:MAX_OUTPUT]
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _TooLong from None
    return kept


def _about(file: str, said: str) -> str:
    """Return what the compiler says of one template: the lines that name it, or all if none does."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [line for line in lines if file in line]
    return "\n".join(own or lines)[:_MAX_SAID] or "nothing, and wrote no profile"
