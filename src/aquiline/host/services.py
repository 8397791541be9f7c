"""Units and packages of a real root, as far as this release has them: reactions of units.

Reading and changing the state of units and packages comes with the next release; until then each says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from aquiline.errors import HostError, NotPossibleHere
from aquiline.host.protocol import Command, Reading, UnitState

#: There if and only if systemd is the running service manager (sd_booted(3)).
_RUNNING = "/run/systemd/system"


class RootUnits:
    """Units of `host`: `react` and `daemon_reload` on a running systemd."""

    def __init__(self, host: Reading) -> None:
        self._host = host

    def state(self, unit: str) -> UnitState:
        _next_release(f"reading the state of unit {unit}")

    def set_enabled(self, unit: str, enabled: str) -> None:
        _next_release(f"making unit {unit} {enabled}")

    def set_active(self, unit: str, active: bool) -> None:
        _next_release(f"{'starting' if active else 'stopping'} unit {unit}")

    def react(self, unit: str, action: str) -> None:
        """Do `action` to `unit`; raise `NotPossibleHere` without a running systemd, `HostError` where it fails."""
        verbs = ("stop", "start") if action == "stop-sleep-start" else (action,)
        for number, verb in enumerate(verbs):
            if number:
                self._systemctl_pause()
            self._systemctl(verb, unit)

    def daemon_reload(self) -> None:
        """Make systemd read its unit files again; raises as `react` does."""
        self._systemctl("daemon-reload")

    def _systemctl_pause(self) -> None:
        self._host.run(Command(("sleep", "5")))

    def _systemctl(self, verb: str, *units: str) -> None:
        if self._host.offline:
            raise NotPossibleHere("offline: not run")
        if not os.path.isdir(_RUNNING):
            raise NotPossibleHere("no systemd is running here")
        done = self._host.run(Command(("systemctl", "--no-ask-password", verb, "--", *units)))
        if done.status:
            text = done.stderr.decode("utf-8", "replace").strip()
            raise HostError(f"systemctl {' '.join((verb, *units))} failed with status {done.status}: {text}")


class RootPackages:
    """Packages of a root: not in this release."""

    def installed(self) -> Mapping[str, str]:
        _next_release("listing the installed packages")

    def transact(self, install: Mapping[str, str], remove: Sequence[str]) -> None:  # noqa: ARG002 the protocol names them
        _next_release("installing and removing packages")


def _next_release(what: str) -> NoReturn:
    raise NotPossibleHere(f"{what} comes with the next release of aquiline")
