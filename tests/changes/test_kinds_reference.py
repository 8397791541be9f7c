"""The reference of kinds holds what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from aquiline.changes.canonical import decode, encode
from aquiline.changes.describe import describe
from aquiline.changes.kinds import Change, Kind

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "kinds.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
KINDS: list[type[Kind]] = list(get_args(Change))


def test_every_kind_has_its_section() -> None:
    """No kind is missing, none is made up."""
    assert {str(kind.__struct_config__.tag) for kind in KINDS} == SECTIONS.keys()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_told(kind: type[Kind]) -> None:
    """Each field of a kind is in its section, but for the version, which all have."""
    section = SECTIONS[str(kind.__struct_config__.tag)]

    assert [] == [field for field in kind.__struct_fields__ if field != "version" and f"`{field}`" not in section]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_example_is_real(kind: type[Kind]) -> None:
    """The record is in canonical form, is of that kind, and the program says of it what the page says."""
    section = SECTIONS[str(kind.__struct_config__.tag)]
    (record,) = re.findall(r"^```json\n(.*?)\n```", section, re.MULTILINE | re.DOTALL)
    (words,) = re.findall(r"^> (.*)$", section, re.MULTILINE)

    change: Change = decode(record, kind)  # type: ignore[assignment]  # every kind is a change

    assert record == encode(change)
    assert words == describe(change)
    assert re.search(r"^Undo: \S", section, re.MULTILINE)
