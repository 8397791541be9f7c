"""The broker of the tests behind a real HTTP server, in the test process."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import msgspec

from aquiline.agent.daemon.link import BrokerAway, BrokerRefused
from aquiline.protocol.changesets import ChangeSet
from aquiline.protocol.messages import Enrol, Enrolled, Poll, PollAnswer, Report, decode_message, encode_message
from tests.agent.daemon.broker import Broker

CREDENTIAL = "secret-of-h1"
JOIN_TOKEN = "may-join"


class Server(ThreadingHTTPServer):
    """Serves one broker. Its log says which requests came, and over which connection."""

    daemon_threads = True

    def __init__(self, broker: Broker) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.broker = broker
        self.lock = threading.Lock()
        self.log: list[tuple[str, int]] = []
        self.enrolled: list[Enrol] = []
        #: Called with each request before it is answered: a test may raise, or stop something here.
        self.before: Callable[[str], None] = lambda _request: None
        #: Polls are kept open until there is news.
        self.holds_polls = True
        #: What an answer is replaced by.
        self.instead: dict[str, tuple[int, bytes, dict[str, str]]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed has hung up: nobody need be told."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    #: Answered by whoever comes, without a credential.
    _open: ClassVar[set[str]] = {"/v1/enrol", "/v1/reach"}

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET  # noqa: N815 - as above

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = f"{self.command} {self.path}"
        self.server.before(request)
        with self.server.lock:
            self.server.log.append((request, self.client_address[1]))
        if self.path in self.server.instead:
            return self._send(*self.server.instead[self.path])
        if self.path not in self._open and self.headers.get("authorization") != f"Bearer {CREDENTIAL}":
            return self._send(401, b"who are you?")
        if self.path in self._open and "authorization" in self.headers:
            return self._send(400, b"nobody need be told that")
        try:
            return self._send(200, self._answer(body))
        except BrokerAway as error:
            return self._send(503, error.message.encode())
        except BrokerRefused as error:
            return self._send(404, error.message.encode())

    def _answer(self, body: bytes) -> bytes:
        broker, (_, _, *parts) = self.server.broker, self.path.split("/")
        match parts:
            case ["enrol"]:
                message = decode_message(body, Enrol)
                if message.join_token != JOIN_TOKEN:
                    raise BrokerRefused("no such token")
                self.server.enrolled.append(message)
                return encode_message(Enrolled(CREDENTIAL, b"k" * 32))
            case ["host", "poll"]:
                return self._poll(decode_message(body, Poll))
            case ["host", "profiles", digest]:
                return broker.profile(digest)
            case ["host", "reports"]:
                with self.server.lock:
                    return encode_message(broker.report(decode_message(body, Report)))
            case ["host", "change-sets", digest]:
                with self.server.lock:
                    broker.send_change_set(digest, decode_message(body, ChangeSet))
            case ["host", "schemas", digest]:
                broker.send_schemas(digest, body)
            case ["reach"]:
                broker.reach()
        return b"{}"

    def _poll(self, poll: Poll) -> bytes:
        wait = poll.wait if self.server.holds_polls else 0.0
        end = time.monotonic() + wait
        with self.server.lock:
            answer = self.server.broker.poll(poll)
        while not _is_news(answer, poll) and time.monotonic() < end:
            time.sleep(0.02)
            with self.server.lock:
                answer = self.server.broker.look(poll)
        pace = self.server.broker.pace if wait == 0 else 0.2
        return encode_message(msgspec.structs.replace(answer, pace=pace))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if "gzip" in self.headers.get("accept-encoding", "") and len(body) > 1000 and not headers:
            body, headers = gzip.compress(body), {"content-encoding": "gzip"}
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(broker: Broker, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve `broker` until the end of the block, over https where a context is given."""
    server = Server(broker)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_news(answer: PollAnswer, poll: Poll) -> bool:
    return bool(answer.orders) or (answer.target is not None and answer.target.generation > poll.generation)
