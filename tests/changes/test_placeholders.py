"""Shapes: facts out, facts in, and nothing confused on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.changes.placeholders import Placeholders

HOST = {
    "name": "wn.example.org",
    "short": "wn",
    "ip": "10.0.0.1",
    "mac": "aa:bb:cc:00:11:22",
    "id": "0123456789abcdef01",
}
OTHER = {"name": "wn3.example.org", "short": "wn3", "ip": "10.0.0.3", "mac": "aa:bb:cc:00:11:33", "id": "f" * 18}

pieces = st.sampled_from(["⟦", "⟧", "⟦⟦", "name", "short", "wn", "wn3", ".", ":", "-", " ", "1", "é", "\udce9"])
texts = st.lists(pieces | st.sampled_from([*HOST.values(), *OTHER.values()]), max_size=8).map("".join)
odd_facts = st.dictionaries(st.sampled_from(["a", "b", "ip.br_0:1"]), texts, max_size=3)


@given(texts | st.text(), odd_facts | st.just(HOST))
def test_a_shape_is_read_back(text: str, facts: dict[str, str]) -> None:
    """`fill` of `shape` is the text, whatever the text and the facts."""
    placeholders = Placeholders(facts)

    assert text == placeholders.fill(placeholders.shape(text))


@given(texts, texts)
def test_one_shape_is_one_text_with_facts(text: str, other: str) -> None:
    """Two hosts share a shape only if the text of one is what the other's facts make of that shape."""
    shape, other_shape = Placeholders(HOST).shape(text), Placeholders(OTHER).shape(other)

    assert (shape == other_shape) <= (Placeholders(OTHER).fill(shape) == other)
    assert (text != other) <= (Placeholders(HOST).shape(other) != shape)


@given(texts)
def test_a_text_that_is_not_probed_is_not_changed(text: str) -> None:
    """Where the quick look finds nothing, there is nothing to replace."""
    placeholders = Placeholders(HOST)

    may_occur = placeholders.may_occur_in(text.encode("utf-8", "surrogatepass"))

    assert may_occur or text == placeholders.shape(text)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("wn", "⟦short⟧"),
        ("wn.example.org", "⟦name⟧"),
        ("/etc/pki/wn.example.org.pem", "/etc/pki/⟦name⟧.pem"),
        ("https://wn.example.org:8443/", "https://⟦name⟧:8443/"),
        ("www.wn.example.org", "www.⟦name⟧"),
        ("wn3.example.org", "wn3.example.org"),
        ("/etc/wn.conf", "/etc/wn.conf"),
        ("This is wn.", "This is ⟦short⟧."),
        ("own wn2 wn-a a_wn", "own wn2 wn-a a_wn"),
        ("10.0.0.1/24 10.0.0.10 110.0.0.1 10.0.0.1.2", "⟦ip⟧/24 10.0.0.10 110.0.0.1 10.0.0.1.2"),
        ("aa:bb:cc:00:11:22 aa:bb:cc:00:11:22:33", "⟦mac⟧ aa:bb:cc:00:11:22:33"),
        ("⟦short⟧", "⟦⟦short⟧"),
    ],
)
def test_facts_are_whole_tokens(text: str, shape: str) -> None:
    """A fact is replaced where it stands as a whole token, the longest first, and a literal mark is doubled."""
    assert shape == Placeholders(HOST).shape(text)


def test_a_missing_fact_is_named() -> None:
    """Filling a shape on a host without the fact says which one, and which there are."""
    with pytest.raises(ValueError, match="no fact of this host is called 'serial'; it has ip, name"):
        Placeholders({"name": "a", "ip": "b"}).fill("⟦serial⟧")


def test_a_name_that_is_no_placeholder_is_refused() -> None:
    """A placeholder's name cannot be confused with a literal mark."""
    with pytest.raises(ValueError, match="found '⟦'"):
        Placeholders({"⟦": "x"})
