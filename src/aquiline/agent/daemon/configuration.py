"""What the agent of a host is told by its administrator: ``/etc/aquiline/agent.toml`` below the root.

::

    broker = ["https://aquiline.example.org:8443"]   # tried in order, the last that answered first
    report_url = ""                                  # reports go here instead, if it is given
    confirmers = []                                  # who proves that this host can be reached; the broker by default
    ca_file = "/etc/aquiline/ca.pem"                 # whose certificates are believed; the system's by default
    name = ""                                        # this host's name; its own by default
    pace = 3600                                      # seconds: it polls at least this often
    cdp_port = 0                                     # UDP: datagrams of CDP are hints; 0: none are listened to
    insecure = false                                 # plain http to other machines, for trying it out

See ``docs/reference/agent.md``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from aquiline.agent.daemon.memory import write_durably
from aquiline.errors import AquilineError

CONFIGURATION_FILE = "etc/aquiline/agent.toml"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an agent gets to its broker."""

    broker: tuple[str, ...]
    report_url: str = ""
    confirmers: tuple[str, ...] = ()
    ca_file: str = ""
    name: str = ""
    pace: float = 3600.0
    cdp_port: int = 0
    insecure: bool = False

    @property
    def urls(self) -> tuple[str, ...]:
        """Every address in it."""
        return (*self.broker, *((self.report_url,) if self.report_url else ()), *self.confirmers)


def load_configuration(root: str, file: str | None = None) -> Configuration:
    """Return the configuration of the host below `root`, or of `file`.

    Raises:
        AquilineError: there is none, others could change it, or it makes no sense.
    """
    path = Path(file) if file is not None else Path(root, CONFIGURATION_FILE)
    _refuse_others(path)
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Configuration)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise AquilineError(f"{path} makes no sense: {error}", hint="see the manual, agent.toml") from None
    if not found.broker:
        raise AquilineError(f"{path} names no broker", hint="see the manual, agent.toml")
    for url in found.urls:
        refuse_unsafe(url, is_insecure=found.insecure)
    return found if found.name else msgspec.structs.replace(found, name=socket.getfqdn())


def _refuse_others(path: Path) -> None:
    """Refuse a file that somebody else could change: who says which broker this host obeys is root on it."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise AquilineError(
            f"there is no {path}: it is not known which broker this host belongs to",
            hint="`aquiline enrol --broker URL --join-token-file FILE` writes it",
        ) from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise AquilineError(
            f"{path} is not a regular file that only root can write", hint=f"chown root {path}; chmod 0644 {path}"
        )


def refuse_unsafe(url: str, *, is_insecure: bool = False) -> None:
    """Raise `AquilineError` where `url` is none, or would carry credentials over a network for all to read."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise AquilineError(f"{url!r} is no address of a broker", hint="it looks like https://broker.example.org:8443")
    if parts.scheme == "http" and not is_insecure and not _is_loopback(parts.hostname):
        raise AquilineError(
            f"{url} is plain http to another machine: whoever listens would be this host's master",
            hint="use https; `insecure = true` allows it for a trial",
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def write_configuration(root: str, wanted: Configuration) -> str:
    """Write a configuration that says no more than it must, where there is none; return where it is.

    Raises:
        AquilineError: there is one, of another broker.
    """
    import tomli_w  # noqa: PLC0415  # only enrolment writes one

    path = Path(root, CONFIGURATION_FILE)
    if path.exists():
        found = load_configuration(root)
        if not set(wanted.broker) <= set(found.broker):
            raise AquilineError(
                f"{path} names {', '.join(found.broker)}, and not {', '.join(wanted.broker)}",
                hint="change it first, or remove it",
            )
        return str(path)
    for url in wanted.urls:
        refuse_unsafe(url, is_insecure=wanted.insecure)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(path, tomli_w.dumps(msgspec.to_builtins(_without_defaults(wanted))).encode("utf-8"))
    path.chmod(0o644)
    return str(path)


def _without_defaults(configuration: Configuration) -> dict[str, object]:
    default = Configuration(())
    fields = Configuration.__struct_fields__
    return {
        name: getattr(configuration, name) for name in fields if getattr(configuration, name) != getattr(default, name)
    }
