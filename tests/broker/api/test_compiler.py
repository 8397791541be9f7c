"""Which compiler a broker has, by how it is started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker.api.conftest import Served, free_port, started

PANC = """#!/bin/sh
# --formats json --include-path DIRS --output-dir DIR TEMPLATE
echo '{"include": "'"${4##*/}"'", "system": {"network": {"hostname": "web01"}}}' > "$6/web01.json"
"""


def test_pan_from_the_command_line(tmp_path: Path) -> None:
    """With `--compiler pan` profiles are what the panc that was named makes of the templates that were pushed."""
    panc = tmp_path / "panc"
    panc.write_text(PANC)
    panc.chmod(0o755)
    port, options = free_port(), ("--compiler", "pan", "--panc", str(panc), "--pan-include", "site")
    served = Served(tmp_path / "data", port, started(tmp_path / "data", port, *options), options)
    try:
        assert 201 == served.ask("POST", "/v1/domains", json={"name": "prod"}).status_code
        assert 201 == served.ask("POST", "/v1/sandboxes", json={"name": "new", "start": "prod"}).status_code
        push(served.data / "repository.git", "new", tmp_path / "clone")
        assert 201 == served.ask("POST", "/v1/hosts", json={"name": "web01", "branch": "prod"}).status_code
        change = served.ask("POST", "/v1/deployments", json={"sandbox": "new", "domain": "prod"}).json()["id"]
        (host,) = served.ask("GET", f"/v1/changes/{change}/hosts").json()
    finally:
        served.stop(kill=True)

    assert ("asked", 64) == (host["state"], len(host["after"]))


def push(repository: Path, branch: str, clone: Path) -> None:
    script = f"""
        git clone --quiet --branch {branch} {repository} {clone} && cd {clone} && mkdir hosts site
        echo object template web01 > hosts/web01.pan; touch site/all.pan; git add .
        git -c user.name=ada -c user.email=ada@localhost commit --quiet -m templates && git push --quiet
    """
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--panc", "/usr/bin/true"], 2, "for Pan templates"),
        (["--compiler", "pan", "--panc", "/no/panc"], 1, "/no/panc: no panc there"),
        (["--compiler", "make"], 2, "--compiler"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], status: int, says: str, tmp_path: Path) -> None:
    """A compiler that is not there is named when the broker starts, not at the first deployment."""
    argv = [sys.executable, "-m", "aquiline.cli", "--json", "broker", "--data", str(tmp_path / "data"), *options]
    found = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)

    assert status == found.returncode
    assert says in json.loads(found.stdout)["error"]
