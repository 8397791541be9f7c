"""The ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.concurrency import sync_to_thread
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import Method
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from aquiline import __version__
from aquiline.broker.api.hosts import Hosts, enrol, reach
from aquiline.broker.api.identity import Authentication, people_only
from aquiline.broker.api.people import People
from aquiline.broker.api.requests import BrokerRequest, BrokerResponse
from aquiline.broker.broker import Blocked, Broker, NotFound, Refused
from aquiline.broker.budget import OverBudget
from aquiline.broker.closing import close_overdue
from aquiline.broker.going_live import settle
from aquiline.broker.metrics import FleetCollector
from aquiline.broker.retention import forget
from aquiline.errors import AquilineError, HostFrozen, PlanStale, UsageError
from aquiline.protocol.messages import LARGEST_MESSAGE, PROTOCOL, MessageRefused, NotSpoken

#: Nobody has to say who they are for these.
_OPEN = ("^/health$", "^/v1/enrol$", "^/v1/reach$", "^/schema")
_STATUS: tuple[tuple[type[AquilineError], int], ...] = (
    (NotFound, 404),
    (OverBudget, 429),
    (Refused, 409),
    (UsageError, 400),
    (NotSpoken, 426),
    (MessageRefused, 400),
    (PlanStale, 412),
    (HostFrozen, 423),
)
#: Seconds.
_DAY = 86400.0
_PATIENCE = 5.0
_log = logging.getLogger("aquiline.broker")


@get("/health", media_type=MediaType.TEXT)
async def health(state: State) -> str:
    """Say that the broker lives and its database answers."""

    def look() -> None:
        with state.broker.store.reading() as tx:
            tx.branch("")

    await sync_to_thread(look)
    return "ok\n"


@get("/metrics", guards=[people_only])
async def metrics(state: State) -> Response[bytes]:
    """Count the fleet, in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(state.broker))
    return Response(await sync_to_thread(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)


def application(broker: Broker, *, keep_days: float = 0.0) -> Litestar:
    """Return the application that serves `broker`; what is older than `keep_days` is forgotten each day, 0 is never."""

    @asynccontextmanager
    async def tending(_: Litestar) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_settle_often(broker))]
        if keep_days:
            tasks.append(asyncio.create_task(_forget_daily(broker, keep_days)))
        yield
        for task in tasks:
            task.cancel()

    return Litestar(
        route_handlers=[health, metrics, enrol, reach, Hosts, People],
        state=State({"broker": broker}),
        lifespan=[tending],
        middleware=[DefineMiddleware(Authentication, exclude=list(_OPEN))],
        request_class=BrokerRequest,
        response_class=BrokerResponse,
        request_max_body_size=LARGEST_MESSAGE,
        exception_handlers={AquilineError: _refused, UnicodeEncodeError: _no_text},
        openapi_config=OpenAPIConfig(
            title="Aquiline broker",
            version=__version__,
            description="What agents and people ask of a fleet's broker.",
            render_plugins=[JsonRenderPlugin()],
        ),
    )


async def _settle_often(broker: Broker) -> None:
    """Finish what a broker has begun that died, as soon as its lease is over; close what nobody looks at in time."""
    while True:
        await asyncio.sleep(_PATIENCE)
        for what, tend in (("what another broker has begun was not finished", settle), ("not closed", close_overdue)):
            try:
                await sync_to_thread(tend, broker)
            except AquilineError as error:
                _log.warning("%s: %s", what, error.message)


async def _forget_daily(broker: Broker, days: float) -> None:
    while True:
        try:
            await sync_to_thread(forget, broker, days=days)
        except AquilineError as error:
            _log.warning("nothing was forgotten: %s", error.message)
        await asyncio.sleep(_DAY)


def _no_text(_: Request[Any, Any, Any], error: UnicodeEncodeError) -> Response[dict[str, Any]]:
    """Refuse a lone surrogate where something else than text is expected: msgspec cannot say so itself."""
    body = {"error": f"a text that is none: {error}", "hint": "", "exit_status": 2, "changes": []}
    return Response(body, status_code=400)


def _refused(request: Request[Any, Any, Any], error: AquilineError) -> Response[dict[str, Any]]:
    """Return an error as its reader can act upon it: in words, with the exit status of the command line."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 422)
    method: Method | str = request.method
    _log.info("%s %s: %s", method, request.url.path, error.message)
    body = {
        "error": error.message,
        "hint": error.hint,
        "exit_status": error.exit_status,
        "changes": list(error.changes) if isinstance(error, Blocked) else [],
    }
    headers = {"upgrade": f"aquiline/{PROTOCOL}", "connection": "upgrade"} if isinstance(error, NotSpoken) else {}
    return Response(body, status_code=status, headers=headers)
