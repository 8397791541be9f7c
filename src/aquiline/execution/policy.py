"""The host's own policy: a root-owned file that no broker can set (D25).

``/etc/aquiline/policy.toml`` below the root::

    forbidden_paths = ["/etc/shadow", "/boot"]     # never changed, nor anything below
    never_undo = ["/etc/krb5.keytab"]              # rotated keys: undo leaves them (R29)
    never_downgrade = ["linux-image-*", "libc6"]   # packages, by shell patterns
    irreversible_downgrade = ["postgresql-*"]      # packages whose data an older version cannot read
    irreversible = "refuse"                        # or "allow": needs no --allow-irreversible
    runs_per_hour = 12                             # 0 is no limit
    preimage_mib_per_step = 2048                   # what is larger has no undo
    preimage_mib_per_run = 8192
    freeze = ""                                    # a reason: no run starts
"""

from __future__ import annotations

import stat
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aquiline.errors import AquilineError
from aquiline.host.naming import is_plain

POLICY_FILE = "etc/aquiline/policy.toml"


#: Packages whose newer versions change their data on disk so that older ones cannot read it.
DATABASES = (
    "cassandra*", "elasticsearch*", "influxdb*", "mariadb-server*", "mongodb-server*", "mongodb-org-server*",
    "mysql-server*", "mysql-community-server*", "opensearch*", "postgresql-[0-9]*", "postgresql-server*", "slapd",
    "389-ds-base",
)  # fmt: skip


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this host allows, whoever asks."""

    forbidden_paths: tuple[str, ...] = ()
    never_undo: tuple[str, ...] = ()
    never_downgrade: tuple[str, ...] = ()
    #: Upgrading one of these is shown as irreversible. Given, it takes the place of this list.
    irreversible_downgrade: tuple[str, ...] = DATABASES
    irreversible: Literal["refuse", "allow"] = "refuse"
    runs_per_hour: int = 0
    #: How much replaced content may be kept for undo, in MiB (D15).
    preimage_mib_per_step: Annotated[int, msgspec.Meta(ge=0)] = 2048
    preimage_mib_per_run: Annotated[int, msgspec.Meta(ge=0)] = 8192
    freeze: str = ""

    def forbidden(self) -> dict[str, str]:
        """Return why each of the forbidden paths, and what is below it, must not be changed."""
        return {
            path: f"this host's policy forbids to change it: {path} is in forbidden_paths"
            for path in self.forbidden_paths
        }

    def is_never_undone(self, path: str) -> bool:
        """Return whether undo leaves `path` as it is."""
        return bool(_above(path, self.never_undo))

    def is_never_downgraded(self, package: str) -> bool:
        """Return whether this package must not get an older version."""
        return _matches(package, self.never_downgrade)

    def why_not_downgraded(self, package: str) -> str:
        """Return why undo must not give this package back an older version; empty where it may."""
        if self.is_never_downgraded(package):
            return "it is in never_downgrade"
        return "its data cannot be read by an older version" if _matches(package, self.irreversible_downgrade) else ""


def _matches(package: str, patterns: tuple[str, ...]) -> bool:
    bare = package.partition(":")[0].partition("=")[0]
    return any(fnmatchcase(bare, pattern) for pattern in patterns)


def _above(path: str, listed: tuple[str, ...]) -> str:
    if not listed:
        return ""
    return next((one for one in listed if path == one or path.startswith(one.rstrip("/") + "/")), "")


def load_policy(root: str) -> Policy:
    """Return the policy of the host below `root`; everything is allowed where there is none.

    Raises `AquilineError` where the file is not root's alone or makes no sense: a policy that cannot be trusted stops
    everything, since nobody can say what it would have forbidden.
    """
    path = Path(root, POLICY_FILE)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Policy()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise AquilineError(
            f"the policy file {path} is not a regular file that only root can write",
            hint=f"chown root {path}; chmod 0644 {path}",
        )
    folder = path.parent.stat()
    if folder.st_uid != 0 or folder.st_mode & 0o022:
        raise AquilineError(
            f"others than root can write to {path.parent}, and so replace the policy file",
            hint=f"chown root {path.parent}; chmod 0755 {path.parent}",
        )
    try:
        policy = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Policy)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise AquilineError(
            f"the policy file {path} makes no sense: {error}", hint="see the manual, policy.toml"
        ) from None
    for listed in (*policy.forbidden_paths, *policy.never_undo):
        if not is_plain(listed):
            raise AquilineError(
                f"the policy file {path} makes no sense: found {listed!r}, expected a plain absolute path",
                hint="see the manual, policy.toml",
            )
    return policy
