"""A plan as people and programs read it, against stored texts.

After a deliberate change of the rendering, ``UPDATE_GOLDEN=1 pytest tests/changes/test_render.py`` writes the texts
anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.changes.describe import describe, describe_undo
from aquiline.changes.digests import digests
from aquiline.changes.kinds import (
    Change,
    CommandUndo,
    EditFile,
    Inline,
    Probe,
    ReactCommand,
    ReactSignal,
    ReactUnit,
    Remove,
    Restore,
    RunCommand,
    RunScript,
    SetMetadata,
    SetUnit,
    Touches,
    Validate,
    WriteFile,
)
from aquiline.changes.render import plan_as_json, render_plan, render_steps
from aquiline.changes.steps import Cause, ComponentReport, Coverage, Plan, Step, Undo
from aquiline.host.objects import ABSENT, At, FileObject, Metadata, RegularFile, Symlink, sha256
from tests.changes.drawing import drawn_steps

GOLDEN = Path(__file__).parent / "golden"
WANTED = Cause("intentional", "/software/components/filecopy")


def file(content: bytes, mode: int = 0o644) -> RegularFile:
    return RegularFile(Metadata(mode, 0, 0), len(content), sha256(content))


def step(
    change: Change, before: FileObject = ABSENT, after: FileObject | None = None, cause: Cause = WANTED, **more: object
) -> Step:
    """Return a step as planning makes it, its undo the restoration of `before`."""
    path = getattr(change, "path", "")
    undo = (Restore(path=path, object=before),)
    found: dict[str, object] = {
        "number": 1,
        "component": "filecopy",
        "task": "",
        "change": change,
        "description": describe(change, before),
        "cause": cause,
        "before": (At(path, before),) if after else (),
        "after": (At(path, after),) if after else (),
        "undo": Undo("exact", describe_undo(undo), undo),
    }
    return Step(**(found | more))  # type: ignore[arg-type]


def numbered(*steps: Step) -> Plan:
    found = tuple(msgspec.structs.replace(s, number=number) for number, s in enumerate(steps, 1))
    unknown = [s for s in found if s.certain != "certain"]
    return Plan(
        format=1,
        tool="aquiline 0.1.0",
        profile=sha256(b"profile"),
        stage=1,
        steps=found,
        components={"filecopy": ComponentReport("planned" if found else "unchanged")},
        coverage=Coverage(len(found), len(found) - len(unknown)),
        digests=digests(found, {}, b"key"),
    )


OLD = b"one\ntwo\n"
NEW = b"one\n2\n"


def nothing() -> Plan:
    return numbered()


def files() -> Plan:
    """Draw a plan of files: new, edited twice, metadata only, removed, replaced, secret, binary, not in UTF-8."""
    hidden = b"password=hunter2\n"
    return numbered(
        step(WriteFile(path="/etc/motd", content=Inline(b"hello\n")), ABSENT, file(b"hello\n"), task="say hello"),
        step(
            EditFile(path="/etc/fstab", content=Inline(NEW), edited_sha256=sha256(OLD)),
            file(OLD),
            file(NEW),
            cause=Cause("corrective", "/software/components/fstab"),
        ),
        step(EditFile(path="/etc/fstab", content=Inline(b"2\n"), edited_sha256=sha256(NEW)), file(NEW), file(b"2\n")),
        step(SetMetadata(path="/etc/fstab", mode=0o755), file(b"2\n"), file(b"2\n", 0o755)),
        step(Remove(path="/etc/old.conf"), file(b"old\n"), ABSENT),
        step(Remove(path="/etc/older.conf"), file(b"older\n"), ABSENT),
        step(
            WriteFile(path="/etc/resolv.conf", content=Inline(b"nameserver 192.0.2.1\n"), mode=0o644),
            Symlink(Metadata(0o777, 0, 0), "../run/resolv.conf"),
            file(b"nameserver 192.0.2.1\n"),
        ),
        step(WriteFile(path="/etc/app.conf", content=Inline(hidden), mode=0o600), file(b"x"), file(hidden, 0o600)),
        step(Validate(path="/etc/app.conf", content=Inline(hidden), argv=("app", "--check", "{}"))),
        step(WriteFile(path="/srv/caf\udce9\x1b", content=Inline(b"\0\1")), ABSENT, file(b"\0\1")),
    )


def commands() -> Plan:
    """Draw a plan of commands and reactions: certain, unknown, irreversible, secret, owed."""
    irreversible = Undo("irreversible", "", reason="the clock has no way back")
    same = Undo("command", "the same again")
    plan = numbered(
        step(
            RunCommand(
                argv=("sed", "-i", r"s/\d//", "/etc/a b"),
                description="take numbers out",
                accepts=(0, 1),
                touches=Touches(paths=("/etc/a b",)),
                guard=Probe(("grep", "-q", "[0-9]", "/etc/a b")),
                stdin=b"12",
                undo=CommandUndo(itself=True),
            ),
            undo=same,
            certain="unknown",
            because=("nobody knows what sed does",),
        ),
        step(RunCommand(argv=("hwclock", "--systohc"), always=True), undo=irreversible),
        step(RunCommand(argv=("login", "hunter2"), secret=True, touches=Touches()), undo=irreversible, secret=True),
        step(RunScript(language="python", text="import os\nprint(1)\n", touches=Touches()), undo=same),
        step(
            ReactUnit(unit="httpd.service", action="restart"),
            cause=Cause("reaction", steps=(1, 2)),
            undo=same,
            undo_order="after",
        ),
        step(ReactSignal(process="sshd", signal="HUP"), cause=Cause("owed", run="1234abcd"), undo=same),
        step(ReactCommand(argv=("newaliases",), may_fail=True), undo=same, certain="assumption", because=("guess",)),
        step(SetUnit(unit="ntpd.service", enabled="disabled", active=False), cause=Cause("undo", run="ab12", step=4)),
    )
    return msgspec.structs.replace(
        plan,
        components={
            "filecopy": ComponentReport("planned"),
            "cron": ComponentReport("failed", "/software/components/cron/entries/0: expected a name"),
            "spma": ComponentReport("not-possible-here", "no package manager"),
            "pam": ComponentReport("missing"),
            "named": ComponentReport("inactive"),
        },
        notes=("owed since run 1234abcd: send HUP to every process named sshd", "unknown key /software/x"),
        coverage=Coverage(8, 6, ("step 1 is unknown until run", "component pam is missing")),
    )


def contents(path: str) -> bytes | None:
    found = {"/etc/fstab": OLD, "/etc/old.conf": b"not what the plan was made on", "/etc/app.conf": b"x"} | {
        "/etc/older.conf": b"older\n"
    }
    return found.get(path)


@pytest.mark.parametrize(("name", "plan"), [("nothing", nothing()), ("files", files()), ("commands", commands())])
def test_text(name: str, plan: Plan) -> None:
    """The text is the stored one, to the byte."""
    found = render_plan(plan, contents=contents)
    stored = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        stored.write_text(found)

    assert stored.read_text() == found


@pytest.mark.parametrize(("name", "plan"), [("files", files()), ("commands", commands())])
def test_json(name: str, plan: Plan) -> None:
    """The JSON form is the stored one and has what the command line promises."""
    found = json.loads(json.dumps(plan_as_json(plan)))
    stored = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        stored.write_text(json.dumps(found, indent=1) + "\n")

    assert json.loads(stored.read_text()) == found
    assert found.keys() >= {"digest", "components", "coverage", "steps"}
    assert all(s.keys() >= {"component", "kind", "description", "certain", "undo"} for s in found["steps"])


def test_secrets_stay_home() -> None:
    """Neither form holds a secret, or the digest of one."""
    text = render_plan(files(), contents=contents) + json.dumps(plan_as_json(files()))
    text += render_plan(commands()) + json.dumps(plan_as_json(commands()))

    assert "hunter2" not in text
    assert sha256(b"password=hunter2\n") not in text


def test_without_diffs() -> None:
    """Without diffs the steps are as they were, each a few lines shorter, and no content is asked for."""

    def refused(path: str) -> bytes | None:
        raise AssertionError(path)

    full = render_plan(files(), contents=contents).splitlines()

    assert [line for line in full if not line.startswith("   |")] == render_plan(
        files(), contents=refused, show_diff=False
    ).splitlines()


@given(st.lists(drawn_steps, max_size=3))
def test_any_plan_is_lines_of_printable_text(steps: list[Step]) -> None:
    """Whatever is in a plan, it is shown in lines that a terminal prints and does not obey."""
    text = render_plan(numbered(*steps))

    assert all(line.replace("\t", "").isprintable() for line in text.split("\n"))
    assert text.endswith("\n")
    assert json.dumps(plan_as_json(numbered(*steps)))


def test_stored_contents() -> None:
    """Content that is kept by digest is shown where nothing stands at the path any more."""
    gone = step(Remove(path="/etc/old.conf"), file(b"old\n"), ABSENT)

    (text,) = render_steps([gone], stored={sha256(b"old\n"): b"old\n"}.get)

    assert "   | -old\n" in text
    assert "   | content differs (4 bytes -> none)\n" in render_steps([gone])[0]
