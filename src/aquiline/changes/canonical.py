r"""One text for one value: what journal, plan files and digests are written in.

The canonical form of a value is JSON in ASCII: keys sorted, no white space, fields that have their default left out,
bytes in base64. Anything outside ASCII is a ``\u`` escape, so that paths which are not UTF-8 (surrogate-escaped, see
`aquiline.host.objects`) survive, which UTF-8 cannot carry. Equal values of one type have equal text.

Not promised: a text that holds a high surrogate right before a low one comes back as the one character they encode.
No path does: surrogate escapes are low ones only.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import msgspec

#: Version of the form; part of every digest over it.
VERSION = 1

Value = TypeVar("Value")

_packer = msgspec.json.Encoder(order="deterministic")
_sorter = msgspec.json.Encoder(order="sorted")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_raw_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), sort_keys=True)


def encode(value: Any) -> str:
    """Return the canonical form of `value`: a struct, or anything made of JSON's types, bytes and structs.

    Raise `ValueError` for a number that JSON does not know, `TypeError` for any other type.
    """
    try:
        text = _sorter.encode(value)
    except UnicodeEncodeError:
        text = b"null"
    # Where it is plain, the quick encoder's text is the canonical one. A null may be a number that JSON does not know.
    if text.isascii() and b"\x7f" not in text and b"null" not in text:
        return text.decode("ascii")
    return _encoder.encode(msgspec.to_builtins(value, str_keys=True))


def pack(value: Any) -> bytes:
    """Return bytes that are equal exactly for equal values of one type: for digests, much faster than `encode`.

    They are JSON in UTF-8; what UTF-8 cannot carry has surrogates encoded as if it could, which valid UTF-8 never has.
    """
    try:
        return _packer.encode(value)
    except UnicodeEncodeError:
        return _raw_encoder.encode(msgspec.to_builtins(value, str_keys=True)).encode("utf-8", "surrogatepass")


def decode(text: str | bytes, type: type[Value]) -> Value:  # noqa: A002  # the word msgspec uses for it
    """Return the value of `type` whose canonical form is `text`.

    Fields that `type` does not have are passed over, so that an older program reads what a newer one wrote.
    Raise `msgspec.ValidationError` for what does not fit the type, `msgspec.DecodeError` (its base) for no JSON.
    """
    try:
        value: Value = _decoder(type).decode(text)
    except msgspec.DecodeError:
        return _decode_whatever(text, type)
    return value


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


def _number(text: str) -> float:
    """Return the number that `text` is; raise `ValueError` where it is none that JSON knows: no clock is set by it."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text} is no number")
    return found


def _decode_whatever(text: str | bytes, kind: type[Value]) -> Value:
    """Decode what the quick decoder refuses: lone surrogates, and what is wrong, which is told in the same words."""
    try:
        builtins = json.loads(text, parse_constant=_number, parse_float=_number)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    try:
        return msgspec.convert(builtins, kind, str_keys=True)
    except UnicodeEncodeError as error:
        # What it says of a lone surrogate where no text is expected at all.
        raise msgspec.ValidationError(f"a text that is none: {error}") from None
