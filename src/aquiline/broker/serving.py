"""A broker in a directory: its database, its repository, its certificate, and the server in front of them.

::

    DATA/                 0700
        broker.db         the fleet (SQLite, unless another database is named)
        repository.git    the source of truth; people push their sandboxes to it
        certificate.pem   self-signed, made at the first start where none is given
        key.pem           0600
        admin.token       0600: the first admin's token, made with the database
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import logging
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aquiline.broker import members
from aquiline.broker.api.app import application
from aquiline.broker.broker import HOST_BUDGET, Asker, Broker
from aquiline.broker.compiling import Compiler, Layers
from aquiline.broker.going_live import settle
from aquiline.broker.repository import Repository
from aquiline.broker.restoring import remember
from aquiline.broker.scratch import sweep
from aquiline.broker.slots import REPORTS_PER_SECOND
from aquiline.broker.sqlstore import SqlStore
from aquiline.errors import AquilineError

#: Days that a certificate made here is good for.
_CERTIFICATE_DAYS = 825
ADMIN = "admin"
_log = logging.getLogger("aquiline.broker")


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker listens, and what it shows for itself."""

    address: str = "127.0.0.1"
    port: int = 7443
    #: Files in PEM; both None: plain HTTP, which only the loopback interface gets.
    certificate: str | None = None
    key: str | None = None

    def url(self) -> str:
        """Return a URL that reaches it."""
        address = socket.gethostname() if self.address in ("0.0.0.0", "::", "") else self.address  # noqa: S104
        shown = f"[{address}]" if ":" in address else address
        return f"{'https' if self.certificate else 'http'}://{shown}:{self.port}"


def open_broker(
    data: Path, *, database: str = "", compiler: Compiler | None = None, host_budget: int = HOST_BUDGET,
    reports_per_second: int = REPORTS_PER_SECOND,
) -> Broker:  # fmt: skip
    """Return the broker that lives in `data`; made there where there is none yet. `host_budget`: bytes a day."""
    _private_folder(data)
    for name in sweep():
        _log.warning("%s was left by a broker that was killed, and is gone now", name)
    place = data / "repository.git"
    repository = Repository(place) if place.exists() else _first_repository(place)
    store = SqlStore(database) if database else SqlStore.in_file(data / "broker.db")
    broker = Broker(
        store, repository, compiler or Layers(),
        name=f"{socket.gethostname()}:{os.getpid()}", host_budget=host_budget,
        reports_per_second=reports_per_second,
    )  # fmt: skip
    remember(broker)
    settle(broker)
    _first_admin(broker, data / "admin.token")
    return broker


def _private_folder(data: Path) -> None:
    """Make the directory, or raise `AquilineError` where it is there and is not its user's alone."""
    try:
        data.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    else:
        return
    if not data.is_dir():
        raise AquilineError(f"{data} is no directory", hint="name one, or one that is not there yet")
    found = data.stat()
    if found.st_uid != os.geteuid():
        raise AquilineError(
            f"{data} belongs to another user ({found.st_uid}): what a broker keeps is its own user's alone",
            hint="run the broker as that user, or name another directory",
        )
    if found.st_mode & 0o077:
        is_ours = (data / "repository.git").exists() or not any(data.iterdir())
        raise AquilineError(
            f"{data} can be read or written by others (mode {found.st_mode & 0o7777:04o}): it keeps secrets there",
            hint=f"`chmod 700 {data}`" if is_ours else f"give it a directory of its own: --data {data / 'broker'}",
        )


def _first_repository(place: Path) -> Repository:
    """Make the repository apart and whole, so that a death in between leaves none."""
    new = place.with_name(f"{place.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    Repository.create(new)
    new.rename(place)
    return Repository(place)


def _first_admin(broker: Broker, place: Path) -> None:
    with broker.store.transaction() as tx:
        if tx.people():
            return
    token = members.new_token()
    # First, so that nobody is locked out by a death in between: then there is nobody yet at the next start.
    write_private(place, token.encode() + b"\n")
    members.add_person(broker, ADMIN, ["admin"], Asker("the first start"), token=token)


def write_private(place: Path, content: bytes) -> None:
    """Write a file that nobody else can read, not for an instant."""
    place.unlink(missing_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def certified(data: Path, address: str, port: int, names: Sequence[str] = ()) -> Listening:
    """Return where to listen with the certificate in `data`, which is made where there is none."""
    certificate, key = data / "certificate.pem", data / "key.pem"
    if not certificate.exists() or not key.exists():
        _make_certificate(certificate, key, [socket.gethostname(), socket.getfqdn(), "localhost", address, *names])
    return Listening(address=address, port=port, certificate=str(certificate), key=str(key))


def _make_certificate(certificate: Path, key: Path, names: Sequence[str]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(one) for one in dict.fromkeys(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    write_private(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def serve(broker: Broker, listening: Listening, *, keep_days: float = 0.0) -> None:
    """Serve until a signal ends it; `keep_days` as in `application`.

    Raises:
        AquilineError: plain HTTP was asked for on an address that others reach.
    """
    if listening.certificate is None and not _is_loopback(listening.address):
        raise AquilineError(
            f"plain HTTP on {listening.address} would let everybody read credentials",
            hint="give a certificate and its key, or listen on 127.0.0.1 behind a proxy that does",
        )
    config = uvicorn.Config(
        application(broker, keep_days=keep_days),
        host=listening.address,
        port=listening.port,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, broker)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise AquilineError("the broker could not begin to serve: why stands above")


class _Server(uvicorn.Server):
    """Answers the polls that it holds open before it ends, instead of breaking them off."""

    def __init__(self, config: uvicorn.Config, broker: Broker) -> None:
        super().__init__(config)
        self._broker = broker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, once what is under way was answered."""
        self._broker.bell.end()
        await super().shutdown(sockets)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
