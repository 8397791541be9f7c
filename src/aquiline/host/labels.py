"""SELinux: the label that the host's policy has for a path, given to a new object before it is put in its place (D14).

A file moved into place keeps the label it was made with, which is its directory's, not its own; a daemon could not read
it. So the policy is asked what the label of the final path is, through libselinux, as `restorecon` does. Where SELinux
is off, the library or the policy is missing, or the root is not the running system's, no label is set: an offline image
is labelled when it first boots.
"""

from __future__ import annotations

import ctypes
import os

#: Mounted if and only if SELinux is enabled (selinux(8)).
_ENABLED = "/sys/fs/selinux/enforce"


class PolicyLabels:
    """Answers of the policy of the running system."""

    def __init__(self) -> None:
        self._library = _library() if os.path.exists(_ENABLED) else None

    def label(self, path: str, mode: int) -> bytes:
        """Return the value of ``security.selinux`` for an object of this `mode` (type included); empty for none."""
        if self._library is None:
            return b""
        found = ctypes.c_char_p()
        # matchpathcon(3) is old and marked so, but in every libselinux; it loads the policy's file once
        if self._library.matchpathcon(os.fsencode(path), mode, ctypes.byref(found)) != 0 or found.value is None:
            return b""
        try:
            return found.value + b"\0"
        finally:
            self._library.freecon(found)


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libselinux.so.1")
    except OSError:
        return None
    library.matchpathcon.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(ctypes.c_char_p)]
    library.freecon.argtypes = [ctypes.c_char_p]
    return library
