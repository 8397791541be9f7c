"""What agents ask."""

from __future__ import annotations

import asyncio
import time

from litestar import Controller, Response, get, post, put
from litestar.concurrency import sync_to_thread
from litestar.datastructures import State

from aquiline.broker import answering, members
from aquiline.broker.api.identity import hosts_only
from aquiline.broker.api.requests import BrokerRequest
from aquiline.broker.broker import Broker
from aquiline.broker.records import Host
from aquiline.protocol.messages import (
    Enrol,
    Enrolled,
    NotSpoken,
    Poll,
    PollAnswer,
    Report,
    ReportAnswer,
    decode_message,
)

#: Seconds that a poll is held open at most: proxies give up after a minute.
LONGEST_WAIT = 50.0
_JSON = "application/json"


def _host(request: BrokerRequest) -> Host:
    host = request.user.host
    assert host is not None, "the guard lets hosts in only"
    return host


class Hosts(Controller):
    """A host reads and writes only what is its own: there is no name in these paths."""

    path = "/v1/host"
    guards = [hosts_only]  # noqa: RUF012  # Litestar's way
    tags = ["hosts"]  # noqa: RUF012  # the same

    @post("/poll", status_code=200)
    async def poll(self, request: BrokerRequest, state: State) -> PollAnswer:
        """Say where a host stands; be told its target and orders, at once or as soon as there are any."""
        body = await request.body()
        try:
            found = decode_message(body, Poll)
        except NotSpoken as error:
            await sync_to_thread(answering.refused, state.broker, _host(request), body, error)
            raise
        return await _wait_for_news(state.broker, _host(request), found)

    @get("/profiles/{digest:str}", sync_to_thread=True)
    def profile(self, request: BrokerRequest, state: State, digest: str) -> Response[bytes]:
        """Fetch a profile that the host is to be, or is asked about."""
        return Response(answering.profile(state.broker, _host(request), digest), media_type=_JSON)

    @post("/reports", status_code=200)
    async def report(self, request: BrokerRequest, state: State) -> ReportAnswer:
        """Send a report; accepted once however often it comes."""
        found = decode_message(await request.body(), Report)
        return await sync_to_thread(answering.receive, state.broker, _host(request), found)

    @put("/change-sets/{digest:str}", status_code=204)
    async def change_set(self, request: BrokerRequest, state: State, digest: str) -> None:
        """Send a change-set that the broker asked for."""
        await sync_to_thread(answering.keep_change_set, state.broker, _host(request), digest, await request.body())

    @put("/schemas/{digest:str}", status_code=204)
    async def schemas(self, request: BrokerRequest, state: State, digest: str) -> None:
        """Send the schemas of the host's components, with their versions."""
        await sync_to_thread(answering.keep_schemas, state.broker, _host(request), digest, await request.body())


async def _wait_for_news(broker: Broker, host: Host, poll: Poll) -> PollAnswer:
    until = time.monotonic() + min(poll.wait, LONGEST_WAIT)
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    with broker.bell.listening(host.name, lambda: loop.call_soon_threadsafe(news.set)):
        while True:
            news.clear()
            answered = await sync_to_thread(answering.answer, broker, host, poll)
            left = until - time.monotonic()
            if left <= 0 or answering.has_news(answered, poll) or broker.bell.is_over:
                return answered
            try:
                await asyncio.wait_for(news.wait(), timeout=left)
            except TimeoutError:
                return answered


@post("/v1/enrol", status_code=200)
async def enrol(request: BrokerRequest, state: State) -> Enrolled:
    """Join the fleet with a join token."""
    wish = decode_message(await request.body(), Enrol)
    return await sync_to_thread(members.enrol, state.broker, wish)


@get("/v1/reach", sync_to_thread=False)
def reach() -> dict[str, str]:
    """Answer: whoever asks can reach us (D22)."""
    return {"reached": "yes"}
