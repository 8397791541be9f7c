"""What any program must do to bring files to their content: the plain loops that the benchmark compares with.

Run as a process of its own::

    python benchmarks/loops.py dry|live ROOT PROFILE

Both read the same profile as `aquiline` does. The dry loop looks at each file and compares; the live one also writes
each that differs to a temporary file, makes that durable, renames it into its place, and makes the directories durable.
Neither keeps what was there before, records anything, or could take anything back.
"""

import hashlib
import json
import os
import sys
import time

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def wanted_files(profile: str) -> dict[str, bytes]:
    """Return what the profile says of each file, by path."""
    with open(profile, "rb") as file:
        services = json.load(file)["software"]["components"]["filecopy"]["services"]
    return {_unescaped(name): one["config"].encode() for name, one in services.items()}


def _unescaped(name: str) -> str:
    return name.replace("_2f", "/").replace("_2e", ".").replace("_2d", "-")


def is_right(path: str, wanted: bytes) -> bool:
    """Return whether a regular file with this content, root's, 0644 and without attributes stands at `path`."""
    found = os.lstat(path)
    descriptor = os.open(path, _READ)
    try:
        attributes = os.listxattr(descriptor)
        digest = hashlib.sha256(os.read(descriptor, found.st_size + 1)).hexdigest()
    finally:
        os.close(descriptor)
    is_same = digest == hashlib.sha256(wanted).hexdigest()
    return is_same and (found.st_mode & 0o7777, found.st_uid, found.st_gid, attributes) == (0o644, 0, 0, [])


def replace(path: str, wanted: bytes) -> None:
    """Put a durable file with this content in the place of what is there."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, _CREATE, 0o644)
    try:
        os.write(descriptor, wanted)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)


def main() -> None:
    """Bring the files of the profile to their content, or say how many are not so."""
    mode, root, profile = sys.argv[1:4]
    files = wanted_files(profile)
    begun = time.perf_counter()
    different = 0
    directories = set()
    for name, wanted in files.items():
        path = root + name
        if is_right(path, wanted):
            continue
        different += 1
        if mode == "live":
            replace(path, wanted)
            directories.add(os.path.dirname(path))
    for directory in sorted(directories):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
    print(json.dumps({"seconds": time.perf_counter() - begun, "steps": different}))


if __name__ == "__main__":
    main()
