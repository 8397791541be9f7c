"""Files of settings of Quattor's own programs: a line for each, by name."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aquiline.errors import ProfileError

Natural = Annotated[int, msgspec.Meta(ge=0)]
AbsolutePath = Annotated[str, msgspec.Meta(pattern="^/")]


def lines(configuration: msgspec.Struct, where: str, separator: str, *, list_separator: str = "") -> bytes:
    """Return the settings of `configuration` that are given, sorted; ``configFile``, the file itself, is none of them.

    Raises `ProfileError`, with the path below `where`, for a value of several lines: what follows would be a setting.
    """
    found: list[str] = []
    for field, value in sorted(msgspec.structs.asdict(configuration).items()):
        if value is None or field == "config_file":
            continue
        text = (
            list_separator.join(value)
            if isinstance(value, tuple)
            else str(int(value) if isinstance(value, bool) else value)
        )
        if "\n" in text:
            raise ProfileError("found several lines, expected one", path=f"{where}/{field}")
        found.append(f"{field}{separator}{text}\n")
    return "".join(found).encode()
