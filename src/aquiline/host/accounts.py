"""The account files, passwd(5) and group(5), as names with their numbers."""

from __future__ import annotations

import os


def numbers(content: bytes) -> dict[str, int]:
    """Return the number of each name in the text of a ``passwd`` or ``group`` file.

    Lines that do not fit the format are passed over, as the C library does; of two lines with one name the first
    counts.
    """
    found: dict[str, int] = {}
    for line in content.splitlines():
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit():
            found.setdefault(os.fsdecode(fields[0]), int(fields[2]))
    return found
