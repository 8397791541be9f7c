"""The way to a broker over HTTPS. Only this module knows of httpx, and only who talks to a broker imports it.

Theory of operation

1. Every address is checked before it is used (`configuration.refuse_unsafe`). Certificates are always verified. Nothing
   is followed elsewhere, no proxy is taken from the environment.
2. Of several brokers the one that answered last is asked first, then the others in their order. What no broker answers
   is `BrokerAway`; what one answers is an answer, also where it is a no.
3. What comes is read up to a size, after decompression, and then taken for what its digest or type says.
4. A confirmer is asked over a connection of its own: what was open before a run proves nothing after it.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import httpx

from aquiline import __version__
from aquiline.agent.daemon.configuration import Configuration, refuse_unsafe
from aquiline.agent.daemon.link import BrokerAway, BrokerRefused
from aquiline.errors import AquilineError
from aquiline.protocol.changesets import ChangeSet
from aquiline.protocol.messages import (
    LARGEST_MESSAGE,
    Enrol,
    Enrolled,
    MessageRefused,
    NotSpoken,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    decode_answer,
    decode_message,
    encode_message,
)

_Message = TypeVar("_Message")
#: Seconds to connect, to send, and until the first byte comes where the broker does not wait on purpose.
_CONNECT, _WRITE, _READ = 10.0, 30.0, 30.0
#: What a broker, or what stands before it, says when it cannot just now.
_LATER = frozenset({408, 425, 429})
_JSON = {"content-type": "application/json"}


class WebLink:
    """A `Link` to the brokers of a configuration; not for two threads at once."""

    def __init__(self, configuration: Configuration, credential: str) -> None:
        for url in configuration.urls:
            refuse_unsafe(url, is_insecure=configuration.insecure)
        self._configuration = configuration
        self._credential = credential
        self._trusted = trusted(configuration.ca_file)
        self._client = self._new_client()
        #: The one that answered last comes first.
        self._brokers = list(configuration.broker)

    def close(self) -> None:
        """Close what is open."""
        self._client.close()

    # ---- the link -------------------------------------------------------------------------------------------------

    def poll(self, poll: Poll) -> PollAnswer:
        """Say where the host stands and ask for work."""
        data = self._ask("POST", "/v1/host/poll", encode_message(poll), patience=poll.wait)
        return _understood(lambda: decode_answer(data))

    def profile(self, digest: str) -> bytes:
        """Return the JSON of a profile."""
        return self._ask("GET", f"/v1/host/profiles/{_plain(digest)}")

    def report(self, report: Report) -> ReportAnswer:
        """Say what happened."""
        data = self._ask("POST", "/v1/host/reports", encode_message(report))
        return _understood(lambda: decode_message(data, ReportAnswer))

    def send_change_set(self, digest: str, change_set: ChangeSet) -> None:
        """Send what a report named by digest."""
        self._ask("PUT", f"/v1/host/change-sets/{_plain(digest)}", encode_message(change_set))

    def send_schemas(self, digest: str, schemas: bytes) -> None:
        """Send the schemas of this host's components."""
        self._ask("PUT", f"/v1/host/schemas/{_plain(digest)}", schemas)

    def reach(self) -> None:
        """Return once any confirmer has answered over a new connection."""
        confirmers = self._configuration.confirmers or self._configuration.broker
        # Who may be asked whether this host is reached need not be who may be told its credential.
        with _client(self._trusted, {}) as client:
            said = []
            for url in confirmers:
                try:
                    _answer(client, "GET", f"{url.rstrip('/')}/v1/reach")
                except (BrokerAway, BrokerRefused) as error:
                    said.append(error.message)
                else:
                    return
        raise BrokerAway(f"no confirmer was reached: {'; '.join(said)}")

    # ---- asking ---------------------------------------------------------------------------------------------------

    def _new_client(self) -> httpx.Client:
        return _client(self._trusted, {"authorization": f"Bearer {self._credential}"})

    def _ask(self, method: str, path: str, body: bytes | None = None, *, patience: float = 0.0) -> bytes:
        is_report = path.startswith(("/v1/host/reports", "/v1/host/change-sets"))
        if is_report and self._configuration.report_url:
            return _answer(self._client, method, _joined(self._configuration.report_url, path), body)
        said = []
        for url in tuple(self._brokers):
            try:
                found = _answer(self._client, method, _joined(url, path), body, patience=patience)
            except BrokerAway as error:
                said.append(error.message)
            else:
                self._brokers.sort(key=lambda one: one != url)
                return found
        raise BrokerAway("; ".join(said))


def enrol(configuration: Configuration, message: Enrol) -> Enrolled:
    """Ask the broker to take this host into the fleet; raises as every way to it does."""
    with _client(trusted(configuration.ca_file), {}) as client:
        data = _answer(client, "POST", _joined(configuration.broker[0], "/v1/enrol"), encode_message(message))
    return _understood(lambda: decode_message(data, Enrolled))


def trusted(ca_file: str) -> ssl.SSLContext:
    """Return what certificates are checked by; raises `AquilineError` where the file is none."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise AquilineError(f"{ca_file} holds no certificate of an authority: {error}") from None


def _client(verify: ssl.SSLContext, headers: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(
        verify=verify,
        headers={"user-agent": f"aquiline/{__version__}", "accept-encoding": "gzip", **headers},
        trust_env=False,
        follow_redirects=False,
    )


def _understood(decoded: Callable[[], _Message]) -> _Message:
    try:
        return decoded()
    except NotSpoken as error:
        raise BrokerRefused(error.message, hint=error.hint) from None
    except MessageRefused as error:
        raise BrokerRefused(f"the broker's answer makes no sense: {error.message}", hint=error.hint) from None


def _answer(client: httpx.Client, method: str, url: str, body: bytes | None = None, *, patience: float = 0.0) -> bytes:
    """Return what the server answers; raises `BrokerAway` where it cannot be asked now, `BrokerRefused` for a no."""
    timeout = httpx.Timeout(_READ + patience, connect=_CONNECT, write=_WRITE)
    headers = _JSON if body is not None else {}
    try:
        with client.stream(method, url, content=body, headers=headers, timeout=timeout) as response:
            data = _read(response)
    except httpx.HTTPError as error:
        raise BrokerAway(f"{url}: {str(error) or type(error).__name__}") from None
    if response.is_success:
        return data
    why = data[:500].decode("utf-8", "replace").strip()
    message = f"{url}: {response.status_code} {response.reason_phrase}" + (f": {why}" if why else "")
    if response.is_server_error or response.status_code in _LATER:
        raise BrokerAway(message)
    raise BrokerRefused(message)


def _read(response: httpx.Response) -> bytes:
    found = bytearray()
    for chunk in _decompressed(response):
        found += chunk
        if len(found) > LARGEST_MESSAGE:
            raise BrokerRefused(f"{response.url}: an answer of more than {LARGEST_MESSAGE} bytes")
    return bytes(found)


def _decompressed(response: httpx.Response) -> Iterator[bytes]:
    """Return the body bit by bit: a few bytes may be made of which gigabytes come, and httpx gives them at once."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        yield from response.iter_raw()
        return
    if encoding != "gzip":
        raise BrokerRefused(f"{response.url}: an answer in {encoding!r}, which nobody asked for")
    decompressor = zlib.decompressobj(31)
    try:
        for chunk in response.iter_raw():
            rest = chunk
            while rest:
                yield decompressor.decompress(rest, LARGEST_MESSAGE)
                rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise BrokerRefused(f"{response.url}: {error}") from None
    if not decompressor.eof:
        raise BrokerAway(f"{response.url}: an answer that was cut short")


def _joined(url: str, path: str) -> str:
    return f"{url.rstrip('/')}{path}"


def _plain(digest: str) -> str:
    if not digest.isalnum():
        raise BrokerRefused(f"{digest!r} is no digest")
    return digest
