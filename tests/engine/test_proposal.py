"""The proposal's own example: a file, a HUP, arbitrary code; undone in the order 3, 1, 2."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquiline.agent import applying
from aquiline.agent.session import Session
from aquiline.changes.kinds import CommandUndo, Inline, ReactSignal, RunScript, Touches, WriteFile
from aquiline.planning.component import Task

from .site import Site, component

#: Writes a line for every HUP it gets; its process name is unique to the test.
DAEMON = """\
trap 'echo "HUP: $(cat "$1")" >> "$2"' HUP
echo ready >> "$2"
while :; do sleep 0.05; done
"""


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site on the running system: signals and commands really run; only paths below `tmp_path` are touched."""
    with Site(tmp_path, monkeypatch) as site:
        site.session = Session("/", str(tmp_path / "state"))
        yield site


def wait_for(log: Path, text: str) -> None:
    """Return once `text` is in the log; fail after five seconds."""
    deadline = time.monotonic() + 5
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_the_proposals_example(live: Site, tmp_path: Path) -> None:
    """Effects, texts and the undo order 3, 1, 2 are the proposal's."""
    config, log = tmp_path / "demo.conf", tmp_path / "log"
    config.write_text("old")
    log.write_text("")
    daemon_name = f"aq{tmp_path.name[-9:]}"[:15]
    shell = tmp_path / daemon_name
    shell.symlink_to("/bin/dash")
    daemon = subprocess.Popen([str(shell), "-c", DAEMON, "daemon", str(config), str(log)])
    try:
        wait_for(log, "ready\n")
        code = RunScript(
            language="python",
            text="open(arguments['log'], 'a').write('code\\n')",
            arguments={"log": str(log)},
            description="Some custom description",
            touches=Touches(),
            with_task=True,
            undo=CommandUndo(
                changes=(
                    RunScript(
                        language="python",
                        text="conf = open(arguments['conf']).read()\n"
                        "open(arguments['log'], 'a').write(f'code undone while {conf}\\n')",
                        arguments={"log": str(log), "conf": str(config)},
                        always=True,
                    ),
                ),
                description="Some custom reverse description",
            ),
            undo_order="reversed",
        )
        hup = ReactSignal(process=daemon_name, signal="HUP")
        live.wants(
            Task(
                description=f"Add <new_item> to {config}",
                changes=(WriteFile(path=str(config), content=Inline(b"new")), hup, code),
            )
        )

        plan = live.plan()
        run = live.apply()
        wait_for(log, "code\n")
        wait_for(log, "HUP: new")
        undone = live.undo()
        wait_for(log, "HUP: old")
    finally:
        daemon.kill()
        daemon.wait()

    assert [str(config) in plan.steps[0].description, "HUP" in plan.steps[1].description] == [True, True]
    assert "Some custom description" == plan.steps[2].description
    assert ["reversed", "after", "reversed"] == [step.undo_order for step in plan.steps]
    assert "Some custom reverse description" == plan.steps[2].undo.description
    assert 0 == run.exit_status
    assert 0 == undone.exit_status
    assert undone.undo is not None
    assert [3, 1, 2] == [step.cause.step for step in undone.undo.plan.steps]
    assert "code undone while new\n" in log.read_text()
    assert log.read_text().index("code undone") < log.read_text().index("HUP: old")
    assert "old" == config.read_text()


def test_the_journal_holds_the_text_of_code(live: Site, tmp_path: Path) -> None:
    """What runs is text in the journal, never a closure: the record alone is enough to run it again."""
    script = RunScript(
        language="shell", text='echo "$AQUILINE_ARGUMENTS" > ' + str(tmp_path / "out"), arguments=["a", 1], always=True
    )
    live.components["one"] = component("one", [script])
    live.dependencies["one"] = ()
    run = applying.apply(live.session, live.profile(), allow_irreversible=True)

    with live.session.reading() as journal:
        (record,) = journal.steps(run.run)
    assert script.text == record.raw["change"]["text"]
    assert '["a", 1]\n' == (tmp_path / "out").read_text()
