"""The messages between an agent and its broker, and between a person's command line and the broker.

Theory of operation

1. What a host should be is its *target*: a generation, a profile by digest and a set of change IDs (D17). It is level,
   not edge: an agent that slept for a month asks once and knows all it must.
2. Only a dry-run or a verification is an *order*, sent once, with a time to live that the broker counts.
3. An agent *polls*: it says what it is and where it stands, and is told its target, its orders, and when to come again.
   A poll with `wait` is held open until there is something new.
4. What happened on a host goes up as a *report*. It names its change-set by digest; the body follows only if the broker
   asks for it. A report is sent until it was accepted, and accepted once however often it comes: its id says which.
5. Each message has the version of the protocol; one that says none is of the first. A program speaks its own version
   and the two before (D24). Of a target or order of another one an agent reads the name only (`decode_answer`), so that
   it can refuse that one and do the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

from aquiline import __version__
from aquiline.changes.canonical import decode, encode
from aquiline.errors import AquilineError

#: Of these messages. Fields may be added to a version; their meaning never changes within one.
PROTOCOL = 1
#: Of a message that says none: what has its default is left out, so this never changes. Who makes one says its own.
FIRST_PROTOCOL = 1
#: Versions before its own that a program still speaks (D24).
_SPOKEN_BEFORE = 2
#: Bytes of one message, change-set or profile, decompressed.
LARGEST_MESSAGE = 16 * 1024 * 1024

_Message = TypeVar("_Message")


Side = Literal["agent", "broker"]


class MessageRefused(AquilineError):
    """What arrived is no message that this program understands."""


class NotSpoken(MessageRefused):
    """What arrived is of a version of the protocol, or of a kind, that this program does not speak."""


def speaks(version: int) -> bool:
    """Return whether this program speaks a version of the protocol: its own, or one of the two before."""
    return _oldest() <= version <= PROTOCOL


def refuse_unspoken(what: str, version: int, *, here: Side) -> None:
    """Raise `NotSpoken` where `what` ("a poll"), come `here`, is of a version that this program does not speak."""
    if not speaks(version):
        spoken = f"{PROTOCOL}" if _oldest() == PROTOCOL else f"{_oldest()} to {PROTOCOL}"
        other: Side = "broker" if here == "agent" else "agent"
        raise NotSpoken(
            f"{what} of protocol {version}: this {here}, aquiline {__version__}, speaks {spoken}",
            hint=f"upgrade the {here if version > PROTOCOL else other}",
        )


def _oldest() -> int:
    return max(FIRST_PROTOCOL, PROTOCOL - _SPOKEN_BEFORE)


class Live(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host is, as far as Aquiline made it so."""

    #: SHA-256 of the live profile; empty where there is none.
    profile: str = ""
    #: Sorted.
    change_ids: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the broker wants one host to be (D17)."""

    #: Grows with every change of this host's target; never reused.
    generation: int
    #: SHA-256 of the profile.
    profile: str
    #: Every change that the host is to have, sorted.
    change_ids: tuple[str, ...] = ()
    #: The effect digest that was approved for this host: another one is refused (D21). Empty: none is asked for.
    effect: str = ""
    #: Seconds until the host takes the run back unless it reached a confirmer; 0: no confirmation.
    confirm_within: float = 0.0
    allow_irreversible: bool = False
    #: A person released the host from what held it up to this generation.
    released: int = 0
    protocol: int = FIRST_PROTOCOL
    #: Over all of the above, by whoever deployed it; carried from the start, checked by later versions (D25).
    signature: str = ""


OrderKind = Literal["test", "test-undo", "verify"]
_ORDER_KINDS: frozenset[str] = frozenset(get_args(OrderKind))


class Order(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the broker asks one host to do once. It changes nothing on the host."""

    id: str
    #: The deployment it belongs to.
    change: str
    #: ``test``: what would `profile` do; ``test-undo``: what would it take to leave `change_ids` and be `profile`;
    #: ``verify``: what drifted since the last run. Any other is a newer program's: that order is refused.
    kind: str
    profile: str = ""
    change_ids: tuple[str, ...] = ()
    #: Of a ``test-undo``: changes that are taken back and laid again; `profile` is with them, and `reverted` is the
    #: profile without, which the host is to be in between. Empty: nothing is laid again.
    again: tuple[str, ...] = ()
    reverted: str = ""
    #: Seconds it has still to live, counted by the broker: a host's clock may be wrong.
    time_to_live: float
    protocol: int = FIRST_PROTOCOL
    signature: str = ""


HostState = Literal["idle", "failed", "held", "frozen", "in-doubt"]


class Poll(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an agent says when it asks for work."""

    protocol: int = FIRST_PROTOCOL
    #: Version of the program.
    tool: str
    #: The identity of its journal: another one means that the host was installed anew.
    journal: str
    #: What the credential is bound to: another one means that this host is a copy. Empty where a root has none.
    machine_id: str = ""
    live: Live = Live()
    #: Changes that are live here and that retention has put past undo.
    past_undo: tuple[str, ...] = ()
    #: The generation it has reached or given up on; 0 before the first.
    generation: int = 0
    state: HostState = "idle"
    #: Why, in words, where it is not idle.
    because: str = ""
    #: Seconds that the agent would wait for news.
    wait: float = 0.0
    #: Digest of the schemas of its components, with their versions.
    schemas: str = ""


class PollAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the broker answers."""

    #: None where the host has no target yet.
    target: Target | None = None
    orders: tuple[Order, ...] = ()
    #: Seconds until the agent should poll again; it adds a splay of its own.
    pace: float
    #: Seconds for which it keeps what it has to report, from this answer, and from the end of the work that it brings:
    #: the slot it was granted.
    report_after: float = 0.0
    #: The broker does not know the schemas that the poll named, and wants them.
    wants_schemas: bool = False
    protocol: int = FIRST_PROTOCOL


class UndoneBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one reported step is taken back: data that the host keeps, contents by reference."""

    class_: str = msgspec.field(name="class")
    description: str
    #: The kinds of change it consists of, each with its object.
    commands: tuple[str, ...] = ()
    reason: str = ""


class ReportedStep(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step of a run, as its host describes it: a broker shows kinds that it has never heard of (D24)."""

    number: int
    stage: int = 1
    component: str
    kind: str
    kind_version: int
    description: str
    status: str
    undo: UndoneBy
    note: str = ""


class Report(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What happened on a host, or would: the answer to an order, a run, or a refusal."""

    #: Says which report this is, however often it is sent.
    id: str
    protocol: int = FIRST_PROTOCOL
    tool: str
    journal: str
    #: ``run``: something was done, by whomever; ``test``: what would be done; ``verify``: what drifted;
    #: ``refusal``: the target was not tried, or nothing came of it that the journal knows.
    kind: Literal["run", "test", "verify", "refusal"]
    #: The order it answers, the generation it is about.
    order: str = ""
    generation: int = 0
    #: Seconds since the epoch by the host's own clock; for show.
    when: float = 0.0
    # ---- a run ----
    run: str = ""
    #: ``apply``, ``undo``, ``redo`` or ``recovery``.
    run_kind: str = ""
    #: Its place in the host's journal: order is by this, never by time.
    sequence: int = 0
    #: How it ended, in the journal's words.
    status: str = ""
    #: The change IDs it brought, and those it took away.
    brought: tuple[str, ...] = ()
    took_away: tuple[str, ...] = ()
    #: What the host is after it.
    live: Live | None = None
    steps: tuple[ReportedStep, ...] = ()
    # ---- what it consists of ----
    #: Digest of the change-set; empty where there is none.
    change_set: str = ""
    #: Digest of the effect as planned, and as it came about; equal is what the fleet report counts.
    effect: str = ""
    actual: str = ""
    #: The host's own facts, for the placeholders of the change-set.
    facts: dict[str, str] = {}
    # ---- how it went ----
    #: As a command would exit: 0, 12 conflict, 13 irreversible, 14 stale, 15 failed, …
    exit_status: int = 0
    error: str = ""
    hint: str = ""
    #: What a person must know besides: ``by re-planning``, ``undo and revert agree``.
    notes: tuple[str, ...] = ()


class ReportAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the broker says to a report it has taken."""

    #: Digests of bodies that nobody has sent it before.
    wants: tuple[str, ...] = ()


class Enrol(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A host asks to belong to the fleet."""

    join_token: str
    name: str
    machine_id: str
    journal: str
    tool: str
    protocol: int = FIRST_PROTOCOL


class Enrolled(msgspec.Struct, frozen=True, omit_defaults=True):
    """It does, and this says so: kept by the host as a secret, by the broker as a hash."""

    credential: str
    #: The domain's key for digests of secrets (D9), in base64; empty where the domain has none.
    domain_key: bytes = b""


def encode_message(message: msgspec.Struct) -> bytes:
    """Return the JSON of a message; texts that UTF-8 cannot carry (names of files) are escaped in it."""
    return encode(message).encode("ascii")


def decode_message(data: bytes, kind: type[_Message]) -> _Message:
    """Return the message of `kind` that `data` holds.

    Raises:
        NotSpoken: it is of a version that this program does not speak, whether or not it fits.
        MessageRefused: it is larger or deeper than any message is, or does not fit.
    """
    what = getattr(kind, "__name__", "message").lower()
    try:
        found = _decoded(data, kind, what)
    except MessageRefused:
        if hasattr(kind, "protocol") and len(data) <= LARGEST_MESSAGE:
            refuse_unspoken(f"a {what}", _version_of(_decoded(data, object, what)), here="broker")
        raise
    refuse_unspoken(f"a {what}", getattr(found, "protocol", PROTOCOL), here="broker")
    return found


def decode_answer(data: bytes) -> PollAnswer:
    """Return what a broker answered to a poll; raises as `decode_message` does.

    Of a target or order of a version that this program does not speak there is its name only, and nothing to act upon:
    `refuse_unread` tells which they are. The rest of the answer is as it came.
    """
    what = "pollanswer"
    found = _decoded(data, dict[str, Any], what)
    refuse_unspoken(f"a {what}", _version_of(found), here="agent")
    found["target"] = _readable(found.get("target"), _NAME_OF_TARGET)
    orders = found.get("orders", [])
    found["orders"] = [_readable(one, _NAME_OF_ORDER) for one in orders] if isinstance(orders, list) else orders
    try:
        return msgspec.convert(found, PollAnswer)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise MessageRefused(f"not a {what}: {error}") from None


def refuse_unread(asked: Target | Order) -> None:
    """Raise `NotSpoken` where an agent cannot do what it is `asked`, which is of a version or kind unknown to it.

    To be asked in the process that decoded it: another version of the program might take its name for all of it.
    """
    if isinstance(asked, Target):
        refuse_unspoken("a target", asked.protocol, here="agent")
        return
    refuse_unspoken("an order", asked.protocol, here="agent")
    if asked.kind not in _ORDER_KINDS:
        raise NotSpoken(
            f"an order of the kind {asked.kind[:_LONGEST_KIND]!r}: this agent, aquiline {__version__}, knows "
            f"{', '.join(sorted(_ORDER_KINDS))}",
            hint="upgrade the agent",
        )


#: These say the same in every version; and what stands for the rest of one that is not spoken.
_NAME_OF_TARGET = ("generation", "released", "protocol"), {"profile": ""}
_NAME_OF_ORDER: tuple[tuple[str, ...], dict[str, str]] = ("id", "change", "kind", "time_to_live", "protocol"), {}
#: Characters of a kind that are shown.
_LONGEST_KIND = 64


def _readable(message: Any, name: tuple[tuple[str, ...], Mapping[str, str]]) -> Any:
    """Return a target or order as it came, or its name only where it is of a version that is not spoken."""
    if speaks(_version_of(message)):
        return message
    fields, rest = name
    return {**{field: message[field] for field in fields if field in message}, **rest}


def _version_of(message: Any) -> int:
    version = message.get("protocol", FIRST_PROTOCOL) if isinstance(message, dict) else FIRST_PROTOCOL
    return version if isinstance(version, int) else FIRST_PROTOCOL


def _decoded(data: bytes, kind: type[_Message], what: str) -> _Message:
    if len(data) > LARGEST_MESSAGE:
        raise MessageRefused(f"a message of {len(data)} bytes; none is larger than {LARGEST_MESSAGE}")
    try:
        return decode(data, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MessageRefused(f"not a {what}: {error}") from None
    except RecursionError:
        raise MessageRefused("a message nested deeper than any is") from None
