"""Commands of a fleet: what is refused before anybody is asked, and what a broker may make a terminal do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquiline.cli import main
from aquiline.cli.fleet import _refusal, segment
from aquiline.errors import UsageError
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


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("deploy s --domain d --all", "give --test"),
        ("deploy s --domain d --test --approved 3f2a", "without --test"),
        ("deploy s --domain d --test --include-untested", "without --test"),
        ("deploy s --domain d --test --confirm-within 10m", "without --test"),
        ("deploy s --domain d --test --allow-irreversible", "without --test"),
        ("deploy s --domain d --include-untested", "--approved DIGEST"),
        ("deploy s --domain d --no-wait --wait 5m", "one of the two"),
        ("undeploy d-1 --no-wait --wait 5m", "one of the two"),
        ("undeploy d-1 --last 2", "name CHANGE"),
        ("undeploy d-1 --domain d", "name CHANGE"),
        ("undeploy --domain d", "name CHANGE"),
        ("undeploy --last 2", "name CHANGE"),
        ("undeploy --domain d --last 2 --to 2026-03-01", "name CHANGE"),
        ("host manage web1 --domain d --test --approved 3f2a", "leave it out"),
        ("verify --host web1", "--domain DOMAIN"),
        ("verify --wait 5m", "--domain DOMAIN"),
        ("verify --broker https://b", "--domain DOMAIN"),
        ("freeze --broker https://b", "--domain DOMAIN"),
        ("--broker https://b thaw", "--domain DOMAIN"),
        ("broker --plain-http --name b.example.org", "leave one of them out"),
        ("broker --plain-http --certificate c --key k", "leave one of them out"),
        ("gc --purge-secrets --keep-days 3", "--older-than"),
        ("gc --purge-secrets --keep-runs 3", "--older-than"),
        ("recover --dry-run --assume 4=done", "leave one of them out"),
        ("recover --dry-run --force /etc/motd", "leave one of them out"),
    ],
)
def test_no_option_is_passed_over(
    line: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An option that would have no effect where it stands is refused with what to do, before anybody is asked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    data = ["--data", str(tmp_path / "data")] if line.startswith("broker") else []

    status = main(["--root", str(tmp_path), *line.split(), *data])

    error = capsys.readouterr().err
    assert (2, True) == (status, hint in error.partition("hint: ")[2])
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_name_is_another_path(name: str) -> None:
    """What would lead to another request than was meant is no name; anything else is quoted."""
    with pytest.raises(UsageError, match="nobody's name"):
        segment(name)
    assert "ada~motd%3Fx%23y%25" == segment("ada/motd?x#y%")


@pytest.mark.parametrize(
    "line",
    [
        "{} changes",
        "changes {}",
        "{} host list",
        "host {} list",
        "host list {}",
        "{} host show web1",
        "host show {} web1",
    ],
)
def test_the_broker_is_named_anywhere(line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The options that say which broker, and --json, stand before or after a command and its action."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("aqp_secret")

    status = main(line.format(f"--broker http://127.0.0.1:1 --json --token-file {token}").split())

    said = json.loads(capsys.readouterr().out)["error"]
    assert (1, True) == (status, said.startswith("the broker at http://127.0.0.1:1 cannot be reached"))


@pytest.mark.parametrize("more", [("--last", "2"), ("--to", "2026-03-01"), ("--host", "web1")])
def test_nothing_to_lay_again(host: Host, more: tuple[str, str]) -> None:
    """Where nothing could be laid again, `--redeploy` makes no sense, and says so before anybody is asked."""
    named = () if more[0] != "--host" else ("prod-17",)
    found = host.run("undeploy", *named, *(() if named else ("--domain", "prod")), "--redeploy", *more)

    assert 2 == found.returncode
    assert more[0] in found.stderr
    assert "hint: name the change that is to go" in found.stderr


def test_a_broker_commands_no_terminal() -> None:
    """What a broker says when it refuses is shown; it never means success."""
    refused = _refusal(409, '{"error":"one\\ntwo \\u001b[2J","hint":"\\u001b]0;x\\u0007","exit_status":0}')

    assert ("one\ntwo \\x1b[2J", "\\x1b]0;x\\x07", 1) == (refused.message, refused.hint, refused.exit_status)
