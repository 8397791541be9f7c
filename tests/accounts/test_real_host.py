"""Accounts on a real host, beside the programs that change them too."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.bed.host import BedHost, BedProcess

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
#: How often the power is cut in each way of recovery.
CUTS = 6


@pytest.fixture
def host(bed_host: BedHost) -> BedHost:
    bed_host.install_aquiline()
    (bed_host.root / "root/profile.json").write_text(json.dumps(PROFILE))
    return bed_host


def databases(host: BedHost) -> dict[str, str]:
    return {name: (host.root / "etc" / name).read_text() for name in DATABASES}


def checks(host: BedHost) -> list[tuple[int, str]]:
    """Return what the system's own checkers say of the databases: Debian's miss some homes, and so does pwck."""
    done = [host.run([name, "-r"], check=False) for name in ("pwck", "grpck")]
    return [(one.returncode, one.stdout + one.stderr) for one in done]


@pytest.mark.slow
def test_a_user_logs_in_and_is_taken_back(host: BedHost) -> None:
    """The account works, its files check, no output shows a hash, and undo gives the databases back by bytes."""
    before, checked = databases(host), checks(host)
    said = [host.run(["aquiline", "plan", "/root/profile.json"]).stdout]
    done = host.run(["aquiline", "apply", "/root/profile.json"])
    said += [done.stdout, done.stderr]

    groups = host.run(["su", "-", "alice", "-c", "id -un; id -Gn; pwd; echo $SHELL"]).stdout.splitlines()
    assert ["alice", "staff2 adm", "/home/alice", "/bin/bash"] == groups
    assert checked == checks(host)
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


#: Applies the profile; stops before the n-th call that changes a file or waits for the disk, and says so in a file.
#: With 0 it does not stop; the last word it says is the number of these calls.
STOPPING = """
import atexit, os, signal, sys
from aquiline.cli import main

at, calls = int(sys.argv.pop(1)), 0

def stopping(original):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.close(os.open("/root/reached", os.O_CREAT | os.O_WRONLY))
            signal.pause()
        return original(*args, **kwargs)
    return call

for name in ("write", "fsync", "fdatasync", "rename", "replace", "link", "unlink", "mkdir", "chmod", "chown"):
    setattr(os, name, stopping(getattr(os, name)))
atexit.register(lambda: print(calls, flush=True))
sys.exit(main(["apply", "/root/profile.json"]))
"""


def apply_until(host: BedHost, point: int) -> BedProcess:
    """Apply the profile up to a call, where it stays; wait until it is there."""
    (host.root / "root/reached").unlink(missing_ok=True)
    process = host.start(["python3", "/root/stopping.py", str(point)])
    deadline = time.monotonic() + 60
    while not (host.root / "root/reached").exists():
        assert process.popen.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("way", ["--finish", "--undo"])
def test_power_is_cut_in_the_middle(host: BedHost, way: str) -> None:
    """Wherever the host dies, it boots with whole databases, and recovery finishes the run or takes it back."""
    before = databases(host)
    (host.root / "root/stopping.py").write_text(STOPPING)
    # Twice: the first run has a journal to make.
    for _ in range(2):
        calls = int(host.run(["python3", "/root/stopping.py", "0"]).stdout.split()[-1])
        after = databases(host)
        host.run(["aquiline", "undo"])
    interrupted = 0
    step = calls // CUTS
    # The two ways are cut at different points, evenly spread.
    for point in range(1 + (step // 2 if way == "--undo" else 0), calls, step):
        apply_until(host, point)
        host.kill()
        assert "running" == host.boot()
        found = databases(host)
        assert [] == [name for name in DATABASES if found[name] not in (before[name], after[name])]
        if host.run(["aquiline", "recover", way]).stdout != "nothing to recover\n":
            interrupted += 1
            assert (after if way == "--finish" else before) == databases(host)
        assert [] == list((host.root / "etc").glob(".aq-*"))
        if after == databases(host):
            host.run(["aquiline", "undo"])
        assert before == databases(host)

    assert interrupted > CUTS // 2
