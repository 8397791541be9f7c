"""What shows a broker who this host is: kept in ``STATE/agent/credential``, for root's eyes only."""

from __future__ import annotations

from pathlib import Path

from aquiline import __version__
from aquiline.agent.daemon.configuration import Configuration
from aquiline.agent.daemon.memory import write_durably
from aquiline.agent.session import Session
from aquiline.errors import AquilineError
from aquiline.journal.store import Journal
from aquiline.planning.facts import machine_id_of
from aquiline.protocol.messages import PROTOCOL, Enrol


def credential(session: Session) -> str:
    """Return the credential of this host; raises `AquilineError` where it has none."""
    place = _place(session)
    try:
        return place.read_text("ascii").strip()
    except FileNotFoundError:
        raise AquilineError(
            "this host has not been enrolled", hint="`aquiline enrol --broker URL --join-token-file FILE`"
        ) from None


def enrol(session: Session, configuration: Configuration, join_token: str) -> None:
    """Ask the broker to take this host into the fleet, and keep what it is given.

    Raises:
        BrokerAway, BrokerRefused: it was not.
    """
    from aquiline.agent.daemon import web  # noqa: PLC0415  # httpx is dear, and nothing else here needs it

    session.state.create()
    with Journal.open(session.state) as journal:
        identity = journal.identity()
    message = Enrol(
        join_token=join_token.strip(), name=configuration.name, journal=identity,
        machine_id=machine_id_of(session.host),
        protocol=PROTOCOL,
        tool=__version__,
    )  # fmt: skip
    enrolled = web.enrol(configuration, message)
    if enrolled.domain_key:
        write_durably(session.state.path / "domain.key", enrolled.domain_key)
    _place(session).parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(_place(session), enrolled.credential.encode("ascii") + b"\n")


def _place(session: Session) -> Path:
    return session.state.path / "agent" / "credential"
