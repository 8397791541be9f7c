"""What dpkg and apt have on disk: their status files, read as they are.

Read from the files because a program's output has a limit and costs a start; the formats are deb822(5) and those of
``/var/lib/dpkg/status`` and ``/var/lib/apt/extended_states``, unchanged for twenty years. After a crash of dpkg its
journal in ``/var/lib/dpkg/updates`` is newer than the status file (dpkg's ``modstatdb.c``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from aquiline.host.objects import Package

_FIELD = re.compile(r"^([^\s:]+):[ \t]*(.*)$")
_WANTED = (
    "Package", "Status", "Version", "Architecture", "Conffiles", "Auto-Installed", "Depends", "Pre-Depends",
    "Recommends",
    "Provides", "Essential", "Protected", "Priority",
)  # fmt: skip


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Return the paragraphs of a control file, as far as they are wanted; further lines of a field keep their space."""
    for paragraph in text.split("\n\n"):
        found: dict[str, str] = {}
        field = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                if field in _WANTED:
                    found[field] += f"\n{line}"
                continue
            matched = _FIELD.match(line)
            field = matched[1] if matched else ""
            if matched and field in _WANTED:
                found[field] = matched[2]
        if "Package" in found:
            yield found


def records(status: str, updates: Iterable[str]) -> dict[tuple[str, str], dict[str, str]]:
    """Return what dpkg knows of each package, by name and architecture; `updates` in order override."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for text in (status, *updates):
        for stanza in stanzas(text):
            found[stanza["Package"], stanza.get("Architecture", "")] = stanza
    return found


def packages(
    known: Mapping[tuple[str, str], Mapping[str, str]], automatic: frozenset[tuple[str, str]], native: str
) -> dict[str, Package]:
    """Return the packages by name; those that are not installed in any way are left out."""
    found = {}
    for (name, architecture), stanza in known.items():
        selection, _, state = stanza.get("Status", "unknown ok not-installed").split(" ")
        if state == "not-installed":
            continue
        key = called(name, architecture, native)
        if state == "config-files":
            found[key] = Package("", state)
            continue
        is_auto = (name, architecture) in automatic or (architecture == "all" and (name, native) in automatic)
        found[key] = Package(stanza.get("Version", ""), state, is_auto, selection == "hold")
    return dict(sorted(found.items()))


def called(name: str, architecture: str, native: str) -> str:
    """Return what a package is called: its name, with the architecture where that is a foreign one."""
    return name if architecture in ("all", native, "") else f"{name}:{architecture}"


def owners(found: str, native: str) -> tuple[str, ...]:
    """Return the names of the packages that ``dpkg-query --search`` printed."""
    named: set[str] = set()
    for line in found.splitlines():
        packages, colon, path = line.partition(": ")
        if colon and path.startswith("/") and not packages.startswith("diversion by "):
            split = (one.partition(":") for one in packages.split(", "))
            named.update(called(name, architecture, native) for name, _, architecture in split)
    return tuple(sorted(named))


def automatic(extended_states: str) -> frozenset[tuple[str, str]]:
    """Return name and architecture of what apt marks as installed for others' sake."""
    return frozenset(
        (stanza["Package"], stanza.get("Architecture", ""))
        for stanza in stanzas(extended_states)
        if stanza.get("Auto-Installed") == "1"
    )


def conffiles(stanza: Mapping[str, str]) -> list[str]:
    """Return the configuration files of one package; obsolete ones too, for purging removes them."""
    return [line.split()[0] for line in stanza.get("Conffiles", "").splitlines() if line.strip()]


_NAME = re.compile(r"\s*([a-zA-Z0-9][a-zA-Z0-9+.-]*)")


def surplus(known: Mapping[tuple[str, str], Mapping[str, str]], named: Iterable[str], native: str) -> tuple[str, ...]:
    """Return the installed packages that neither are `named` nor are needed by those, nor by every host."""
    here = {
        called(name, architecture, native): stanza
        for (name, architecture), stanza in known.items()
        if stanza.get("Status", "").endswith(" installed")
    }
    by_name: dict[str, list[str]] = {}
    for key, stanza in here.items():
        for name in (stanza["Package"], *_names(stanza.get("Provides", ""))):
            by_name.setdefault(name, []).append(key)
    todo = [key for key, stanza in here.items() if _is_basic(stanza)]
    todo += [key for name in named for key in ([name] if name in here else by_name.get(name, []))]
    needed: set[str] = set()
    while todo:
        key = todo.pop()
        if key not in needed:
            needed.add(key)
            fields = (here[key].get(field, "") for field in ("Depends", "Pre-Depends", "Recommends"))
            todo += [other for field in fields for name in _names(field) for other in by_name.get(name, ())]
    return tuple(sorted(here.keys() - needed))


def _is_basic(stanza: Mapping[str, str]) -> bool:
    return (
        "yes" in (stanza.get("Essential"), stanza.get("Protected"))
        or stanza.get("Priority") == "required"
        or stanza["Package"] == "apt"
    )


def _names(field: str) -> list[str]:
    """Return the package names of a dependency field; all alternatives count."""
    return [found[1] for one in re.split("[,|]", field) if (found := _NAME.match(one)) is not None]


_SIMULATED = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+) [^)]*\[(\w+)\]\))?")


def simulated(output: str, native: str) -> dict[str, str]:
    """Return version by name as ``apt-get --simulate`` prints it; empty where a package is removed."""
    found = {}
    for line in output.splitlines():
        matched = _SIMULATED.match(line)
        if matched is None:
            continue
        verb, name, _, version, architecture = matched.groups()
        bare, _, foreign = name.partition(":")
        key = called(bare, architecture or foreign, native)
        found[key] = "" if verb in ("Remv", "Purg") else version
    return found
