"""The three digests of a list of steps (DESIGN D8), and the change-set they group hosts by.

* *plan*: the steps with all that they rest on, prior modification times included. Another plan digest: stale.
* *effect*: what is done to what. The same before and after a run (predicted == actual), and what is approved.
* *shape*: the effect and its descriptions with placeholders for the host's own facts. For grouping only.

Theory of operation

1. Each digest is SHA-256 over lines, the first naming digest and version, then one for each step, in order. A line is
   `canonical.pack` of what counts, so it holds no line end and no two lists of steps share their lines.
2. Content enters by its SHA-256, never itself.
3. An *effect row* is kind, object, prior and new state, class and order of undo. It has no observed times, inode
   numbers, names of links, run ids, step numbers or wording: a touched file or a newer agent's better sentence is not
   another effect. A time that the change itself asks for counts.
4. A step that holds a secret enters the plan digest as its HMAC under the domain's key. In its effect row new content
   is an HMAC, so that equal secrets still group; prior content leaves nothing, not even a hash (D9).
5. A *shape row* is the effect row with description, component and certainty, whose texts went through `Placeholders`.
   Content that is text under 1 MiB and has facts in it stands there as its shape; any other content by its SHA-256.
   `fill` of a shape gives the effect rows back.

See docs/explanation/decisions/0002-digests-and-placeholders.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, assert_never

import msgspec

from aquiline.changes import canonical
from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    EditFile,
    Inline,
    ReactCommand,
    Restore,
    RunCommand,
    RunScript,
    SetRecord,
    Stored,
    Validate,
    WriteFile,
)
from aquiline.changes.placeholders import Facts, Placeholders
from aquiline.changes.redact import contents_of, holds_secret
from aquiline.changes.steps import Digests, Step
from aquiline.changes.text import TEXT_LIMIT, text_of
from aquiline.host.objects import (
    ABSENT,
    Absent,
    Directory,
    Object,
    Record,
    RegularFile,
    Special,
    Symlink,
    System,
    sha256,
)

Row = dict[str, Any]
"""One step in a digest or change-set, as JSON values."""
Shape = list[Row]
Contents = Callable[[str], bytes | None]
"""Content of the regular file that stands at a path before the plan, where it can be had."""

#: Values of these fields are the record's own words, not texts of the site.
_NO_CONTENT = Stored(sha256="", size=0)
_UNDO_ELSEWHERE = CommandUndo()
#: Where a kind of change holds content.
_WITH_CONTENT = {"write_file": "content", "edit_file": "content", "validate": "content", "run_command": "stdin"}
_OWN_WORDS = frozenset(
    {"action", "certain", "hmac", "kind", "language", "secret", "sha256", "signal", "special", "type", "undo"}
    | {"undo_order"}
)


def plan_digest(steps: Sequence[Step], secret_key: bytes) -> str:
    """Return the digest that another plan for the same host, or for another state of it, does not have."""
    return _digest("plan", (_plan_line(known, secret_key) for known in _known(steps)))


def effect_digest(steps: Sequence[Step], secret_key: bytes) -> str:
    """Return the digest of what `steps` do, whenever, and in whatever words."""
    return _digest("effect", (canonical.pack(row) for _, row in _rows(steps, secret_key)))


def shape_digest(steps: Sequence[Step], facts: Facts, secret_key: bytes, contents: Contents = lambda _: None) -> str:
    """Return the digest that hosts share whose steps differ only in their own facts."""
    placeholders = Placeholders(facts)
    rows = _rows(steps, secret_key)
    return _digest("shape", (_shape_line(row, known.step, placeholders, contents) for known, row in rows))


def digests(steps: Sequence[Step], facts: Facts, secret_key: bytes, contents: Contents = lambda _: None) -> Digests:
    """Return all three digests of `steps`, for less than the price of one after the other."""
    placeholders = Placeholders(facts)
    plan, effect_lines, shape_lines = _Lines("plan"), _Lines("effect"), _Lines("shape")
    for known, row in _rows(steps, secret_key):
        plan.add(_plan_line(known, secret_key))
        effect_lines.add(canonical.pack(row))
        shape_lines.add(_shape_line(row, known.step, placeholders, contents))
    return Digests(plan=plan.digest(), effect=effect_lines.digest(), shape=shape_lines.digest())


def digest_of_shape(rows: Shape) -> str:
    """Return the shape digest of a change-set, so that whoever receives one can check it."""
    return _digest("shape", map(canonical.pack, rows))


def effect(steps: Sequence[Step], secret_key: bytes) -> list[Row]:
    """Return the effect rows of `steps`."""
    return [row for _, row in _rows(steps, secret_key)]


def shape(steps: Sequence[Step], facts: Facts, secret_key: bytes, contents: Contents = lambda _: None) -> Shape:
    """Return the change-set of `steps`: their effect and descriptions with placeholders for `facts`.

    Prior content with facts in it is shaped where `contents` has it, else it is in the shape by its SHA-256.
    """
    placeholders = Placeholders(facts)
    return [
        _shape_row(_worded(row, known.step), known.step, placeholders, contents)
        for known, row in _rows(steps, secret_key)
    ]


def fill(rows: Shape, facts: Facts) -> list[Row]:
    """Return the effect rows, each with its description, component and certainty, of which `rows` are the shape.

    Raise `ValueError` for a placeholder that is not among `facts`.
    """
    placeholders = Placeholders(facts)

    def content(record: Row) -> Row:
        if "text" not in record:
            return record
        data = placeholders.fill(record["text"]).encode()
        return {"sha256": sha256(data), "size": len(data)}

    return [_with_texts(_with_contents(row, content), placeholders.fill) for row in rows]


class _Lines:
    """A digest being made, line by line."""

    def __init__(self, name: str) -> None:
        self._hash = hashlib.sha256(b"aquiline %s %d" % (name.encode(), canonical.VERSION))

    def add(self, line: bytes) -> None:
        self._hash.update(b"\n" + line)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _digest(name: str, lines: Iterable[bytes]) -> str:
    found = _Lines(name)
    for line in lines:
        found.add(line)
    return found.digest()


class _Known(NamedTuple):
    """A step, and what is asked of it more than once."""

    step: Step
    #: The same with its content by digest.
    bare: Step
    is_secret: bool


def _known(steps: Sequence[Step]) -> Iterator[_Known]:
    return (_Known(step, _without_data(step), holds_secret(step)) for step in steps)


def _without_data(step: Step) -> Step:
    """Return `step` with its content by digest: megabytes need not be encoded to be told apart."""
    match step.change:
        case WriteFile(content=Inline()) | EditFile(content=Inline()) | Validate(content=Inline()) as change:
            stored = Stored(sha256=change.content.sha256, size=change.content.size)
            return msgspec.structs.replace(step, change=msgspec.structs.replace(change, content=stored))
        case _:
            return step


# ---- plan ----------------------------------------------------------------------------------------------------------


def _plan_line(known: _Known, secret_key: bytes) -> bytes:
    line = canonical.pack(known.bare)
    return _keyed(secret_key, line) if known.is_secret else line


def _keyed(secret_key: bytes, data: bytes) -> bytes:
    return hmac.digest(secret_key, b"aquiline secret %d\n%s" % (canonical.VERSION, data), "sha256").hex().encode()


# ---- effect --------------------------------------------------------------------------------------------------------


def _rows(steps: Sequence[Step], secret_key: bytes) -> Iterator[tuple[_Known, Row]]:
    """Return each step with its effect row."""
    secret = [holds_secret(step) for step in steps]
    both = zip(steps, secret, strict=True)
    # As `redact.secret_contents`, without asking each step twice.
    hidden = frozenset(digest for step, is_secret in both if is_secret for digest in contents_of(step))
    for step, is_secret in zip(steps, secret, strict=True):
        known = _Known(step, _without_data(step), is_secret)
        yield known, _effect_row(known.bare, _States(known.bare, known.is_secret, hidden, secret_key))


def _effect_row(step: Step, states: _States) -> Row:
    return {
        "change": states.change(),
        "before": [[at.path, states.prior(at.object)] for at in step.before],
        "after": [[at.path, states.new(at.object)] for at in step.after],
        "undo": step.undo.class_,
        "undo_order": step.undo_order,
    }


class _States:
    """What counts of a step's change and objects."""

    def __init__(self, step: Step, is_secret: bool, hidden: frozenset[str], secret_key: bytes) -> None:
        self._step = step
        self._is_secret = is_secret
        #: As `redact.secret_contents`.
        self._hidden = hidden
        self._key = secret_key

    def prior(self, found: Object) -> Row:
        match found:
            case RegularFile() if self._hides(found.sha256):
                return _object(found, {"secret": "prior"})
            case Record() if self._is_secret:
                return {"type": "record", "line": {"secret": "prior"}}
            case _:
                return self.new(found)

    def new(self, found: Object) -> Row:
        match found:
            case RegularFile() if self._hides(found.sha256) and self._was_there(found.sha256):
                return _object(found, {"secret": "kept"})
            case RegularFile():
                return _object(found, self._content(found.sha256, found.size))
            case Record() if self._is_secret:
                return {"type": "record", "line": self._line(found.line)}
            case _:
                return _object(found, None)

    def change(self) -> Row:
        change = self._step.change
        match change:
            case WriteFile() | Validate():
                row = _fields(change, content=_NO_CONTENT, secret=False)
                row["content"] = self._content(change.content.sha256, change.content.size)
            case EditFile():
                row = _fields(change, content=_NO_CONTENT, edited_sha256="", secret=False)
                row["content"] = self._content(change.content.sha256, change.content.size)
            case Restore():
                row = _fields(change, object=ABSENT, kept="", secret=False)
                row["object"] = self.new(change.object)
            case RunCommand():
                row = _fields(change, stdin=b"", description="", undo=_UNDO_ELSEWHERE, secret=False)
                row["stdin"] = self._content(sha256(change.stdin), len(change.stdin))
            case RunScript():
                row = _fields(change, description="", undo=_UNDO_ELSEWHERE, secret=False)
            case SetRecord():
                # Where it goes depends on what others have in the database.
                row = _fields(change, after=None, below=0, unended=False, secret=False)
                if self._is_secret and change.line is not None:
                    row["line"] = self._line(change.line)
            case ReactCommand():
                row = _fields(change, description="")
            case _:
                row = _fields(change)
        if self._is_secret and isinstance(change, RunCommand | RunScript):
            return {"kind": row["kind"], "hmac": self._hmac(canonical.pack(row))}
        return row

    def _was_there(self, digest: str) -> bool:
        return any(isinstance(at.object, RegularFile) and at.object.sha256 == digest for at in self._step.before)

    def _hides(self, digest: str) -> bool:
        return self._is_secret or digest in self._hidden

    def _content(self, digest: str, size: int) -> Row:
        if self._hides(digest):
            return {"hmac": self._hmac(digest.encode())}
        return {"sha256": digest, "size": size}

    def _line(self, line: str) -> Row:
        return {"hmac": self._hmac(os.fsencode(line))}

    def _hmac(self, data: bytes) -> str:
        return _keyed(self._key, data).decode()


def _fields(change: Change, **neutral: Any) -> Row:
    """Return the record of `change` with the fields named in `neutral` made so, those at their default left out."""
    row: Row = msgspec.to_builtins(msgspec.structs.replace(change, **neutral) if neutral else change)
    return row


def _object(found: Object, content: Row | None) -> Row:
    if isinstance(found, Absent):
        return {"type": "absent"}
    if isinstance(found, System):
        plain: Row = msgspec.to_builtins(found)
        return plain
    metadata = found.metadata
    row: Row = {"mode": metadata.mode, "uid": metadata.uid, "gid": metadata.gid}
    if metadata.xattrs:
        row["xattrs"] = msgspec.to_builtins(metadata.xattrs)
    match found:
        case RegularFile():
            row |= {"type": "file", "content": content}
        case Directory():
            row["type"] = "directory"
        case Symlink():
            row |= {"type": "symlink", "target": found.target}
        case Special():
            row |= {"type": "special", "special": found.special, "device": found.device}
        case _:
            assert_never(found)
    return row


# ---- shape ---------------------------------------------------------------------------------------------------------


def _shape_line(row: Row, step: Step, placeholders: Placeholders, contents: Contents) -> bytes:
    """Return the packed shape row; most rows have no fact in them and are not walked."""
    worded = _worded(row, step)
    line = canonical.pack(worded)
    if any(map(placeholders.may_occur_in, (line, *_data(step, contents)))):
        return canonical.pack(_shape_row(worded, step, placeholders, contents))
    return line


def _worded(row: Row, step: Step) -> Row:
    return row | {"component": step.component, "description": step.description, "certain": step.certain}


def _shape_row(row: Row, step: Step, placeholders: Placeholders, contents: Contents) -> Row:
    shapes = _shapes(step, placeholders, contents)
    return _with_contents(_with_texts(row, placeholders.shape), lambda record: shapes.get(record.get("sha256"), record))


def _shapes(step: Step, placeholders: Placeholders, contents: Contents) -> dict[str | None, Row]:
    """Return the shape of every text that `step` puts in a file or finds in one, by digest, if facts are in it."""
    shapes: dict[str | None, Row] = {}
    for data in _data(step, contents):
        text = text_of(data)
        if text is not None:
            shaped = placeholders.shape(text)
            if shaped != text:
                shapes[sha256(data)] = {"text": shaped}
    return shapes


def _data(step: Step, contents: Contents) -> Iterator[bytes]:
    change = step.change
    if isinstance(change, WriteFile | EditFile | Validate) and isinstance(change.content, Inline):
        yield change.content.data
    if isinstance(change, RunCommand):
        yield change.stdin
    for at in step.before:
        if isinstance(at.object, RegularFile) and at.object.size < TEXT_LIMIT:
            yield contents(at.path) or b""


def _with_contents(row: Row, replaced: Callable[[Row], Row]) -> Row:
    """Return a copy of `row` with every record of a content replaced."""

    def state(found: Row) -> Row:
        return found | {"content": replaced(found["content"])} if found["type"] == "file" else found

    change = dict(row["change"])
    field = _WITH_CONTENT.get(change["kind"], "")
    if field in change:
        change[field] = replaced(change[field])
    if change["kind"] == "restore":
        change["object"] = state(change["object"])
    return row | {
        "change": change,
        "before": [[path, state(found)] for path, found in row["before"]],
        "after": [[path, state(found)] for path, found in row["after"]],
    }


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of JSON `value` with every text of the site changed; names of fields and own words stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_with_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {
            name: item if name in _OWN_WORDS and isinstance(item, str) else _with_texts(item, change)
            for name, item in value.items()
        }
    return value
