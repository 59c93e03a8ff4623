"""Requests that are sent by hand, so that most of a body can be sent and the rest not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from proxy_approvals_setup import soon
from proxy_whole_setup import Answer, Whole, read_answer

#: The metric that counts them.
HELD = "aegis_request_bytes_held"
MIB = 1 << 20


@dataclass
class Sending:
    """One request on a connection of its own, of which so much was sent."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, more: bytes) -> None:
        self.writer.write(more)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self) -> Answer:
        """The reply, read to the end of the connection, or of its body."""
        raw = bytearray()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while piece := await self.reader.read(65536):
                    raw += piece
                    if _is_whole(bytes(raw)):
                        break
        self.writer.close()
        return read_answer(bytes(raw))

    def vanish(self) -> None:
        """The client is gone."""
        self.writer.transport.abort()


def _is_whole(raw: bytes) -> bool:
    head, end, _ = raw.partition(b"\r\n\r\n")
    return bool(end) and b"content-length" in head.lower() and read_answer(raw).is_whole


async def sending(
    one: Whole,
    path: str,
    begun: bytes,
    announced: int | None,
    headers: Mapping[str, str] | None = None,
) -> Sending:
    """A POST whose body has begun; None announces chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    framing = "Transfer-Encoding: chunked" if announced is None else f"Content-Length: {announced}"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", framing]
    said = {"Content-Type": "application/json", **(headers or {})}
    lines += [f"{name}: {value}" for name, value in said.items()]
    made = Sending(reader, writer)
    await made.send("\r\n".join(lines).encode() + b"\r\n\r\n" + begun)
    return made


async def held(one: Whole) -> int:
    """What is counted now."""
    return int(sum((await one.metric(HELD)).values()))


async def held_soon(one: Whole, wanted: int) -> None:
    """Waits until so much is counted."""

    async def look() -> bool:
        return await held(one) == wanted

    await soon(look)


def text_of(size: int) -> bytes:
    """A JSON body of so many bytes."""
    return b'{"text":"%b"}' % (b"x" * (size - 11))
