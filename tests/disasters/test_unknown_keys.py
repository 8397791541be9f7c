"""Keys that nothing reads: a misspelt one must be seen, and must not pass for work that was foreseen or not."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Ask

PROFILE = """
software:
  components:
    filecopy:
      serivces: {}
      services:
        /etc/motd: {config: hello, permissions: "0600"}
        /etc/issue: {config: hello}
    metaconfig:
      "line\\nerror: forged": 1
"""
UNKNOWN = [
    "/software/components/filecopy/serivces: unknown key, nothing reads it",
    "/software/components/filecopy/services/{/etc/motd}/permissions: unknown key, nothing reads it",
]


def put(tmp_path: Path, text: str) -> str:
    place = tmp_path / "p.yaml"
    place.write_text(text)
    return str(place)


def test_a_visible_line_each(tmp_path: Path, ask: Ask) -> None:
    """Each unknown key is a line of the plan with its path, before anybody deploys; what is known is done."""
    status, shown, _ = ask("plan", put(tmp_path, PROFILE))

    assert 0 == status
    assert [] == [line for line in UNKNOWN if line not in shown], shown
    assert "write /etc/motd" in shown
    assert "\nerror: forged" not in shown


def test_for_machines(tmp_path: Path, ask: Ask) -> None:
    """`plan --json` has them as notes; coverage is what it is without them, and required coverage is met."""
    place = put(tmp_path, PROFILE)
    found = json.loads(ask("--json", "plan", place)[1])
    without = PROFILE.replace("      serivces: {}\n", "").replace(', permissions: "0600"', "")
    clean = json.loads(ask("--json", "plan", put(tmp_path, without))[1])

    assert [] == [line for line in UNKNOWN if line not in found["notes"]]
    assert clean["coverage"] == found["coverage"]
    assert clean["digest"] == found["digest"]
    assert 0 == ask("plan", put(tmp_path, PROFILE), "--require-coverage")[0]


def test_the_cause_of_a_failure(tmp_path: Path, ask: Ask) -> None:
    """A component that fails because a key was mistyped shows the key beside the failure."""
    text = "software: {components: {filecopy: {services: {/etc/motd: {confg: hello}}}}}\n"

    status, shown, _ = ask("plan", put(tmp_path, text))

    assert 15 == status
    assert "confg: unknown key, nothing reads it" in shown
    assert "found neither, expected either config or source" in shown


def test_framework_keys_are_known(tmp_path: Path, ask: Ask) -> None:
    """What Quattor's framework puts beside a component's keys is nobody's mistake."""
    text = "software: {components: {filecopy: {active: true, dispatch: true, version: '1', register_change: []}}}\n"

    assert "unknown key" not in ask("plan", put(tmp_path, text))[1]
