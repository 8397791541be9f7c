"""The command line's way to a broker: where it is, who asks, and its refusals as our errors."""

from __future__ import annotations

import argparse
import os
import stat
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import msgspec

from aquiline.changes.text import visible
from aquiline.cli.command import Invocation
from aquiline.cli.parsing import refuse_unfit
from aquiline.errors import AquilineError, UsageError

#: Where a person's settings are, below the home directory.
SETTINGS = ".config/aquiline/broker.toml"
_HINT = f"set AQUILINE_BROKER and AQUILINE_TOKEN_FILE, or write url, token_file and ca_file to ~/{SETTINGS}"


class BrokerRefused(AquilineError):
    """The broker did not do what was asked; it says why, and how the command exits."""

    def __init__(self, message: str, *, hint: str, exit_status: int, changes: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status  # type: ignore[misc]  # the broker's word for it
        #: Changes that stand in the way, newest first.
        self.changes = changes


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which broker, and who asks."""

    url: str = ""
    #: A file that holds a person's token and that nobody else can read.
    token_file: str = ""
    #: The certificate that the broker's is signed by; empty: those that this machine trusts.
    ca_file: str = ""


def add_broker_options(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """Add the options of every command that asks a broker."""
    group = parser.add_argument_group("broker")
    for name, metavar, text in (
        ("--broker", "URL", "the broker (default: AQUILINE_BROKER, or ~/" + SETTINGS + ")"),
        ("--token-file", "FILE", "your token (default: AQUILINE_TOKEN_FILE, or the same)"),
        ("--ca-file", "FILE", "the certificate that signed the broker's"),
    ):
        group.add_argument(name, metavar=metavar, default=default, help=text)


def refuse_broker_options(arguments: argparse.Namespace, hint: str) -> None:
    """Raise `UsageError` where a broker is named and none is asked."""
    refuse_unfit(
        {"--broker": arguments.broker, "--token-file": arguments.token_file, "--ca-file": arguments.ca_file},
        because="no broker is asked",
        hint=hint,
    )


class Actions:
    """The actions of a command such as ``host``: each with its own arguments and what it runs."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(
            dest="action", metavar="ACTION", required=True, parser_class=_ActionParser
        )

    def add(self, name: str, summary: str, run: Callable[[Invocation], int]) -> argparse.ArgumentParser:
        """Add an action and return its parser."""
        made = self._parsers.add_parser(name, help=summary, description=summary)
        made.set_defaults(run_action=run)
        # Before and after the action; what is not given here does not hide what was given there.
        add_broker_options(made, default=argparse.SUPPRESS)
        made.add_argument(
            "--json", action="store_true", dest="is_json", default=argparse.SUPPRESS, help="answer in JSON"
        )
        return made


class _ActionParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help`")


def run_action(invocation: Invocation) -> int:
    """Run the action that was asked for."""
    run: Callable[[Invocation], int] = invocation.arguments.run_action
    return run(invocation)


def settings(arguments: argparse.Namespace) -> Settings:
    """Return which broker is meant; raises `UsageError` where nothing says so."""
    kept = _kept()
    found = Settings(
        url=arguments.broker or os.environ.get("AQUILINE_BROKER", "") or kept.url,
        token_file=arguments.token_file or os.environ.get("AQUILINE_TOKEN_FILE", "") or kept.token_file,
        ca_file=arguments.ca_file or os.environ.get("AQUILINE_CA_FILE", "") or kept.ca_file,
    )
    if not found.url or not found.token_file:
        raise UsageError(f"which broker, and who are you? {'url' if not found.url else 'token'} is missing", hint=_HINT)
    return found


def _kept() -> Settings:
    place = Path.home() / SETTINGS
    try:
        return msgspec.convert(tomllib.loads(place.read_text("utf-8")), Settings)
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{place}: {error}", hint=_HINT) from None


class FleetClient:
    """Asks one broker in one person's name."""

    def __init__(self, given: Settings) -> None:
        import httpx  # only commands that ask a broker wait for it

        from aquiline.agent.daemon.configuration import refuse_unsafe

        refuse_unsafe(given.url)

        self._http = httpx
        verify: Any = True
        if given.ca_file:
            import ssl

            verify = ssl.create_default_context(cafile=given.ca_file)
        self._client = httpx.Client(
            base_url=given.url,
            headers={"Authorization": f"Bearer {_token(Path(given.token_file))}"},
            verify=verify,
            timeout=httpx.Timeout(600.0, connect=10.0),
        )
        self._url = given.url

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: object) -> Any:
        """Return what the broker answers, as JSON values; a text where it answers with one.

        Raises:
            BrokerRefused: it refused. AquilineError: it cannot be reached.
        """
        try:
            answer = self._client.request(
                method, path, json=body, params={name: str(value) for name, value in query.items() if value}
            )
        except self._http.HTTPError as error:
            raise AquilineError(
                f"the broker at {self._url} cannot be reached: {error}", hint="is it running? `aquiline broker --help`"
            ) from None
        if answer.is_error:
            raise _refusal(answer.status_code, answer.text)
        if not answer.content:
            return None
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def wait_until_closed(
        self, change: str, on_look: Callable[[Mapping[str, int]], None], seconds: float
    ) -> Mapping[str, Any]:
        """Return how far a change is once it is closed or `seconds` are over; `on_look` is told at each look."""
        pause, until = 0.2, time.monotonic() + seconds
        while True:
            is_last_look = time.monotonic() > until
            found: Mapping[str, Any] = self.ask("GET", f"/v1/changes/{segment(change)}/progress")
            on_look(found["totals"])
            if found["state"] != "open" or is_last_look:
                return found
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)


def segment(name: str) -> str:
    """Return a name as one part of a path: the slash in a sandbox's name is a ~ there, which no name has.

    Raises `UsageError` for what is no name, and would be another path.
    """
    if name in ("", ".", ".."):
        raise UsageError(f"{name!r} is nobody's name")
    return quote(name.replace("/", "~"), safe="~")


def client(invocation: Invocation) -> FleetClient:
    """Return the way to the broker that a command line means; it is closed when the command ends."""
    found = FleetClient(settings(invocation.arguments))
    invocation.opened.callback(found.close)
    return found


def _token(place: Path) -> str:
    try:
        mode = stat.S_IMODE(place.stat().st_mode)
        token = place.read_text("utf-8").strip()
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}", hint=_HINT) from None
    if mode & 0o077:
        raise UsageError(f"{place} can be read by others (mode {mode:04o})", hint=f"chmod 600 {place}")
    return token


def _refusal(status: int, text: str) -> AquilineError:
    try:
        found = msgspec.json.decode(text.encode(), type=dict[str, Any])
    except msgspec.MsgspecError:
        found = {}
    return BrokerRefused(
        visible(str(found.get("error") or found.get("detail") or f"the broker answered {status}"), keep="\n\\"),
        hint=visible(str(found.get("hint", "")), keep="\n\\"),
        exit_status=int(found.get("exit_status", 1)) or 1,
        changes=tuple(found.get("changes", ())),
    )
