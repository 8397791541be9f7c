"""What a broker does of a large fleet, and how long that takes.

Run as::

    python benchmarks/fleet.py report [--hosts 20000]     # the report of a change, by the shape of names and groups
    python benchmarks/fleet.py agents [--hosts 2000]      # one broker process over HTTP, and so many simulated agents
    python benchmarks/fleet.py retention [--hosts 2000]   # forgetting, by the number of changes

``report`` and ``retention`` work on a database in a temporary folder. ``agents`` starts `aquiline broker` as it is
installed, on the loopback interface without TLS, writes so many hosts into its database, and drives each by the state
machine of the real agent; what a host would do is made up, what it says about that is as large as that of a real one.
Broker and agents share the machine: on one with few processors the agents take their part of it. It is no test:
nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aquiline.agent.daemon.jobs import Answer, Job, Outcome, Reach
from aquiline.agent.daemon.machine import (
    Accepted,
    Answered,
    BodyAccepted,
    Effect,
    Event,
    LetGo,
    Machine,
    Pacing,
    PollFailed,
    Recorded,
    ReportFailed,
    SendBody,
    SendPoll,
    SendReport,
    SendSchemas,
    SleepUntil,
    Started,
    StartWork,
    Tick,
    WorkEnded,
)
from aquiline.broker import members, reporting
from aquiline.broker.broker import Asker, Broker
from aquiline.broker.compiling import Layers
from aquiline.broker.records import Change, ChangeHost, Host
from aquiline.broker.rendering import render_report
from aquiline.broker.repository import Repository
from aquiline.broker.retention import forget
from aquiline.broker.serving import open_broker
from aquiline.broker.sqlstore import SqlStore
from aquiline.protocol.changesets import ChangeSet, ChangeSetStep, change_set_digest
from aquiline.protocol.messages import (
    Live,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    ReportedStep,
    UndoneBy,
    decode_message,
    encode_message,
)

#: Steps of a run, and different change-sets of a fleet.
STEPS, SETS = 20, 5
DAY = 86400.0
#: How hosts are named.
SHAPES: dict[str, Callable[[int], str]] = {
    "node00001": lambda n: f"node{n:05d}",
    "r001n07": lambda n: f"r{n // 40:03d}n{n % 40:02d}",
    "d1r01n07.dc2": lambda n: f"d{n // 4000}r{n // 40 % 100:02d}n{n % 40:02d}.dc{n % 3}",
}


def change_set(number: int) -> ChangeSet:
    """Return one of the fleet's change-sets: all but one step are as in the others."""
    steps = [
        ChangeSetStep(
            number=at, component="filecopy", kind="write-file", kind_version=1, cause="intentional",
            description=f"write /etc/{at if at < STEPS else f'of-{number}'}", undo_class="exact", undo="restore it",
            text=f"{at}. filecopy: write /etc/{at}\n" + "   | +a line of the new content\n" * 20,
            row={"kind": "write-file", "path": f"/etc/{at}", "of": number if at == STEPS else 0},
        )
        for at in range(1, STEPS + 1)
    ]  # fmt: skip
    return ChangeSet(steps=tuple(steps), predicted=STEPS)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many seconds `work` took, and what it returned."""
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


@contextmanager
def small_broker() -> Iterator[Broker]:
    """Yield a broker in a temporary folder, with an empty domain."""
    with tempfile.TemporaryDirectory(prefix="aquiline-benchmark-") as folder:
        repository = Repository.create(Path(folder, "repository.git"))
        broker = Broker(SqlStore.in_file(Path(folder, "broker.db")), repository, Layers(), now=lambda: 1000 * DAY)
        members.add_domain(broker, "prod", Asker("benchmark"))
        yield broker
        broker.store.close()


# ---- the report ------------------------------------------------------------------------------------------------------


def report(hosts: int) -> None:
    """Print how long the report of a test takes, whatever hosts are called and however many groups there are."""
    print(f"{hosts} hosts; seconds for the report from the database, and for its text; characters of that")
    for shape, name in SHAPES.items():
        for groups, order in ((1, "all alike"), (SETS, "in turn"), (SETS, "by chance"), (1000, "in turn")):
            with small_broker() as broker:
                fill(broker, [name(number) for number in range(hosts)], groups, order)
                seconds, found = timed(lambda broker=broker: reporting.report(broker, "prod-1"))  # type: ignore[misc]
                shown, text = timed(lambda found=found: render_report(found))  # type: ignore[misc]
                print(f"{shape:14} {groups:5} groups {order:10} {seconds:6.2f} {shown:6.2f} {len(text):9}")


def fill(broker: Broker, names: Sequence[str], groups: int, order: str, change: str = "prod-1") -> None:
    """Write down a closed test that hosts have answered."""
    bodies = [change_set(number) for number in range(groups)]
    digests = [change_set_digest(body) for body in bodies]
    with broker.store.transaction() as tx:
        tx.put_change(Change(id=change, kind="test", domain="prod", state="closed", author="ada", created=1.0))
        for digest, body in zip(digests, bodies, strict=True):
            tx.put_content("change-set", digest, encode_message(body))
        for number, name in enumerate(names):
            draw = number if order == "in turn" else hashlib.sha256(name.encode()).digest()[0]
            tx.put_host(Host(name=name, branch="prod", added=1.0, enrolled=1.0))
            tx.put_change_host(
                ChangeHost(
                    change=change, host=name, state="answered", change_set=digests[draw % groups], planned="effect",
                    reports=(f"{change}/{name}",), answered=1.0,
                )
            )  # fmt: skip


# ---- retention -------------------------------------------------------------------------------------------------------


def retention(hosts: int) -> None:
    """Print how long it takes to forget: twice the changes take twice the time."""
    print(f"{hosts} hosts; seconds to forget the half of so many changes that is old")
    for changes in (10, 20, 40):
        with small_broker() as broker:
            for number in range(1, changes + 1):
                fill(broker, [f"node{n:05d}" for n in range(hosts)], SETS, "in turn", f"prod-{number}")
            seconds, _ = timed(lambda broker=broker: forget(broker, days=400))  # type: ignore[misc]
            print(f"{changes:5} changes {seconds:6.2f}")


# ---- agents ----------------------------------------------------------------------------------------------------------


class Wire:
    """One connection that is kept open, as an agent's."""

    def __init__(self, port: int, token: str, took: dict[str, list[float]]) -> None:
        self._port = port
        self._token = token
        self._took = took
        #: Requests that were not answered, or refused.
        self.lost = 0
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", *, counted: str = "") -> bytes:
        """Return what is answered; the time goes under `counted`."""
        async with self._turn:
            return await self._ask(method, path, body, counted)

    async def _ask(self, method: str, path: str, body: bytes, counted: str) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        begun = time.perf_counter()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next((line.split(":")[1] for line in head.split("\r\n") if line.startswith("content-length:")), "0")
        found = await reader.readexactly(int(length))
        if counted:
            self._took[counted].append(time.perf_counter() - begun)
        status = int(head.split(" ", 2)[1])
        if status >= 400:
            raise ConnectionError(f"{method} {path}: {status} {found[:200]!r}")
        return found


class Agent:
    """One host: the agent's state machine, with a journal that is two variables."""

    def __init__(self, name: str, token: str, port: int, took: dict[str, list[float]]) -> None:
        self.name = name
        self.polls, self.reports = Wire(port, token, took), Wire(port, token, took)
        self.machine = Machine(name, Pacing(wait=50.0, start=0.0))
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.wake = float("inf")
        self.live, self.generation, self.runs = Live(), 0, 0
        self.waiting: dict[str, Report] = {}
        self.body = change_set(int(hashlib.sha256(name.encode()).hexdigest(), 16) % SETS)
        self.tasks: set[asyncio.Task[None]] = set()

    def poll(self, wait: float) -> bytes:
        """Return what it says when it polls."""
        said = Poll(
            tool="benchmark", journal=self.name, machine_id="0" * 32, live=self.live, generation=self.generation,
            wait=wait,
        )  # fmt: skip
        return encode_message(said)

    async def run(self) -> None:
        """Do what the machine says, for ever."""
        self.do(Started())
        while True:
            try:
                event = await asyncio.wait_for(self.events.get(), max(0.0, self.wake - time.monotonic()))
            except TimeoutError:
                event = Tick()
            self.do(event)

    def do(self, event: Event) -> None:
        """Give the machine an event, and begin what it wants."""
        self.wake = float("inf")
        for effect in self.machine.receive(event, time.monotonic()):
            if isinstance(effect, SleepUntil):
                self.wake = effect.when
            else:
                task = asyncio.create_task(self.perform(effect))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        self.wake = min(self.wake, time.monotonic() + 3600)

    async def perform(self, effect: Effect) -> None:
        """Carry out one effect; what comes of it is an event."""
        try:
            await self.carry_out(effect)
        except (OSError, asyncio.IncompleteReadError) as error:
            await asyncio.sleep(1)
            self.polls.lost += 1
            is_poll = isinstance(effect, SendPoll)
            await self.events.put(PollFailed(str(error)) if is_poll else ReportFailed(_report(effect), str(error)))

    async def carry_out(self, effect: Effect) -> None:
        """Talk to the broker as a real agent would."""
        match effect:
            case SendPoll(wait):
                answer = await self.polls.ask("POST", "/v1/host/poll", self.poll(wait))
                await self.events.put(Answered(decode_message(answer, PollAnswer)))
            case StartWork(job):
                await self.work(job)
            case SendReport(name):
                body = encode_message(self.waiting[name])
                answer = await self.reports.ask("POST", "/v1/host/reports", body, counted="report")
                await self.events.put(Accepted(name, decode_message(answer, ReportAnswer).wants))
            case SendBody(name, digest):
                body = encode_message(self.body)
                await self.reports.ask("PUT", f"/v1/host/change-sets/{digest}", body, counted="change-set")
                await self.events.put(BodyAccepted(name, digest))
            case LetGo(name):
                del self.waiting[name]
            case SendSchemas() | SleepUntil():
                pass

    async def work(self, job: Job) -> None:
        """Answer an order or be what a target says."""
        profile = job.order.profile if isinstance(job, Answer) else job.target.profile
        await self.reports.ask("GET", f"/v1/host/profiles/{profile}", counted="profile")
        self.runs += 1
        if isinstance(job, Reach):
            self.live, self.generation = Live(profile, job.target.change_ids), job.target.generation
        made = self.report(job)
        self.waiting[made.id] = made
        await self.events.put(Recorded(tuple(self.waiting)))
        await self.events.put(WorkEnded(job, Outcome("reached")))

    def report(self, job: Job) -> Report:
        """Return what it says of its work."""
        steps = tuple(
            ReportedStep(
                number=one.number, component=one.component, kind=one.kind, kind_version=1, description=one.description,
                status="done", undo=UndoneBy("exact", "restore it", ("restore it from its pre-image",)),
            )
            for one in self.body.steps
        )  # fmt: skip
        values: dict[str, Any] = {
            "id": f"{self.name}-{self.runs}", "tool": "benchmark", "journal": self.name, "steps": steps,
            "change_set": change_set_digest(self.body), "effect": "e" * 64, "facts": {"name": self.name},
        }  # fmt: skip
        if isinstance(job, Answer):
            return Report(kind="test", order=job.order.id, **values)
        return Report(
            kind="run", run=f"{self.runs:08x}", run_kind="apply", sequence=self.runs, status="done", live=self.live,
            generation=job.target.generation, actual="e" * 64, brought=job.target.change_ids, **values,
        )  # fmt: skip


def _report(effect: Effect) -> str:
    return effect.report if isinstance(effect, SendReport | SendBody) else ""


class Fleet:
    """A broker's process, and what people ask of it."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self.data, self.port = folder / "data", free_port()
        self.tokens = {f"node{number:05d}": members.new_token() for number in range(hosts)}
        broker = open_broker(self.data)
        members.add_domain(broker, "prod", Asker("benchmark"))
        members.add_sandbox(broker, "first", Asker("benchmark"), start="prod")
        with broker.store.transaction() as tx:
            for name, token in self.tokens.items():
                tx.put_host(
                    Host(
                        name=name, branch="prod", added=1.0, enrolled=1.0, machine_id="0" * 32,
                        credential=members.hash_of(f"aqh_{token}"),
                    )
                )  # fmt: skip
        broker.store.close()
        self.push(folder / "clone")
        argv = [sys.executable, "-m", "aquiline.cli", "broker", "--data", str(self.data), "--plain-http"]
        self.process = subprocess.Popen([*argv, "--listen", f"127.0.0.1:{self.port}"], stderr=subprocess.DEVNULL)
        self.admin = (self.data / "admin.token").read_text().strip()

    def push(self, clone: Path) -> None:
        """Push a profile for each host, as an author does."""
        git("clone", "--quiet", str(self.data / "repository.git"), str(clone))
        git("-C", str(clone), "checkout", "--quiet", "first")
        (clone / "hosts").mkdir()
        (clone / "layers").mkdir()
        motd = "software: {components: {filecopy: {services: {/etc/motd: {config: hello}}}}}\n"
        (clone / "layers" / "base.yaml").write_text(motd)
        for name in self.tokens:
            (clone / "hosts" / f"{name}.yaml").write_text(f"include: [base]\nsystem: {{hostname: {name}}}\n")
        git("-C", str(clone), "add", "--all")
        git("-C", str(clone), "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "first")
        git("-C", str(clone), "push", "--quiet", "origin", "first")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask as the admin does."""
        url, data = f"http://127.0.0.1:{self.port}{path}", None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.admin}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())

    def wait(self) -> None:
        """Return once it answers."""
        while True:
            try:
                self.ask("GET", "/v1/me")
            except OSError:
                time.sleep(0.1)
            else:
                return

    def closed(self, change: str) -> Any:
        """Return how far a change is once it is closed."""
        while True:
            found = self.ask("GET", f"/v1/changes/{change}/progress")
            if found["state"] != "open":
                return found
            time.sleep(0.5)

    def memory(self) -> str:
        """Return what the broker has taken of memory at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return f"broker's peak memory {int(peak) // 1024} MiB"


def git(*argv: str) -> None:
    """Run git."""
    subprocess.run(["git", *argv], check=True, capture_output=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quantiles(label: str, seconds: Sequence[float]) -> str:
    """Return how many there were, and how long they took."""
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [*seconds] * 99
    return f"{label} {len(seconds)}: median {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms"


async def agents(hosts: int, at_once: int, seconds: float) -> None:
    """Print what one broker does for so many agents that poll, test, run and report."""
    with tempfile.TemporaryDirectory(prefix="aquiline-benchmark-") as folder:
        fleet = Fleet(Path(folder), hosts)
        try:
            await asyncio.to_thread(fleet.wait)
            await drive(fleet, at_once, seconds)
        finally:
            fleet.process.terminate()
            fleet.process.wait()


async def drive(fleet: Fleet, at_once: int, seconds: float) -> None:
    """Go through what a fleet does, and say how long it took."""
    took: dict[str, list[float]] = defaultdict(list)
    hosts = [Agent(name, f"aqh_{token}", fleet.port, took) for name, token in fleet.tokens.items()]
    begun = time.perf_counter()
    await some_at_once(hosts, at_once, lambda one: one.polls.ask("POST", "/v1/host/poll", one.poll(0), counted="first"))
    print(f"{quantiles('first polls', took['first'])}, {len(hosts) / (time.perf_counter() - begun):.0f}/s")
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        await some_at_once(
            hosts, at_once, lambda one: one.polls.ask("POST", "/v1/host/poll", one.poll(0), counted="quiet")
        )
    rate = len(took["quiet"]) / (time.perf_counter() - begun)
    print(f"{quantiles('quiet polls', took['quiet'])}, {rate:.0f}/s, {at_once} at once")
    running = [asyncio.create_task(one.run()) for one in hosts]
    await asyncio.sleep(5)
    for what in ("test", "deploy"):
        for name in ("report", "profile", "change-set"):
            took[name].clear()
        await change(fleet, what, len(hosts))
        print(
            "; ".join(quantiles(f"{name}s", took[name]) for name in ("profile", "report", "change-set") if took[name])
        )
    print(f"{fleet.memory()}; {sum(one.polls.lost for one in hosts)} requests lost")
    for task in running:
        task.cancel()


async def change(fleet: Fleet, what: str, hosts: int) -> None:
    """Test or deploy, and say when every host had answered or arrived."""
    wish = {"sandbox": "first", "domain": "prod", "test": what == "test"}
    begun = time.perf_counter()
    asked = await asyncio.to_thread(fleet.ask, "POST", "/v1/deployments", wish)
    told = time.perf_counter()
    found = await asyncio.to_thread(fleet.closed, asked["id"])
    ended = time.perf_counter()
    await asyncio.to_thread(fleet.ask, "GET", f"/v1/changes/{asked['id']}/report")
    shown = time.perf_counter() - ended
    print(
        f"{what}: {told - begun:.1f} s to merge, compile and ask {hosts} hosts, {ended - told:.1f} s until all had "
        f"answered ({found['totals']}), {shown:.2f} s for the report"
    )


async def some_at_once(hosts: Sequence[Agent], at_once: int, ask: Callable[[Agent], Any]) -> None:
    """Let every host ask once, so many at a time."""
    waiting = iter(hosts)

    async def worker() -> None:
        for one in waiting:
            await ask(one)

    await asyncio.gather(*(worker() for _ in range(at_once)))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="What a broker does of a large fleet, and how long that takes.")
    parser.add_argument("what", choices=("report", "agents", "retention"))
    parser.add_argument("--hosts", type=int, default=0, help="how many (default 20,000 for the report, else 2,000)")
    parser.add_argument("--at-once", type=int, default=32, help="polls under way at a time, of `agents` (default 32)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long quiet hosts poll (default 10)")
    given = parser.parse_args()
    if given.what == "report":
        report(given.hosts or 20_000)
    elif given.what == "retention":
        retention(given.hosts or 2_000)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
        asyncio.run(agents(given.hosts or 2_000, given.at_once, given.seconds))


if __name__ == "__main__":
    main()
