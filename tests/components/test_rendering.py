from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aquiline.components.rendering import FORMS, CannotRender, Conversion, convert, render_template

CONTENTS = {
    "name": "a b",
    "flag": True,
    "off": False,
    "count": 7,
    "ratio": 0.5,
    "list": ["x", 2],
    "inner": {"key": "value"},
}


def test_json_is_compact_and_sorted() -> None:
    """One line, keys sorted, characters as they are."""
    expected = '{"a":[1,0.5,true,null,"é\\n"],"b":{}}'

    assert expected == FORMS["json"]({"b": {}, "a": [1, 0.5, True, None, "é\n"]})


def test_jsonpretty_is_jsonxs_pretty() -> None:
    """Three spaces for each level, a space on both sides of the colon, empty brackets closed."""
    expected = '{\n   "a" : [\n      1,\n      "x"\n   ],\n   "b" : {},\n   "c" : []\n}\n'

    assert expected == FORMS["jsonpretty"]({"c": [], "b": {}, "a": [1, "x"]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "~"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (0.1 + 0.2, "0.3"),
        (1e30, "1e+30"),
        ("plain text", "plain text"),
        ("yes", "yes"),
        ("true", "'true'"),
        ("null", "'null'"),
        ("~", "'~'"),
        ("", "''"),
        ("12", "'12'"),
        ("1.5e3", "'1.5e3'"),
        ("inf", "'inf'"),
        ("0x10", "0x10"),
        ("a: b", "'a: b'"),
        ("# x", "'# x'"),
        ("{x}", "'{x}'"),
        ("it's", "it's"),
        ("*star", "'*star'"),
        (" lead", "' lead'"),
        ("tab\there", '"tab\\there"'),
        ("two\nlines", '"two\\nlines"'),
        ("é", "é"),
    ],
)
def test_yaml_scalars_are_yaml_xs(value: Any, text: str) -> None:
    """A scalar is quoted where YAML::XS and libyaml quote it, and nowhere else."""

    assert f"---\na: {text}\n" == FORMS["yaml"]({"a": value})


def test_long_text_of_several_lines_is_a_block() -> None:
    """Several lines of more than thirty bytes are a literal block."""
    expected = "---\na: |-\n  first line of it\n  second line of it\n"

    assert expected == FORMS["yaml"]({"a": "first line of it\nsecond line of it"})


def test_long_lines_of_yaml_are_folded() -> None:
    """A long line is folded at the first space after the eightieth column, as libyaml does."""
    text = "word " * 20 + "end"

    assert f"---\na: {'word ' * 15}word\n  {'word ' * 4}end\n" == FORMS["yaml"]({"a": text})


def test_yaml_collections_are_yaml_xs() -> None:
    """Lists are not indented in mappings, keys are sorted and quoted as values are, empty ones are closed."""
    expected = "---\n'10': []\na:\n- 1\n- - 2\n  - 3\n- b: 4\n  c: {}\n"

    assert expected == FORMS["yaml"]({"a": [1, [2, 3], {"c": {}, "b": 4}], "10": []})


def test_yamlmulti_is_one_document_for_each_key() -> None:
    """The keys order the documents, and are dropped."""

    assert "---\nx: 1\n---\n- 2\n" == FORMS["yamlmulti"]({"b": [2], "a": {"x": 1}})


texts = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], include_characters="\n"))


@given(st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3)))
def test_yaml_reads_back(contents: dict[str, Any]) -> None:
    """Whatever is rendered, a YAML reader gets the same text back."""
    loaded = yaml.load(FORMS["yaml"](contents), Loader=yaml.BaseLoader)
    expected = {key: _as_text(value) for key, value in contents.items()}

    assert expected == loaded


def _as_text(value: Any) -> Any:
    match value:
        case None:
            return "~"
        case bool():
            return str(value).lower()
        case list():
            return value
        case _:
            return str(value)


def test_tiny_has_single_values_first() -> None:
    """Values without a section come first, then the sections, all sorted, an empty line between them."""
    contents = {"z": {"k": "v", "a": True}, "b": {"x": None}, "one": 1, "no": False}

    assert "no=0\none=1\n\n[b]\nx=\n\n[z]\na=1\nk=v\n" == FORMS["tiny"](contents)


def test_properties_are_flat_and_carry_no_date() -> None:
    """Every leaf is one line under its path, sorted; nothing differs from run to run."""
    contents = {"foo": {"bar": [0, 1], "": "top"}, "on": True}

    assert "foo=top\nfoo.bar.0=0\nfoo.bar.1=1\non=1\n" == FORMS["properties"](contents)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("a b", "c d", "a\\ b=c d"),
        ("a:b=c", "d:e=f", "a\\:b\\=c=d:e=f"),
        ("#a", " b", "\\#a=\\ b"),
        ("a", "x\ty\nz\\", "a=x\\ty\\nz\\\\"),
        ("é", "€", "\\u00e9=\\u20ac"),
    ],
)
def test_properties_are_escaped(key: str, value: str, line: str) -> None:
    """What would end a key or a line is escaped as in Java's files."""

    assert f"{line}\n" == FORMS["properties"]({key: value})


def test_long_properties_are_continued() -> None:
    """A line beyond 75 characters goes on after a backslash, broken at single spaces."""
    rendered = FORMS["properties"]({"key": " ".join(["word"] * 30)})

    assert [True] * 3 == [len(line) <= 77 for line in rendered.splitlines()]
    assert "key=" + " ".join(["word"] * 30) + "\n" == rendered.replace(" \\\n    ", " ")


def test_a_long_property_that_ends_in_a_space_is_not_continued() -> None:
    """There is nothing to go on with after the last space."""
    key = "k" * 80

    assert f"{key}=v \n" == FORMS["properties"]({key: "v "})


def test_general_is_blocks_and_lines() -> None:
    """Lists are repeated keys, mappings are blocks with the name in quotes, doubles have a point."""
    contents = {"b": {"x": [1, {"y": "z"}]}, "a": [True, 1e30], "e": {}}
    expected = 'a 1\na 1e+30.0\n<"b">\n    x 1\n    <"x">\n        y z\n    </"x">\n</"b">\n<"e">\n    </"e">\n'

    assert expected == FORMS["general"](contents)


def test_toml_is_sorted() -> None:
    """Keys are sorted, types are kept."""
    rendered = FORMS["toml"](CONTENTS)

    assert rendered.startswith('count = 7\nflag = true\nlist = [\n    "x",\n    2,\n]\nname = "a b"\n')
    assert rendered.endswith('[inner]\nkey = "value"\n')


@pytest.mark.parametrize(
    ("form", "contents", "message"),
    [
        ("json", "x", "found a single value, expected a mapping or list"),
        ("tiny", [1], "found a list, expected a mapping"),
        ("tiny", {"a": [1]}, "found a list, expected a mapping"),
        ("tiny", {"a": {"b": [1]}}, "found a list, expected a single value"),
        ("tiny", {"a": "x\ny"}, "found several lines in 'a', expected one"),
        ("tiny", {" a": {}}, "found a section called ' a', which cannot be written"),
        ("properties", {"a": [None]}, "found null at a.0, expected a value"),
        ("general", {"a": [[1]]}, "found a list, expected a single value"),
        ("toml", {"a": [None]}, "found null at /a/0, which TOML cannot write"),
        ("yamlmulti", [1], "found a list, expected a mapping"),
    ],
)
def test_contents_that_do_not_fit_are_refused(form: str, contents: Any, message: str) -> None:
    """What a form cannot say is an error, never a file with an address of memory in it."""

    with pytest.raises(CannotRender) as raised:
        FORMS[form](contents)

    assert message == str(raised.value)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_rendering_is_deterministic(form: str) -> None:
    """The order in which a mapping was made does not show."""
    contents = {"b": {"d": 1, "c": 2}, "a": {"x": "y"}}
    turned = {"a": {"x": "y"}, "b": {"c": 2, "d": 1}}

    assert FORMS[form](contents) == FORMS[form](turned)


@pytest.mark.parametrize(
    ("conversion", "expected"),
    [
        (Conversion(), {"has_20a": [True, "s", 1], "n": []}),
        (Conversion(yesno=True), {"has_20a": ["yes", "s", 1], "n": []}),
        (Conversion(upper_yesno=True), {"has_20a": ["YES", "s", 1], "n": []}),
        (Conversion(truefalse=True), {"has_20a": ["true", "s", 1], "n": []}),
        (Conversion(upper_truefalse=True), {"has_20a": ["TRUE", "s", 1], "n": []}),
        (Conversion(doublequote=True), {"has_20a": [True, '"s"', 1], "n": []}),
        (Conversion(singlequote=True, join_comma=True), {"has_20a": "1,'s',1", "n": ""}),
        (Conversion(join_space=True), {"has_20a": "1 s 1", "n": ""}),
        (Conversion(unescape_key=True), {"has a": [True, "s", 1], "n": []}),
        (Conversion(unescape_key=True, upper_key=True), {"HAS A": [True, "s", 1], "N": []}),
        (Conversion(lower_key=True), {"has_20a": [True, "s", 1], "n": []}),
    ],
)
def test_conversions_are_quattors(conversion: Conversion, expected: Any) -> None:
    """Each conversion changes what it says, from the inside out."""

    assert expected == convert({"has_20a": [True, "s", 1], "n": []}, conversion)


def test_lists_of_mappings_are_not_joined() -> None:
    """A list that begins with a mapping stays a list; lists inside it are joined."""

    assert [{"a": "1,2"}] == convert([{"a": [1, 2]}], Conversion(join_comma=True))


def test_keys_that_become_one_are_refused() -> None:
    """No entry is lost by a conversion of keys."""

    with pytest.raises(CannotRender, match="two keys"):
        convert({"a": 1, "A": 2}, Conversion(lower_key=True))


def render(text: str, contents: Any, **others: str) -> str:
    templates = {"metaconfig/x.j2": text, **{f"metaconfig/{name}.j2": other for name, other in others.items()}}
    return render_template("x", contents, templates.get)


def test_templates_see_the_contents() -> None:
    """Entries stand under their keys, the whole under `contents`; nothing is escaped for HTML."""
    text = "{{ name }} {{ contents['inner'].key }} {{ unescape('_2fa') }} {{ escape('/a') }} {{ '<' }}\n"

    assert "a b value /a _2fa <\n" == render(text, CONTENTS)


def test_templates_can_include_others() -> None:
    """A template may be made of several."""

    assert "1-2-" == render(
        "{% for n in list %}{% include 'metaconfig/one.j2' %}{% endfor %}", {"list": [1, 2]}, one="{{ n }}-"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n{{ missing }}", "template metaconfig/x.j2, line 2: 'missing' is undefined"),
        ("\n\n{% if %}", "template metaconfig/x.j2, line 3: Expected an expression, got 'end of statement block'"),
        ("{% include 'metaconfig/none.j2' %}", "no template metaconfig/none.j2 among the site's templates"),
        ("{{ ''.__class__.__mro__ }}", "template metaconfig/x.j2, line 1: access to attribute '__class__'"),
        ("{{ list.append(1) }}", "template metaconfig/x.j2, line 1: "),
        ("{{ list | random }}", "template metaconfig/x.j2, line 1: No filter named 'random'."),
        ("{{ 1 / 0 }}", "template metaconfig/x.j2, line 1: division by zero"),
    ],
)
def test_faults_of_templates_name_template_and_line(text: str, message: str) -> None:
    """A template that does not work says where; none gets out of its box, or throws dice."""

    with pytest.raises(CannotRender) as raised:
        render(text, {"list": [1]})

    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("module", ["../x", "/etc/x", "a/../../x"])
def test_templates_stay_in_their_folder(module: str) -> None:
    """A module that leads out of the folder is refused."""

    with pytest.raises(CannotRender, match="expected the name of a form or of a template"):
        render_template(module, {}, lambda _: "x")
