"""The policy's label on what is staged, asked of libselinux with a policy of our own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aquiline.host import labels

SCRIPT = """
import os, sys
from aquiline.host import RealHost, labels
from aquiline.host.objects import Directory, Metadata, RegularFile, sha256
root = sys.argv[1]
policy = labels.PolicyLabels()
policy._library = labels._library()
assert policy._library.matchpathcon_init(os.fsencode(root + "/contexts")) == 0
host = RealHost(root)
host._labels = policy
def put(path, wanted, content):
    host.publish(host.stage(path, wanted, content, "x"))
    print(path, dict(host.observe(path).metadata.xattrs).get("security.selinux"))
file = RegularFile(Metadata(0o600, 0, 0), 0, sha256(b""))
put("/shadow", file, [])
put("/other", file, [])
put("/shadow.d", Directory(Metadata(0o700, 0, 0)), None)
given = Metadata(0o600, 0, 0, 0, (("security.selinux", b"u:object_r:given_t:s0\\0"),))
put("/shadow", RegularFile(given, 0, sha256(b"")), [])
host.set_metadata("/shadow", Metadata(0o640, 0, 0))
print(dict(host.observe("/shadow").metadata.xattrs).get("security.selinux"))
"""


def has_libselinux() -> bool:
    try:
        ctypes.CDLL("libselinux.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_libselinux(), reason="libselinux is not installed")
@pytest.mark.skipif(os.path.exists(labels._ENABLED), reason="the kernel would want labels of its own policy")
def test_the_policy_s_label_is_set_before_the_rename(tmp_path: Path) -> None:
    """An object without a label gets that of its path and type; one with a label keeps it, as does what exists."""
    (tmp_path / "contexts").write_text(
        "/shadow        --  u:object_r:shadow_t:s0\n/shadow\\.d  -d  u:object_r:shadow_dir_t:s0\n/other  <<none>>\n"
    )
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)

    assert "" == done.stderr
    assert [
        "/shadow b'u:object_r:shadow_t:s0\\x00'",
        "/other None",
        "/shadow.d b'u:object_r:shadow_dir_t:s0\\x00'",
        "/shadow b'u:object_r:given_t:s0\\x00'",
        "b'u:object_r:given_t:s0\\x00'",
    ] == done.stdout.splitlines()


@pytest.mark.skipif(os.path.exists(labels._ENABLED), reason="SELinux is on here")
def test_without_selinux_there_are_no_labels() -> None:
    """Where SELinux is off nobody is asked."""
    assert b"" == labels.PolicyLabels().label("/etc/shadow", 0o100600)
