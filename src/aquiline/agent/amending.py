"""Correcting an undo that was recorded wrong: one step by a person, or many by a rule file that a package brings.

What was recorded first stays in the journal; undo, redo and the undo script go by the newest amendment.

Theory of operation:

1. A corrected undo is checked before anything is written: its class fits its changes, and the content that it restores
   is in the pre-image store.
2. It is appended to the run's undo script, where a step that is given again replaces what was there for it, and then
   recorded in the journal, one durable transaction for each step. A crash between the two leaves a script that is
   right and a step that amending again finds unamended.
3. A rule is told by the file and the text it comes from. What a person amended by hand, no rule changes.

The format of rule files is in ``docs/reference/amend-rules.md``.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from aquiline.agent.session import Session, person
from aquiline.changes.canonical import decode, encode
from aquiline.changes.kinds import Change, CopyOf, ReactCommand, Restore, RunCommand, Stored
from aquiline.changes.perform import OPAQUE_KINDS, REACTION_KINDS
from aquiline.changes.steps import Undo
from aquiline.errors import AquilineError, UsageError
from aquiline.host.objects import RegularFile
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import Intent, PreimageReference, RunRecord, StepRecord
from aquiline.journal.script import UndoScript
from aquiline.journal.store import Journal

RULES_FORMAT = 1
#: A command that failed may have happened in part, and is taken back as far as that can be known.
_HAPPENED = ("done", "assumed-done", "failed")


class Amended(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step's undo, before and after."""

    run: str
    step: int
    description: str
    before: Undo
    after: Undo
    reason: str
    #: The rule that said so; empty where a person did.
    rule: str = ""
    secret: bool = False


# ---- by hand ------------------------------------------------------------------------------------------------------


def load_undo(path: str | Path) -> Undo:
    """Return the undo in a JSON file, as `aquiline show RUN --json` writes it.

    Raises:
        UsageError: it cannot be read, or is no undo.
    """
    try:
        raw = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    return _undo_of(raw, str(path))


def _undo_of(raw: Any, where: str) -> Undo:
    try:
        undo: Undo = decode(encode(raw), Undo)
    except msgspec.DecodeError as error:
        hint = "`aquiline show RUN --json` shows how one looks"
        raise UsageError(f"{where} is no undo: {error}", hint=hint) from None
    unknown = _unknown(raw, undo)
    if unknown:
        raise UsageError(f"{where}: an undo has no {', '.join(unknown)}", hint="was it meant for a newer version?")
    return undo


def _unknown(raw: Any, value: Any, where: str = "") -> list[str]:
    """Return the keys of `raw` that became nothing of `value`: a misspelt one must not be lost in silence."""
    if isinstance(value, msgspec.Struct):
        fields = {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
        fields[str(value.__struct_config__.tag_field)] = None
        known = [key for key in raw if key in fields]
        found = [f"{where}{key}" for key in raw if key not in fields]
        return found + [one for key in known for one in _unknown(raw[key], fields[key], f"{where}{key}.")]
    if isinstance(value, tuple) and isinstance(raw, list):
        pairs = zip(raw, value, strict=False)
        return [one for number, (left, right) in enumerate(pairs) for one in _unknown(left, right, f"{where}{number}.")]
    return []


def amend(
    session: Session, selector: str, number: int, undo: Undo, *, reason: str, is_dry_run: bool = False
) -> Amended:
    """Let `undo` take the place of what was recorded for step `number` of the run that `selector` names.

    Raises:
        UsageError: there is no such run or step, or `undo` cannot take it back.
    """
    if not reason.strip():
        raise UsageError("an amendment needs a reason", hint="--reason TEXT")
    if is_dry_run:
        with session.reading() as journal:
            return _checked(session, journal, selector, number, undo, reason)
    with session.changing("amend") as journal:
        amended = _checked(session, journal, selector, number, undo, reason)
        _record(session, journal, amended)
        return amended


def _checked(session: Session, journal: Journal, selector: str, number: int, undo: Undo, reason: str) -> Amended:
    run = journal.run(selector)
    record = journal.step(run.id, number)
    check_undo(record, undo, session.preimages)
    return _amended(record, undo, reason)


def _amended(record: StepRecord, undo: Undo, reason: str, rule: str = "") -> Amended:
    return Amended(
        run=record.run, step=record.number, description=record.description, before=record.undo, after=undo,
        reason=reason, rule=rule, secret=record.known.secret,
    )  # fmt: skip


def _record(session: Session, journal: Journal, amended: Amended) -> None:
    """Make an amendment durable: in the undo script first, see the theory of operation."""
    record = journal.step(amended.run, amended.step)
    script = UndoScript(session.state, amended.run, session.host.root)
    if script.path.exists():
        script.append([msgspec.structs.replace(record.known, undo=amended.after)])
        script.close(one.number for one in journal.steps(amended.run) if one.status in ("intended", "in-doubt"))
    needed = tuple(
        PreimageReference(amended.step, digest, size, amended.secret) for digest, size in _contents(amended.after)
    )
    journal.amend(
        amended.run, amended.step, amended.after, reason=amended.reason, user=person(), rule=amended.rule,
        intent=Intent(steps=(), preimages=needed),
    )  # fmt: skip


def check_undo(record: StepRecord, undo: Undo, preimages: PreimageStore) -> None:
    """Refuse an undo that could not take `record` back, or that says of itself what is not so.

    Raises:
        UsageError: says what is wrong.
    """
    for problem in _problems(record, undo, preimages):
        raise UsageError(f"this cannot be the undo of step {record.number} of run {record.run}: {problem}")


def _problems(record: StepRecord, undo: Undo, preimages: PreimageStore) -> Iterator[str]:
    if record.status not in _HAPPENED:
        # Finishing an interrupted run would write the undo that was planned into its script again.
        yield f"that step is {record.status}: recover the run first"
    if not undo.description:
        yield "it has no description"
    yield from _contradictions(undo)
    are_reactions = [isinstance(change, REACTION_KINDS) for change in undo.changes]
    if undo.changes and (
        not all(are_reactions) if isinstance(record.known.change, REACTION_KINDS) else any(are_reactions)
    ):
        yield "a reaction is taken back by reactions, and nothing else is"
    original = {one.kept for one in record.known.undo.changes if isinstance(one, Restore)}
    for change in undo.changes:
        if isinstance(change, Restore) and change.kept and change.kept not in original:
            yield f"no inode is kept as {change.kept} for this step"
        if isinstance(getattr(change, "content", None), CopyOf):
            yield "it copies a file as it will be then; give the content"
    yield from (f"there is no pre-image {digest}" for digest, _ in _contents(undo) if not preimages.has(digest))


def _contradictions(undo: Undo) -> Iterator[str]:
    """Return where the class of an undo is not what its changes are (D5)."""
    if undo.class_ == "irreversible":
        if undo.changes:
            yield "it is irreversible and has changes"
        if not undo.reason:
            yield "it is irreversible and says no reason"
    elif not undo.changes:
        yield "it has no changes"
    elif undo.class_ == "exact" and any(isinstance(change, OPAQUE_KINDS) for change in undo.changes):
        yield "it holds a command, so its class is command"


def _contents(undo: Undo) -> Iterator[tuple[str, int]]:
    """Return digest and size of all content that an undo needs from the pre-image store."""
    for change in undo.changes:
        content = getattr(change, "content", None)
        if isinstance(change, Restore) and isinstance(change.object, RegularFile):
            yield change.object.sha256, change.object.size
        elif isinstance(content, Stored):
            yield content.sha256, content.size


# ---- by rules -----------------------------------------------------------------------------------------------------


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which recorded steps have a wrong undo, and the right one. All that is given must match."""

    component: str
    #: A list of versions of the component, or a range such as ``>=1.0, <1.4``; none given is every version.
    versions: tuple[str, ...] | str = ()
    #: Kind of the step's change: ``run_command``; empty is every kind.
    kind: str = ""
    #: A glob over the paths of the step; ``*`` matches slashes too.
    path: str = ""
    #: A glob over the step's description.
    description: str = ""
    #: A glob for each argument of its command.
    argv: tuple[str, ...] = ()
    reason: str
    #: The corrected undo; ``{path}``, ``{run}`` and ``{step}`` stand for what matched, ``{{`` and ``}}`` for braces.
    undo: dict[str, Any]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule file."""

    format: int
    rule: tuple[Rule, ...]
    #: Where it was read from.
    source: str = ""


class ByRules(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a rule file did, or would do."""

    amended: tuple[Amended, ...]
    #: Steps that match and whose undo is right already.
    right_already: int = 0
    #: Steps that match and that a person amended: they stay as that person said.
    by_hand: tuple[Amended, ...] = ()


def load_rules(path: str | Path) -> Rules:
    """Return the rules in a TOML or JSON file.

    Raises:
        UsageError: it cannot be read or makes no sense.
        AquilineError: somebody other than root could have written it: its commands would run as root.
    """
    data = _read_trusted(str(path))
    try:
        raw = msgspec.json.decode(data) if str(path).endswith(".json") else tomllib.loads(data.decode())
        rules = msgspec.convert(raw, Rules)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no rule file: {error}", hint="see the manual, amend-rules") from None
    if rules.format != RULES_FORMAT:
        raise UsageError(f"{path} has format {rules.format}; this version knows {RULES_FORMAT}")
    for number, rule in enumerate(rules.rule, 1):
        where = f"{path}, rule {number}"
        _matches_version(rule.versions, "0", where)
        _undo_of(_filled(rule.undo, {"path": "/p", "run": "r", "step": "1"}, where), f"{where}, undo")
    return msgspec.structs.replace(rules, source=str(path))


def _read_trusted(path: str) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
                return file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    hint = f"chown root {path}; chmod 0644 {path}"
    raise AquilineError(f"the rule file {path} is not a regular file that only root can write", hint=hint)


def amend_by_rules(session: Session, rules: Rules, *, is_dry_run: bool = False) -> ByRules:
    """Amend every recorded step that a rule matches; the first rule that matches a step decides.

    A second time it finds nothing to do.

    Raises:
        UsageError: a corrected undo cannot take back a step that its rule matches; nothing was amended.
    """
    if is_dry_run:
        with session.reading() as journal:
            return _match(session, journal, rules)
    with session.changing("amend --rules") as journal:
        found = _match(session, journal, rules)
        for amended in found.amended:
            _record(session, journal, amended)
        return found


def _match(session: Session, journal: Journal, rules: Rules) -> ByRules:
    amended, by_hand, right_already = [], [], 0
    for run in journal.runs(newest_first=False):
        if run.past_undo or run.header.kind != "apply":
            continue
        for record in journal.steps(run.id):
            found = _corrected(rules, run, record)
            if found is None:
                continue
            if record.amended is not None and not journal.amendment_rule(run.id, record.number):
                by_hand.append(found)
            elif found.after == record.undo:
                right_already += 1
            else:
                check_undo(record, found.after, session.preimages)
                amended.append(found)
    return ByRules(amended=tuple(amended), right_already=right_already, by_hand=tuple(by_hand))


def _corrected(rules: Rules, run: RunRecord, record: StepRecord) -> Amended | None:
    """Return the step with the undo that the first matching rule gives it, None where none matches."""
    if record.step is None or record.status not in _HAPPENED:
        return None
    for number, rule in enumerate(rules.rule, 1):
        where = f"{rules.source}, rule {number}"
        if not _matches(rule, run, record, where):
            continue
        path = next(_matching_paths(rule, record), "")
        known = {"run": record.run, "step": str(record.number), **({"path": path} if path else {})}
        undo = _undo_of(_filled(rule.undo, known, where), f"{where}, undo")
        return _amended(record, undo, rule.reason, where)
    return None


def _matches(rule: Rule, run: RunRecord, record: StepRecord, where: str) -> bool:
    return (
        rule.component == record.component
        and rule.kind in ("", record.kind)
        and _matches_version(rule.versions, run.header.components.get(record.component, ""), where)
        and (not rule.path or any(_matching_paths(rule, record)))
        and (not rule.description or fnmatchcase(record.description, rule.description))
        and (not rule.argv or _matches_argv(rule.argv, record.known.change))
    )


def _matching_paths(rule: Rule, record: StepRecord) -> Iterator[str]:
    step = record.known
    touches = getattr(step.change, "touches", None)
    for path in dict.fromkeys(
        (*(at.path for at in (*step.after, *step.before)), *(touches.paths if touches is not None else ()))
    ):
        if not rule.path or fnmatchcase(path, rule.path):
            yield path


def _matches_argv(patterns: Sequence[str], change: Change) -> bool:
    if not isinstance(change, RunCommand | ReactCommand) or len(change.argv) != len(patterns):
        return False
    return all(fnmatchcase(argument, pattern) for argument, pattern in zip(change.argv, patterns, strict=True))


_COMPARISONS: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    "==": lambda left, right: left == right,
}


def _matches_version(versions: tuple[str, ...] | str, version: str, where: str) -> bool:
    """Return whether a recorded version is one of a list, or in a range."""
    if not isinstance(versions, str):
        return not versions or version in versions
    found = _numbers(version)
    is_in = found is not None
    for term in versions.split(","):
        parsed = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*([0-9.]+)\s*", term)
        bound = _numbers(parsed[2]) if parsed is not None else None
        if parsed is None or bound is None:
            raise UsageError(f"{where}: {versions!r} is no range of versions", hint='as ">=1.0, <1.4", or a list')
        is_in = is_in and _COMPARISONS[parsed[1]](found or (), bound)
    return is_in


def _numbers(version: str) -> tuple[int, ...] | None:
    """Return a dotted version as numbers, trailing zeros left out; None where it is none."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
        return None
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _filled(template: Any, known: Mapping[str, str], where: str, key: str = "") -> Any:
    """Return `template` with what is in braces replaced, in every text of it."""
    match template:
        case dict():
            return {name: _filled(value, known, where, name) for name, value in template.items()}
        case list():
            return [_filled(value, known, where, key) for value in template]
        case str() if key == "text":
            # A path inside a script would be parsed by its language: it gets at it through its arguments.
            if re.search(r"\{(path|run|step)\}", template):
                raise UsageError(f"{where}: a script's text is taken as it is", hint="give it {path} in its arguments")
            return template
        case str():
            return re.sub(r"\{\{|\}\}|\{(\w*)\}", lambda found: _value(found, known, where), template)
        case _:
            return template


def _value(found: re.Match[str], known: Mapping[str, str], where: str) -> str:
    if found[0] in ("{{", "}}"):
        return found[0][0]
    if found[1] not in known:
        raise UsageError(f"{where}: nothing is known for {found[0]}", hint="{path}, {run} or {step}; {{ for a brace")
    return known[found[1]]
