"""The journal's format is a document, and the document is whole."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from aquiline.journal.records import What
from aquiline.journal.schema import FORMAT, TABLES

DOCUMENT = (Path(__file__).parents[2] / "docs/reference/journal-format.md").read_text()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_described(table: str) -> None:
    """Each table has its paragraph."""
    assert f"**{table}** `" in DOCUMENT


@pytest.mark.parametrize("what", get_args(What))
def test_every_event_is_described(what: str) -> None:
    """Each event is named in the list of events."""
    assert f"`{what}`" in DOCUMENT.split("**event**")[1].split("**value**")[0]


def test_the_version_is_said() -> None:
    """The document is about the version that the program writes."""
    assert f"Version **{FORMAT[0]}.{FORMAT[1]}**" in DOCUMENT
