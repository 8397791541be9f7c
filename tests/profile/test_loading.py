import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.errors import ProfileError
from aquiline.profile import load
from aquiline.profile.loading import MAX_DEPTH, MAX_VALUES, parse_json, parse_yaml


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(text: str, parse: Any = parse_json) -> str:
    with pytest.raises(ProfileError) as raised:
        parse(text)
    return str(raised.value)


def test_all_forms_give_the_same_profile(tmp_path: Path) -> None:
    """JSON, compressed JSON and YAML of the same shape have the same digest."""
    tree = {"system": {"network": {"hostname": "web01", "domainname": "example.org"}}, "speeds": [1, 2.5, True, "x"]}
    text = json.dumps(tree)
    yaml = "system:\n  network: {hostname: web01, domainname: example.org}\nspeeds:\n- 1\n- 2.5\n- true\n- x\n"
    loaded = [
        load(written(tmp_path, "a.json", text)),
        load(written(tmp_path, "a.json.gz", gzip.compress(text.encode()))),
        load(written(tmp_path, "a.yaml", yaml)),
        load(written(tmp_path, "a.yml", text)),
    ]

    assert [tree] * 4 == [profile.tree for profile in loaded]
    assert 1 == len({profile.digest for profile in loaded})


def test_integral_doubles_read_as_integers() -> None:
    """Quattor's reader turns 1000.0 into 1000 and keeps what prints with an exponent."""
    text = '{"a": 1000.0, "b": 0.5, "c": 1.0E30, "d": -2.0}'

    assert '{"a": 1000, "b": 0.5, "c": 1e+30, "d": -2}' == json.dumps(parse_json(text))
    assert parse_json(text) == parse_yaml(text)


def test_key_order_does_not_change_the_digest(tmp_path: Path) -> None:
    """The digest is over the canonical form, not over the file."""
    one = load(written(tmp_path, "one.json", '{"a": 1, "b": {"c": 2, "d": 3}}'))
    two = load(written(tmp_path, "two.json", '{\n "b": {"d": 3, "c": 2},\n "a": 1}'))

    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"system": {"network": {"hostname": "web01", "domainname": "example.org"}}}, "web01.example.org"),
        ({"system": {"network": {"hostname": "web01.example.net", "domainname": "example.org"}}}, "web01.example.net"),
        ({"system": {"network": {"hostname": "web01"}}}, "web01"),
        ({"hardware": {"nodename": "node7"}}, "node7"),
        ({"metadata": {"name": "meta"}}, "meta"),
        ({}, "file"),
    ],
)
def test_the_name_is_where_the_profile_says_it(tmp_path: Path, tree: dict[str, Any], name: str) -> None:
    """A host's name is its network's, else its hardware's, else its metadata's, else the file's."""

    assert name == load(written(tmp_path, "file.json", json.dumps(tree))).name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: Expecting value"),
        ("[1]", "/: found a list of 1, expected a mapping"),
        ('{"a": 1', "line 1, column 8: Expecting ',' delimiter"),
        ('{"a": NaN}', "found NaN, expected a finite number"),
        ('{"a": [1, 1e999]}', "/a/1: found double inf, expected a finite number"),
        ('{"a": {"b": "\\ud800"}}', "/a/b: found text that is not Unicode (a lone surrogate)"),
        ('{"a": {"\\ud800": 1}}', "/a: found text that is not Unicode (a lone surrogate)"),
        ('{"_2fetc": 999999999999999999999}', "/{/etc}: found a very large int, expected one of 64 bits"),
        ('{"a": {"x": 1,\n"y": {"x": 1},\n"x": 2}}', "line 3: the key 'x' stands twice in its mapping"),
        ('{"a": "b,{", "a": 2}', "line 1: the key 'a' stands twice in its mapping"),
    ],
)
def test_faults_of_json_say_where_and_what(text: str, message: str) -> None:
    """A fault names its place, what was found and what was expected."""

    assert message == fault(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "/: found a list of 1, expected a mapping"),
        ("", "/: found null, expected a mapping"),
        ("a: [1", "line 2: did not find expected ',' or ']'"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4: the key 'c' stands twice in its mapping"),
        ("a: 1\n---\nb: 2\n", "line 2: a profile is one document, found another"),
        (
            "a: !!python/object:os.system x",
            "line 1: tags are not supported, found 'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3: merge keys are not supported"),
        ("a: *x", "line 1: the alias 'x' stands for nothing before it"),
        ("? [1]\n: 2", "line 1: a key must be plain text, found a mapping or list"),
        ("a: .inf", "line 1: found .inf, expected a finite number"),
        ("a: &x [*x]", "line 1: the alias 'x' stands for nothing before it"),
    ],
)
def test_faults_of_yaml_say_where_and_what(text: str, message: str) -> None:
    """A fault in YAML names its line, what was found and what was expected."""

    assert message == fault(text, parse_yaml)


def test_yaml_means_what_it_looks_like() -> None:
    """No sixty-based numbers, no Norway, no dates, and a file mode stays as it is written."""
    text = "[0644, 12:30, no, 2024-01-02, 1e3, 0x1f, 0o17, ~, 'true', true, -7, .5, 1_000, \"5\", !!str 5]"
    expected = ["0644", "12:30", "no", "2024-01-02", 1000, 31, 15, None, "true", True, -7, 0.5, "1_000", "5", "5"]

    assert {"a": expected} == parse_yaml(f"a: {text}")


def test_yaml_keys_are_text() -> None:
    """A key that looks like a number or a boolean is the text that was written."""

    assert {"8080": 1, "on": 2, "true": 3} == parse_yaml("8080: 1\non: 2\ntrue: 3\n")


def test_yaml_aliases_stand_for_their_anchors() -> None:
    """What an alias stands for is what its anchor marks."""

    assert {"a": {"x": [1]}, "b": {"x": [1]}, "c": [1]} == parse_yaml("a: &m {x: &l [1]}\nb: *m\nc: *l\n")


def test_an_alias_bomb_goes_off_nowhere() -> None:
    """Aliases of aliases are counted in full before they take any memory."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )

    assert fault(bomb, parse_yaml).endswith(f"more than {MAX_VALUES} values")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 200_000])
@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_depth_is_bounded(parse: Any, depth: int) -> None:
    """However deep a file goes, the answer is an error and not the end of the program."""

    assert "more than 100 mappings and lists in each other" in fault('{"a":' * depth + "1" + "}" * depth, parse)


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_the_deepest_that_is_allowed_is_read(parse: Any) -> None:
    """The bound itself is within bounds."""
    tree = parse('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH)

    assert ["a"] == list(tree)


def test_more_values_than_any_profile_has_are_refused_unparsed() -> None:
    """A file of brackets is refused before it takes twenty times its size in memory."""

    assert f"more than {MAX_VALUES} values" == fault('{"a":[' + "[]," * MAX_VALUES + "[]]}")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unpacks to more than the limit is refused without being unpacked whole."""
    monkeypatch.setattr("aquiline.profile.loading.MAX_BYTES", 1 << 20)
    path = written(tmp_path, "bomb.json.gz", gzip.compress(b" " * (4 << 20)))

    with pytest.raises(ProfileError, match="larger than 1 MiB"):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", b"<profile/>", "not a profile by its name"),
        ("a.json", b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        ("a.json.gz", b"no gzip at all", "cannot be read"),
        ("a.json.gz", gzip.compress(b'{"a": 1}', mtime=0)[:-9], "cannot be read"),
        ("a.yaml", b"a: \x01", "special characters|control characters"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Whatever stands in the way of reading is a profile error that names the file."""
    path = written(tmp_path, name, content)

    with pytest.raises(ProfileError, match=message) as raised:
        load(path)

    assert str(raised.value).startswith(str(path))


def test_missing_files_and_directories_are_named(tmp_path: Path) -> None:
    """A path where no file is gives an error, not a traceback."""
    (tmp_path / "directory.json").mkdir()

    for name in ("none.json", "directory.json"):
        with pytest.raises(ProfileError, match=name):
            load(tmp_path / name)


@given(st.text())
def test_no_text_breaks_the_readers(text: str) -> None:
    """Any text is a profile or a profile error."""
    for parse in (parse_json, parse_yaml):
        with contextlib.suppress(ProfileError):
            assert isinstance(parse(text), dict)


# YAML has no way to write some of the rest unescaped.
printable = st.text(alphabet=st.characters(exclude_categories=["C", "Z"], include_characters=" "))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | printable,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab/_ é", max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(alphabet="abc", max_size=3), values, max_size=4))
def test_json_is_yaml(tree: dict[str, Any]) -> None:
    """The two readers agree on everything that both can read."""
    text = json.dumps(tree, ensure_ascii=False)

    assert tree == parse_json(text) == parse_yaml(text)
