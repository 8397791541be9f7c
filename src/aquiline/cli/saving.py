"""Saved plans: one file that holds a plan, the profile it was made from, and a digest over both.

The file is JSON in the canonical form: ``{"aquiline_plan": 1, "digest": …, "saved": …}``. It holds the content of the
files that the plan writes, secrets included, so it is its owner's alone (0600).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from aquiline.agent.applying import SavedPlan
from aquiline.changes.canonical import decode, encode
from aquiline.errors import AquilineError

FORMAT = 1
_MARK = b'{"aquiline_plan":'


def save(saved: SavedPlan, place: str) -> None:
    """Write `saved` to the file `place`, complete or not at all, replacing what stands there."""
    body = encode(saved)
    text = f'{{"aquiline_plan":{FORMAT},"digest":"{_digest(body)}","saved":{body}}}\n'
    path = Path(place)
    # mkstemp makes it 0600 and refuses to follow what somebody else put there.
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise AquilineError(f"{place}: the plan cannot be saved: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_saved_plan(place: str) -> bool:
    """Return whether the file `place` begins as a saved plan does."""
    try:
        with Path(place).open("rb") as file:
            return file.read(len(_MARK)) == _MARK
    except FileNotFoundError:
        return False


def load_saved(place: str) -> SavedPlan:
    """Return the plan saved in `place`; raises `AquilineError` where it is damaged or of a newer version."""
    try:
        content: dict[str, Any] = json.loads(Path(place).read_bytes())
        version, digest = content["aquiline_plan"], content["digest"]
        body = json.dumps(content["saved"], ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(place, str(error)) from None
    if version != FORMAT:
        raise AquilineError(f"{place}: a saved plan of format {version}, expected {FORMAT}", hint="plan again")
    if digest != _digest(body):
        raise _damaged(place, "its content does not have its digest")
    try:
        saved: SavedPlan = decode(body, SavedPlan)
    except msgspec.MsgspecError as error:
        raise _damaged(place, str(error)) from None
    return saved


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()


def _damaged(place: str, why: str) -> AquilineError:
    return AquilineError(f"{place}: the saved plan is damaged: {why}", hint="plan again")
