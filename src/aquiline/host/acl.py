"""POSIX access control lists: the text people write, and the extended attribute the kernel keeps (acl(5)).

The text holds the *further* entries only, as in ``setfacl -m``: ``u:www-data:r--,g:adm:rw-``, optionally ``m::r-x``
(the mask) and the same with ``user``, ``group`` and ``mask`` spelt out. The three entries that every object has come
from its mode.

The attribute is version 2 of linux/posix_acl_xattr.h, little-endian: a 32-bit version, then for each entry a 16-bit
tag, 16 permission bits and a 32-bit id, ordered by tag and id. Where an object has an ACL the group bits of its mode
*are* the mask: ask `mode_with` for the mode that goes with an attribute.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from aquiline.errors import HostError
from aquiline.host.protocol import Accounts

_VERSION = 2
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_TAGS = {"u": _USER, "user": _USER, "g": _GROUP, "group": _GROUP, "m": _MASK, "mask": _MASK}

Entry = tuple[int, int, int]


def attribute(text: str, mode: int, accounts: Accounts) -> bytes:
    """Return the attribute for an object of this `mode` with the further entries of `text`; empty for none.

    `mode` is the mode without an ACL: its group bits are the owning group's. Raise `HostError` for text that is no ACL
    or names users or groups that do not exist.
    """
    further = [_parsed(entry.strip(), accounts) for entry in text.split(",") if entry.strip()]
    if not further:
        return b""
    entries = [(_OWNER, mode >> 6 & 7, _NO_ID), (_OWNING_GROUP, mode >> 3 & 7, _NO_ID), (_OTHER, mode & 7, _NO_ID)]
    entries += further
    if len({(tag, number) for tag, _, number in entries}) != len(entries):
        raise HostError(f"the ACL {text!r} names somebody twice")
    if all(tag != _MASK for tag, _, _ in entries):
        entries.append((_MASK, _widest(entries), _NO_ID))
    return _HEADER.pack(_VERSION) + b"".join(
        _ENTRY.pack(*entry) for entry in sorted(entries, key=lambda entry: (entry[0], entry[2]))
    )


def text(value: bytes, user: Callable[[int], str] | None = None, group: Callable[[int], str] | None = None) -> str:
    """Return the further entries of an attribute, mask last, as text that `attribute` takes; numbers without namers."""
    words = []
    for tag, permissions, number in _entries(value):
        if tag == _USER:
            words.append(f"u:{user(number) if user else number}:{_letters(permissions)}")
        elif tag == _GROUP:
            words.append(f"g:{group(number) if group else number}:{_letters(permissions)}")
    words += [f"m::{_letters(permissions)}" for tag, permissions, _ in _entries(value) if tag == _MASK]
    return ",".join(words)


def mode_with(value: bytes, mode: int) -> int:
    """Return the mode of an object that was given `mode` and then this attribute, as the kernel makes it."""
    shift = {_OWNER: 6, _MASK: 3, _OTHER: 0}
    for tag, permissions, _ in _entries(value) if value else ():
        if tag in shift:
            mode = mode & ~(7 << shift[tag]) | permissions << shift[tag]
    return mode


def with_mode(value: bytes, mode: int) -> bytes:
    """Return the attribute of an object that had `value` and was then given this mode, as the kernel changes it."""
    entries = _entries(value)
    middle = _MASK if any(tag == _MASK for tag, _, _ in entries) else _OWNING_GROUP
    shift = {_OWNER: 6, middle: 3, _OTHER: 0}
    return _HEADER.pack(_VERSION) + b"".join(
        _ENTRY.pack(tag, mode >> shift[tag] & 7 if tag in shift else permissions, number)
        for tag, permissions, number in entries
    )


def _parsed(entry: str, accounts: Accounts) -> Entry:
    parts = entry.split(":")
    tag = _TAGS.get(parts[0]) if len(parts) == 3 else None
    if tag is None or (tag == _MASK) == bool(parts[1]):
        raise HostError(f"{entry!r} is no ACL entry: expected u:NAME:rwx, g:NAME:rwx or m::rwx")
    permissions = _permissions(parts[2], entry)
    if tag == _MASK:
        return tag, permissions, _NO_ID
    name: str | int = int(parts[1]) if parts[1].isascii() and parts[1].isdigit() else parts[1]
    return tag, permissions, accounts.uid(name) if tag == _USER else accounts.gid(name)


def _permissions(letters: str, entry: str) -> int:
    known = {"r": 4, "w": 2, "x": 1, "-": 0}
    if not letters or not set(letters) <= set(known):
        raise HostError(f"{entry!r} is no ACL entry: its permissions are {letters!r}, expected letters of rwx and -")
    permissions = 0
    for letter in letters:
        permissions |= known[letter]
    return permissions


def _letters(permissions: int) -> str:
    return "".join(letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def _widest(entries: list[Entry]) -> int:
    """Return the mask that limits nobody: what setfacl computes."""
    mask = 0
    for tag, permissions, _ in entries:
        if tag in (_USER, _OWNING_GROUP, _GROUP):
            mask |= permissions
    return mask


def _entries(value: bytes) -> list[Entry]:
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise HostError(f"an ACL attribute of {len(value)} bytes is damaged")
    version = _HEADER.unpack_from(value)[0]
    if version != _VERSION:
        raise HostError(f"an ACL attribute of version {version} cannot be read, only version {_VERSION}")
    return [(tag, permissions, number) for tag, permissions, number in _ENTRY.iter_unpack(value[_HEADER.size :])]
