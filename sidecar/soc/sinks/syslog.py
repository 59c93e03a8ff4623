"""A syslog server, over UDP, TCP or TLS: CEF in RFC 5424, octet-counted on streams (RFC 6587).

Knows: that syslog has no answer: over UDP a message is delivered when it was sent; over a stream
when the other side had the chance to break the connection and did not.
Must not know: the form of a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from sidecar.soc.sinks.cef import DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX, message
from sidecar.soc.sinks.connecting import Way
from sidecar.soc.sinks.seam import ATTEMPT_S, NotDelivered, Outgoing

if TYPE_CHECKING:
    from sidecar.config.sinks import SinkPlace

#: How long the other side may take to say that it has read to the end; many never say.
END_S: Final = 1.0


class SyslogSink:
    """See `seam.Sink`. A connection for each delivery: one that was kept may be dead unnoticed."""

    def __init__(self, place: SinkPlace, way: Way, node: str) -> None:
        self._place = place
        self._way = way
        self._node = node

    async def send(self, delivery: Outgoing) -> None:
        """See `Sink.send`."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                if self._place.scheme == "syslog":
                    await self._datagram(message(delivery, self._node, DATAGRAM_BYTES_MAX))
                else:
                    await self._stream(message(delivery, self._node, MESSAGE_BYTES_MAX))
        except TimeoutError:
            raise NotDelivered(f"not taken within {ATTEMPT_S:g} s") from None
        except ssl.SSLCertVerificationError:
            raise NotDelivered("its certificate is not trusted") from None
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None)
            raise NotDelivered(f"not reached: {words or type(error).__name__}") from None

    async def close(self) -> None:
        """See `Sink.close`."""

    async def _datagram(self, content: bytes) -> None:
        found = await self._way.addresses(self._place.port)
        family, where = found[0]["family"], (found[0]["host"], found[0]["port"])
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(own, where)
            await loop.sock_sendall(own, content)

    async def _stream(self, content: bytes) -> None:
        tls = await self._way.context() if self._place.is_encrypted else None
        failed: OSError | None = None
        for one in await self._way.addresses(self._place.port):
            try:
                reader, writer = await asyncio.open_connection(
                    one["host"],
                    one["port"],
                    ssl=tls,
                    server_hostname=self._place.host if tls is not None else None,
                )
            except OSError as error:
                failed = error
                continue
            await _written(reader, writer, b"%d %b" % (len(content), content))
            return
        raise failed or OSError(None, "the name has no address")


async def _written(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes
) -> None:
    try:
        writer.write(content)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await reader.read(1)
        writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await writer.wait_closed()
    finally:
        writer.transport.abort()
