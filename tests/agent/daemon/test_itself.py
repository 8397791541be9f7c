"""A run that changes the program itself ends with that stage; the agent goes on with the program that is there then."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from aquiline.agent import applying
from aquiline.changes.kinds import CommandUndo, RunCommand, Touches
from aquiline.profile import Profile
from tests.agent.daemon.broker import Broker, once
from tests.agent.making import Site

LATE = '''
    """Reads what a command makes."""

    import msgspec

    from aquiline.changes.kinds import Inline, WriteFile
    from aquiline.planning.component import Changes, Component, View


    class Configuration(msgspec.Struct):
        pass


    class Late(Component[Configuration]):
        name = "late"
        version = "1"
        configuration = Configuration

        def configure(self, configuration: Configuration, host: View) -> Changes:
            yield WriteFile(path="/etc/late", content=Inline(host.read("/etc/made")))
'''


def test_the_rest_follows(site: Site, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run leaves to the next one is done by new work, for the same changes, and both runs are reported."""
    site.with_shell()
    site.install("late", LATE, "1")
    make = RunCommand(
        argv=("/bin/sh", "-c", "echo made > /etc/made"), always=True, touches=Touches(paths=("/etc/made",)),
        undo=CommandUndo(changes=()),
    )  # fmt: skip
    components = {
        "anything": {"changes": [msgspec.to_builtins(make)]},
        "late": {"dependencies": {"pre": ["anything"]}},
    }
    broker.wants(Profile({"software": {"components": components}}), "c1", allow_irreversible=True)
    code = itertools.chain(["before"], itertools.repeat("after"))
    monkeypatch.setattr(applying, "loaded_code", lambda: next(code))

    found = once(site, broker)

    assert ["again", "reached"] == [one.result for one in found.outcomes]
    assert "made\n" == site.text("/etc/late")
    assert [("partial", 3, ("c1",)), ("done", 0, ("c1",))] == [
        (one.status, one.exit_status, one.brought) for one in broker.of_kind("run")
    ]
