"""The documents hang together."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md")])


def links(page: Path) -> list[Path]:
    """Return the files that a page links to, as it names them."""
    found = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
    return [(page.parent / link).resolve() for link in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a document is to a file that exists."""
    assert [] == [link for link in links(page) if not link.exists()]


def test_every_page_is_found_from_the_index() -> None:
    """Following links from the index, one gets to every page."""
    found = {TOP / "docs" / "index.md"}
    while not found >= (more := {link for page in found for link in links(page) if link.suffix == ".md"}):
        found |= more

    assert [] == [page for page in PAGES if page.parent != TOP and page not in found]
