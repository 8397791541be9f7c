"""Commands of a fleet: what is refused before anybody is asked, and what a broker may make a terminal do."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquiline.cli.fleet import _refusal
from tests.cli.conftest import Host


@pytest.mark.parametrize("place", ["0.0.0.0", "7443", ":7443", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_a_place_to_listen_has_an_address_and_a_port(host: Host, tmp_path: Path, place: str) -> None:
    """What could mean every address, or another port than was meant, is refused with an example; nothing is made."""
    data = tmp_path / "data"

    found = host.run("broker", "--data", str(data), "--listen", place)

    assert (2, False) == (found.returncode, data.exists())
    assert "hint: --listen 0.0.0.0:7443" in found.stderr


def test_half_a_certificate(host: Host, tmp_path: Path) -> None:
    """A certificate without its key is not passed over for one that is made."""
    found = host.run("broker", "--data", str(tmp_path / "data"), "--certificate", "/etc/ssl/ours.pem")

    assert 2 == found.returncode
    assert "without its key" in found.stderr


def test_a_token_is_not_shown_to_a_network(host: Host, tmp_path: Path) -> None:
    """A person's token goes over plain http to this machine only, as a host's credential does."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("aqp_secret")

    found = host.run("changes", "--broker", "http://broker.example.org:7443", "--token-file", str(token))

    assert 1 == found.returncode
    assert "plain http to another machine" in found.stderr


def test_a_broker_commands_no_terminal() -> None:
    """What a broker says when it refuses is shown; it never means success."""
    refused = _refusal(409, '{"error":"one\\ntwo \\u001b[2J","hint":"\\u001b]0;x\\u0007","exit_status":0}')

    assert ("one\ntwo \\x1b[2J", "\\x1b]0;x\\x07", 1) == (refused.message, refused.hint, refused.exit_status)
