r"""A file tree as an indented drawing, one line for each object, for tests that people read.

::

    /etc/
        empty:
        motd: two lines\nof text\n
        passwd.old = /etc/passwd
        shadow: x [0600 root:shadow]
        pipe|
        socket=
        null% character 1:3 [0666]
    /var/
        run -> /run

A file's content follows its colon and one space; it has no newline at its end but the ``\n`` that are written. A
backslash escapes as in Python bytes, in names and contents alike. Attributes stand in brackets at the end, each only
where it is not the default: mode, ``owner:group``, ``@`` and the modification time in nanoseconds, extended attributes
as ``name=value``. The first lines are absolute paths, and make the directories that they lack.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from typing import cast

import msgspec

from aquiline.host.objects import SpecialType

INDENT = 4
_ATTRIBUTES = re.compile(r"\s\[([^\[\]]*)\]$")
_LINES = (
    ("link", re.compile(r"^(?P<name>\S+?) -> (?P<rest>.*)$")),
    ("hardlink", re.compile(r"^(?P<name>\S+?) = (?P<rest>.*)$")),
    ("device", re.compile(r"^(?P<name>\S+?)% (?P<rest>(?:character|block) \d+:\d+)$")),
    ("file", re.compile(r"^(?P<name>[^\s:]+?):(?: (?P<rest>.*))?$")),
    ("directory", re.compile(r"^(?P<name>\S*?)/$")),
    ("fifo", re.compile(r"^(?P<name>\S+?)\|$")),
    ("socket", re.compile(r"^(?P<name>\S+?)=$")),
)
DEFAULT_MODES = {"directory": 0o755, "file": 0o644, "symlink": 0o777, "special": 0o600}


class Drawn(msgspec.Struct, frozen=True):
    """One line of a drawing."""

    #: link, hardlink, device, file, directory, fifo or socket.
    sort: str
    path: str
    #: What follows the name: a content, a target, a device.
    rest: str = ""
    mode: int | None = None
    owner: str = "root"
    group: str = "root"
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def content(self) -> bytes:
        """What follows the name, as bytes: a content, or the target of a link."""
        return unescaped(self.rest)

    @property
    def special(self) -> SpecialType:
        """Which special file it is."""
        if self.sort == "device":
            return cast("SpecialType", f"{self.rest.partition(' ')[0]}-device")
        return "fifo" if self.sort == "fifo" else "socket"

    @property
    def device(self) -> int:
        """The device number, 0 where it is no device."""
        if self.sort != "device":
            return 0
        major, _, minor = self.rest.partition(" ")[2].partition(":")
        return os.makedev(int(major), int(minor))


def lines(drawing: str) -> Iterator[Drawn]:
    """Return the objects of a drawing from the top down.

    Raises:
        ValueError: a line that makes no sense, quoted in the message.
    """
    above: list[str] = []
    for line in textwrap.dedent(drawing).splitlines():
        if not line.strip():
            continue
        depth, odd = divmod(len(line) - len(line.lstrip()), INDENT)
        if odd or depth > len(above):
            raise ValueError(f"not indented by {INDENT} spaces below a directory: {line!r}")
        del above[depth:]
        drawn = _line(line.strip(), above)
        if drawn.sort == "directory":
            above.append(drawn.path)
        yield drawn


def _line(line: str, above: list[str]) -> Drawn:
    attributes = _ATTRIBUTES.search(line)
    text = line[: attributes.start()] if attributes else line
    for sort, pattern in _LINES:
        found = pattern.match(text)
        if found is not None:
            name = os.fsdecode(unescaped(found["name"]))
            path = f"{above[-1]}/{name}" if above else name
            if not path.startswith("/") and path:
                raise ValueError(f"not an absolute path: {line!r}")
            rest = (found.groupdict().get("rest") or "") if sort != "directory" else ""
            drawn = Drawn(sort, path.rstrip("/"), rest)
            return _attributed(drawn, attributes[1].split() if attributes else [], line)
    raise ValueError(f"neither file, directory, link nor special file: {line!r}")


def _attributed(drawn: Drawn, attributes: list[str], line: str) -> Drawn:
    for word in attributes:
        if re.fullmatch("[0-7]{3,4}", word):
            drawn = msgspec.structs.replace(drawn, mode=int(word, 8))
        elif re.fullmatch(r"@\d+", word):
            drawn = msgspec.structs.replace(drawn, mtime_ns=int(word[1:]))
        elif "=" in word:
            name, _, value = word.partition("=")
            xattrs = tuple(sorted((*drawn.xattrs, (name, unescaped(value)))))
            drawn = msgspec.structs.replace(drawn, xattrs=xattrs)
        elif ":" in word:
            owner, _, group = word.partition(":")
            drawn = msgspec.structs.replace(drawn, owner=owner, group=group)
        else:
            raise ValueError(f"unknown attribute {word!r}: {line!r}")
    return drawn


def escaped(data: bytes, *, also: str = "") -> str:
    """Return `data` on one line of ASCII, the characters of `also` and blanks at either end escaped."""
    found: list[str] = []
    last = len(data) - 1
    for at, byte in enumerate(data):
        character = chr(byte)
        if character in "\n\t\\":
            found.append({"\n": "\\n", "\t": "\\t", "\\": "\\\\"}[character])
        elif not 0x20 <= byte < 0x7F or character in also or (character == " " and at in (0, last)):
            found.append(f"\\x{byte:02x}")
        else:
            found.append(character)
    return "".join(found)


def shown(data: bytes) -> str:
    """Return `data` escaped so that its end is not taken for attributes."""
    text = escaped(data)
    return f"{text[:-1]}\\x5d" if _ATTRIBUTES.search(f" {text}") else text


def unescaped(text: str) -> bytes:
    """Return the bytes that `escaped` wrote; characters beyond ASCII stand for their UTF-8."""
    plain = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", _unescaped, plain)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code.startswith(b"x") and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return {b"n": b"\n", b"t": b"\t", b"\\": b"\\"}.get(code, found[0])
