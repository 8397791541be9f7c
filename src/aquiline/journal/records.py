"""What the journal holds, as values (see ``docs/reference/journal-format.md``)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aquiline.changes.kinds import Reaction
from aquiline.changes.steps import ComponentReport, Coverage, Digests, Step, Undo
from aquiline.errors import JournalError
from aquiline.host.objects import At

RunKind = Literal["apply", "undo", "redo", "recovery"]
StepStatus = Literal[
    "planned", "intended", "done", "failed", "not-done", "in-doubt", "assumed-done", "assumed-not-done", "skipped"
]
Conclusion = Literal["done", "failed", "not-done", "in-doubt", "assumed-done", "assumed-not-done", "skipped"]
What = Literal[
    "intended", "done", "failed", "not-done", "in-doubt", "assumed-done", "assumed-not-done", "skipped",
    "undone", "amended", "run-ended", "confirmed", "deadline-armed", "deadline-tick", "deadline-cancelled", "elapsed",
    "past-undo", "adopted",
]  # fmt: skip


class RunHeader(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known of a run before its first step."""

    kind: RunKind
    #: Seconds since the epoch, for show; order is by journal sequence (D16).
    started: float
    #: SHA-256 of the profile it brings; empty where it brings none.
    profile: str = ""
    #: The set it brings, sorted (D18).
    change_ids: tuple[str, ...] = ()
    #: The runs it takes back, or for a redo the undo runs it takes back.
    undoes: tuple[str, ...] = ()
    #: The interrupted run it settles.
    recovers: str = ""
    tool: str = ""
    user: str = ""
    argv: tuple[str, ...] = ()
    pid: int = 0
    #: Version of every component that was loaded.
    components: dict[str, str] = {}
    #: Seconds until it reverts unless confirmed; 0 is never.
    confirm_within: float = 0.0
    #: Steps without an undo were allowed: finishing it after a crash may do them too.
    allow_irreversible: bool = False
    #: The generation of the target that it was begun for; 0 where nobody but a person asked for it.
    generation: int = 0


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run as the journal knows it."""

    #: Eight hexadecimal digits.
    id: str
    #: Grows by the order in which runs began.
    sequence: int
    header: RunHeader
    #: How it ended; empty while it is open: it goes on, or was interrupted.
    status: str = ""
    #: Seconds since the epoch, for show.
    ended: float = 0.0
    stages: int = 0
    steps: int = 0
    #: Its deadline was armed; nobody has confirmed it, and it has not been taken back.
    awaits_confirmation: bool = False
    #: Its pre-images were dropped by retention: it stays listed, and cannot be undone.
    past_undo: bool = False

    @property
    def open(self) -> bool:
        """Return whether it has not ended: it goes on, or was interrupted."""
        return not self.status


class StageRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plan without its steps."""

    format: int
    tool: str
    profile: str
    stage: int
    components: dict[str, ComponentReport]
    coverage: Coverage
    digests: Digests
    notes: tuple[str, ...] = ()
    #: What its steps change of the program that made them (D16).
    itself: tuple[str, ...] = ()


class StepName(msgspec.Struct, frozen=True, order=True):
    """A step of a run."""

    run: str
    step: int

    def __str__(self) -> str:
        return f"{self.run}/{self.step}"


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A step as the journal knows it."""

    run: str
    number: int
    stage: int
    component: str
    kind: str
    kind_version: int
    description: str
    #: The step as it was written, fields that this version does not know included.
    raw: dict[str, Any]
    #: None where this version does not know its kind: it can be shown, and cannot be undone.
    step: Step | None
    status: StepStatus
    #: What stood there when it was concluded, times included.
    observed: tuple[At, ...] = ()
    output: str = ""
    note: str = ""
    #: The step that took it back, unless that one was itself taken back.
    undone_by: StepName | None = None
    #: The undo that somebody recorded later in place of a wrong one.
    amended: Undo | None = None

    @property
    def known(self) -> Step:
        """Return the step; raises `JournalError` where its kind is of another version of this program."""
        if self.step is None:
            kind = f"{self.kind} version {self.kind_version}"
            message = f"step {self.number} of run {self.run} ({self.description}): this version does not know {kind}"
            raise JournalError(
                message, hint=f"upgrade aquiline, or run what `aquiline script {self.run} --undo` prints"
            )
        return self.step

    @property
    def undo(self) -> Undo:
        """Return the undo in effect; raises `JournalError` where its kind is of another version of this program."""
        return self.amended or self.known.undo


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something that happened to a run or step; never changed, never removed."""

    sequence: int
    run: str
    #: 0 for the run itself.
    step: int
    what: str
    data: Any = None
    #: Seconds since the epoch, for show.
    wall: float


class Debt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A reaction that is owed: its cause happened, it has not run yet (D2)."""

    id: int
    run: str
    step: int
    component: str
    reaction: Reaction


class NewDebt(msgspec.Struct, frozen=True):
    """A debt to be: made durable together with the intent of the step that causes it."""

    step: int
    reaction: Reaction
    component: str


class PreimageReference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step needs this pre-image to be taken back."""

    step: int
    sha256: str
    #: Bytes.
    size: int
    secret: bool = False


class Intent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is durable before the first effect of a batch."""

    #: The steps of the batch.
    steps: tuple[int, ...]
    debts: tuple[NewDebt, ...] = ()
    preimages: tuple[PreimageReference, ...] = ()
    #: Modification time in nanoseconds of parent directories before the run first changed an entry in them.
    directories: dict[str, int] = {}


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How one step ended."""

    step: int
    what: Conclusion
    #: What stands there now, times included.
    observed: tuple[At, ...] = ()
    #: What it printed, redacted; cut in the middle beyond `OUTPUT_LIMIT`.
    output: str = ""
    #: Anything worth a line: why it failed, what differed.
    note: str = ""
    debts_paid: tuple[int, ...] = ()
    #: Debts whose cause did not happen after all.
    debts_cancelled: tuple[int, ...] = ()
    #: The step that this one took back: its compensation record.
    undoes: StepName | None = None


class AdoptedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a journal that is gone, with all that is needed to take it back."""

    run: RunRecord
    stages: tuple[StageRecord, ...]
    #: `StepRecord.raw` is what counts of each.
    steps: tuple[StepRecord, ...]
    directories: dict[str, int]
    preimages: tuple[PreimageReference, ...]
    #: What it still owes.
    debts: tuple[NewDebt, ...]


class LivePointer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the host is, as far as this program made it so."""

    #: SHA-256 of the live profile.
    profile: str
    #: Sorted.
    change_ids: tuple[str, ...]
    #: The run that made it so.
    run: str


#: Characters of output that a record keeps.
OUTPUT_LIMIT = 64 * 1024


def limited(output: str) -> str:
    """Return `output`, its middle left out and counted where it is longer than `OUTPUT_LIMIT`."""
    if len(output) <= OUTPUT_LIMIT:
        return output
    half = OUTPUT_LIMIT // 2
    return f"{output[:half]}\n[… {len(output) - 2 * half} characters left out …]\n{output[-half:]}"
