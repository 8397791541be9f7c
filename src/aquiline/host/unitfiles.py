"""Units as their files and links say, for any host that can be read: below an offline root, or as a plan foresees it.

A unit is *enabled* by links to its file in ``*.wants``, ``*.requires`` and ``*.upholds`` below the two configured
folders, or under another name there (an alias), *masked* by a link to /dev/null in its own place. Which links enabling
makes stands in the ``[Install]`` section of its file and of its drop-ins. Source: systemd.unit(5), systemctl(1).

A System V script in /etc/init.d is a service too; it is enabled by links in /etc/rc?.d. What only generators make
(/run/systemd/generator) is known to a running systemd alone, and not looked at here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

import msgspec

from aquiline.host.objects import Absent, At, Directory, Enablement, RegularFile, Symlink
from aquiline.host.protocol import Reading

PERSISTENT, RUNTIME = "/etc/systemd/system", "/run/systemd/system"
#: Where links make a unit enabled or masked.
CONFIGURED = (PERSISTENT, RUNTIME)
#: Where unit files are, the first wins.
SEARCHED = (*CONFIGURED, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
#: How folders of links end.
FOLDERS = (".wants", ".requires", ".upholds")
_SCRIPTS = "/etc/init.d"
_LEVELS = tuple(f"/etc/rc{level}.d" for level in "0123456S")
#: Where a script that is on has a link (update-rc.d(8)).
_ON_LEVELS = ("/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d", "/etc/rcS.d")
_SCRIPT_LINK = re.compile(r"[SK][0-9][0-9](.+)")
_MASK = "/dev/null"


class Installation(msgspec.Struct, frozen=True):
    """What ``[Install]`` sections say together."""

    #: Folders of links, ``multi-user.target.wants``.
    folders: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    default_instance: str = ""


class Relations(msgspec.Struct, frozen=True):
    """What a unit's files and the links in its folders say of other units."""

    #: Started when it is.
    starts: frozenset[str] = frozenset()
    #: Stopped when it is started.
    conflicts: frozenset[str] = frozenset()
    #: It stops when one of these does.
    stops_with: frozenset[str] = frozenset()


def is_unit_file(path: str) -> bool:
    """Return whether a running systemd must be told to read its files again when `path` has changed."""
    if posixpath.dirname(path) == _SCRIPTS:
        return True
    return any(path.startswith(f"{folder}/") for folder in SEARCHED)


def are_unit_files(objects: Iterable[At]) -> bool:
    """Return whether a step about these objects is about unit files; folders alone are none."""
    return any(is_unit_file(at.path) and not isinstance(at.object, Directory) for at in objects)


def template_of(unit: str) -> str:
    """Return ``foo@.service`` for ``foo@bar.service``, empty for what is no instance."""
    prefix, at, rest = unit.partition("@")
    instance, dot, suffix = rest.rpartition(".")
    return f"{prefix}@{dot}{suffix}" if at and instance else ""


def find(host: Reading, unit: str, *, masked: bool = True) -> str:
    """Return the path of a unit's file, or of the link in its place; empty where it has none.

    Without `masked`, links that mask it are passed over.
    """
    for name in (unit, template_of(unit)):
        for folder in SEARCHED if name else ():
            path = f"{folder}/{name}"
            if host.status(path) is not None and (masked or not is_mask(host, path)):
                return path
    return ""


def is_mask(host: Reading, path: str) -> bool:
    """Return whether what stands at `path` masks the unit of that name."""
    found = host.observe(path)
    if isinstance(found, RegularFile):
        return not found.size
    return isinstance(found, Symlink) and found.target == _MASK


def real_name(host: Reading, unit: str) -> str:
    """Return the name that `unit` is an alias of, else `unit` itself."""
    for _ in range(8):
        path = find(host, unit)
        found = host.observe(path) if path else None
        target = posixpath.basename(found.target) if isinstance(found, Symlink) else unit
        if target in (unit, template_of(unit), "null", ""):
            return unit
        unit = target
    return unit


def has_script(host: Reading, unit: str) -> bool:
    """Return whether there is a System V script of the name of this service."""
    name = _script(unit)
    return bool(name) and host.status(f"{_SCRIPTS}/{name}") is not None


def _script(unit: str) -> str:
    return unit.removesuffix(".service") if unit.endswith(".service") else ""


#: Turns a SysV script on and off, as `systemctl enable` does; each distribution brings its own.
SYSV_INSTALL = "/lib/systemd/systemd-sysv-install"


def state(host: Reading, unit: str) -> str:
    """Return what `systemctl is-enabled` says below a root, empty where there is no such unit."""
    path = find(host, unit)
    if not path:
        if not has_script(host, unit):
            return ""
        found = script_state(host, unit)
        # What turns a script on is a program of the root's: without it a script that is off stays off.
        return "generated" if found == "disabled" and host.status(SYSV_INSTALL) is None else found
    if is_mask(host, path):
        return "masked-runtime" if path.startswith(RUNTIME) else "masked"
    if real_name(host, unit) != unit:
        return "alias"
    where = {posixpath.dirname(at.path) for at in links(host, (unit,)) if _enables(at, unit)}
    for folder, word in ((PERSISTENT, "enabled"), (RUNTIME, "enabled-runtime")):
        if any(one == folder or one.startswith(f"{folder}/") for one in where):
            return word
    if isinstance(host.observe(path), Symlink) and path.startswith(CONFIGURED):
        return "linked-runtime" if path.startswith(RUNTIME) else "linked"
    return vendor_state(host, unit)


def _enables(at: At, unit: str) -> bool:
    """Whether a link of a unit enables it: any but its own file, a mask, or a script's."""
    own = posixpath.basename(at.path) == unit and posixpath.dirname(at.path) in CONFIGURED
    return at.path.startswith(CONFIGURED) and not own


def script_state(host: Reading, unit: str) -> str:
    """Return whether the script of a service is `enabled` or `disabled`."""
    name = _script(unit)
    for folder in _ON_LEVELS:
        if any(link[0] == "S" and _script_of(link) == name for link in host.names(folder)):
            return "enabled"
    return "disabled"


def _script_of(link: str) -> str:
    found = _SCRIPT_LINK.fullmatch(link)
    return found[1] if found else ""


def vendor_state(host: Reading, unit: str) -> str:
    """Return what the unit is without any link: `disabled`, `indirect` or `static`."""
    path = find(host, unit, masked=False)
    if not path:
        return "disabled"
    installation = read_installation(host, unit)
    if installation.folders or installation.alias or (installation.default_instance and template_of(unit)):
        return "disabled"
    return "indirect" if installation.also else "disabled" if has_script(host, unit) else "static"


def links(host: Reading, units: Iterable[str]) -> tuple[At, ...]:
    """Return every link that enables, masks, aliases or links one of `units`, by its path."""
    wanted = frozenset(units)
    found = [at for folder in CONFIGURED for at in _links_below(host, folder, wanted)]
    scripts = {_script(unit) for unit in wanted if has_script(host, unit)}
    for folder in _LEVELS if scripts else ():
        paths = (f"{folder}/{name}" for name in host.names(folder) if _script_of(name) in scripts)
        found += [At(path, at) for path in paths if isinstance(at := host.observe(path), Symlink)]
    return tuple(sorted(found, key=lambda at: at.path))


def is_as(host: Reading, wanted: Enablement) -> bool:
    """Return whether the units of `wanted` have exactly its links, and no folder stands empty that was not there."""
    return links(host, wanted.units) == wanted.links and not any(is_spare(host, one) for one in wanted.absent_folders)


def is_spare(host: Reading, folder: str) -> bool:
    """Return whether a folder of links is there, and empty: systemctl removes it with the last link in it."""
    return folder.endswith(FOLDERS) and host.status(folder) is not None and not host.names(folder)


def folders_of(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that are there for links alone, of those that links at `paths` are in."""
    found = {posixpath.dirname(path) for path in paths}
    return tuple(sorted(folder for folder in found if folder.endswith(FOLDERS)))


def folders(host: Reading) -> tuple[str, ...]:
    """Return the folders that links of units are in, as far as they are there."""
    below = [f"{top}/{name}" for top in CONFIGURED for name in host.names(top) if name.endswith(FOLDERS)]
    return tuple(path for path in (*CONFIGURED, *below, *_LEVELS) if host.status(path) is not None)


def _links_below(host: Reading, folder: str, units: frozenset[str]) -> Iterator[At]:
    for name in host.names(folder):
        path = f"{folder}/{name}"
        if name.endswith(FOLDERS):
            yield from _links_below(host, path, units)
            continue
        status = host.status(path)
        found = host.observe(path) if status is not None and status.type == "symlink" else None
        if isinstance(found, Symlink) and (name in units or posixpath.basename(found.target) in units):
            yield At(path, found)


def related(host: Reading, unit: str) -> tuple[str, ...]:
    """Return `unit` and all units that enabling or disabling it takes along (``Also=``), sorted."""
    known: set[str] = set()
    waiting = [unit]
    while waiting:
        name = waiting.pop()
        if name not in known:
            known.add(name)
            waiting += read_installation(host, name).also
    return tuple(sorted(known))


def enabling(host: Reading, unit: str) -> dict[str, str]:
    """Return the persistent links that enabling `unit` makes, as path to target, those of ``Also=`` left out."""
    path = find(host, unit, masked=False)
    if not path:
        return {}
    installation = read_installation(host, unit)
    name = unit
    if "@." in unit and installation.default_instance:
        name = unit.replace("@.", f"@{installation.default_instance}.", 1)
    found = host.observe(path)
    target = found.target if isinstance(found, Symlink) and found.target.startswith("/") else path
    made = {} if "@." in name else {f"{PERSISTENT}/{folder}/{name}": target for folder in installation.folders}
    return made | {f"{PERSISTENT}/{alias}": target for alias in installation.alias}


def read_installation(host: Reading, unit: str) -> Installation:
    """Return what the unit's file and its drop-ins say about installing it."""
    path = find(host, unit, masked=False)
    lists: dict[str, list[str]] = {}
    for file in (path, *drop_ins(host, unit)) if path else ():
        for key, value in _section(_text(host, file), "[Install]"):
            words = lists.setdefault(key, [])
            words += [_expanded(word, unit) for word in value.split()]
            if not value:
                words.clear()
    folders = [
        f"{by}{suffix}"
        for key, suffix in zip(("WantedBy", "RequiredBy", "UpheldBy"), FOLDERS, strict=True)
        for by in lists.get(key, ())
    ]
    instance = (lists.get("DefaultInstance") or [""])[-1]
    alias, also = lists.get("Alias", ()), lists.get("Also", ())
    return Installation(tuple(folders), tuple(name for name in alias if name != unit), tuple(also), instance)


def drop_ins(host: Reading, unit: str) -> tuple[str, ...]:
    """Return the paths of the drop-ins of a unit, in the order they count."""
    by_name: dict[str, str] = {}
    for name in filter(None, (template_of(unit), unit)):
        for folder in reversed(SEARCHED):
            below = f"{folder}/{name}.d"
            by_name |= {one: f"{below}/{one}" for one in host.names(below) if one.endswith(".conf")}
    return tuple(by_name[name] for name in sorted(by_name))


def unit_of(path: str) -> str:
    """Return the unit that a file is of, as its own or as a drop-in; empty where it is of none."""
    folder = posixpath.dirname(path)
    if folder in SEARCHED:
        return posixpath.basename(path)
    is_drop_in = folder.endswith(".d") and posixpath.dirname(folder) in SEARCHED
    return posixpath.basename(folder).removesuffix(".d") if is_drop_in else ""


def relations(host: Reading, unit: str) -> Relations:
    """Return what the files of a unit, and the folders of links to what it wants, say of other units."""
    lists: dict[str, set[str]] = {}
    for file in filter(None, (find(host, unit, masked=False), *drop_ins(host, unit))):
        for key, value in _section(_text(host, file), "[Unit]"):
            lists.setdefault(key, set()).update(_expanded(word, unit) for word in value.split())
    linked = {name for folder in SEARCHED for suffix in FOLDERS for name in host.names(f"{folder}/{unit}{suffix}")}
    return Relations(
        frozenset(linked.union(*(lists.get(key, ()) for key in ("Requires", "Wants", "BindsTo", "Upholds")))),
        frozenset(lists.get("Conflicts", ())),
        frozenset(set().union(*(lists.get(key, ()) for key in ("Requires", "Requisite", "BindsTo", "PartOf")))),
    )


def runs_once(host: Reading, unit: str) -> bool:
    """Return whether a unit runs to its end, and is inactive after that: oneshot without RemainAfterExit."""
    path = find(host, unit, masked=False)
    said: dict[str, str] = {}
    for file in (path, *drop_ins(host, unit)) if path else ():
        said |= dict(_section(_text(host, file), "[Service]"))
    remains = said.get("RemainAfterExit", "no").lower() in ("1", "yes", "y", "true", "t", "on")
    return said.get("Type") == "oneshot" and not remains


def _text(host: Reading, path: str) -> str:
    """Return the text of a file, links followed; empty where there is none to be read."""
    for _ in range(8):
        found = host.observe(path)
        if not isinstance(found, Symlink):
            break
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
    if isinstance(found, Absent) or not isinstance(found, RegularFile):
        return ""
    return host.read(path).decode("utf-8", "replace")


def _section(text: str, wanted: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == wanted and "=" in stripped and not stripped.startswith(("#", ";")):
            key, _, value = stripped.partition("=")
            yield key.strip(), value.strip()


def _expanded(word: str, unit: str) -> str:
    """Return a word with the specifiers replaced that make sense in names (systemd.unit(5))."""
    whole = unit.rpartition(".")[0]
    prefix, _, instance = whole.partition("@")
    meanings = {"i": instance, "p": prefix, "n": unit, "N": whole, "%": "%"}
    return re.sub("%(.)", lambda found: meanings.get(found[1], found[0]), word)
