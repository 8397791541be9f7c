"""What counts as a secret without anybody saying so."""

import pytest

from aquiline.changes.kinds import Inline, Remove, SetMetadata, WriteFile
from aquiline.changes.redact import is_known_secret, is_secret
from aquiline.host.objects import ABSENT, Metadata, Object, RegularFile, sha256


def file(mode: int) -> RegularFile:
    return RegularFile(Metadata(mode, 0, 0), 1, sha256(b"x"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/gshadow-",
        "/etc/ssl/private/site.pem",
        "/etc/ssh/ssh_host_ed25519_key",
        "/root/.ssh/id_rsa",
        "/etc/krb5.keytab",
        "/etc/pki/tls/private/x",
        "/srv/web/site.key",
        "/home/a/.netrc",
    ],
)
def test_known_secrets(path: str) -> None:
    """These names hold secrets on any host."""
    assert is_known_secret(path)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc/ssh/ssh_host_ed25519_key.pub", "/root/.ssh/id_rsa.pub", "/etc/ssl/certs/site.pem"]
)
def test_their_public_halves(path: str) -> None:
    """These do not."""
    assert not is_known_secret(path)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (ABSENT, file(0o644), False),
        (file(0o644), file(0o644), False),
        (file(0o600), file(0o644), True),
        (file(0o644), file(0o640), True),
        (file(0o640), ABSENT, True),
    ],
)
def test_not_world_readable_before_or_after(before: Object, after: Object, expected: bool) -> None:
    """A file that others could not read before, or cannot after, holds a secret."""
    assert expected == is_secret("/etc/app.conf", before, after, Remove(path="/etc/app.conf"))


def test_a_private_key_by_its_content() -> None:
    """A private key is one under any name and mode."""
    change = WriteFile(path="/srv/a.pem", content=Inline(b"-----BEGIN RSA PRIVATE KEY-----\n"))

    assert is_secret("/srv/a.pem", ABSENT, file(0o644), change)


def test_what_says_so() -> None:
    """A change that is marked is a secret; one of a kind that has no mark is not."""
    assert is_secret("/a", ABSENT, file(0o644), WriteFile(path="/a", content=Inline(b""), secret=True))
    assert not is_secret("/a", file(0o644), file(0o644), SetMetadata(path="/a", mode=0o644))
