"""What the broker remembers, as values."""

from __future__ import annotations

from typing import Literal

import msgspec

from aquiline.protocol.messages import Live

BranchKind = Literal["domain", "sandbox"]


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch of the repository: a domain is what hosts run, a sandbox what somebody works on."""

    name: str
    kind: BranchKind
    #: The commit that hosts are to be, by the database, which decides (D20); of a sandbox the one it was started from.
    commit: str
    #: The last serial given to a change of this domain.
    serial: int = 0
    #: Who works on a sandbox; who made a domain.
    owner: str
    #: The domain that a sandbox was started from.
    start: str = ""
    created: float
    #: Nothing is deployed on a frozen domain; empty where it is not.
    frozen: str = ""
    #: A live deployment must carry the digest of an approved test.
    needs_approval: bool = False
    #: Whoever made a deployment may approve it.
    author_may_approve: bool = True


#: ``person``: until a person releases it; ``undeploy``: since something was taken back on it alone, until a person
#: releases it; ``agent``: by itself, because undo and revert did not agree, until they do or a person releases it;
#: ``broker``: it was told more than the database says, which was restored from a backup, until a person releases it.
HeldBy = Literal["", "person", "undeploy", "agent", "broker"]
#: Such a host is told no target at all.
TOLD_NOTHING: frozenset[HeldBy] = frozenset({"person", "broker"})


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the fleet."""

    name: str
    #: The branch whose profile it is to be.
    branch: str
    added: float
    #: Hashes of what it showed when it enrolled; empty until then.
    credential: str = ""
    machine_id: str = ""
    enrolled: float = 0.0
    #: Identity of its journal, as it last said.
    journal: str = ""
    #: The changes that it had been told of when it was last installed anew: gone with its journal, unless `live` since.
    lost: tuple[str, ...] = ()
    #: SHA-256 of the profile that its branch last compiled to; empty where it never did.
    compiled: str = ""
    #: Why it is kept as it is; empty where it is not.
    held: str = ""
    #: By whom.
    held_by: HeldBy = ""
    #: What it last said of itself.
    seen: float = 0.0
    tool: str = ""
    state: str = ""
    because: str = ""
    live: Live = Live()
    #: Changes that are live on it and that it can take back no more.
    past_undo: tuple[str, ...] = ()
    generation: int = 0
    schemas: str = ""
    #: Place in its journal of the last run that it reported: `live` is not taken from an earlier one.
    sequence: int = 0
    #: Change-sets that it was asked for and has not sent, the newest last.
    wanted: tuple[str, ...] = ()
    #: Day since the epoch on which something of it was kept last, the bytes of that day, and whether it wanted more.
    day: int = 0
    sent: int = 0
    over: bool = False
    #: When the audit last said that a copy of it polled.
    copied: float = 0.0


class HostTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker wants a host to be; the message `Target` is made of it."""

    host: str
    generation: int
    profile: str
    change_ids: tuple[str, ...] = ()
    effect: str = ""
    confirm_within: float = 0.0
    allow_irreversible: bool = False
    released: int = 0
    #: The change that set it.
    change: str = ""
    #: Targets that the host is told before this one, one after the other, where one change takes back and lays again.
    way: tuple[HostTarget, ...] = ()


ChangeKind = Literal["deploy", "test", "undeploy", "test-undeploy", "move", "verify"]
#: ``intended``: written down, nothing has moved; ``open``: hosts are being asked or told; ``closed``: ended by its
#: deadline, by a person or because every host has answered, and immutable (D21); ``undone``: taken back by a later
#: change; ``failed``: nothing moved.
ChangeState = Literal["intended", "open", "closed", "undone", "failed"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment: test, live or undo (P8). Its id never moves and is never used again."""

    id: str
    kind: ChangeKind
    domain: str
    #: Place among the changes of its domain, by which they are ordered (D23); 0 of a test.
    serial: int = 0
    state: ChangeState
    #: The branch it deploys; empty of an undeploy.
    sandbox: str = ""
    #: The commit of that branch, the domain's before, and the one it brings or would bring.
    source: str = ""
    before: str = ""
    after: str = ""
    author: str
    reason: str = ""
    justification: str = ""
    created: float
    closed: float = 0.0
    #: Seconds since the epoch at which a test closes.
    deadline: float = 0.0
    #: How its hosts are to carry it out, as in the message `Target`.
    confirm_within: float = 0.0
    allow_irreversible: bool = False
    #: The changes it takes back.
    undoes: tuple[str, ...] = ()
    #: The commit that took this change back, once it was undone: reverted where it is laid again.
    taken_back: str = ""
    #: The changes of its domain that undeploying had taken back and that it lays again (D20). Of an undeploy or a test
    #: of one: those of `undoes` that it lays again.
    relays: tuple[str, ...] = ()
    #: Of an undeploy that lays changes again: the deployments that do, in the order of `relays`; they and it come about
    #: together. Of each of those: that undeploy.
    lays: tuple[str, ...] = ()
    laid_by: str = ""
    #: Of a closed test: digest over host and effect digest. Of a deployment: that of the test it was approved by.
    digest: str = ""
    #: Of a closed question: change-sets that hosts had named and not sent; what comes of them later is its addendum.
    missing: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_question(self) -> bool:
        """Return whether it only asks hosts, and moves nothing."""
        return self.kind in ("test", "test-undeploy", "verify")


#: ``asked``: an order or target waits for it; ``answered``; ``unchanged``: its profile is the same; ``failed``: it
#: could not, or did not; ``done``: it is what it should be; ``held-out``: not told, by `because`; ``never-had``: there
#: was nothing to take back; ``left``: it is in another domain by now; ``reinstalled``: its journal is another one since
#: it was told, or since it had what is taken back, so that an undeploy finds nothing there;
#: ``clean``, ``drifted``: what a verification found.
ChangeHostState = Literal[
    "asked", "answered", "unchanged", "failed", "done", "held-out", "never-had", "left", "reinstalled", "not-compiled",
    "clean", "drifted",
]  # fmt: skip


class LateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a host answered when its question was closed."""

    #: The report that says it.
    report: str
    change_set: str = ""
    exit_status: int = 0
    #: Why it failed, where it did.
    because: str = ""


class ChangeHost(msgspec.Struct, frozen=True, kw_only=True):
    """What one change means to one host."""

    change: str
    host: str
    state: ChangeHostState
    because: str = ""
    #: Profiles by digest.
    before: str = ""
    after: str = ""
    #: `after` is the profile from before the changes that are taken back: the branch compiles to none any more.
    is_archived: bool = False
    #: The change IDs that it added to the host's target, or took from it.
    change_ids: tuple[str, ...] = ()
    #: The generation of the target that it set; 0 of a test.
    generation: int = 0
    #: Effect digests: of the test it was approved by, of the plan, and as it came about.
    predicted: str = ""
    planned: str = ""
    actual: str = ""
    #: The change-set it was grouped by.
    change_set: str = ""
    #: The reports that say all this.
    reports: tuple[str, ...] = ()
    exit_status: int = 0
    answered: float = 0.0
    #: The journal of the last run that says all this, and its place there: an earlier one that comes late is kept, and
    #: changes nothing.
    journal: str = ""
    sequence: int = 0
    #: Of a closed question: what came later, which changes nothing of the above.
    late: LateAnswer | None = None


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may ask for something."""

    name: str
    #: SHA-256 of the token.
    token: str
    #: ``reader``, ``author``, ``approver``, ``admin``.
    roles: tuple[str, ...] = ()
    created: float
    revoked: float = 0.0


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """Lets hosts enrol."""

    id: str
    #: SHA-256 of the token.
    token: str
    #: How many more hosts may use it.
    left: int
    #: Seconds since the epoch.
    expires: float
    #: Names that it is good for: a pattern of the shell.
    pattern: str
    made_by: str
    created: float


class StoredOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that waits to be fetched, or was."""

    id: str
    change: str
    host: str
    kind: Literal["test", "test-undo", "verify"]
    profile: str = ""
    change_ids: tuple[str, ...] = ()
    #: As in the message `Order`.
    again: tuple[str, ...] = ()
    reverted: str = ""
    #: Seconds since the epoch.
    expires: float
    answered: bool = False
    #: The version of the program that could not read it: it waits for another one.
    unread_by: str = ""


class StoredReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it came, once."""

    id: str
    host: str
    #: The change it was matched with; empty of a run that nobody ordered.
    change: str
    #: The order in which the broker took them.
    received: float
    kind: str
    #: JSON of the message `Report`.
    body: bytes
    #: It came when its test was closed already.
    late: bool = False


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person read a closed test and agrees."""

    change: str
    digest: str
    by: str
    when: float
    until: float
    signature: str = ""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what; written once, never changed."""

    number: int = 0
    when: float
    who: str
    what: str
    #: What it was about: a change, host, domain.
    about: str = ""
    details: str = ""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who may move a domain now; `fence` grows with each lease, so that whoever lost it cannot write any more."""

    domain: str
    holder: str
    fence: int
    expires: float
