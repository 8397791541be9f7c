"""ACL text and the kernel's attribute, against what setfacl and getfacl say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aquiline.errors import HostError
from aquiline.host import RealHost, acl
from aquiline.host.attributes import ACCESS_ACL
from aquiline.host.objects import Metadata, RegularFile, sha256

needs_setfacl = pytest.mark.skipif(shutil.which("setfacl") is None, reason="the package acl is not installed")
TEXTS = [
    "u:www-data:r--,g:adm:rw-",
    "user:33:rwx",
    "g:4:---,u:1:r-x,u:2:-w-",
    "u:daemon:rw,m::r--",
    "group:adm:x,mask::---",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("mode", [0o640, 0o755, 0o600])
@needs_setfacl
def test_the_attribute_is_what_setfacl_makes(tmp_path: Path, text: str, mode: int) -> None:
    """Our attribute, and the mode that goes with it, are byte for byte those of `setfacl -m`."""
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with RealHost("/") as host:
        ours = acl.attribute(text, mode, host.accounts)

    subprocess.run(["setfacl", "-m", text, str(path)], check=True)

    assert os.getxattr(path, ACCESS_ACL) == ours
    assert path.stat().st_mode & 0o7777 == acl.mode_with(ours, mode)


@needs_setfacl
def test_a_staged_acl_is_what_getfacl_shows(tmp_path: Path) -> None:
    """A file staged with an ACL has it, and nothing else, from the moment it stands in its place."""
    with RealHost(str(tmp_path)) as host:
        value = acl.attribute("u:1:r--,g:2:rw-", 0o640, host.accounts)
        metadata = Metadata(acl.mode_with(value, 0o640), os.getuid(), os.getgid(), 7, ((ACCESS_ACL, value),))
        staged = host.stage("/f", RegularFile(metadata, 0, sha256(b"")), [], "x")
        host.publish(staged)

    shown = subprocess.run(["getfacl", "-cn", str(tmp_path / "f")], check=True, capture_output=True, text=True).stdout

    assert ["user::rw-", "user:1:r--", "group::r--", "group:2:rw-", "mask::rw-", "other::---"] == shown.split()
    assert metadata == staged.object.metadata


def test_text_comes_back(tmp_path: Path) -> None:
    """Attribute to text to attribute changes nothing; names are given where they are asked for."""
    with RealHost(str(tmp_path)) as host:
        value = acl.attribute("u:1:r-x,g:2:-w-", 0o640, host.accounts)

        assert value == acl.attribute(acl.text(value), 0o640, host.accounts)
    assert "u:1:r-x,g:2:-w-,m::rwx" == acl.text(value)
    assert "u:one:r-x,g:2:-w-,m::rwx" == acl.text(value, lambda number: {1: "one"}[number])


def test_no_text_is_no_attribute(tmp_path: Path) -> None:
    """An empty ACL is no attribute, and leaves the mode alone."""
    with RealHost(str(tmp_path)) as host:
        assert b"" == acl.attribute(" ", 0o640, host.accounts)
    assert 0o640 == acl.mode_with(b"", 0o640)


@pytest.mark.parametrize(
    "text",
    ["rubbish", "u:1", "u::rw-", "m:1:rw-", "x:1:rw-", "u:1:rwz", "u:1:", "u:1:r--,u:1:rw-", "u:nobody-here:r--"],
)
def test_what_is_no_acl_is_an_error(tmp_path: Path, text: str) -> None:
    """Text that is no ACL entry, names nobody, or somebody twice, is refused."""
    with RealHost(str(tmp_path)) as host, pytest.raises(HostError):
        acl.attribute(text, 0o640, host.accounts)


@pytest.mark.parametrize("value", [b"", b"\2", b"\2\0\0\0abc", b"\1\0\0\0"])
def test_a_damaged_attribute_is_an_error(value: bytes) -> None:
    """An attribute of another version, or cut off, is not shown as something it is not."""
    with pytest.raises(HostError):
        acl.text(value)
