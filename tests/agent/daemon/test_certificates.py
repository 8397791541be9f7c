"""Over https, a broker is who its certificate says, or nobody."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aquiline.agent.daemon.configuration import Configuration
from aquiline.agent.daemon.link import BrokerAway
from aquiline.agent.daemon.web import WebLink
from aquiline.errors import AquilineError
from aquiline.protocol.messages import Poll
from tests.agent.daemon.broker import Broker
from tests.agent.daemon.server import CREDENTIAL, Server, serving

POLL = Poll(tool="1", journal="j")


def certificate(folder: Path, name: str, address: str) -> tuple[Path, Path]:
    """Make a certificate for an address that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    )
    return folder / f"{name}.pem", folder / f"{name}.key"


@contextmanager
def secured(broker: Broker, certificate_file: Path, key: Path) -> Iterator[Server]:
    """Serve `broker` over https."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key)
    with serving(broker, context) as server:
        yield server


def poll(server: Server, ca_file: str) -> None:
    configuration = Configuration(broker=(server.url.replace("http:", "https:"),), ca_file=ca_file)
    link = WebLink(configuration, CREDENTIAL)
    try:
        link.poll(POLL)
    finally:
        link.close()


def test_the_right_one(tmp_path: Path, broker: Broker) -> None:
    """A certificate of an authority that is named is believed."""
    with secured(broker, *certificate(tmp_path, "right", "127.0.0.1")) as server:
        poll(server, str(tmp_path / "right.pem"))

    assert [POLL] == broker.polls


@pytest.mark.parametrize(
    ("address", "ca_file"), [("127.0.0.1", ""), ("127.0.0.1", "other"), ("10.0.0.1", "shown")], ids=str
)
def test_another_one(tmp_path: Path, broker: Broker, address: str, ca_file: str) -> None:
    """One of another authority, or for another address, gets nothing: not even the credential."""
    certificate(tmp_path, "other", "127.0.0.1")
    with secured(broker, *certificate(tmp_path, "shown", address)) as server:
        with pytest.raises(BrokerAway, match="CERTIFICATE_VERIFY_FAILED"):
            poll(server, str(tmp_path / f"{ca_file}.pem") if ca_file else "")
        assert [] == server.log


def test_no_authority(tmp_path: Path) -> None:
    """A file that holds no certificate is refused by its name."""
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(AquilineError, match="holds no certificate"):
        WebLink(Configuration(broker=("https://b.example.org",), ca_file=str(tmp_path / "ca.pem")), "")
