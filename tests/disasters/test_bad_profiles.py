"""Profiles that somebody mistyped, cut short or made up: each is an error that says where and why, and nothing runs."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from aquiline.changes.kinds import (
    Change,
    Inline,
    MakeDirectory,
    MakeHardlink,
    MakeSpecial,
    MakeSymlink,
    Move,
    Remove,
    SetMetadata,
    WriteFile,
)
from tests.cli.conftest import Host
from tests.engine.site import Site

from .conftest import Ask


def put(host: Host, name: str, content: str | bytes | dict[str, Any]) -> str:
    """Write a profile of any content; return where."""
    if isinstance(content, dict):
        content = json.dumps({"software": {"components": content}})
    place = host.top / name
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(place)


def refused(host: Host, ask: Ask, profile: str) -> str:
    """Plan and apply a profile that is none: both are 1, nothing was done and no run began. Return what was said."""
    before = sorted(host.root.rglob("*"))
    planned, applied = ask("plan", profile), ask("apply", profile)
    assert [1, 1] == [planned[0], applied[0]]
    assert ["", ""] == [planned[1], applied[1]]
    assert planned[2] == applied[2]
    assert [] == [path for path in sorted(host.root.rglob("*")) if path not in before and host.state not in path.parents
                  and path not in host.state.parents and path != host.state]  # fmt: skip
    assert [] == json.loads(ask("--json", "log")[1])
    return planned[2]


UNREADABLE: list[tuple[str, str | bytes, str]] = [
    ("empty.json", "", "line 1, column 1"),
    ("cut.json", '{"software": {"components": {', "line 1, column 30"),
    ("list.json", "[1, 2]", "found a list of 2, expected a mapping"),
    ("null.json", "null", "found null, expected a mapping"),
    ("twice.json", '{"a": 1,\n "a": 2}', "line 2: the key 'a' stands twice"),
    ("nan.json", '{"a": NaN}', "found NaN, expected a finite number"),
    ("deep.json", '{"a": ' * 100_000 + "1" + "}" * 100_000, "more than 100 mappings"),
    ("digits.json", '{"a": ' + "9" * 5000 + "}", "digits"),
    ("latin.json", b'{"a": "\xe9"}', "not UTF-8 at byte 7"),
    ("half.json.gz", gzip.compress(b'{"a": 1}')[:-6], "cannot be read"),
    ("no.json.gz", b'{"a": 1}', "cannot be read"),
    ("tab.yaml", "a:\n\tb: 1\n", "line 2"),
    ("tag.yaml", "a: !!python/object/apply:os.system [true]\n", "line 1"),
    ("two.yaml", "a: 1\n---\nb: 2\n", "line"),
    ("empty.yaml", "", "expected a mapping"),
    ("profile.txt", "{}", "not a profile by its name"),
]


@pytest.mark.parametrize(("name", "content", "says"), UNREADABLE, ids=[one[0] for one in UNREADABLE])
def test_what_is_no_profile(host: Host, ask: Ask, name: str, content: str | bytes, says: str) -> None:
    """A file that is no profile is one error that names the file, and the place in it where there is one."""
    place = put(host, name, content)

    said = refused(host, ask, place)

    assert said.startswith(f"error: {place}: ")
    assert says in said
    assert len(said) < 1000


FRAMEWORK: list[tuple[Any, str]] = [
    ([], "/software/components: found a list of 0, expected a mapping"),
    ({"anything": "yes"}, "/software/components/anything: found string 'yes', expected a mapping"),
    ({"anything": {"active": "maybe"}}, "/software/components/anything/active: found string 'maybe'"),
    ({"anything": {"dependencies": {"pre": "cron"}}}, "/software/components/anything/dependencies/pre: found string"),
    ({"anything": {"dependencies": {"pre": [1]}}}, "/software/components/anything/dependencies/pre/0: found int 1"),
]


@pytest.mark.parametrize(("components", "says"), FRAMEWORK)
def test_wrong_types_of_the_framework(host: Host, ask: Ask, components: Any, says: str) -> None:
    """What is not a component's own has its type too: path, found and expected are said, and nothing is planned."""
    place = put(host, "p.json", json.dumps({"software": {"components": components}}))

    assert says in refused(host, ask, place)


def test_loops_are_named(host: Host, ask: Ask) -> None:
    """Components that wait for each other are named in the order in which they do, also one that waits for itself."""
    ring = {name: {"dependencies": {"pre": [before]}} for name, before in (("a", "c"), ("b", "a"), ("c", "b"))}

    assert "dependency loop: a < b < c < a\n" in refused(host, ask, put(host, "ring.json", ring))
    alone = {"a": {"dependencies": {"post": ["a"]}}}
    assert "dependency loop: a < a\n" in refused(host, ask, put(host, "alone.json", alone))


SCHEMA: list[tuple[str, Any, str]] = [
    ("filecopy", {"services": {"/etc/a": {"config": 7, "perms": "rwx"}}}, "/services/{/etc/a}"),
    ("filecopy", {"services": {"/etc/a": {"config": "x", "perms": "rwx"}}}, "perms"),
    ("filecopy", {"services": []}, "/software/components/filecopy/services: found a list of 0, expected"),
    ("filecopy", {"services": {"/etc/a": {}}}, "found neither, expected either config or source"),
    ("cron", {"entries": [{"name": "x"}]}, "/software/components/cron/entries/0"),
    ("anything", {"changes": [{"kind": "write_file"}]}, "path"),
]


@pytest.mark.parametrize(("name", "configuration", "says"), SCHEMA)
def test_what_a_component_does_not_take(
    host: Host, ask: Ask, name: str, configuration: dict[str, Any], says: str
) -> None:
    """A value that does not fit fails its component by path, and no other: the plan is 15 and shows the rest."""
    good = {"services": {"/etc/good": {"config": "x\n"}}} if name != "filecopy" else None
    components = {name: configuration, **({"filecopy": good} if good else {"metaconfig": {}})}

    status, planned, said = ask("--json", "plan", put(host, "p.json", components))

    shown = json.loads(planned)
    other = "filecopy" if good else "metaconfig"
    assert 15 == status
    assert {name: "failed", other: "planned" if good else "unchanged"} == shown["components"]
    assert any(says in reason for reason in shown["coverage"]["reduced_by"]), shown["coverage"]
    assert "" == said


def repr_of(path: str) -> str:
    return repr(path)[:24]


WRONG_PATHS = [
    "etc/passwd",
    "",
    ".",
    "/etc/../etc/passwd",
    "/etc/./x",
    "//etc/x",
    "/etc//x",
    "/etc/x/",
    "/etc/a\0b",
    "/..",
    "/",
    "/etc/" + "n" * 256,
    "/etc" + "/d" * 3000,
]


@pytest.mark.parametrize("path", WRONG_PATHS, ids=repr_of)
def test_filecopy_refuses_what_is_no_path(host: Host, ask: Ask, path: str) -> None:
    """What is no plain absolute path is an error of its component, in one line, and nothing is done."""
    place = put(host, "p.json", {"filecopy": {"services": {path: {"config": "x\n"}}}})

    status, out, said = ask("apply", place)

    assert 15 == status, (out, said)
    assert all(line.isprintable() for line in (out + said).splitlines())
    assert not list(host.path("/etc").iterdir())


def changes_of(path: str) -> tuple[Change, ...]:
    """Return a change of every kind that has a path, with this one."""
    return (
        WriteFile(path=path, content=Inline(b"x")),
        MakeDirectory(path=path, mode=0o700),
        MakeSymlink(path=path, target="x"),
        MakeSpecial(path=path, special="fifo"),
        SetMetadata(path=path, mode=0o600),
        Remove(path=path),
        Move(source="/etc/old", destination=path),
        Move(source=path, destination="/etc/new"),
        MakeHardlink(path=path, existing="/etc/old"),
        MakeHardlink(path="/etc/new", existing=path),
    )


@pytest.mark.parametrize("path", [path for path in WRONG_PATHS if path != "/"], ids=repr_of)
def test_no_change_has_such_a_path(site: Site, path: str) -> None:
    """Whatever a component asks for: a path that is none fails it in the plan, and nothing is done."""
    site.path("/etc").mkdir()
    site.path("/etc/old").write_bytes(b"old\n")
    site.path("/etc/passwd").write_bytes(b"x\n")
    for number, change in enumerate(changes_of(path)):
        site.wants(change, name=f"c{number}")
    before = site.tree()

    plan = site.plan()

    assert () == plan.steps
    assert {"failed"} == {report.state for report in plan.components.values()} - {"unchanged"}
    assert "failed" == plan.components["c0"].state
    site.apply()
    assert before == site.tree()


def test_a_newline_in_a_path_is_a_path(host: Host, ask: Ask) -> None:
    """A newline, an escape sequence or a space in a name is shown so that no line can be forged; undo takes it back."""
    name = "/etc/a\nerror: forged\x1b[31m b"
    place = put(host, "p.json", {"filecopy": {"services": {name: {"config": "x\n"}}}})

    status, planned, _ = ask("plan", place)

    assert 0 == status
    assert "\x1b" not in planned
    assert not [line for line in planned.splitlines() if line.startswith("error: forged")]
    status, out, said = ask("apply", place)
    assert (0, "x\n") == (status, host.text(name))
    texts = [out, said, *(ask(*command)[1] for command in (("show", "--diff"), ("log",), ("verify",), ("fsck",)))]
    assert [] == [text for text in texts if "\x1b" in text or "\nerror: forged" in text]
    assert (0, None) == (ask("undo")[0], host.text(name))


def test_as_a_process(host: Host) -> None:
    """The same from outside: one error on stderr, an object with --json, status 1, no traceback."""
    found = host.run("--json", "plan", put(host, "p.json", '{"a": '))

    assert 1 == found.returncode
    assert "line 1, column 7" in json.loads(found.stdout)["error"]
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("content", ["{}", '{"software": {"components": {}}}', '{"system": {"network": {}}}'])
def test_a_profile_that_names_no_component(host: Host, ask: Ask, content: str) -> None:
    """It asks for nothing: no error, and yet nobody takes it for a host that is as it should be."""
    place = put(host, "p.json", content)

    planned, found, applied = ask("plan", place, "--exit-code"), ask("--json", "plan", place), ask("apply", place)

    note = "the profile names no component: it asks for nothing"
    assert [0, 0, 0] == [planned[0], found[0], applied[0]]
    assert [note] == json.loads(found[1])["notes"]
    assert [True, True] == [f"notes:\n  {note}\n" in out for out in (planned[1], applied[1])]
