"""From where an agent's work takes its code."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.agent.daemon.jobs import Answer
from aquiline.agent.daemon.workshop import Workshop
from aquiline.journal.state import StateDirectory
from aquiline.protocol.messages import Order


def test_work_takes_no_code_from_where_the_agent_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the agent's current directory does not thereby become root."""
    trap = tmp_path / "trap"
    (trap / "aquiline").mkdir(parents=True)
    (trap / "aquiline/__init__.py").write_text(f"open({str(tmp_path / 'caught')!r}, 'w')\n")
    monkeypatch.chdir(trap)
    state = StateDirectory(tmp_path / "state")
    state.create()
    workshop = Workshop(state, arguments=("--root", str(tmp_path), "--state", str(tmp_path / "state")))

    workshop.start(Answer(Order(id="x", change="x", kind="verify", time_to_live=1.0))).wait()

    assert not (tmp_path / "caught").exists()
