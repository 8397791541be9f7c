"""Layers of YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aquiline.broker.compiling import Compiled, CompileFailed, Layers
from aquiline.broker.compiling.layers import _laid
from aquiline.profile import Profile

TOP = Path(__file__).parents[3]


def site(folder: Path, **files: str) -> Path:
    """Write files: `base` is layers/base.yaml, `host` hosts/web1.yaml."""
    for name, text in files.items():
        place = folder / ("hosts/web1.yaml" if name == "host" else f"layers/{name}.yaml")
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_text(text)
    return folder


def outcome(source: Path, host: str = "web1") -> Compiled | CompileFailed:
    return Layers().compile(source, [host])[host]


def system(source: Path) -> Any:
    """Return what the profile of web1 has under /system."""
    found = outcome(source)
    assert isinstance(found, Compiled), found
    return found.profile["system"]


def fault(source: Path) -> tuple[str, str, str]:
    found = outcome(source)
    assert isinstance(found, CompileFailed)
    assert f"web1: {found.path}: found {found.found}, expected {found.expected}" == found.message
    return found.path, found.found, found.expected


def test_a_host_without_layers(tmp_path: Path) -> None:
    """A host's file is its profile; the name of the file is the host's, and the digest is the profile's."""
    found = outcome(site(tmp_path, host="system: {x: 1}"))

    tree = {"system": {"x": 1}, "metadata": {"name": "web1"}}
    assert Compiled(tree, Profile(tree).digest) == found
    assert ("web1",) == Layers().hosts(tmp_path)


def test_the_order_of_layers(tmp_path: Path) -> None:
    """What a file includes comes before it, in the order it is written; what was met before counts there."""
    source = site(
        tmp_path,
        base="system: {who: base, order+: [base]}",
        site="include: [base]\nsystem: {who: site, order+: [site]}",
        web="include: [base]\nsystem: {who: web, order+: [web]}",
        host="include: [site, web, base]\nsystem: {order+: [host]}",
    )

    assert {"who": "web", "order": ["base", "site", "web", "host"]} == system(source)


@pytest.mark.parametrize(
    ("below", "over", "expected"),
    [
        ("a: {x: 1, y: 2}", "a: {y: 3, z: 4}", "a: {x: 1, y: 3, z: 4}"),
        ("a: [1, 2]", "a: [3]", "a: [3]"),
        ("a: [1, 2]", "a+: [3]", "a: [1, 2, 3]"),
        ("{}", "a+: [3]", "a: [3]"),
        ("a: [1, 2, 1]", "a-: [1]", "a: [2]"),
        ("a: [1, 2]", "{a-: [1], a+: [1]}", "a: [2, 1]"),
        ("a: [{n: x, v: 1}, {n: y, v: 2}]", "a-: [{n: x}]", "a: [{n: y, v: 2}]"),
        ("a: [1]", "{a: [5], a+: [6]}", "a: [5, 6]"),
        ("a: {x: 1}", "a=: {y: 2}", "a: {y: 2}"),
        ("a: {x: 1}", "a=: 5", "a: 5"),
        ("a: {x: 1}", "a: null", "{}"),
        ("{}", "a: null", "{}"),
        ("a: {x: 1, y: 2}", "a: {x: null}", "a: {y: 2}"),
        ("a: 1", "a: [text]", "a: [text]"),
        ("{}", r"'a\+': 1", "a+: 1"),
        (r"'/etc/passwd\-': {x: 1}", r"'/etc/passwd\-': {y: 2}", "/etc/passwd-: {x: 1, y: 2}"),
        ("{}", "a: [{b+: 1, c: null}]", "a: [{b+: 1, c: null}]"),
        ("a: [true, 1]", "a-: [1]", "a: [true]"),
    ],
)
def test_merging(tmp_path: Path, below: str, over: str, expected: str) -> None:
    """Mappings merge, all else replaces; key+, key- and key= append, remove and replace; null removes."""
    files = {"base": f"system: {{o: {{{strip(below)}}}}}", "host": f"include: [base]\nsystem: {{o: {{{strip(over)}}}}}"}

    assert {"o": yaml.safe_load(expected)} == system(site(tmp_path, **files))


def strip(text: str) -> str:
    return text.removeprefix("{").removesuffix("}") if text.startswith("{") else text


@pytest.mark.parametrize(
    ("files", "path", "found", "expected"),
    [
        ({"host": "include: [bass]", "base": ""}, "hosts/web1.yaml", "bass (there is base)", "a file layers/bass.yaml"),
        ({"host": "include: [../hosts/web1]"}, "hosts/web1.yaml", "'../hosts/web1'", "a layer below layers/"),
        ({"host": "include: base"}, "hosts/web1.yaml", "a single value as include", "a list of layers"),
        ({"host": "includes: [base]"}, "hosts/web1.yaml", "the key includes", "one of hardware, include"),
        ({"host": "include+: [base]"}, "hosts/web1.yaml", "the key include+", "one of hardware, include"),
        ({"host": "- 1"}, "hosts/web1.yaml", "a list", "a mapping"),
        ({"host": "system: {x: !!python/name:os.system ''}"}, "hosts/web1.yaml", "line 1: tags are not", "plain YAML"),
        ({"host": "system: {x: [1}"}, "hosts/web1.yaml", "line 1: ", "plain YAML"),
        ({"host": "system: {x: 1, x: 2}"}, "hosts/web1.yaml", "the key 'x' stands twice", "plain YAML"),
        ({"host": "system: {x: {-: 1}}"}, "/system/x/", "the key -", "a key before the operator"),
        ({"host": "system: {x: 1, x=: 2}"}, "/system/x", "x and x= in hosts/web1.yaml", "one of them"),
        ({"host": "system: {x+: 1}"}, "/system/x", "a single value in hosts/web1.yaml", "a list"),
        ({"host": "system: {x-: [1]}"}, "/system/x", "nothing in the layers below", "a list"),
        (
            {"base": "system: {x: [1]}", "host": "include: [base]\nsystem: {x-: [2]}"},
            "/system/x", "item 0 to remove in hosts/web1.yaml", "an item of the layers below",
        ),
        (
            {"base": "system: {x: hunter2}", "host": "include: [base]\nsystem: {x: {y: 1}}"},
            "/system/x", "a mapping in hosts/web1.yaml", "a single value, as in the layers below; or key=",
        ),
        (
            {"base": "system: {x: {y: 1}}", "host": "include: [base]\nsystem: {x: 1}"},
            "/system/x", "a single value in hosts/web1.yaml", "a mapping, as in the layers below; or key=",
        ),
        (
            {"a": "include: [b]", "b": "include: [a]", "host": "include: [a]"},
            "layers/b.yaml", "an include loop: layers/a < layers/b < layers/a", "layers that end",
        ),
        ({"host": "system: {network: {hostname: web2}}"}, "/system/network/hostname", "the name web2", "web1"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, files: dict[str, str], path: str, found: str, expected: str) -> None:
    """What is wrong is named: the file or path, what is there, what should be."""
    seen = fault(site(tmp_path, **files))

    assert path == seen[0]
    assert found in seen[1]
    assert expected in seen[2]
    assert "hunter2" not in " ".join(seen)


def test_one_host_does_not_stop_another(tmp_path: Path) -> None:
    """For each host there is an answer: the profile, or what is wrong; a host without a file is named."""
    source = site(tmp_path, host="system: {x: 1}")
    (source / "hosts" / "web2.yaml").write_text("include: [none]")

    found = Layers().compile(source, ["web1", "web2", "web3", "../x"])

    assert isinstance(found["web1"], Compiled)
    failures = {host: one.message for host, one in found.items() if isinstance(one, CompileFailed)}
    assert {
        "web2": "web2: hosts/web2.yaml: found include of none, expected a file layers/none.yaml",
        "web3": "web3: hosts/web3.yaml: found no such file, expected one for each host",
        "../x": "../x: /: found the name '../x', expected a host's name",
    } == failures


def test_bombs_are_refused(tmp_path: Path) -> None:
    """Aliases that multiply, depth, size and chains of includes end in a fault and not in the memory."""
    lines = ["system:", "  a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    assert "more than" in fault(site(tmp_path / "alias", host="\n".join(lines)))[1]
    assert "more than" in fault(site(tmp_path / "deep", host="system: " + "{x: " * 70 + "}" * 70))[1]
    assert "MiB" in fault(site(tmp_path / "large", host="#" * (5 << 20)))[1]
    many = {f"l{n}": f"include: [l{n + 1}]" for n in range(60)}
    assert "in a row" in fault(site(tmp_path / "chain", host="include: [l0]", **many))[1]
    layers = {f"l{n}": "system: {x: [" + "1," * 100_000 + "1]}" for n in range(6)}
    host = f"include: [{', '.join(layers)}]"
    assert "500000 values" in fault(site(tmp_path / "sum", host=host, **layers))[1]


def test_links_out_are_not_followed(tmp_path: Path) -> None:
    """A layer that is a link to a file outside is refused, and its content appears nowhere."""
    (tmp_path / "secret").write_text("system: {x: hunter2}")
    source = site(tmp_path / "site", host="include: [x]", base="")
    (source / "layers" / "x.yaml").symlink_to(tmp_path / "secret")

    assert ("layers/x.yaml", "a link that leads out of the repository", "a file") == fault(source)


def test_links_in_a_circle(tmp_path: Path) -> None:
    """A layer that is a link to itself is a fault like any other."""
    source = site(tmp_path / "site", host="include: [x]", base="")
    (source / "layers" / "x.yaml").symlink_to("x.yaml")

    assert "layers/x.yaml" == fault(source)[0]


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(TREES, TREES, TREES)
def test_laying_changes_nothing_and_replaces_exactly(below: Any, over: Any, other: Any) -> None:
    """Merging leaves both sides alone, merging a tree onto itself is that tree, and `=` gives exactly the new value."""
    before = repr((below, over))

    assert over == _laid({}, over, "/", "x")
    assert over == _laid(over, over, "/", "x")
    assert {**below, "k": over} == _laid({**below, "k": other}, {"k=": over}, "/", "x")
    assert before == repr((below, over))


def test_the_examples_of_the_reference(tmp_path: Path) -> None:
    """What the reference says a host comes to is what it comes to."""
    page = (TOP / "docs/reference/layers.md").read_text()
    files = dict(
        re.findall(r"^`((?:hosts|layers)/[^`]+\.yaml)`:\n\n```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    )
    comes_to = re.findall(r"^comes to:\n\n```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    found = Layers().compile(tmp_path, ["web001"])["web001"]

    assert isinstance(found, Compiled)
    assert [found.profile] == [yaml.safe_load(text) for text in comes_to]
