"""The profiles this host has had, kept by digest: what undoing a run makes live again.

One file per profile, ``DIGEST.json.gz``: its canonical JSON, compressed with no time in the header, readable by root
only. A file is complete and durable before it has its name.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from aquiline.errors import ProfileError
from aquiline.profile.loading import parse_json
from aquiline.profile.profile import Profile, canonical

_SUFFIX = ".json.gz"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ProfileArchive:
    """Profiles in a directory, which is made when the first is put."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)

    def put(self, profile: Profile) -> str:
        """Keep `profile` and return its digest; once it returned, a power cut does not lose it."""
        if self._path(profile.digest).exists():
            return profile.digest
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._directory / f".{profile.digest}.{os.getpid()}"
        self._write(temporary, gzip.compress(canonical(profile.tree), mtime=0))
        temporary.rename(self._path(profile.digest))
        self._sync_directory()
        return profile.digest

    def get(self, digest: str, name: str = "") -> Profile:
        """Return the profile of that digest; `name` is the host's where the profile does not say.

        Raise `ProfileError` where there is none, or where the file does not hold what its name says.
        """
        path = self._path(digest)
        try:
            profile = Profile(tree=parse_json(gzip.decompress(path.read_bytes()).decode()), given_name=name)
        except FileNotFoundError:
            raise ProfileError(f"no profile {digest} in {self._directory}", path="") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, ProfileError) as error:
            raise ProfileError(f"{path}: damaged: {error}", path="") from None
        if profile.digest != digest:
            raise ProfileError(f"{path}: damaged: its content has the digest {profile.digest}", path="")
        return profile

    def list(self) -> tuple[str, ...]:
        """Return the digests of all profiles, the one put last at the end."""
        if not self._directory.is_dir():
            return ()
        entries = os.scandir(self._directory)
        kept = [entry for entry in entries if _DIGEST.fullmatch(entry.name.removesuffix(_SUFFIX))]
        kept.sort(key=lambda entry: (entry.stat().st_mtime_ns, entry.name))
        return tuple(entry.name.removesuffix(_SUFFIX) for entry in kept)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ProfileError(f"not the digest of a profile: {digest!r}", path="")
        return self._directory / f"{digest}{_SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
