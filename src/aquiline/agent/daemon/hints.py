"""Datagrams of CDP: hints that there may be news, and no more.

A type, a zero byte, seconds since the epoch in digits. Types are ``ccm`` (a profile has changed), and the proposed
``cct`` (a test) and ``ccu`` (an undeploy); others are for others and passed over. Anybody can send them, so all that
they bring about is a poll, and not often.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable

from aquiline.errors import AquilineError

_HINT = re.compile(rb"(ccm|cct|ccu)\0\d{1,20}\n?")
#: Seconds between two that are passed on: a flood is read, and comes to nothing.
_PACE = 1.0


def is_hint(datagram: bytes) -> bool:
    """Return whether a datagram says that there may be news for an agent."""
    return _HINT.fullmatch(datagram) is not None


def listen(port: int, on_hint: Callable[[], None]) -> socket.socket:
    """Call `on_hint`, from a thread of its own, when hints come; return the socket, which ends that when it is closed.

    Raises:
        AquilineError: nobody can listen there.
    """
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("", port))
    except OSError as error:
        listener.close()
        raise AquilineError(f"UDP port {port} cannot be listened to: {error.strerror}", hint="see cdp_port") from None
    threading.Thread(target=_listen, args=(listener, on_hint), name="hints", daemon=True).start()
    return listener


def _listen(listener: socket.socket, on_hint: Callable[[], None]) -> None:
    last = float("-inf")
    while True:
        try:
            datagram = listener.recv(512)
        except OSError:
            return
        if is_hint(datagram) and time.monotonic() - last >= _PACE:
            last = time.monotonic()
            on_hint()
