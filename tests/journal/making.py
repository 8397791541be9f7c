"""Steps and plans made by hand, for the tests of the journal."""

from __future__ import annotations

from aquiline.changes.kinds import Change, Inline, Reaction, ReactUnit, Restore, WriteFile
from aquiline.changes.steps import Cause, ComponentReport, Coverage, Digests, Plan, Step, Undo, UndoOrder
from aquiline.host.objects import ABSENT, At, FileObject, Metadata, RegularFile, sha256
from aquiline.journal.records import RunHeader

NOW = 1_700_000_000_123_456_789


def metadata(mode: int = 0o644, mtime_ns: int = NOW, xattrs: tuple[tuple[str, bytes], ...] = ()) -> Metadata:
    return Metadata(mode=mode, uid=0, gid=0, mtime_ns=mtime_ns, xattrs=xattrs)


def regular(content: bytes, mode: int = 0o644, mtime_ns: int = NOW) -> RegularFile:
    return RegularFile(metadata=metadata(mode, mtime_ns), size=len(content), sha256=sha256(content))


def step(
    number: int,
    change: Change,
    before: tuple[At, ...] = (),
    after: tuple[At, ...] = (),
    undo: Undo | None = None,
    order: UndoOrder = "reversed",
) -> Step:
    return Step(
        number=number,
        component="filecopy",
        task="",
        change=change,
        description=f"step {number}",
        cause=Cause(type="intentional"),
        before=before,
        after=after,
        undo=undo or Undo(class_="irreversible", description="none", reason="a test"),
        undo_order=order,
    )


def write(number: int, path: str, old: FileObject = ABSENT, new: bytes = b"new\n") -> Step:
    return step(
        number,
        WriteFile(path=path, content=Inline(new)),
        before=(At(path, old),),
        after=(At(path, regular(new, mtime_ns=0)),),
        undo=Undo(class_="exact", description=f"restore {path}", changes=(Restore(path=path, object=old),)),
    )


def plan(*steps: Step, stage: int = 1) -> Plan:
    return Plan(
        format=1,
        tool="0.1.0",
        profile="p" * 64,
        stage=stage,
        steps=steps,
        components={"filecopy": ComponentReport("planned", version="1")},
        coverage=Coverage(steps=len(steps), predicted=len(steps)),
        digests=Digests(plan="a" * 64, effect="b" * 64, shape="c" * 64),
        notes=("a note",),
    )


def header(kind: str = "apply", **fields: object) -> RunHeader:
    return RunHeader(kind=kind, started=1.0, **fields)  # type: ignore[arg-type]


RELOAD: Reaction = ReactUnit(unit="chronyd.service", action="reload")
