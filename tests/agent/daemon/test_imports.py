"""Who does not talk to a broker does not pay for it, and a run needs nothing of what talks to one."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
FLEET = ("httpx", "aquiline.protocol", "aquiline.agent.daemon", "aquiline.agent.reconciling")


def imported(program: str) -> list[str]:
    """Return which of the fleet's modules are there after `program`."""
    show = f"import sys; {program}; print(*[name for name in {FLEET!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("name", ["plan", "apply", "undo", "recover"])
def test_commands_of_a_host(name: str) -> None:
    """The commands of one host import nothing of the fleet."""
    modules = f"import aquiline.cli.commands.{name}, aquiline.agent.applying, aquiline.agent.recovering"

    assert [] == imported(modules)


def test_what_is_loaded_before_a_run() -> None:
    """Nor does what is loaded before a run, so that it may change all of that."""
    assert [] == imported("from aquiline.agent.preloading import preload; preload(later_stages=True)")


def test_the_agent_of_a_broker_in_the_same_process() -> None:
    """An agent whose broker is not asked over HTTP does not import what does that."""
    assert "httpx" not in imported("import aquiline.agent.daemon.agent")


def test_the_unit_leaves_runs_alone() -> None:
    """Stopping the service ends the agent and no run; it is started again whatever ended it."""
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(TOP / "packaging/systemd/aquiline-agent.service")

    found = {key: unit["Service"][key] for key in ("KillMode", "Restart", "ExecStart")}
    assert {"KillMode": "process", "Restart": "always", "ExecStart": "/usr/bin/aquiline agent"} == found
