"""Being killed between a command and the word of it: nothing of ours catches that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aquiline.changes.kinds import Change
from tests.engine.site import Site


class Killed(BaseException):
    """Nothing of ours catches it."""


def killed(site: Site, *changes: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `changes`, and be killed after the first command of them ran and before anybody wrote that down."""
    site.wants(*changes)
    killed_in(site, site.apply, monkeypatch)


def killed_in(site: Site, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Be killed after the first command that `act` runs and before anybody wrote that down."""
    run_command = type(site.session.host).run

    def run_and_die(host: Any, asked: Any) -> Any:
        completed = run_command(host, asked)
        if "/log" in " ".join(asked.argv):
            raise Killed
        return completed

    with monkeypatch.context() as patch:
        patch.setattr(type(site.session.host), "run", run_and_die)
        with pytest.raises(Killed):
            act()
