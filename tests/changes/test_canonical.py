"""The canonical form loses nothing and is the same for equal values."""

import msgspec
import pytest
from hypothesis import given

from aquiline.changes.canonical import decode, encode
from aquiline.changes.kinds import Inline, RunScript, WriteFile
from aquiline.changes.steps import Step
from tests.changes.drawing import drawn_steps


@given(drawn_steps)
def test_nothing_is_lost(step: Step) -> None:
    """A step of any kind comes back equal from its canonical form."""
    text = encode(step)

    assert step == decode(text, Step)
    assert text == encode(decode(text, Step))


def test_a_path_that_is_not_utf8_survives() -> None:
    """A byte that is not UTF-8 in a path is kept, in a text that is plain ASCII."""
    change = WriteFile(path="/srv/caf\udce9", content=Inline(b"\xff"))

    text = encode(change)

    assert '{"content":{"data":"/w==","from":"inline"},"kind":"write_file","path":"/srv/caf\\udce9"}' == text
    assert change == decode(text, WriteFile)


def test_order_of_keys_does_not_count() -> None:
    """Two values that differ only in the order of their keys have one form."""
    one, other = (
        RunScript(language="shell", text="", arguments=arguments) for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    )

    assert encode(one) == encode(other)


def test_a_newer_field_is_passed_over() -> None:
    """A record with a field that this version does not know is read all the same."""
    text = '{"content":{"data":"","from":"inline"},"kind":"write_file","path":"/x","shiny":1}'

    assert WriteFile(path="/x", content=Inline(b"")) == decode(text, WriteFile)


@pytest.mark.parametrize("text", ["", "{", '{"kind":"write_file"}', '{"kind":"remove","path":1}'])
def test_damage_is_an_error(text: str) -> None:
    """A text that is no JSON, or not of the type, raises one family of errors."""
    with pytest.raises(msgspec.DecodeError):
        decode(text, WriteFile)


def test_no_text_for_not_a_number() -> None:
    """NaN, which JSON does not know, is refused instead of written in a way nobody else reads."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(float("nan"))


def test_half_a_character_where_no_text_is_expected() -> None:
    """It does not fit, and is refused as whatever does not fit."""
    with pytest.raises(msgspec.ValidationError, match="a text that is none"):
        decode('{"kind":"write_file","path":"/x","content":{"from":"\\ud800"},"owner":"\\ud800"}', WriteFile)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(number: str) -> None:
    """A number that JSON does not know, or that is none any more, is taken from nobody."""
    with pytest.raises(msgspec.DecodeError):
        decode(f'{{"seconds":{number}}}', dict[str, float])
    with pytest.raises(msgspec.DecodeError):
        decode(f'{{"seconds":[{number},"\\ud800"]}}', dict[str, list[float | str]])
