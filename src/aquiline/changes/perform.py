"""Doing: the one module that calls the effects of a host.

A step is performed as it was planned: files come from `Step.after`, not from a second look at what the change might
mean (P1). State steps are performed in batches that become durable together (D11); commands and reactions one by one.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, assert_never

import msgspec

from aquiline.changes.kinds import (
    Change,
    Content,
    CopyOf,
    EditFile,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Probe,
    ReactCommand,
    ReactDaemonReload,
    Reaction,
    ReactSignal,
    ReactUnit,
    Remove,
    Restore,
    RunCommand,
    RunScript,
    SetMetadata,
    SetPackages,
    SetRecord,
    SetUnit,
    Stored,
    Validate,
    WriteFile,
)
from aquiline.changes.redact import is_known_secret, is_secret_content
from aquiline.changes.steps import Cause, Step, Undo
from aquiline.changes.text import command_line
from aquiline.errors import AquilineError, HostError, NoCopyHere, NotPossibleHere, StepFailed
from aquiline.host import unitfiles, unitlinks
from aquiline.host.naming import is_path, observe
from aquiline.host.objects import ABSENT, Absent, At, Directory, Object, Package, Record, RegularFile, Unit, file_object
from aquiline.host.protocol import COPY, Command, Completed, Entry, Host, Reading, Staged
from aquiline.host.records import DATABASES, place_of
from aquiline.host.records import LABEL as RECORDS_LABEL

#: Runs a Python script whose text and arguments come by standard input, so that no process list shows them.
_PYTHON_RUNNER = (
    "import json, sys; given = json.load(sys.stdin); "
    "exec(compile(given['text'], '<script>', 'exec'), {'__name__': '__main__', 'arguments': given['arguments']})"
)

FILE_KINDS = (
    WriteFile, EditFile, Remove, MakeDirectory, MakeSymlink, MakeHardlink, MakeSpecial, Move, SetMetadata, Restore,
)  # fmt: skip
STATE_KINDS = (*FILE_KINDS, SetUnit, SetPackages, SetRecord)
OPAQUE_KINDS = (RunCommand, RunScript)
REACTION_KINDS = (ReactUnit, ReactSignal, ReactDaemonReload, ReactCommand)


class Preimages(Protocol):
    """Where stored content comes from."""

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """Return stored content piece by piece; raise `HostError` where it is not there."""
        ...

    def has(self, sha256: str) -> bool:
        """Return whether there is content of this digest."""
        ...

    def verify(self, sha256: str) -> bool:
        """Return whether the content is there and has its digest."""
        ...


class Performed(msgspec.Struct, frozen=True):
    """What became of a step."""

    #: ``done``; ``not-run`` where the root is offline or the guard said no; ``failed`` with an error.
    outcome: str
    #: What stands there now, times included.
    observed: tuple[At, ...] = ()
    #: What the command printed, or why it was not run.
    output: str = ""
    error: AquilineError | None = None


def label_of(run: str, step: Step) -> str:
    """Return the label of the temporary objects of a step: found and removed again after a crash."""
    return f"{run}-{step.number}"


# ---- files --------------------------------------------------------------------------------------------------------


def perform_files(
    steps: Sequence[Step], host: Host, preimages: Preimages, label: Callable[[Step], str]
) -> list[tuple[Step, Performed]]:
    """Perform a batch of file steps; returns those done, and at most one that failed, last.

    Everything is built under temporary names and made durable first, then moved to its place in order, then the
    directories are made durable. After a failure nothing more of the batch is moved to its place.
    """
    staged: dict[int, Staged] = {}
    failed: tuple[Step, AquilineError] | None = None
    doable = list(steps)
    for position, step in enumerate(steps):
        try:
            _stage(step, host, preimages, label(step), staged)
        except AquilineError as error:
            failed, doable = (step, error), doable[:position]
            forget_leftovers(step, host, label(step))
            break
    new = [one for one in staged.values() if not isinstance(one.object, Directory)]
    try:
        if new:
            host.sync(new)
    except AquilineError as error:
        # Which of them would not survive is not known: none is moved to its place. Directories already are.
        stuck = [step for step in doable if not _is_in_place(step, staged)]
        failed, doable = (stuck[0], error), [step for step in doable if _is_in_place(step, staged)]
    results: list[tuple[Step, Performed]] = []
    for position, step in enumerate(doable):
        try:
            results.append((step, _finish(step, host, preimages, staged.get(step.number), label(step))))
        except AquilineError as error:
            failed = (step, error)
            later = [one for one in doable[position:] if _is_in_place(one, staged)]
            results += [(one, _done(one.after[0].path, staged[one.number].object)) for one in later]
            break
    finished = {step.number for step, _ in results}
    for step in steps:
        if step.number in staged and step.number not in finished:
            forget_leftovers(step, host, label(step))
    changed = [one for step, done in results for one in _changed_inodes(step, done)]
    try:
        if changed:
            host.sync(changed)
        host.sync_directories(_directories(steps))
    except AquilineError as error:
        # All is in its place, but nobody knows whether it would survive.
        failed = failed or (results.pop()[0] if results else steps[0], error)
    if failed is not None:
        results.append((failed[0], Performed("failed", error=failed[1])))
    return results


def _changed_inodes(step: Step, done: Performed) -> Iterator[Staged]:
    """Return the objects whose metadata a step changed under their own names: these are still to be made durable."""
    by_inode = keeps_inode(step) or (isinstance(step.change, Restore) and bool(step.change.kept))
    for at in done.observed:
        if by_inode and isinstance(at.object, RegularFile | Directory):
            yield Staged(at.path, at.path, at.object)


def _is_in_place(step: Step, staged: dict[int, Staged]) -> bool:
    """Whether building a step already finished it: true of new directories."""
    return step.number in staged and isinstance(staged[step.number].object, Directory)


def _stage(step: Step, host: Host, preimages: Preimages, label: str, staged: dict[int, Staged]) -> None:
    """Build the new object of a step; a directory is moved to its place at once, since the next step may need it."""
    change = step.change
    match change:
        case Remove() | MakeHardlink() | Move() | SetMetadata():
            return
        case WriteFile() | Restore() if overwrites(step):
            return
        case Restore() if change.kept or isinstance(change.object, Absent):
            return
        case WriteFile() | EditFile() | MakeDirectory() | MakeSymlink() | MakeSpecial() | Restore():
            wanted = file_object(step.after[0])
            if isinstance(wanted, Absent) or keeps_inode(step):
                return
            staged[step.number] = host.stage(change.path, wanted, _chunks_for(step, host, preimages), label)
            if isinstance(wanted, Directory):
                host.sync([staged[step.number]])
                host.publish(staged[step.number])
        case _:
            raise AssertionError(f"not a file step: {change}")


def overwrites(step: Step) -> bool:
    """Return whether the content of a file is overwritten in place; where none is there, it is made like any other."""
    if not isinstance(step.change, WriteFile | Restore) or not step.change.in_place:
        return False
    return isinstance(step.before[0].object, RegularFile) and isinstance(step.after[0].object, RegularFile)


def keeps_inode(step: Step) -> bool:
    """Return whether an existing object only gets new metadata: same content, or a directory that stays."""
    return is_about_metadata(step.change, step.before, step.after)


def is_about_metadata(change: Change, before: Sequence[At], after: Sequence[At]) -> bool:
    """Return the same as `keeps_inode`, of a change that is no step yet."""
    if len(before) != 1 or isinstance(change, MakeHardlink | Move):
        return False
    match before[0].object, after[0].object:
        case Directory(), Directory():
            return True
        case RegularFile() as old, RegularFile() as new:
            return old.sha256 == new.sha256 and not (isinstance(change, Restore) and change.apart)
        case _:
            return isinstance(change, SetMetadata)


def _chunks_for(step: Step, host: Reading, preimages: Preimages) -> Iterable[bytes] | None:
    wanted = step.after[0].object
    if not isinstance(wanted, RegularFile):
        return None
    change = step.change
    if isinstance(change, WriteFile | EditFile):
        return content_chunks(change.content, host, preimages)
    return preimages.chunks(wanted.sha256)


def copied_file(step: Step) -> CopyOf | None:
    """Return the file that `step` copies, None where it copies none."""
    if isinstance(step.change, WriteFile | EditFile) and isinstance(step.change.content, CopyOf):
        return step.change.content
    return None


def content_chunks(content: Content, host: Reading, preimages: Preimages) -> Iterable[bytes]:
    """Return the bytes of `content`, piece by piece."""
    match content:
        case Inline():
            return (content.data,)
        case Stored():
            return preimages.chunks(content.sha256)
        case CopyOf():
            return host.chunks(content.path)
        case _:
            assert_never(content)


def _finish(step: Step, host: Host, preimages: Preimages, staged: Staged | None, label: str) -> Performed:
    """Put the result of a step in its place."""
    change = step.change
    if staged is not None:
        if not isinstance(staged.object, Directory):
            host.publish(staged)
        return Performed("done", (At(staged.path, staged.object),))
    match change:
        case Move():
            host.move(change.source, change.destination)
            return Performed("done", step.after)
        case MakeHardlink():
            host.link(change.path, change.existing, label)
            return Performed("done", step.after)
        case WriteFile() | Restore() if overwrites(step) and not keeps_inode(step):
            written = step.after[0].object
            assert isinstance(written, RegularFile)
            chunks = _chunks_for(step, host, preimages)
            assert chunks is not None
            return _done(change.path, host.write_in_place(change.path, chunks, written.metadata))
        case Restore() if change.kept and not isinstance(change.object, Absent) and not keeps_inode(step):
            host.restore_kept(change.kept, change.path, label)
            host.set_metadata(change.path, change.object.metadata)
            return _done(change.path, change.object)
        case _:
            return _finish_in_place(step, host)


def _finish_in_place(step: Step, host: Host) -> Performed:
    path, wanted = step.after[0].path, file_object(step.after[0])
    if isinstance(wanted, Absent):
        host.remove(path)
        return _done(path, wanted)
    host.set_metadata(path, wanted.metadata)
    if wanted.metadata.mtime_ns == 0:
        status = host.status(path)
        kept = msgspec.structs.replace(wanted.metadata, mtime_ns=status.mtime_ns if status else 0)
        wanted = msgspec.structs.replace(wanted, metadata=kept)
    return _done(path, wanted)


def _done(path: str, observed: Object) -> Performed:
    return Performed("done", (At(path, observed),))


def _directories(steps: Iterable[Step]) -> set[str]:
    """Return the directories whose entries a batch changes."""
    return {posixpath.dirname(at.path) for step in steps for at in step.after}


# ---- around a step ------------------------------------------------------------------------------------------------


def keep_inode(path: str, host: Host, name: str) -> None:
    """Keep the inode at `path` as `name`, because other names share it and undo brings them together (D14)."""
    host.keep(path, name)


def let_go_of_inode(change: Restore, host: Host) -> None:
    """Forget the inode that `change` has brought back."""
    if change.kept:
        host.drop_kept(change.kept, change.path)


def remove_leftovers(step: Step, host: Host, label: str) -> None:
    """Remove what a step that was cut short, by a crash or an error, left half-built."""
    if isinstance(step.change, FILE_KINDS):
        for at in step.after:
            host.discard(at.path, label)
    if isinstance(step.change, SetRecord):
        host.discard(place_of(step.change.database), RECORDS_LABEL)
    if isinstance(step.change, SetUnit):
        unitlinks.discard(host)


def forget_leftovers(step: Step, host: Host, label: str) -> None:
    """Remove what a failed step left half-built, as far as that is possible: its own error is the one to be told."""
    try:
        remove_leftovers(step, host, label)
    except AquilineError:
        return


def restore_directory_times(times: Mapping[str, int], host: Host) -> None:
    """Put back modification times, in nanoseconds, of the directories that are still there (P4).

    One that fails holds up no other; the first error is raised in the end.
    """
    failed: AquilineError | None = None
    for path, mtime_ns in sorted(times.items(), reverse=True):
        try:
            status = host.status(path)
            if status is not None and status.type == "directory" and status.mtime_ns != mtime_ns:
                host.set_mtime(path, mtime_ns)
                host.sync_directories((path,))
        except AquilineError as error:
            failed = failed or error
    if failed is not None:
        raise failed


# ---- commands -----------------------------------------------------------------------------------------------------


def perform_command(change: RunCommand | RunScript, host: Host) -> Performed:
    """Run an opaque command, unless its guard says no."""
    try:
        return _perform_command(change, host)
    except AquilineError as error:
        return Performed("failed", error=error)


def _perform_command(change: RunCommand | RunScript, host: Host) -> Performed:
    if change.guard is not None and not probe_says_yes(change.guard, host):
        return Performed("not-run", output="its guard says that it is not needed")
    completed = host.run(command_of(change))
    performed = _judge(completed, change.accepts, change.timeout, secret=change.secret)
    if change.touches is not None:
        _make_durable(change.touches.paths, host)
    if performed.error is None and change.done_when is not None and not probe_says_yes(change.done_when, host):
        unfinished = StepFailed("it ended well, but its done_when probe says that it has not been done")
        return msgspec.structs.replace(performed, outcome="failed", error=unfinished)
    return performed


def _make_durable(paths: Iterable[str], host: Host) -> None:
    """Return once what a command left at these paths survives a power cut: the journal is about to say that it ran."""
    found = [(path, host.observe(path)) for path in paths]
    host.sync([Staged(path, path, one) for path, one in found if isinstance(one, RegularFile | Directory)])
    host.sync_directories(posixpath.dirname(path) for path, _ in found)


def command_of(change: RunCommand | RunScript) -> Command:
    """Return the process that an opaque change runs."""
    match change:
        case RunCommand():
            return Command(change.argv, change.stdin, change.environment, change.timeout)
        case RunScript(language="python"):
            stdin = json.dumps({"text": change.text, "arguments": change.arguments}).encode()
            return Command(("python3", "-I", "-c", _PYTHON_RUNNER), stdin, change.environment, change.timeout)
        case RunScript():
            environment = {
                **change.environment,
                "AQUILINE_TEXT": change.text,
                "AQUILINE_ARGUMENTS": json.dumps(change.arguments),
            }
            return Command(("sh", "-c", 'eval "$AQUILINE_TEXT"'), b"", environment, change.timeout)
        case _:
            assert_never(change)


def probe_says_yes(probe: Probe, host: Reading) -> bool:
    """Return whether the exit status of `probe` is one it accepts; raise `StepFailed` where it does not end in time."""
    completed = host.run(Command(probe.argv, timeout=probe.timeout))
    if completed.timed_out:
        raise StepFailed(f"the probe {command_line(probe.argv)} gave no answer within {probe.timeout:g} s")
    return completed.status in probe.accepts


def _judge(completed: Completed, accepts: tuple[int, ...], timeout: float, *, secret: bool = False) -> Performed:
    # Whoever holds a secret may print it: checkers quote the line they do not like.
    output = "" if secret else (completed.stdout + completed.stderr).decode(errors="replace")
    if completed.timed_out:
        error = StepFailed(f"killed: it took longer than {timeout:g} s")
        return Performed("failed", output=output, error=error)
    if completed.status not in accepts:
        expected = " or ".join(map(str, accepts))
        error = StepFailed(f"exit status {completed.status}, expected {expected}{_last_line(output)}")
        return Performed("failed", output=output, error=error)
    return Performed("done", output=output)


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return f": {lines[-1]}" if lines else ""


# ---- reactions, units, packages, validation -------------------------------------------------------------------------


OFFLINE = "offline: not run"


def is_run_here(change: Reaction, host: Reading) -> bool:
    """Return whether `host` has what a reaction needs: a running system, unless it says that it needs none."""
    return not host.offline or (isinstance(change, ReactCommand) and change.offline_too)


def perform_reaction(change: Reaction, host: Host) -> Performed:
    """Tell a running program; below an offline root there is none, and that is said."""
    if not is_run_here(change, host):
        return Performed("not-run", output=OFFLINE)
    try:
        match change:
            case ReactUnit():
                host.units.react(change.unit, change.action)
                return Performed("done")
            case ReactDaemonReload():
                host.units.daemon_reload()
                return Performed("done")
            case ReactSignal():
                completed = host.run(Command(("pkill", f"-{change.signal}", "-x", change.process)))
                return _judge(completed, (0, 1), 300)
            case ReactCommand():
                performed = _judge(
                    host.run(Command(change.argv, timeout=change.timeout)), change.accepts, change.timeout
                )
                if performed.error is not None and change.may_fail:
                    return Performed("done", output=f"failed, which it may: {performed.error.message}")
                return performed
            case _:
                assert_never(change)
    except NotPossibleHere as error:
        return Performed("not-run", output=error.message)
    except AquilineError as error:
        return Performed("failed", error=error)


def perform_unit(step: Step, host: Host) -> Performed:
    """Bring a unit to its state; where nothing runs, only whether it is enabled."""
    change = step.change
    assert isinstance(change, SetUnit)
    found, left = step.before[0].object, step.after[0].object
    assert isinstance(found, Unit)
    assert isinstance(left, Unit)
    # Of a unit that runs once, and is inactive before and after that, there is a step only if it must run.
    must_run = bool(left.active) and (found.active != left.active or bool(change.active and left.active == "inactive"))
    # A service that is stopped must not be brought back meanwhile by what it is enabled for; a mask sees to that.
    stops_first = must_run and not change.active and change.enabled != "masked"
    try:
        if stops_first:
            host.units.set_active(change.unit, False)
            _bring_along(step, host)
        if change.restores is not None:
            host.units.restore(change.unit, change.restores)
        if change.enabled is not None and found.enabled != left.enabled:
            host.units.set_enabled(change.unit, change.enabled)
            # A crash after the last link went leaves its folder, and nothing then tells whose that was.
            unitlinks.remove_spare(host, _folders_of_links(step))
        if must_run and not stops_first:
            host.units.set_active(change.unit, bool(change.active))
        if not stops_first:
            _bring_along(step, host)
    except AquilineError as error:
        return Performed("failed", error=error)
    return Performed("done", output="" if left.active or change.active is None else not_run(change))


def _bring_along(step: Step, host: Host) -> None:
    """Bring the units to their state that start or stop with the step's; the service manager need not wait for them.

    What a start brings along is the service manager's to start: one that is only wanted may fail.
    """
    assert isinstance(step.change, SetUnit)
    by_itself = []
    for at in step.after[1:]:
        assert isinstance(at.object, Unit)
        unit = at.path.removeprefix("unit:")
        if step.change.active and unit not in step.change.along:
            by_itself.append(unit)
        else:
            host.units.set_active(unit, at.object.active == "active")
    if by_itself:
        host.units.settle(by_itself)


def _folders_of_links(step: Step) -> tuple[str, ...]:
    """Return the folders in which the unit of `step` had links before."""
    restored = (one.restores for one in step.undo.changes if isinstance(one, SetUnit))
    return unitfiles.folders_of(at.path for one in restored if one is not None for at in one.links)


def not_run(change: SetUnit) -> str:
    """Return what of `change` is not done where no service manager runs."""
    return f"{'start' if change.active else 'stop'} {change.unit}: {OFFLINE}"


def foresee_unit(change: SetUnit, after: Sequence[At], host: Host) -> None:
    """Let a pretended host have the unit as `change` will leave it."""
    if change.restores is not None:
        host.units.restore(change.unit, change.restores)
    for at in after:
        if change.restores is None and isinstance(at.object, Unit) and at.object.enabled:
            host.units.set_enabled(change.unit, at.object.enabled)
        if isinstance(at.object, Unit) and at.object.active:
            host.units.set_active(at.path.removeprefix("unit:"), at.object.active == "active")


def entry_of(change: SetRecord) -> Entry:
    """Return what `change` gives an account database."""
    return Entry(change.name, change.line, change.after, change.below, change.unended)


def perform_records(steps: Sequence[Step], host: Host) -> list[tuple[Step, Performed]]:
    """Perform a batch of entries of account databases, no two of one name; returns those that failed last.

    Each database is rewritten once, with all its entries of the batch: these fail together, and an error does not tell
    whether they are there all the same.
    """
    by_database: dict[str, list[tuple[Step, SetRecord]]] = {}
    for step in steps:
        assert isinstance(step.change, SetRecord)
        by_database.setdefault(step.change.database, []).append((step, step.change))
    results: list[tuple[Step, Performed]] = []
    for database, changes in by_database.items():
        try:
            host.accounts.set_entries(database, [entry_of(change) for _, change in changes])
        except AquilineError as error:
            return [*results, *((step, Performed("failed", error=error)) for step, _ in changes)]
        results += ((step, Performed("done", step.after)) for step, _ in changes)
    return results


def perform_validation(change: Validate, host: Reading) -> Performed:
    """Check would-be content by the command of `change`, on a private copy where it wants one."""
    assert isinstance(change.content, Inline)
    content = change.content.data
    copy = content if COPY in change.argv else None
    try:
        completed = host.run(Command(change.argv, content if change.stdin else b"", timeout=change.timeout, copy=copy))
    except NoCopyHere as error:
        return Performed("not-run", output=f"not validated here: {error.message}")
    except NotPossibleHere:
        return Performed("not-run", output=f"not validated here: {change.argv[0]} is not there")
    except AquilineError as error:
        return Performed("failed", error=error)
    secret = change.secret or is_known_secret(change.path) or is_secret_content(content)
    return _judge(completed, change.accepts, change.timeout, secret=secret)


def as_asked(found: Object, wanted: Object) -> Object:
    """Return `found`, of a unit without the side that the step is not about."""
    if not isinstance(found, Unit) or not isinstance(wanted, Unit):
        return found
    return Unit(found.enabled if wanted.enabled else "", found.active if wanted.active else "")


def _with_observed(step: Step, performed: Performed, host: Host) -> Performed:
    if performed.error is not None:
        return performed
    observed = tuple(At(at.path, as_asked(observe(host, at.path), at.object)) for at in step.after)
    others = "".join(
        f"{at.path.removeprefix('unit:')} is {at.object.active}, expected {expected.object.active}\n"
        for at, expected in zip(observed[1:], step.after[1:], strict=True)
        if isinstance(at.object, Unit) and isinstance(expected.object, Unit) and at != expected
    )
    return msgspec.structs.replace(performed, observed=observed, output=others + performed.output)


def perform_alone(step: Step, host: Host, preimages: Preimages) -> Performed:
    """Perform a step that no batch may hold."""
    change = step.change
    match change:
        case RunCommand() | RunScript():
            return perform_command(change, host)
        case Validate():
            return perform_validation(change, host)
        case ReactUnit() | ReactSignal() | ReactDaemonReload() | ReactCommand():
            return perform_reaction(change, host)
        case SetUnit():
            return _with_observed(step, perform_unit(step, host), host)
        case SetPackages():
            return perform_packages(step, host, preimages)
        case _:
            raise HostError(f"not a step to be performed alone: {change}")


# ---- packages -----------------------------------------------------------------------------------------------------


def package_targets(objects: Iterable[At]) -> dict[str, Package | Absent]:
    """Return what packages are to become, by name; what is no package is left out."""
    return {
        at.path.removeprefix("package:"): at.object
        for at in objects
        if at.path.startswith("package:") and isinstance(at.object, Package | Absent)
    }


def perform_packages(step: Step, host: Host, preimages: Preimages) -> Performed:
    """Run a transaction of packages; then put what is around them to where the step says that it leaves it."""
    targets = package_targets(step.after)
    try:
        found = host.packages.installed()
        changed = {name: one for name, one in targets.items() if found.get(name, ABSENT) != one}
        output = host.packages.transact(changed) if changed else ""
        around = [at for at in step.after if not at.path.startswith("package:")]
        output += "".join(_restore_around(around, host, preimages, f"packages-{step.number}"))
    except AquilineError as error:
        return Performed("failed", error=error)
    return Performed("done", output=output)


def _restore_around(objects: Sequence[At], host: Host, preimages: Preimages, label: str) -> Iterator[str]:
    """Put files and units to a state, whatever the packages' own scripts made of them; yield what stays."""
    files = [at for at in objects if is_path(at.path)]
    gone = [at for at in files if isinstance(at.object, Absent)]
    directories = [at for at in files if isinstance(at.object, Directory)]
    for at in sorted(gone, key=lambda one: one.path, reverse=True):
        if isinstance(host.observe(at.path), Directory) and host.names(at.path):
            yield f"{at.path} stays: it is not empty\n"
            continue
        host.remove(at.path)
    others = [at for at in files if at not in gone and at not in directories]
    for wave in (sorted(directories, key=lambda one: one.path), others):
        steps = [_restoring(number, at, host) for number, at in enumerate(wave) if not _is_exactly(host, at)]
        for one, performed in perform_files(steps, host, preimages, lambda one: f"{label}-{one.number}"):
            if performed.error is not None:
                raise HostError(f"{one.after[0].path} cannot be restored: {performed.error.message}")
    host.sync_directories({posixpath.dirname(at.path) for at in gone})
    restore_directory_times(
        {at.path: at.object.metadata.mtime_ns for at in directories if isinstance(at.object, Directory)}, host
    )
    _restore_entries(objects, host)
    yield from _restore_units([at for at in objects if at.path.startswith("unit:")], host)


def _restore_entries(objects: Sequence[At], host: Host) -> None:
    """Put entries of account databases back; one that was removed comes back below all others."""
    by_database: dict[str, list[Entry]] = {}
    for at in objects:
        database, _, name = at.path.partition(":")
        line = at.object.line if isinstance(at.object, Record) else None
        if database in DATABASES and host.accounts.entry(database, name).line != line:
            by_database.setdefault(database, []).append(Entry(name, line))
    for database, entries in by_database.items():
        host.accounts.set_entries(database, entries)


def _restoring(number: int, at: At, host: Reading) -> Step:
    restore = Restore(path=at.path, object=file_object(at))
    before = (At(at.path, host.observe(at.path)),)
    return Step(number, "", "", restore, "", Cause("undo"), before, (at,), Undo("exact", "", ()))


def _is_exactly(host: Reading, at: At) -> bool:
    found = host.observe(at.path)
    return found == at.object


def _restore_units(objects: Sequence[At], host: Host) -> Iterator[str]:
    """Start and stop units as they were; whether they are enabled is links in /etc, which are back already."""
    if host.offline or not objects:
        return
    host.units.daemon_reload()
    for at in objects:
        found = observe(host, at.path)
        unit = at.path.removeprefix("unit:")
        if isinstance(at.object, Unit) and isinstance(found, Unit) and found.active != at.object.active:
            if at.object.active in ("active", "inactive"):
                host.units.set_active(unit, at.object.active == "active")
            else:
                yield f"{unit} is {found.active}, was {at.object.active}\n"
