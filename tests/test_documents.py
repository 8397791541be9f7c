"""The documents hang together."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from aquiline.cli.command import EXIT_STATUS
from aquiline.execution.policy import Policy

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_source_are_there(page: Path) -> None:
    """Every file of the source tree that a document names is there."""
    named = re.findall(r"`((?:src|tests|examples|docs|packaging)/[\w./-]+)`", page.read_text())
    readers_own = {"tests/test_banner.py"}

    assert [] == [name for name in named if name not in readers_own and not (TOP / name).exists()]


def test_every_exit_status_has_its_line() -> None:
    """The table of exit statuses has a line for each that there is, and no other."""
    found = re.findall(r"^\| (\d+) \|", (TOP / "docs/reference/exit-statuses.md").read_text(), re.MULTILINE)

    assert list(EXIT_STATUS) == [int(status) for status in found]


def test_every_key_of_the_policy_has_its_line() -> None:
    """The reference of policy.toml has a line for each key, and its example and that of the site are policies."""
    page = (TOP / "docs/reference/policy.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]

    assert Policy.__struct_fields__ == tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(Policy.__struct_fields__) == set(tomllib.loads(example))
    for text in (example, (TOP / "examples/site/policy.toml").read_text()):
        msgspec.convert(tomllib.loads(text), Policy)


def test_the_architecture_draws_every_package() -> None:
    """The picture of the house has each top-level package, on one line or another."""
    picture = (TOP / "ARCHITECTURE.md").read_text().split("```")[1]
    packages = {path.parent.name for path in (TOP / "src/aquiline").glob("*/__init__.py")} | {"errors"}

    assert set() == {name for name in packages if not re.search(rf"\b{name}\b", picture)}


def test_the_architecture_names_what_is_there() -> None:
    """Each file and folder in its tables exists; a bare name lies beside the one named before it."""
    missing, folder = [], TOP
    for named in re.findall(r"`([\w/.]+(?:\.py|/\w*))`", (TOP / "ARCHITECTURE.md").read_text()):
        top = TOP if named.startswith("tests/") else TOP / "src/aquiline"
        path = (top if "/" in named else folder) / named
        missing += [] if path.exists() else [named]
        folder = path if path.is_dir() else path.parent

    assert [] == missing
