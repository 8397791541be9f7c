"""What undo leaves different is what the documents list, and exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bed.host import BedHost
from tests.bed.repository import AptRepository, Deb, DnfRepository, Rpm
from tests.bed.snapshot import NOT_COMPARED, HostSnapshot, diff
from tests.packages.hosts import ACCOUNT_FILES, COMPILED, LEFT_FIELDS, MAY_DIFFER, apply, aquiline, profile

PAGE = Path(__file__).parents[2] / "docs/reference/what-undo-leaves.md"
#: The repositories of the tests, which stand for the world outside.
WORLD = {"/srv/apt", "/srv/rpm"}
ADDS_ACCOUNT = "#!/bin/sh\nset -e\nuseradd -r scripted\n"


def rows(title: str) -> Iterator[list[list[str]]]:
    """Yield, of the rows of one table, what stands between backticks in each column."""
    section = PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    for line in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[1:]:
        yield [re.findall("`([^`]*)`", cell) for cell in line.split(" | ")]


def differences(before: HostSnapshot, after: HostSnapshot) -> set[tuple[str, str]]:
    """Return name and field of all that differs, but for the profiles that the tests put there."""
    return {(one.name, one.what) for one in diff(before, after) if one.name not in MAY_DIFFER}


def touched(*names: str) -> set[tuple[str, str]]:
    return {(f"/etc/{name}", "mtime_ns") for name in names}


def test_the_list_is_what_the_tests_allow() -> None:
    """No comparison of a host leaves out anything else than the list says."""
    accounts, left, compiled = rows("Where a run touched it")

    assert [sorted(ACCOUNT_FILES, key=accounts[0].index), ["mtime_ns"]] == accounts[:2]
    assert list(LEFT_FIELDS) == left[1]
    assert [[COMPILED], ["mtime_ns"]] == compiled[:2]
    assert set(NOT_COMPARED) - WORLD == {cell[0][0] for cell in rows("Not looked at")}


def test_apt(apt_host: AptRepository) -> None:
    """All that the list allows, provoked in one run, differs after its undo; nothing else does."""
    host = apt_host.host
    old = Deb("tool", "1", files={"/etc/tool.conf": "one\n"}, conffiles=("/etc/tool.conf",))
    new = replace(old, version="2", files={"/etc/tool.conf": "two\n"}, scripts={"postinst": ADDS_ACCOUNT})
    apt_host.add(old, new)
    host.run(["apt-get", "install", "-yq", "tool=1"])
    host.run(["apt-get", "remove", "-yq", "tool"])
    before, after = there_and_back(host, profile({"tool": "2"}))

    expected = touched("passwd", "shadow", "group", "gshadow") | {("tool", field) for field in LEFT_FIELDS}
    assert expected == differences(before, after)


def test_dnf(dnf_host: DnfRepository) -> None:
    """On a host with dnf the list is shorter: rpm knows nothing of what is not installed."""
    dnf_host.add(Rpm("tool", "1", files={"/etc/tool.conf": "one\n"}, scripts={"post": ADDS_ACCOUNT}))

    before, after = there_and_back(dnf_host.host, profile({"tool": None}, packager="yumdnf"))

    assert touched("passwd", "shadow", "group", "gshadow") == differences(before, after)


def there_and_back(host: BedHost, wanted: dict[str, object]) -> tuple[HostSnapshot, HostSnapshot]:
    """Apply a profile and undo it; return the host before and after."""
    host.install_aquiline()
    (host.root / "var/lib/aquiline").mkdir(mode=0o700)
    before = host.snapshot()
    apply(host, wanted)
    aquiline(host, "undo")
    return before, host.snapshot()
