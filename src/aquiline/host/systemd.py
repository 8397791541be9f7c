"""Units of a real root: by systemctl where systemd runs, by unit files and links below any other root.

That systemctl ended well says little: a unit may fail a moment later, or not have been started at all. So after each
start, restart and reload this waits until no job is queued for the unit and its state has held for a while; then a
state that is not the wanted one is a failure, told with the last lines of the unit's log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import NoReturn

from aquiline.errors import HostError, NotPossibleHere, StepFailed
from aquiline.host import unitfiles, unitlinks
from aquiline.host.objects import Enablement
from aquiline.host.protocol import Command, Host, UnitState

#: There if and only if systemd is the running service manager (sd_booted(3)).
_RUNNING = "/run/systemd/system"
#: Properties that name the units to which a stop is passed on (systemd.unit(5)).
_STOPPING = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
#: Properties that name the units that are started too, and those that are stopped.
_STARTING = ("Requires", "Wants", "BindsTo", "Upholds")
_AGAINST = ("Conflicts", "ConflictedBy")
_PROPERTIES = (
    "Id", "LoadState", "UnitFileState", "ActiveState", "SubState", "Type", "RemainAfterExit", "Result",
    "ConditionResult", "Job", "NRestarts", "ActiveEnterTimestampMonotonic", "SourcePath",
    "ConditionTimestampMonotonic", *_STOPPING, *_STARTING, *_AGAINST,
)  # fmt: skip
#: Names of one call: far below what a command line may hold.
_AT_ONCE = 500
_CHANGING = ("activating", "deactivating", "reloading", "refreshing")
#: Lines of a unit's log that a failure shows.
_LOG_LINES = "20"
#: Seconds between two looks at a unit.
_PAUSE = 0.05
#: Seconds between stop and start of stop-sleep-start (CAF::Service).
_SLEEP = 5.0

Shown = Mapping[str, str]


class RootUnits:
    """Units of `host`; the state of one has settled when it has held for `settle` seconds.

    Starting, stopping and reacting raise `NotPossibleHere` without a running systemd, and `StepFailed` where the unit
    does not come to the wanted state within `patience` seconds.
    """

    def __init__(self, host: Host, *, settle: float = 1.0, patience: float = 300.0) -> None:
        self._host = host
        self._settle = settle
        self._patience = patience

    # ---- looking --------------------------------------------------------------------------------------------------

    def state(self, unit: str) -> UnitState:
        return self.states((unit,))[unit]

    def states(self, units: Iterable[str]) -> Mapping[str, UnitState]:
        asked = tuple(dict.fromkeys(units))
        templates = {unit for unit in asked if "@." in unit}
        if not self._is_running:
            return {unit: self._by_files(unit, "") for unit in asked}
        shown = self._steady([unit for unit in asked if unit not in templates])
        return {
            unit: self._by_files(unit, "inactive") if unit in templates else self._state(unit, shown[unit])
            for unit in asked
        }

    @property
    def _is_running(self) -> bool:
        return not self._host.offline and os.path.isdir(_RUNNING)

    def _by_files(self, unit: str, active: str) -> UnitState:
        name = unitfiles.real_name(self._host, unit)
        enabled = unitfiles.state(self._host, name)
        return UnitState(
            exists=bool(enabled),
            enabled=enabled or "not-found",
            active=active,
            runs_once=unitfiles.runs_once(self._host, name),
        )

    def _state(self, unit: str, shown: Shown) -> UnitState:
        active = "active" if shown["ActiveState"] in ("reloading", "refreshing") else shown["ActiveState"]
        if _is_being_restarted(shown) or self._has_just_come_back(shown):
            active = "failed"
        enabled = shown["UnitFileState"]
        if enabled == "generated" and shown["SourcePath"].startswith("/etc/init.d/"):
            enabled = unitfiles.script_state(self._host, unit)
        return UnitState(
            exists=shown["LoadState"] != "not-found" or bool(enabled) or active not in ("inactive", "failed"),
            enabled=enabled or ("not-found" if shown["LoadState"] == "not-found" else "static"),
            active=active,
            runs_once=_runs_once(shown),
            stops=_named(shown, _STOPPING),
            starts=_named(shown, _STARTING),
            conflicts=_named(shown, _AGAINST),
            unmet=shown["ConditionResult"] == "no" and shown["ConditionTimestampMonotonic"] not in ("", "0"),
        )

    def _steady(self, units: list[str]) -> dict[str, Shown]:
        """Return what systemd says of units, once those that it restarted by itself have held or died again.

        One that dies and is started again and again is active at one instant and failed at the next. Whatever is looked
        at is one thing, so it has failed as long as it does not hold; nobody waits for long to see that.
        """
        found = self._show(units)
        end = time.monotonic() + 3 * self._settle
        while restless := [unit for unit in units if self._is_restless(found[unit])]:
            if time.monotonic() >= end:
                break
            time.sleep(_PAUSE)
            found |= self._show(restless)
        return found

    def _is_restless(self, shown: Shown) -> bool:
        is_between = shown["ActiveState"] in _CHANGING and not _is_being_restarted(shown)
        return self._has_just_come_back(shown) or (_restarts(shown) > 0 and is_between)

    def _has_just_come_back(self, shown: Shown) -> bool:
        """Whether a unit runs because systemd started it again by itself, a moment ago."""
        since = int(shown["ActiveEnterTimestampMonotonic"] or 0) / 1e6
        return shown["ActiveState"] == "active" and _restarts(shown) > 0 and time.monotonic() - since < self._settle

    def _show(self, units: list[str]) -> dict[str, Shown]:
        found: dict[str, Shown] = {}
        for start in range(0, len(units), _AT_ONCE):
            asked = units[start : start + _AT_ONCE]
            command = ("systemctl", "show", "--all", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *asked)
            done = self._host.run(Command(command))
            blocks = done.stdout.decode("utf-8", "replace").strip("\n").split("\n\n")
            if done.status or len(blocks) != len(asked):
                raise HostError(f"systemctl show: {_words(done.stderr) or f'{len(blocks)} answers'}")
            for unit, block in zip(asked, blocks, strict=True):
                lines = (line.partition("=") for line in block.splitlines())
                found[unit] = dict.fromkeys(_PROPERTIES, "") | {key: value for key, _, value in lines}
        return found

    # ---- enabling -------------------------------------------------------------------------------------------------

    def set_enabled(self, unit: str, enabled: str) -> None:
        if not self._is_running:
            self._set_links(unitfiles.real_name(self._host, unit), enabled)
            return
        shown = self._show([unit])[unit] if "@." not in unit else dict.fromkeys(_PROPERTIES, "")
        if enabled == "masked":
            self._order("mask", unit)
            return
        if shown["UnitFileState"] == "masked":
            self._order("unmask", unit)
        elif shown["UnitFileState"] == "masked-runtime":
            self._order("unmask", unit, "--runtime")
        # systemctl refuses to enable by an alias
        self._order({"enabled": "enable", "disabled": "disable"}[enabled], shown["Id"] or unit)

    def _set_links(self, unit: str, enabled: str) -> None:
        if not unitfiles.find(self._host, unit, masked=False) and unitfiles.has_script(self._host, unit):
            self._set_script(unit, enabled)
            return
        {"enabled": unitlinks.enable, "disabled": unitlinks.disable, "masked": unitlinks.mask}[enabled](
            self._host, unit
        )

    def _set_script(self, unit: str, enabled: str) -> None:
        """Let the root's own program make or remove the links of a System V script."""
        if enabled == "masked":
            unitlinks.mask(self._host, unit)
            return
        verb = {"enabled": "enable", "disabled": "disable"}[enabled]
        done = self._host.run(Command((unitfiles.SYSV_INSTALL, verb, unit.removesuffix(".service"))))
        if done.status:
            raise HostError(f"systemd-sysv-install {verb} {unit} failed: {_words(done.stderr)}")

    def restore(self, unit: str, enablement: Enablement) -> None:  # noqa: ARG002 - the links name their units
        if unitlinks.restore(self._host, enablement) and self._is_running:
            self.daemon_reload()

    # ---- running --------------------------------------------------------------------------------------------------

    def set_active(self, unit: str, active: bool) -> None:
        self._refuse_without_systemd()
        if not active:
            self._order("stop", unit)
            if self._settled(unit, "stop", 0)["ActiveState"] == "failed":
                self._forget_failure(unit)  # it is stopped, as was asked; how it ended is in its log
            return
        self._forget_failure(unit)
        self._order("start", unit)
        self._judge(unit, "start")

    def settle(self, units: Iterable[str]) -> None:
        asked = list(units)
        end = time.monotonic() + self._patience
        while self._is_running and any(_is_moving(one) for one in self._show(asked).values()):
            if time.monotonic() >= end:
                break
            time.sleep(_PAUSE)

    def react(self, unit: str, action: str) -> None:
        self._refuse_without_systemd()
        was = self._show([unit])[unit]
        if was["LoadState"] == "not-found" and was["ActiveState"] == "inactive":
            raise HostError(f"there is no unit {unit} to {action}")
        if action == "try-restart" and was["ActiveState"] in ("inactive", "failed"):
            return
        if action != "reload":
            self._forget_failure(unit)
        if action == "stop-sleep-start":
            self._order("stop", unit)
            time.sleep(_SLEEP)
            self._order("start", unit)
        else:
            self._order(action, unit)
        self._judge(unit, action)

    def daemon_reload(self) -> None:
        self._refuse_without_systemd()
        self._systemctl("daemon-reload")

    def _judge(self, unit: str, verb: str) -> None:
        """Return where the unit runs, or has run to its end as it should; raise `StepFailed` where not."""
        shown = self._settled(unit, verb, self._settle)
        if shown["ActiveState"] == "active":
            return
        if shown["ActiveState"] == "inactive":
            unmet = self._unmet(unit) if shown["ConditionResult"] == "no" else ""
            if unmet:
                raise StepFailed(f"{unit} does not run after {verb}: {unmet}")
            if _runs_once(shown) and shown["Result"] == "success":
                return
        self._fail(unit, verb, f"is {shown['ActiveState']} ({shown['SubState']}, {shown['Result']})")

    def _settled(self, unit: str, verb: str, settle: float) -> Shown:
        """Return the state of a unit once it has held; raise `StepFailed` where it does not in time."""
        end = time.monotonic() + self._patience
        held_since, last = time.monotonic(), None
        restarts: int | None = None
        while True:
            shown = self._show([unit])[unit]
            now = time.monotonic()
            seen = (shown["ActiveState"], shown["SubState"], shown["NRestarts"], shown["Job"])
            if seen != last:
                held_since, last = now, seen
            is_over = shown["ActiveState"] == "failed" and not shown["Job"]
            restarts = _restarts(shown) if restarts is None else restarts
            if _is_being_restarted(shown) or _restarts(shown) > restarts:
                self._fail(unit, verb, "ended, and is being started again and again")
            if is_over or (not _is_moving(shown) and now - held_since >= settle):
                return shown
            if now >= end:
                self._fail(unit, verb, f"is {shown['ActiveState']} still after {self._patience:g} s")
            time.sleep(_PAUSE)

    def _forget_failure(self, unit: str) -> None:
        """Let a start limit that earlier failures reached not refuse the next start; none is no matter."""
        self._host.run(Command(("systemctl", "reset-failed", "--", unit)))

    def _order(self, verb: str, unit: str, *options: str) -> None:
        self._refuse_without_systemd()
        try:
            self._systemctl(verb, *options, "--", unit)
        except HostError as error:
            if verb in ("enable", "disable", "mask", "unmask"):
                raise
            self._fail(unit, verb, f"does not {verb}: {error.message}")

    def _systemctl(self, *words: str) -> None:
        done = self._host.run(Command(("systemctl", "--no-ask-password", *words), timeout=self._patience))
        if done.timed_out:
            raise HostError(f"systemctl {' '.join(words)} took longer than {self._patience:g} s")
        if done.status:
            raise HostError(f"systemctl {' '.join(words)} failed with status {done.status}: {_words(done.stderr)}")

    def _refuse_without_systemd(self) -> None:
        if self._host.offline:
            raise NotPossibleHere("offline: not run")
        if not os.path.isdir(_RUNNING):
            raise NotPossibleHere("no systemd is running here")

    # ---- saying why -----------------------------------------------------------------------------------------------

    def _fail(self, unit: str, verb: str, how: str) -> NoReturn:
        log = self._log(unit)
        raise StepFailed(f"after {verb}: {unit} {how}" + (f"; its log ends:\n{log}" if log else ""))

    def _log(self, unit: str) -> str:
        """Return the last lines that a unit said, empty where nobody kept them."""
        for command in (
            ("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={_LOG_LINES}", f"--unit={unit}"),
            ("systemctl", "status", "--no-pager", "--full", f"--lines={_LOG_LINES}", "--", unit),
        ):
            try:
                text = self._host.run(Command(command, timeout=30)).stdout.decode("utf-8", "replace").strip()
            except NotPossibleHere:
                continue
            if text:
                return text
        return ""

    def _unmet(self, unit: str) -> str:
        """Return which condition kept a unit from starting, as systemd says it; empty where none did."""
        status = self._host.run(Command(("systemctl", "status", "--no-pager", "--full", "--lines=0", "--", unit)))
        lines = (line.strip(" │├└─|`-") for line in status.stdout.decode("utf-8", "replace").splitlines())
        return ", ".join(line for line in lines if line.endswith("was not met"))


def _runs_once(shown: Shown) -> bool:
    return shown["Type"] == "oneshot" and shown["RemainAfterExit"] == "no"


def _named(shown: Shown, properties: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for key in properties for name in shown[key].split()}))


def _is_being_restarted(shown: Shown) -> bool:
    """Whether a unit has ended, and waits for systemd to start it again."""
    return shown["SubState"].startswith("auto-restart")


def _restarts(shown: Shown) -> int:
    """Return how often systemd started a unit again by itself since somebody started it."""
    return int(shown["NRestarts"] or 0)


def _is_moving(shown: Shown) -> bool:
    return bool(shown["Job"]) or shown["ActiveState"] in _CHANGING


def _words(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()
