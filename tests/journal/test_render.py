"""Runs as people read them."""

from __future__ import annotations

import msgspec

from aquiline.changes.steps import Undo
from aquiline.host.objects import sha256
from aquiline.journal.records import RunHeader, RunRecord, StageRecord, StepName, StepRecord
from aquiline.journal.render import render_log, render_run
from tests.journal.making import plan, regular, write

STEP = write(1, "/etc/motd", regular(b"old\n"))
RUN = RunRecord(
    id="1234abcd",
    sequence=1,
    header=RunHeader(
        kind="apply",
        started=1_700_000_000.5,
        profile="p" * 64,
        change_ids=("c1", "c2"),
        user="root",
        argv=("aquiline", "apply", "a b.json"),
    ),
    status="done",
    ended=1_700_000_001,
    stages=1,
    steps=2,
)
OPEN = RunRecord(
    id="00ff00ff",
    sequence=2,
    header=RunHeader(kind="undo", started=1_700_000_100, undoes=("1234abcd",), confirm_within=600),
    awaits_confirmation=True,
    past_undo=True,
)
FAILED = msgspec.structs.replace(RUN, id="55555555", header=RunHeader(kind="apply", started=0), status="failed")


def stages() -> list[StageRecord]:
    made = plan(STEP)
    return [StageRecord(1, made.tool, made.profile, 1, made.components, made.coverage, made.digests, made.notes)]


def records() -> list[StepRecord]:
    known = StepRecord(
        run="1234abcd",
        number=1,
        stage=1,
        component="filecopy",
        kind="write_file",
        kind_version=1,
        description=STEP.description,
        raw=msgspec.to_builtins(STEP),
        step=STEP,
        status="done",
        output="one\n\x1b[31mtwo\n",
        undone_by=StepName("00ff00ff", 3),
        amended=Undo("irreversible", "", reason="it was wrong"),
    )
    newer = msgspec.structs.replace(
        known,
        number=2,
        kind="teleport",
        kind_version=7,
        description="teleport /a",
        step=None,
        status="in-doubt",
        output="",
        undone_by=None,
        amended=None,
        note="who knows",
    )
    return [known, newer]


def test_log() -> None:
    """One line a run: what it was, how it ended, and what is to be looked at, in flags."""
    expected = (
        "run       began                 kind   flags  steps  status     what\n"
        "00ff00ff  2023-11-14T22:15:00Z  undo   *?<    0      not ended  takes back 1234abcd\n"
        "1234abcd  2023-11-14T22:13:20Z  apply  -      2      done       brings c1, c2\n"
        "55555555  1970-01-01T00:00:00Z  apply  #      2      failed\n"
    )

    assert expected == render_log([OPEN, RUN, FAILED])
    assert "" == render_log([])


def test_run() -> None:
    """A run shows what it was, and each step with what became of it, a kind of a newer version included."""
    expected = f"""\
run 1234abcd: apply, done
began 2023-11-14T22:13:20Z, ended 2023-11-14T22:13:21Z
by root: aquiline apply 'a b.json'
profile {"p" * 64}
brings c1, c2

stage 1: 1 of 1 steps predicted
plan digest    {"a" * 64}
effect digest  {"b" * 64}
note: a note

1. filecopy: step 1
   done, taken back by step 3 of run 00ff00ff
   undo amended: it was wrong
   > one
   > \\x1b[31mtwo
   cause: the profile
   undo: restore /etc/motd
   | --- a/etc/motd
   | +++ b/etc/motd
   | @@ -1 +1 @@
   | -old
   | +new

2. filecopy: teleport /a
   in doubt
   note: who knows
   this version does not know teleport version 7: it cannot take the step back
"""

    assert expected == render_run(RUN, stages(), records(), show_diff=True, stored={sha256(b"old\n"): b"old\n"}.get)


def test_without_diff() -> None:
    """Without `show_diff` no content is shown or asked for."""
    assert "   |" not in render_run(RUN, stages(), records())
