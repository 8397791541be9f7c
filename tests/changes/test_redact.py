"""What counts as a secret without anybody saying so."""

import pytest

from aquiline.changes.kinds import Inline, Remove, SetMetadata, WriteFile
from aquiline.changes.redact import Hidden, is_known_secret, is_secret, secret_contents, why_hidden
from aquiline.changes.steps import Cause, Step, Undo
from aquiline.host.objects import ABSENT, At, Metadata, Object, RegularFile, sha256


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


def step(path: str, mode: int, change: WriteFile) -> Step:
    """Return a step that makes a file."""
    return Step(
        number=1, component="", task="", change=change, description="", cause=Cause("intentional"),
        before=(At(path, ABSENT),), after=(At(path, file(mode)),), undo=Undo("irreversible", "nothing"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "mode", "secret", "expected"),
    [
        ("/etc/app.conf", 0o644, False, ""),
        ("/etc/app.conf", 0o640, False, "private"),
        ("/etc/app.conf", 0o640, True, "secret"),
        ("/etc/app.conf", 0o644, True, "secret"),
        ("/etc/krb5.keytab", 0o600, False, "secret"),
    ],
)
def test_private_is_not_secret(path: str, mode: int, secret: bool, expected: Hidden) -> None:
    """What merely not everybody may read is called private; a secret is what somebody, or its name, calls so."""
    made = step(path, mode, WriteFile(path=path, content=Inline(b"x"), secret=secret))

    assert expected == why_hidden(made)


def test_a_secret_is_one_wherever_it_is() -> None:
    """Content that one step holds as a secret is no merely private one in another."""
    private = step("/etc/a", 0o640, WriteFile(path="/etc/a", content=Inline(b"x")))
    secret = step("/etc/b", 0o640, WriteFile(path="/etc/b", content=Inline(b"x"), secret=True))

    assert {sha256(b"x"): "secret"} == secret_contents([secret, private]) == secret_contents([private, secret])
