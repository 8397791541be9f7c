"""The fleet's documents are whole: what the program has, they describe."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aquiline.broker.members import ROLES
from aquiline.cli.commands.broker import COMMANDS
from aquiline.cli.parsing import Parser
from aquiline.protocol import changesets, messages

REFERENCE = Path(__file__).parent.parent / "docs/reference"
PROTOCOL = (REFERENCE / "fleet-protocol.md").read_text()
BROKER = (REFERENCE / "broker.md").read_text()
MESSAGES: list[Any] = [
    found
    for module in (messages, changesets)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, msgspec.Struct) and found.__module__ == module.__name__
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_every_message_is_described(message: Any) -> None:
    """Each message has its paragraph, which names each of its fields and nothing that it does not have."""
    (section,) = re.findall(rf"^\*\*{message.__name__}\*\*(.*?)(?=^\*\*|^## |\Z)", PROTOCOL, re.MULTILINE | re.DOTALL)
    in_table = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(in_table) if in_table else section)

    assert sorted(message.__struct_encode_fields__) == sorted(named)


def test_the_version_is_said() -> None:
    """The document is about the version that the program speaks."""
    assert f"Version **{messages.PROTOCOL}**" in PROTOCOL
    assert f"aquiline change-set {changesets.CHANGE_SET_VERSION}" in PROTOCOL


def test_every_option_of_the_broker_is_described() -> None:
    """The reference of the broker has a line for each of its options, and for each role."""
    options = {
        option
        for action in Parser(COMMANDS[0])._actions  # argparse has no other way to list them
        for option in action.option_strings
        if option.startswith("--")
    }
    common = {"--help", "--version", "--json", "--root", "--state"}

    assert options - common == set(re.findall(r"^\| `(--[\w-]+)", BROKER, re.MULTILINE))
    assert set(ROLES) == set(re.findall(r"^\| `(\w+)` \|", BROKER.split("## Roles")[1].split("##")[0], re.MULTILINE))
