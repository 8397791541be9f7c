"""Accounts on a real host, beside the programs that change them too."""

from __future__ import annotations

import json
import re

import pytest

from tests.bed.host import BedHost

HASH = "$6$saltsalt$" + "a" * 86
PROFILE = {
    "software": {
        "components": {
            "accounts": {
                "rootpwd": HASH,
                "kept_users": {},
                "kept_groups": {},
                "groups": {"staff2": {"gid": 2000}},
                "users": {
                    "alice": {
                        "uid": 2001,
                        "groups": ["staff2", "adm"],
                        "homeDir": "/home/alice",
                        "createHome": True,
                        "password": HASH,
                    }
                },
            }
        }
    }
}
DATABASES = ("passwd", "group", "shadow", "gshadow")


@pytest.fixture
def host(bed_host: BedHost) -> BedHost:
    bed_host.install_aquiline()
    (bed_host.root / "root/profile.json").write_text(json.dumps(PROFILE))
    return bed_host


def databases(host: BedHost) -> dict[str, str]:
    return {name: (host.root / "etc" / name).read_text() for name in DATABASES}


@pytest.mark.slow
def test_a_user_logs_in_and_is_taken_back(host: BedHost) -> None:
    """The account works, its files check, no output shows a hash, and undo gives the databases back by bytes."""
    before = databases(host)
    said = [host.run(["aquiline", "plan", "/root/profile.json"]).stdout]
    done = host.run(["aquiline", "apply", "/root/profile.json"])
    said += [done.stdout, done.stderr]

    groups = host.run(["su", "-", "alice", "-c", "id -un; id -Gn; pwd; echo $SHELL"]).stdout.splitlines()
    assert ["alice", "staff2 adm", "/home/alice", "/bin/bash"] == groups
    host.run(["pwck", "-r", "-q"], check=False)
    assert "" == host.run(["grpck", "-r"]).stdout
    shell = (
        ["aquiline", "show", "last"],
        ["aquiline", "show", "last", "--json"],
        ["aquiline", "verify"],
        ["aquiline", "log"],
    )
    said += [host.run(list(command)).stdout for command in shell]
    undone = host.run(["aquiline", "undo"])
    said += [undone.stdout, undone.stderr]
    assert [] == [text for text in said if "aaaaaaaa" in text]
    assert before == databases(host)
    assert not (host.root / "home/alice").exists()


@pytest.mark.slow
def test_useradd_and_passwd_beside_us(host: BedHost) -> None:
    """While others add and change accounts without a pause, no entry is lost, theirs or ours, and undo keeps theirs."""
    text = "i=0; while [ $i -lt 40 ]; do useradd -M u$i && echo u$i:secret | chpasswd; i=$((i + 1)); done"
    others = host.start(["sh", "-c", text])
    for _ in range(3):
        host.run(["aquiline", "apply", "/root/profile.json"])
        host.run(["aquiline", "undo"])
    host.run(["aquiline", "apply", "/root/profile.json"])
    others.communicate(timeout=120)
    names = re.findall(r"^(u\d+):\$", databases(host)["shadow"], re.MULTILINE)

    assert [f"u{number}" for number in range(40)] == names
    assert "alice:x:2001:2000" in databases(host)["passwd"]
    host.run(["aquiline", "undo"])
    assert 40 == len(re.findall(r"^u\d+:x:", databases(host)["passwd"], re.MULTILINE))
    assert "alice" not in "".join(databases(host).values())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["--finish", "--undo"])
def test_power_is_cut_in_the_middle(host: BedHost, way: str) -> None:
    """Wherever the host dies, it boots with whole databases, and recovery finishes the run or takes it back."""
    before = databases(host)
    for delay in ("0.2", "0.3", "0.4", "0.5", "0.6"):
        host.start(["aquiline", "apply", "/root/profile.json"])
        host.run(["sleep", delay])
        host.kill()
        assert "running" == host.boot()
        status = host.run(["aquiline", "recover", way], check=False)
        assert status.returncode in (0, 2), status.stderr
        if "alice" in databases(host)["passwd"]:
            host.run(["aquiline", "undo"])
        assert before == databases(host)
        assert [] == list((host.root / "etc").glob(".aq-*"))
