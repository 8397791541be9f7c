"""Who asks: every request but those for health and enrolment shows a credential or token. Nothing is anonymous."""

from __future__ import annotations

import msgspec
from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from aquiline.broker.broker import Broker
from aquiline.broker.members import hash_of
from aquiline.broker.records import Host


class Identity(msgspec.Struct, frozen=True):
    """A host, or a person with roles."""

    name: str
    host: Host | None = None
    roles: frozenset[str] = frozenset()


class Authentication(AbstractAuthenticationMiddleware):
    """Finds out who asks by the ``Authorization: Bearer`` header."""

    async def authenticate_request(self, connection: ASGIConnection) -> AuthenticationResult:  # type: ignore[type-arg]
        """Return who asks; raises `NotAuthorizedException` where nobody that is known does."""
        scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
        broker: Broker = connection.app.state.broker
        # Not in the event loop: the database may have somebody else to serve first.
        is_shown = scheme.lower() == "bearer"
        found = await sync_to_thread(identify, broker, secret.strip()) if is_shown else None
        if found is None:
            raise NotAuthorizedException("show a token: Authorization: Bearer …")
        return AuthenticationResult(user=found, auth=None)


def identify(broker: Broker, secret: str) -> Identity | None:
    """Return whose secret this is, None where it is nobody's or was revoked."""
    digest = hash_of(secret)
    with broker.store.reading() as tx:
        if secret.startswith("aqh_"):
            host = tx.host_of_credential(digest)
            return None if host is None else Identity(host.name, host=host)
        person = tx.person_of_token(digest)
        if person is None or person.revoked:
            return None
        return Identity(person.name, roles=frozenset(person.roles))


def hosts_only(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """Let hosts in, and nobody else."""
    if connection.user.host is None:
        raise PermissionDeniedException("this is for hosts")


def people_only(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """Let people in who may read."""
    if not connection.user.roles:
        raise PermissionDeniedException("this is for people")


class Role:
    """Lets in people who have a role; an admin has all of them."""

    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self, connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        """Raise `PermissionDeniedException` where whoever asks does not have it."""
        if not connection.user.roles & {self._role, "admin"}:
            raise PermissionDeniedException(f"{connection.user.name} does not have the role {self._role}")


author = Role("author")
approver = Role("approver")
admin = Role("admin")
