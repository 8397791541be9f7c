"""The way to a broker over HTTP: what is sent, what is believed, what is refused."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator

import msgspec
import pytest

from aquiline.agent.daemon.configuration import Configuration, refuse_unsafe
from aquiline.agent.daemon.fetching import fetched
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused
from aquiline.agent.daemon.web import WebLink
from aquiline.errors import AquilineError, ProfileError
from aquiline.protocol.messages import LARGEST_MESSAGE, Poll, Report
from tests.agent.daemon.broker import Broker
from tests.agent.daemon.server import CREDENTIAL, Server, serving
from tests.agent.making import profile

POLL = Poll(tool="1", journal="j")
REPORT = Report(id="j/r", tool="1", journal="j", kind="run")
#: A port that nobody listens to.
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def server(broker: Broker) -> Iterator[Server]:
    """The broker, served."""
    with serving(broker) as found:
        yield found


LinkTo = Callable[..., WebLink]


@pytest.fixture
def link_to() -> Iterator[LinkTo]:
    """Makes links, and closes them when the test is over."""
    with contextlib.ExitStack() as open_links:

        def make(*urls: str, credential: str = CREDENTIAL, **settings: object) -> WebLink:
            link = WebLink(msgspec.structs.replace(Configuration(broker=urls), **settings), credential)
            open_links.callback(link.close)
            return link

        yield make


def test_what_is_asked_arrives(link_to: LinkTo, server: Server, broker: Broker) -> None:
    """Polls, profiles, reports and schemas go there and back."""
    target = broker.wants(profile(), "c1")
    link = link_to(server.url)
    link.send_schemas("d1", b"{}")

    assert target == link.poll(POLL).target
    assert profile().digest == fetched(link, target.profile, "").digest
    assert () == link.report(REPORT).wants
    assert ([POLL], [REPORT], {"d1": b"{}"}) == (broker.polls, list(broker.reports.values()), broker.schemas)


def test_another_profile_than_was_asked_for(link_to: LinkTo, server: Server, broker: Broker) -> None:
    """A profile is what its digest says, or is not taken."""
    broker.profiles["0" * 64] = b"{}"

    with pytest.raises(ProfileError, match="was asked for"):
        fetched(link_to(server.url), "0" * 64, "")


def test_a_credential_that_is_not_known(link_to: LinkTo, server: Server) -> None:
    """Who is not known is refused, which is no reason to ask again."""
    with pytest.raises(BrokerRefused, match="401"):
        link_to(server.url, credential="x").poll(POLL)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_not_now(link_to: LinkTo, server: Server, status: int) -> None:
    """What a broker cannot do just now it is asked again later."""
    server.instead["/v1/host/poll"] = (status, b"busy", {})

    with pytest.raises(BrokerAway, match=f"{status}.*busy"):
        link_to(server.url).poll(POLL)


def test_several_brokers(link_to: LinkTo, server: Server) -> None:
    """Of several brokers, the next is asked where one does not answer, and stays the first to be asked."""
    link = link_to(NOBODY, server.url)
    link.poll(POLL)
    link.poll(POLL)

    assert ["POST /v1/host/poll"] * 2 == [request for request, _ in server.log]
    with pytest.raises(BrokerAway, match=r"127\.0\.0\.1:1"):
        link_to(NOBODY).poll(POLL)


def test_reports_elsewhere(link_to: LinkTo, server: Server) -> None:
    """Reports may go to another server than the one that gives targets."""
    link_to(NOBODY, report_url=server.url).report(REPORT)

    assert ["POST /v1/host/reports"] == [request for request, _ in server.log]


def test_reaching_is_a_new_connection(link_to: LinkTo, server: Server) -> None:
    """What proves that a host can be reached is a connection not open before, and tells no credential."""
    link = link_to(server.url)
    link.poll(POLL)
    link.poll(POLL)
    link.reach()
    link.reach()

    first, second, *reached = [connection for _, connection in server.log]
    assert (first, 2) == (second, len({*reached} - {first}))
    with pytest.raises(BrokerAway, match="no confirmer"):
        link_to(NOBODY).reach()


def test_a_bomb(link_to: LinkTo, server: Server) -> None:
    """A few bytes of which gigabytes come, or too many as they are, are not taken in."""
    bomb = gzip.compress(bytes(4 * LARGEST_MESSAGE))
    for body, headers in ((bomb, {"content-encoding": "gzip"}), (bytes(LARGEST_MESSAGE + 1), {"x": "y"})):
        server.instead["/v1/host/poll"] = (200, body, headers)
        with pytest.raises(BrokerRefused, match="more than"):
            link_to(server.url).poll(POLL)


def test_answers_that_make_no_sense(link_to: LinkTo, server: Server) -> None:
    """What is no message, or is packed in a way that nobody asked for, is refused with words."""
    for body, headers, why in (
        (b"<html>", {"x": "y"}, "makes no sense"),
        (b"x", {"content-encoding": "br"}, "br"),
        (b"xx", {"content-encoding": "gzip"}, "header"),
        (b'{"pace": 1, "protocol": 99}', {"x": "y"}, "protocol 99"),
    ):
        server.instead["/v1/host/poll"] = (200, body, headers)
        with pytest.raises(BrokerRefused, match=why):
            link_to(server.url).poll(POLL)


def test_redirects_are_not_followed(link_to: LinkTo, server: Server) -> None:
    """Nobody sends a credential elsewhere because a server says so."""
    server.instead["/v1/host/poll"] = (302, b"", {"location": "http://127.0.0.1:1/"})

    with pytest.raises(BrokerRefused, match="302"):
        link_to(server.url).poll(POLL)


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://broker.example.org:8443", True),
        ("http://127.0.0.1:80", True),
        ("http://[::1]:80", True),
        ("http://localhost", True),
        ("http://broker.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("ftp://127.0.0.1", False),
        ("https://", False),
    ],
)
def test_plain_http_is_for_this_machine(url: str, is_safe: bool) -> None:
    """Plain http goes to this machine only, unless somebody says that he is only trying."""
    if is_safe:
        refuse_unsafe(url)
    else:
        with pytest.raises(AquilineError):
            refuse_unsafe(url)
