"""One host, opened: its tree, its state directory, its policy; and the checks that stand before every run."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from aquiline import __version__
from aquiline.agent.itself import itself
from aquiline.changes.itself import Itself
from aquiline.changes.perform import forget_leftovers, label_of
from aquiline.components import installed
from aquiline.errors import HostError, HostFrozen, JournalError, RunInterrupted
from aquiline.execution.policy import POLICY_FILE, Policy, load_policy
from aquiline.host.looking import open_quietly
from aquiline.host.objects import At, RegularFile
from aquiline.host.real import RealHost
from aquiline.host.scratch import sweep
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import RunHeader, RunKind
from aquiline.journal.script import sweep_scripts
from aquiline.journal.state import StateDirectory, current_user, make_durable
from aquiline.journal.store import Journal
from aquiline.planning.facts import facts_of
from aquiline.planning.forbidden import Forbidden
from aquiline.planning.known import MEBIBYTE, Budget, Known, Owed
from aquiline.profile import Profile, ProfileArchive

DEFAULT_STATE = "var/lib/aquiline"
TEMPLATES = "etc/aquiline/templates"


class Freeze(msgspec.Struct, frozen=True):
    """Why no run starts on this host."""

    reason: str
    by: str
    #: Seconds since the epoch, for show.
    since: float


class Session:
    """One host, opened. Use it as a context. `say` is told, a line each, whom is waited for."""

    def __init__(
        self,
        root: str = "/",
        state: str | None = None,
        *,
        templates: str | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.root = str(Path(root).absolute())
        place = Path(state).absolute() if state is not None else Path(self.root, DEFAULT_STATE)
        self.state = StateDirectory(place, must_persist=self.root == "/")
        self.host = RealHost(self.root, kept=self.state.links, packages=self.state.packages, say=say)
        self.preimages = PreimageStore(self.state)
        self.archive = ProfileArchive(self.state.profiles)
        #: The generation of the target that its runs are for; 0 where a person asks.
        self.generation = 0
        self._templates = Path(templates) if templates is not None else Path(self.root, TEMPLATES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.close()

    @contextmanager
    def changing(self, purpose: str) -> Iterator[Journal]:
        """Hold the host's lock and its journal open for writing.

        Raises:
            HostLocked: somebody else does.
        """
        self.state.create()
        self._make_key()
        with self.state.lock(purpose), Journal.open(self.state) as journal:
            self.preimages.sweep()
            sweep_scripts(self.state)
            sweep(self.root)
            self._sweep_failed(journal)
            yield journal

    def _sweep_failed(self, journal: Journal) -> None:
        """Remove what failed runs left half-built because the host let them not even do that."""
        for run in itertools.takewhile(lambda run: run.status == "failed", journal.runs()):
            for record in journal.steps(run.id):
                if record.step is not None and record.status in ("failed", "not-done", "in-doubt"):
                    forget_leftovers(record.step, self.host, label_of(run.id, record.step))

    @contextmanager
    def reading(self) -> Iterator[Journal]:
        """Hold the journal open for reading; nothing on disk changes, no lock is taken."""
        with Journal.open(self.state, read_only=True) as journal:
            yield journal

    def content(self, path: str) -> bytes | None:
        """Return what the regular file at `path` holds, None where it cannot be had."""
        try:
            return self.host.read(path)
        except HostError:
            return None

    def preimage(self, sha256: str) -> bytes | None:
        """Return what the store holds under a digest, None where it holds nothing."""
        return b"".join(self.preimages.chunks(sha256)) if self.preimages.has(sha256) else None

    def _make_key(self) -> None:
        """Make the host's own key for digests of secrets, once (D9)."""
        place = self.state.path / "host.key"
        if place.exists():
            return
        temporary = self.state.spool / "host.key"
        try:
            temporary.touch(0o600)
            temporary.write_bytes(self._own_material() or secrets.token_bytes(32))
            make_durable(temporary)
            temporary.rename(place)
            make_durable(self.state.path)
        except OSError as error:
            raise HostError(f"the host's key cannot be made: {error.strerror}", path=str(place)) from error

    def lost_journal(self) -> str:
        """Return what tells of runs that no journal knows, in words; empty where nothing does."""
        left = [(self.state.undo, "*.sh", "undo script")]
        if not self.state.database.exists():
            left += [(self.state.profiles, "*.gz", "profile"), (self.state.preimages, "*/*", "pre-image")]
        for folder, pattern, noun in left:
            found = sum(1 for _ in folder.glob(pattern))
            if found:
                return f"the journal is gone, {found} {noun}{'s are' if found > 1 else ' is'} there: {folder}"
        return ""

    def refuse_lost_journal(self) -> None:
        """Raise `JournalError` where runs have left their traces and no journal: it was removed."""
        lost = "" if self.state.database.exists() else self.lost_journal()
        if lost:
            raise JournalError(
                lost, hint="`aquiline fsck` says what can be undone; `aquiline undo --from FILE` or a script undoes it"
            )

    # ---- gates ----------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """Return the host's policy as it stands now."""
        return load_policy(self.root)

    def refuse_interrupted(self, journal: Journal) -> None:
        """Refuse to start where an earlier run did not end."""
        for run in journal.open_runs():
            done = sum(1 for step in journal.steps(run.id) if step.status in ("done", "assumed-done"))
            raise RunInterrupted(
                f"run {run.id} ({run.header.kind}) stopped half way: {done} of {run.steps} steps done",
                hint="`aquiline recover` takes it back to how it was; `aquiline recover --finish` completes it",
            )

    def refuse_held(self) -> None:
        """Refuse to start where a person or the policy says so."""
        policy, frozen = self.policy(), self.frozen()
        if policy.freeze:
            raise HostFrozen(f"this host's policy says freeze: {policy.freeze}", hint="edit its policy.toml")
        if frozen is not None:
            raise HostFrozen(f"frozen by {frozen.by}: {frozen.reason}", hint="`aquiline thaw` lifts it")

    def refuse_frozen(self, journal: Journal) -> None:
        """Refuse to start where a person, the policy or a waiting confirmation says so."""
        self.refuse_held()
        policy = self.policy()
        waiting = next((run for run in journal.runs() if run.awaits_confirmation), None)
        if waiting is not None:
            raise HostFrozen(
                f"run {waiting.id} waits for confirmation",
                hint="`aquiline confirm` keeps it, `aquiline undo` takes it back",
            )
        if policy.runs_per_hour:
            recent = sum(1 for run in journal.runs() if run.header.started > time.time() - 3600)
            if recent >= policy.runs_per_hour:
                raise HostFrozen(f"{recent} runs in the last hour; this host's policy allows {policy.runs_per_hour}")

    def frozen(self) -> Freeze | None:
        """Return who froze this host and why, None where nobody did."""
        try:
            return msgspec.json.decode((self.state.path / "frozen").read_bytes(), type=Freeze)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise JournalError(f"{self.state.path}/frozen cannot be read: {error}") from None

    def freeze(self, reason: str) -> None:
        """Let no run start on this host until `thaw`; durable when this returns."""
        self.state.create()
        freeze = Freeze(reason or "no reason given", person(), time.time())
        temporary = self.state.path / ".frozen"
        try:
            temporary.touch(mode=0o600)
            temporary.write_bytes(msgspec.json.encode(freeze))
            make_durable(temporary)
            temporary.rename(self.state.path / "frozen")
            make_durable(self.state.path)
        except OSError as error:
            raise HostError(f"the freeze cannot be written: {error.strerror}", path=str(self.state.path)) from error

    def thaw(self) -> None:
        """Lift a freeze, durably; none there is success."""
        if (self.state.path / "frozen").exists():
            (self.state.path / "frozen").unlink(missing_ok=True)
            make_durable(self.state.path)

    # ---- what planning is told ------------------------------------------------------------------------------------

    def known(self, journal: Journal, profile: Profile | None) -> Known:
        """Return what planning is told besides profile and host."""
        policy = self.policy()
        last = journal.last_values()

        def last_value(path: str) -> At | None:
            return At(path, last[path]) if path in last else None

        return Known(
            last_value=last_value,
            owed=[Owed(debt.reaction, debt.component, debt.run) for debt in journal.debts()],
            templates=self.template,
            forbidden=self.forbidden(),
            never_undone=policy.is_never_undone,
            never_downgraded=policy.is_never_downgraded,
            why_not_downgraded=policy.why_not_downgraded,
            budget=Budget(step=policy.preimage_mib_per_step * MEBIBYTE, run=policy.preimage_mib_per_run * MEBIBYTE),
            facts=facts_of(profile, self.host) if profile is not None else {},
            secret_key=self._secret_key(),
            itself=itself(with_components=profile is not None) if self.root == "/" else Itself(),
            state=self._state_on_host(),
            lost_journal="" if journal.has_runs() else self.lost_journal(),
        )

    def forbidden(self) -> Forbidden:
        """Return what no profile may change: what policy says, the policy itself, and the journal."""
        own = {f"/{POLICY_FILE}": "no profile may change the host's own policy"}
        if self._state_on_host():
            own[self._state_on_host()] = "no profile may change aquiline's own state: undo lives there"
        return Forbidden.on(self.host, {**self.policy().forbidden(), **own})

    def _state_on_host(self) -> str:
        """Return where the state directory is below the root, empty where it is outside."""
        for root, state in ((Path(self.root), self.state.path), (Path(self.root).resolve(), self.state.path.resolve())):
            if state.is_relative_to(root):
                return f"/{state.relative_to(root)}"
        return ""

    def template(self, relative: str) -> str | None:
        """Return the site's template of that name, None where there is none."""
        place = (self._templates / relative).resolve()
        if not place.is_relative_to(self._templates.resolve()) or not place.is_file():
            return None
        # A dry-run leaves the host as it was, access times included.
        with open(open_quietly(str(place)), encoding="utf-8") as file:  # noqa: PTH123  # a path cannot open so
            return file.read()

    def _secret_key(self) -> bytes:
        """Return the key of the digests of secrets: the domain's where the host has been given one, else its own.

        A host that has never been changed has none yet, and a dry-run writes nothing: until then the key is made of
        what only root can read and what no two hosts share, so that the same plan has the same digest each time.
        """
        for name in ("domain.key", "host.key"):
            try:
                return (self.state.path / name).read_bytes()
            except FileNotFoundError:
                continue
        return self._own_material() or b"a root that has nothing of its own yet"

    def _own_material(self) -> bytes:
        """Return what only root can read and no two hosts share, as a key; empty where there is nothing of the sort.

        The first run makes it the host's key, so that its digests are those of the dry-run before it (P1). A root that
        is still empty has nothing of its own: its key is made of what this machine has, and of where the root is.
        """
        if not isinstance(self.host.observe("/etc/shadow"), RegularFile):
            return self._machines_material()
        material = hashlib.sha256(b"aquiline host key\0" + self.host.read("/etc/shadow"))
        if isinstance(self.host.observe("/etc/machine-id"), RegularFile):
            material.update(self.host.read("/etc/machine-id"))
        return material.digest()

    def _machines_material(self) -> bytes:
        material = hashlib.sha256(b"aquiline root key\0" + os.fsencode(self.root) + b"\0")
        try:
            material.update(Path("/etc/shadow").read_bytes())
        except OSError:
            return b""
        with contextlib.suppress(OSError):
            material.update(Path("/etc/machine-id").read_bytes())
        return material.digest()

    def header(self, kind: RunKind, **details: Any) -> RunHeader:
        """Return the header of a run that begins now."""
        return RunHeader(
            kind=kind, started=time.time(), tool=__version__, user=person(), argv=tuple(sys.argv), pid=os.getpid(),
            generation=self.generation, **details,
        )  # fmt: skip


def registry_for(profile: Profile) -> Mapping[str, Any]:
    """Return the installed components that `profile` names."""
    return installed(profile.components())


def person() -> str:
    """Return who asks: the user behind sudo where there is one."""
    return os.environ.get("SUDO_USER") or current_user()
