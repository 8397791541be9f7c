"""What holds a secret, so that it is never shown, diffed or sent (DESIGN D9).

A value is secret if whoever made the change says so. Beyond that, an object counts as one that holds a secret if it is
a known one by its name, if its content is a private key, or if it is not world-readable before or after. Looked at is
the object's own mode: a world-readable file in a private directory is not recognised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from aquiline.changes.entries import is_secret_record
from aquiline.changes.kinds import Change, EditFile, Inline, Validate, WriteFile
from aquiline.changes.steps import Step
from aquiline.host.objects import Object, Record, RegularFile

Hidden = Literal["", "secret", "private"]
"""Why nothing is shown of a content but its size: it may be, it is a secret, not everybody may read it."""

#: Names of objects that are no files, up to their colon.
_SECRET_DATABASES = ("shadow:", "gshadow:")
_BEGINNINGS = ("/etc/ssl/private/", "/etc/pki/tls/private/", *_SECRET_DATABASES)
_PATHS = frozenset(
    {"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/krb5.keytab"}
)
_ENDINGS = (
    *(".key", ".keytab", ".p12", ".pfx", ".jks", ".kdbx"),
    *("/.netrc", "/.pgpass", "/.my.cnf", "/.htpasswd", "/.git-credentials"),
    *("/id_rsa", "/id_dsa", "/id_ecdsa", "/id_ed25519", "/id_ecdsa_sk", "/id_ed25519_sk"),
    *("/ssh_host_rsa_key", "/ssh_host_dsa_key", "/ssh_host_ecdsa_key", "/ssh_host_ed25519_key"),
)
_WITH_CONTENT = (WriteFile, EditFile, Validate)
_PRIVATE_KEY = b"PRIVATE KEY-----"


def is_known_secret(path: str) -> bool:
    """Return whether an object of this name is known to hold a secret: shadow, private keys, keytabs."""
    return path in _PATHS or path.endswith(_ENDINGS) or path.startswith(_BEGINNINGS)


def is_secret_content(content: bytes) -> bool:
    """Return whether `content` is a secret whatever it is called: a private key in PEM."""
    return _PRIVATE_KEY in content


def is_secret(path: str, before: Object, after: Object, change: Change) -> bool:
    """Return whether `change`, which turns `before` into `after` at `path`, must not be shown but by size."""
    return (
        getattr(change, "secret", False)
        or is_private(before)
        or is_private(after)
        or is_known_secret(path)
        or _carries_private_key(change)
    )


def holds_secret(step: Step) -> bool:
    """Return whether any part of `step` must not be shown: because it says so, or by one of its objects."""
    change = step.change
    if step.secret or getattr(change, "secret", False) or _carries_private_key(change):
        return True
    if isinstance(change, Validate) and is_known_secret(change.path):
        return True
    for at in step.before + step.after:  # noqa: SIM110  # a loop is twice as fast as any(), on every step of every plan
        if is_private(at.object) or is_known_secret(at.path):
            return True
    return False


def why_hidden(step: Step) -> Hidden:
    """Return why `step` must not be shown; empty where it may be.

    A file that is merely not world-readable is private: nobody said that it holds a secret.
    """
    if not holds_secret(step):
        return ""
    change, objects = step.change, (*step.before, *step.after)
    is_known = any(is_known_secret(at.path) for at in objects) or _carries_private_key(change)
    is_private_file = any(isinstance(at.object, RegularFile) and is_private(at.object) for at in objects)
    return "private" if is_private_file and not is_known and not getattr(change, "secret", False) else "secret"


def contents_of(step: Step) -> list[str]:
    """Return the SHA-256 of every content that `step` finds or makes."""
    found = [at.object.sha256 for at in (*step.before, *step.after) if isinstance(at.object, RegularFile)]
    if isinstance(step.change, WriteFile | EditFile | Validate):
        found.append(step.change.content.sha256)
    return found


def secret_contents(steps: Iterable[Step]) -> dict[str, Hidden]:
    """Return the SHA-256 of every content that some step holds as a secret, with why it must not be shown.

    Another step may hold the same content without looking secret: what a validation checks is what a write makes
    private.
    """
    found: dict[str, Hidden] = {}
    for step in steps:
        why = why_hidden(step)
        for digest in contents_of(step) if why else ():
            found[digest] = "secret" if found.get(digest) == "secret" else why
    return found


def is_private(found: Object) -> bool:
    """Return whether an object holds a secret by itself: no file for all to read, an entry with a password hash."""
    if isinstance(found, RegularFile):
        return not found.metadata.mode & 0o004
    return isinstance(found, Record) and is_secret_record("passwd", found.line)


def _carries_private_key(change: Change) -> bool:
    if not isinstance(change, _WITH_CONTENT):
        return False
    return isinstance(change.content, Inline) and is_secret_content(change.content.data)
