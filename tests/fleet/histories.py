"""Hosts as small as they can be, for histories of a fleet: a tree is a dictionary, a profile says what some of it is.

The broker is the real one, on a real database and a real git repository, and what a host does next is decided by the
real `next_move`. Only what a run does to a machine is drawn small here; that the real engine does the same is shown by
`tests/fleet/test_real_hosts.py`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aquiline.agent.reconciling import (
    Arrived,
    Bring,
    Prove,
    Recover,
    Standing,
    Standpoint,
    TakeBack,
    next_move,
)
from aquiline.broker import answering
from aquiline.broker.broker import Broker
from aquiline.broker.compiling import Compiled, CompileFailed
from aquiline.broker.records import Host
from aquiline.profile import Profile
from aquiline.protocol.changesets import ChangeSet, change_set_digest
from aquiline.protocol.messages import Live, Order, Poll, Report, Target, encode_message

Tree = dict[str, str]


class FilesCompiler:
    """Makes a profile of the files ``common/KEY`` and ``HOST/KEY``: each is one entry of the host's tree."""

    def compile(self, source: Path, hosts: Sequence[str]) -> Mapping[str, Compiled | CompileFailed]:
        return {host: self._compiled(source, host) for host in hosts}

    def hosts(self, source: Path) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in source.iterdir() if path.name != "common"))

    def _compiled(self, source: Path, host: str) -> Compiled | CompileFailed:
        entries = {
            path.name: path.read_text() for folder in ("common", host) for path in sorted((source / folder).glob("*"))
        }
        if "broken" in entries.values():
            return CompileFailed(host, "/", "broken", "anything else", f"{host} does not compile")
        return Compiled(entries, Profile(entries).digest)


@dataclass
class Run:
    """A run of a small host: what it brought, the profile it made live, what it replaced."""

    id: str
    change_ids: tuple[str, ...]
    profile: str
    #: Key to what was there before and what the run left; None is nothing.
    effect: dict[str, tuple[str | None, str | None]]
    #: What was live before.
    before: Live
    status: str = "done"
    undone: bool = False


@dataclass
class SmallHost:
    """A host that remembers its runs, and may be off, die in the middle, or be edited by hand."""

    name: str
    broker: Broker
    tree: Tree = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    live: Live = field(default_factory=Live)
    journal: str = "journal-1"
    generation: int = 0
    held: int = 0
    reports: list[Report] = field(default_factory=list)
    #: Changes that it can take back no more.
    past_undo: tuple[str, ...] = ()
    #: Steps that it may still do before it dies; None: it does not.
    fuse: int | None = None
    counter: int = 0

    # ---- talking ----

    def record(self) -> Host:
        with self.broker.store.transaction() as tx:
            found = tx.host(self.name)
        assert found is not None
        return found

    def poll(self) -> Poll:
        return Poll(
            tool="test", journal=self.journal, machine_id=self.record().machine_id, live=self.live,
            generation=self.generation, state="held" if self.held else "idle", past_undo=self.past_undo,
        )  # fmt: skip

    def visit(self) -> None:
        """Poll, do all there is, report, until there is nothing new."""
        poll = self.poll()
        answered = answering.answer(self.broker, self.record(), poll)
        for _ in range(20):
            for order in answered.orders:
                self._answer(order)
            if answered.target is not None:
                self._reach(answered.target)
            self.send()
            poll = self.poll()
            answered = answering.answer(self.broker, self.record(), poll)
            if not answering.has_news(answered, poll):
                return
        raise AssertionError(f"{self.name} does not come to rest")

    def send(self, *, twice: bool = False) -> None:
        """Send what waits to be sent; `twice` as if the answers had been lost."""
        for report in self.reports * (2 if twice else 1):
            answered = answering.receive(self.broker, self.record(), report)
            for digest in answered.wants:
                body = encode_message(ChangeSet(notes=(report.effect,)))
                answering.keep_change_set(self.broker, self.record(), digest, body)
        self.reports.clear()

    # ---- doing ----

    def _answer(self, order: Order) -> None:
        profile = self.profile(order.profile)
        effect = json.dumps({key: profile[key] for key in sorted(profile) if self.tree.get(key) != profile[key]})
        body = ChangeSet(notes=(effect,))
        self.reports.append(
            Report(
                id=f"{order.id}/answer", tool="test", journal=self.journal, kind="test", order=order.id, effect=effect,
                change_set=change_set_digest(body),
            )
        )  # fmt: skip

    def _reach(self, target: Target) -> None:
        if target.released >= self.held > 0:
            self.held = 0
            release = True
        else:
            release = False
        if self.held:
            self.generation = max(self.generation, target.generation)  # it refuses, and is not asked again
            return
        if target.generation <= self.generation and not self.is_interrupted():
            return
        for _ in range(10):
            move = next_move(self.standpoint(), target)
            if isinstance(move, Arrived):
                break
            if not self._do(move, target, release=release):
                break
        else:
            raise AssertionError(f"{self.name} does not arrive: {self.standpoint()} {target}")
        self.generation = target.generation

    def is_interrupted(self) -> bool:
        """Whether a run did not end."""
        return any(run.status == "open" for run in self.runs)

    def standpoint(self) -> Standpoint:
        standing = [
            Standing(run.id, run.change_ids)
            for run in reversed(self.runs)
            if run.change_ids and not run.undone and run.status != "open"
        ]
        opened = next((Standing(run.id, run.change_ids) for run in self.runs if run.status == "open"), None)
        return Standpoint(self.live, tuple(standing), opened)

    def _do(self, move: Recover | TakeBack | Bring | Prove, target: Target, *, release: bool) -> bool:
        """Make a move; return whether it went well."""
        match move:
            case Recover():
                run = next(run for run in self.runs if run.id == move.run)
                if move.finish:
                    self._apply(run, target)
                else:
                    self._undo([run])
                return True
            case TakeBack():
                return self._undo([run for run in reversed(self.runs) if run.id in move.runs], target)
            case Bring():
                run = self._begin(move.change_ids, target)
                return self._apply(run, target)
            case Prove():
                profile = self.profile(target.profile)
                if release or all(self.tree.get(key) == value for key, value in profile.items()):
                    return self._apply(self._begin((), target), target)
                self.held = target.generation
                return False

    def profile(self, digest: str) -> Tree:
        """Fetch a profile; none is empty."""
        if not digest:
            return {}
        found: Tree = json.loads(answering.profile(self.broker, self.record(), digest))
        return found

    def _begin(self, change_ids: tuple[str, ...], target: Target) -> Run:
        self.counter += 1
        run = Run(f"{self.name}-{self.counter}", change_ids, target.profile, {}, self.live, status="open")
        self.runs.append(run)
        return run

    def _apply(self, run: Run, target: Target) -> bool:
        for key, value in sorted(self.profile(target.profile).items()):
            if self.tree.get(key) != value:
                self._burn()
                run.effect[key] = (self.tree.get(key), value)
                self.tree[key] = value
        self._burn()
        run.status, run.profile = "done", target.profile
        self.live = Live(target.profile, tuple(sorted({*self.live.change_ids, *run.change_ids})))
        self._report(run, "apply", brought=run.change_ids, generation=target.generation)
        return True

    def _undo(self, runs: Sequence[Run], target: Target | None = None) -> bool:
        """Take runs back, newest first; a conflict changes nothing."""
        would = dict(self.tree)
        for run in runs:
            for key, (before, left) in run.effect.items():
                if would.get(key) != left:
                    self._report(
                        run, "undo", status="conflict", exit_status=12, generation=target.generation if target else 0
                    )
                    return False
                if before is None:
                    del would[key]
                else:
                    would[key] = before
        self.tree.clear()
        self.tree.update(would)
        for run in runs:
            run.undone, run.status = True, "done"
        standing = [run for run in self.runs if not run.undone and run.status == "done"]
        gone = {change for run in runs for change in run.change_ids}
        profile = standing[-1].profile if standing else ""
        self.live = Live(profile, tuple(sorted(set(self.live.change_ids) - gone)))
        self._report(runs[0], "undo", took_away=tuple(sorted(gone)), generation=target.generation if target else 0)
        return True

    def _burn(self) -> None:
        if self.fuse is None:
            return
        if self.fuse == 0:
            self.fuse = None
            raise Died
        self.fuse -= 1

    def _report(self, run: Run, kind: str, *, status: str = "done", exit_status: int = 0, generation: int = 0,
                brought: tuple[str, ...] = (), took_away: tuple[str, ...] = ()) -> None:  # fmt: skip
        effect = json.dumps(sorted(run.effect))
        body = ChangeSet(notes=(effect,))
        self.counter += 1
        self.reports.append(
            Report(
                id=f"{self.journal}/{self.name}-{self.counter}", tool="test", journal=self.journal, kind="run",
                generation=generation, run=run.id, run_kind=kind, sequence=self.counter, status=status,
                brought=brought, took_away=took_away, live=self.live, exit_status=exit_status,
                effect=effect, actual=effect, change_set=change_set_digest(body),
            )
        )  # fmt: skip

    # ---- what must be ----

    def as_history_says(self, initial: Tree) -> Tree:
        """Return the tree that the runs that stand make of the one there was before the first."""
        found = dict(initial)
        for run in self.runs:
            if not run.undone and run.status == "done":
                found.update({key: left for key, (_, left) in run.effect.items() if left is not None})
        return found


class Died(Exception):
    """The host's power went."""


class People:
    """Somebody with a clone, who pushes with ordinary git."""

    def __init__(self, place: Path, repository: Path) -> None:
        self._place = place
        self._git("clone", "--quiet", str(repository), str(place), at=place.parent)
        self._git("config", "user.name", "alice")
        self._git("config", "user.email", "alice@example.org")

    def push(self, branch: str, files: Mapping[str, str | None]) -> None:
        """Commit `files` on a branch and push it; None removes one."""
        self._git("fetch", "--quiet", "origin")
        self._git("checkout", "--quiet", "-B", branch, f"origin/{branch}")
        for name, content in files.items():
            path = self._place / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", f"work on {branch}")
        self._git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")

    def _git(self, *arguments: str, at: Path | None = None) -> None:
        subprocess.run(["git", *arguments], cwd=at or self._place, check=True, capture_output=True)
