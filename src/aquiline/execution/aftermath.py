"""What packages' own scripts did: found by comparing what was around them before with what is there afterwards.

Theory of operation

1. Before a transaction all that such scripts are known to change is looked at, and every file's content is kept: the
   *surroundings* (`WATCHED`, configuration files elsewhere, which units run). They lie in the state directory, durable,
   until the step is concluded: so a crash in the middle loses nothing.
2. Afterwards they are looked at again. What differs is the *aftermath*: it is in the journal as what the step left, and
   its prior state becomes part of the step's undo.

What scripts do elsewhere (data below ``/var/lib``, the kernel, other hosts) is not seen, and not taken back.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

import msgspec

from aquiline.changes.canonical import decode, encode
from aquiline.changes.describe import object_name
from aquiline.changes.kinds import SetPackages
from aquiline.changes.perform import package_targets
from aquiline.changes.redact import is_known_secret
from aquiline.changes.steps import Step, Undo
from aquiline.changes.text import visible
from aquiline.errors import AquilineError, NotPossibleHere
from aquiline.host.naming import is_path, observe, record_name
from aquiline.host.objects import (
    ABSENT,
    Absent,
    At,
    Directory,
    Object,
    Package,
    Record,
    RegularFile,
    Unit,
    same_but_times,
)
from aquiline.host.protocol import Command, Reading
from aquiline.host.records import DATABASES, RANGES, place_of, range_name
from aquiline.journal.preimages import PreimageStore
from aquiline.journal.records import Intent, PreimageReference
from aquiline.journal.script import UndoScript
from aquiline.journal.state import StateDirectory, make_durable
from aquiline.journal.store import Journal

#: Where scripts of packages write what undo has to take back.
WATCHED = (
    "/etc",
    "/var/lib/alternatives",
    "/var/lib/dpkg/alternatives",
    "/var/lib/dpkg/diversions",
    "/var/lib/dpkg/statoverride",
    "/var/lib/systemd/deb-systemd-helper-enabled",
    "/var/lib/systemd/deb-systemd-helper-masked",
    "/var/lib/systemd/deb-systemd-user-helper-enabled",
)
#: Why a step has another undo than it was planned with.
REASON = "what the packages' own scripts did is taken back too"
_ACCOUNT_FILES = frozenset(place_of(database) for database in DATABASES)
#: What was there before the last change of an account, for people; every tool writes it anew.
_ACCOUNT_BACKUPS = frozenset(f"{path}-" for path in _ACCOUNT_FILES)
#: Entries of these hold password hashes, which are not written to the journal for the sake of a package's script.
_SECRET_DATABASES = ("shadow:", "gshadow:")
_UNIT_TYPES = "--type=service,socket,timer,path"


class Surroundings(msgspec.Struct, frozen=True):
    """What was around packages before a transaction."""

    objects: tuple[At, ...]


class Aftermath(msgspec.Struct, frozen=True):
    """What a transaction changed around the packages."""

    #: The same objects, before and after.
    before: tuple[At, ...] = ()
    after: tuple[At, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, in words."""
        return tuple(
            f"by maintainer script: {visible(old.path)}: {_what(old.object, new.object)}"
            for old, new in zip(self.before, self.after, strict=True)
        )

    @property
    def written(self) -> tuple[str, ...]:
        """What was written to disk: units that came up, went down or failed by themselves are not among it."""
        return tuple(at.path for at in self.before if not at.path.startswith("unit:"))


def _what(old: Object, new: Object) -> str:
    if isinstance(old, Absent):
        return f"came ({object_name(new)})"
    if isinstance(new, Absent):
        return "went"
    if isinstance(old, Unit) and isinstance(new, Unit):
        return f"{old.enabled} {old.active}".strip() + " to " + f"{new.enabled} {new.active}".strip()
    return "changed"


# ---- before -------------------------------------------------------------------------------------------------------


def capture(step: Step, run: str, host: Reading, preimages: PreimageStore, state: StateDirectory) -> Surroundings:
    """Keep what is around the packages of `step`; durable when this returns, but for the pre-images' own sync."""
    names = package_targets(step.after).keys()
    paths = {at.path for at in step.before if is_path(at.path)} | set(host.packages.configuration(names))
    found: dict[str, Object] = {path: host.observe(path) for path in sorted(paths)}
    for top in WATCHED:
        found |= dict(_below(host, top))
    for path, one in found.items():
        if isinstance(one, RegularFile):
            preimages.keep(host.chunks(path))
    files = (At(path, one) for path, one in found.items() if path not in _ACCOUNT_FILES)
    surroundings = Surroundings((*files, *_entries(host), *_units(host)))
    place = state.packages / f"{run}-{step.number}.before"
    temporary = place.with_suffix(".new")
    temporary.write_text(encode(surroundings))
    make_durable(temporary)
    temporary.rename(place)
    make_durable(place.parent)
    return surroundings


def captured(step: Step, run: str, state: StateDirectory) -> Surroundings | None:
    """Return what `capture` found before a crash; None where the crash came before that."""
    try:
        return decode((state.packages / f"{run}-{step.number}.before").read_text(), Surroundings)
    except FileNotFoundError:
        return None


def forget(step: Step, run: str, state: StateDirectory) -> None:
    """Forget the surroundings of a step that is concluded."""
    (state.packages / f"{run}-{step.number}.before").unlink(missing_ok=True)


def _below(host: Reading, top: str) -> Iterator[tuple[str, Object]]:
    found = host.observe(top)
    if isinstance(found, Absent):
        return
    yield top, found
    if isinstance(found, Directory):
        for name in host.names(top):
            yield from _below(host, f"{top}/{name}")


def _entries(host: Reading) -> Iterator[At]:
    """Yield the entries of the account databases: a script adds some, and others stay as people leave them later."""
    for database in DATABASES:
        path = place_of(database)
        if not isinstance(host.observe(path), RegularFile):
            continue
        lines = host.read(path).decode(errors="surrogateescape").splitlines()
        name_of = range_name if database in RANGES else _name
        named = {name_of(line): line for line in lines if ":" in line and line[0] not in "#+-"}
        yield from (At(record_name(database, name), Record(line)) for name, line in named.items())


def _name(line: str) -> str:
    return line.partition(":")[0]


def _units(host: Reading) -> Iterator[At]:
    """Yield the units of a running system, with what the service manager knows of them."""
    if host.offline:
        return
    command = ("systemctl", "--plain", "--no-legend", "--no-pager", "--full", _UNIT_TYPES)
    try:
        files = host.run(Command((*command, "list-unit-files"))).stdout.decode(errors="replace").splitlines()
        loaded = host.run(Command((*command, "--all", "list-units"))).stdout.decode(errors="replace").splitlines()
    except AquilineError:
        return  # nothing runs here that a script could start
    enabled = {fields[0]: fields[1] for fields in map(str.split, files) if len(fields) > 1}
    active = {fields[0]: fields[2] for fields in map(str.split, loaded) if len(fields) > 3 and fields[1] == "loaded"}
    for unit in sorted(enabled.keys() | active.keys()):
        yield At(f"unit:{unit}", Unit(enabled.get(unit, ""), active.get(unit, "inactive")))


# ---- after --------------------------------------------------------------------------------------------------------


def aftermath(surroundings: Surroundings, host: Reading) -> Aftermath:
    """Return what differs from `surroundings` now."""
    was = {at.path: at.object for at in surroundings.objects}
    now: dict[str, Object] = {path: host.observe(path) for path in was if is_path(path)}
    for top in WATCHED:
        now |= dict(_below(host, top))
    now = {path: one for path, one in now.items() if path not in _ACCOUNT_FILES}
    now |= {at.path: at.object for at in (*_entries(host), *_units(host))}
    for path in [path for path in {*was, *now} if path.startswith("unit:") and was.get(path) != now.get(path)]:
        try:
            now[path] = observe(host, path)
        except NotPossibleHere:
            now[path] = was.get(path, ABSENT)  # what cannot be asked for cannot be put back either
    changed = [
        path
        for path in sorted(was.keys() | now.keys())
        if not _is_transient(path) and not _stays(was.get(path, ABSENT), now.get(path, ABSENT))
    ]
    return Aftermath(
        tuple(At(path, was.get(path, ABSENT)) for path in changed),
        tuple(At(path, now.get(path, ABSENT)) for path in changed),
    )


def _stays(was: Object, now: Object) -> bool:
    """Whether nothing was changed: of a file, its time too, since a script may have written it anew."""
    if isinstance(was, RegularFile) and isinstance(now, RegularFile):
        return same_but_times(was, now) and was.metadata.mtime_ns == now.metadata.mtime_ns
    return same_but_times(was, now)


def _is_transient(path: str) -> bool:
    """Whether this comes and goes by itself: template instances and units of one command."""
    return path.startswith("unit:") and ("@" in path or path.startswith("unit:run-"))


def with_aftermath(step: Step, undo: Undo, found: Aftermath) -> Step:
    """Return `step` as it turned out: with all that it left, and an undo that restores all that was there."""
    if undo.class_ != "exact":
        return step
    packages = [change for change in undo.changes if isinstance(change, SetPackages)]
    known = {at.path: at for change in packages for at in change.leaves}
    others = (at for at in found.before if at.path not in known and not _is_hash(at))
    leaves = (*known.values(), *others)
    back = msgspec.structs.replace(undo, changes=(SetPackages(leaves=leaves),))
    mine = {at.path for at in step.after}
    return msgspec.structs.replace(
        step,
        before=(*step.before, *(at for at in found.before if at.path not in mine and _is_compared(at))),
        after=(*step.after, *(at for at in found.after if at.path not in mine and _is_compared(at))),
        undo=back,
    )


def _is_compared(at: At) -> bool:
    """Whether a change of it by somebody else is a conflict."""
    return not _is_hash(at) and at.path not in _ACCOUNT_BACKUPS


def _is_hash(at: At) -> bool:
    return isinstance(at.object, Record) and at.path.startswith(_SECRET_DATABASES)


def record(
    step: Step, found: Aftermath, run: str, journal: Journal, script: UndoScript, *, is_half_way: bool = False
) -> None:
    """Make the undo of `step` as it turned out durable: in the undo script first, then in the journal.

    A transaction that is half way is told by having such an undo, whatever is in it.
    """
    turned_out = with_aftermath(step, step.undo, found)
    if turned_out == step and not is_half_way:
        return
    script.append([turned_out])
    needed = references(
        step, [at for change in turned_out.undo.changes if isinstance(change, SetPackages) for at in change.leaves]
    )
    journal.amend(
        run,
        step.number,
        turned_out.undo,
        reason=REASON,
        user="aquiline",
        rule=REASON,
        intent=Intent(steps=(), preimages=needed),
    )


def observed_with(step: Step, found: Aftermath, host: Reading) -> tuple[At, ...]:
    """Return what the step left, as it stands; directories that came go with what is in them, and are no conflict."""
    own = [At(at.path, observe(host, at.path)) for at in step.after]
    mine = {at.path for at in own}
    return (
        *own,
        *(
            at
            for at in found.after
            if at.path not in mine and not isinstance(at.object, Directory) and _is_compared(at)
        ),
    )


def references(step: Step, objects: Sequence[At]) -> tuple[PreimageReference, ...]:
    """Return the pre-images that restoring `objects` needs."""
    return tuple(
        PreimageReference(step.number, at.object.sha256, at.object.size, is_known_secret(at.path))
        for at in objects
        if isinstance(at.object, RegularFile)
    )


def directories(step: Step, host: Reading) -> Iterator[tuple[str, int]]:
    """Yield the directories whose entries packages and their scripts change, with their times in nanoseconds."""
    paths = {path for top in WATCHED for path, one in _below(host, top) if isinstance(one, Directory)}
    wanted = [
        (at.path.removeprefix("package:"), at.object.version)
        for at in (*step.before, *step.after)
        if at.path.startswith("package:") and isinstance(at.object, Package) and at.object.version
    ]
    for listed in host.packages.contents(wanted).values() if wanted else ():
        paths |= {posixpath.dirname(path) for path in listed or ()} | set(listed or ())
    for path in sorted(paths):
        status = host.status(path)
        if status is not None and status.type == "directory":
            yield path, status.mtime_ns
