"""How much of a file is data: a hole has bytes, and takes none of them on disk."""

from __future__ import annotations

from aquiline.host.protocol import Reading

#: Files below this many bytes count as they are: what their holes would save is not worth a call of the kernel.
SMALL = 2**20


def stored_bytes(host: Reading, path: str, size: int) -> int:
    """Return the bytes that the file of this size at `path` takes on its file system.

    The size itself where that is small, or where no file of this size stands there (any more, or yet).
    """
    if size < SMALL:
        return size
    status = host.status(path)
    if status is None or status.type != "file" or status.size != size:
        return size
    return min(size, status.stored)
