"""What arrives and what goes: bodies of bounded size and depth, in the canonical form."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.datastructures import State

from aquiline.broker.api.identity import Identity
from aquiline.changes.canonical import decode, encode
from aquiline.protocol.messages import LARGEST_MESSAGE, MessageRefused


class BrokerRequest(Request[Identity, Any, State]):
    """A request whose body may be compressed, and whose texts may be names of files that are not UTF-8."""

    async def body(self) -> bytes:
        """Return the body, decompressed; raises `MessageRefused` where it is larger than any message."""
        data = await super().body()
        if self.headers.get("content-encoding", "") == "gzip":
            data = decompressed(data)
        return data

    async def json(self) -> Any:
        """Return the body as JSON values; raises `MessageRefused` where it is none, or too deep."""
        data = await self.body()
        if not data:
            return None
        try:
            return decode(data, object)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MessageRefused(f"not JSON: {error}") from None
        except RecursionError:
            raise MessageRefused("nested deeper than any message is") from None


class BrokerResponse(Response[Any]):
    """An answer whose texts may be names of files that are not UTF-8: they are escaped."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """Return the bytes of an answer."""
        if media_type.startswith(MediaType.JSON) and not isinstance(content, bytes):
            return encode(content).encode("ascii")
        return super().render(content, media_type, enc_hook)


def decompressed(data: bytes) -> bytes:
    """Return what gzip made `data` of; raises `MessageRefused` before it takes more memory than a message may."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(data, LARGEST_MESSAGE + 1)
    except zlib.error as error:
        raise MessageRefused(f"not gzip: {error}") from None
    if len(found) > LARGEST_MESSAGE or unpacker.unconsumed_tail:
        raise MessageRefused(f"larger than {LARGEST_MESSAGE} bytes once decompressed")
    return found
