"""Replies pass as they come: streams, sizes, cancellation, and replies without a body (C17)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from proxy_wire_setup import (
    Conversation,
    answering,
    door,
    every_leg,
    raw_upstream,
    read_request,
    request,
    status_of,
    until,
    upstream_of,
)

from sidecar.proxy.exchange import ClientGone, Exchange

__all__ = ["every_leg"]
pytestmark = pytest.mark.usefixtures("every_leg")

SSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_c17_an_event_passes_at_once_and_so_does_the_head() -> None:
    say = asyncio.Event()
    written_at = 0.0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written_at
        await read_request(reader)
        writer.write(SSE)
        for number in range(3):
            await say.wait()
            say.clear()
            written_at = asyncio.get_running_loop().time()
            writer.write(chunk(b"data: %d\n\n" % number))
        writer.write(b"0\r\n\r\n")
        await read_request(reader)
        writer.write(SSE + b"0\r\n\r\n")

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        reader, writer = await front.open()
        writer.write(request("/up/events"))
        async with asyncio.timeout(1):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Type: text/event-stream" in head
        assert b"X-Accel-Buffering: no" in head
        assert b"Transfer-Encoding: chunked" in head
        for number in range(3):
            say.set()
            event = chunk(b"data: %d\n\n" % number)
            assert await reader.readexactly(len(event)) == event
            assert asyncio.get_running_loop().time() - written_at <= 0.05
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.write(request("/up/events", "Connection: close"))
        assert status_of(await reader.readuntil(b"\r\n\r\n")) == 200
        assert len(upstream.received) == 1


@pytest.mark.parametrize("waits", [False, True])
async def test_a_first_chunk_that_is_here_goes_with_the_head_and_none_is_waited_for(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    say = asyncio.Event()

    class Seen:
        def __init__(self, transport: asyncio.Transport) -> None:
            self.write = lambda data: (written.append(data), transport.write(data))

    async def chunks() -> AsyncIterator[bytes]:
        if waits:
            await say.wait()
        yield b"one"
        yield b"two"

    async def handler(exchange: Exchange) -> None:
        await exchange.stream(200, [("X-A", "b")], chunks())

    seen = Exchange._transport
    monkeypatch.setattr(Exchange, "_transport", lambda self: Seen(seen(self)))
    async with door(handler=handler) as front:
        reader, writer = await front.open()
        writer.write(request("/up/x"))
        async with asyncio.timeout(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert say.set() is None
            rest = await reader.readexactly(len(chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"))
    assert rest == chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"
    assert b"X-A: b\r\n" in head
    first = chunk(b"one") if waits else head + chunk(b"one")
    assert written == [first, chunk(b"two"), b"0\r\n\r\n"]


PIECE = bytes(range(256)) * 256
PIECES = 1024  # 64 MiB: more than the kernel's buffers on the way can hold


def _sending(taken: list[int], *, chunked: bool) -> Conversation:
    """A large reply; `taken` counts the bytes that the sidecar has let it send."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        length = len(PIECE) * PIECES
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for _ in range(PIECES):
            writer.write(chunk(PIECE) if chunked else PIECE)
            await writer.drain()
            taken[0] += len(PIECE)
        if chunked:
            writer.write(b"0\r\n\r\n")
        await reader.read()

    return talk


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_reply_waits_at_its_source_and_not_in_memory(chunked: bool) -> None:
    taken = [0]
    async with (
        raw_upstream(_sending(taken, chunked=chunked)) as upstream,
        door(upstream_of(upstream.port, idle_s=5.0)) as front,
    ):
        reader, writer = await front.open()
        writer.write(request("/up/big", "Connection: close"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert (b"Content-Length: %d" % (len(PIECE) * PIECES) in head) is not chunked
        before = -1
        while taken[0] != before:  # until nothing moves: the client takes nothing
            before = taken[0]
            await asyncio.sleep(0.1)
        assert taken[0] < len(PIECE) * PIECES / 2
        transport = front.front.connections[0].transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 2 * 1024 * 1024
        digest, size = hashlib.sha256(), 0
        while data := await reader.read(1 << 20):
            size += len(data)
            digest.update(data)
        expected = (chunk(PIECE) if chunked else PIECE) * PIECES
        if not chunked:
            assert digest.digest() == hashlib.sha256(expected).digest()
        assert size >= len(PIECE) * PIECES
        await until(lambda: front.ended == ["completed"])


async def test_a_client_that_leaves_cancels_a_silent_upstream() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        assert await reader.read() == b""
        closed.set()

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        _, writer = await front.open()
        writer.write(request("/up/x", method="POST", body=b"{}"))
        await until(lambda: upstream.bytes_in > 0)
        writer.close()
        async with asyncio.timeout(1):
            await closed.wait()
        assert front.ended == ["CancelledError"]


async def test_c17_a_client_that_leaves_a_stream_ends_it_at_the_upstream() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE + chunk(b"data: 1\n\n"))
        assert await reader.read() == b""
        closed.set()

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        reader, writer = await front.open()
        writer.write(request("/up/events"))
        await reader.readuntil(b"data: 1")
        writer.close()
        async with asyncio.timeout(1):
            await closed.wait()
        await until(lambda: bool(front.ended))
        assert front.ended == ["CancelledError"]
        await until(lambda: front.front.open_connections == 0)


@pytest.mark.parametrize(
    ("method", "reply", "expected"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"Content-Length: 5000\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"204 No Content"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b"204 No Content"),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 9\r\n\r\n', b'"a"'),
        ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", b"205 Reset"),
    ],
)
async def test_replies_without_a_body(method: str, reply: bytes, expected: bytes) -> None:
    async with (
        raw_upstream(answering(reply)) as upstream,
        door(upstream_of(upstream.port)) as front,
    ):
        reader, writer = await front.open()
        for _ in range(3):
            writer.write(request("/up/x", method=method))
            head = await reader.readuntil(b"\r\n\r\n")
            assert expected in head
            assert b"ransfer-Encoding" not in head
            assert b" 204 " not in head or b"ontent-Length" not in head, "RFC 9110 section 8.6"
        writer.write(request("/up/x", "Connection: close", method=method))
        assert (await reader.read()).endswith(b"\r\n\r\n")
        writer.close()
        assert len(upstream.received) == 1


async def test_a_reply_that_ends_with_its_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart one, ")
        await writer.drain()
        await asyncio.sleep(0.03)
        writer.write(b"part two")

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        answer = await front.get()
        assert b"Transfer-Encoding: chunked" in answer
        assert answer.endswith(chunk(b"part one, ") + chunk(b"part two") + b"0\r\n\r\n")
        old = await front.ask(b"GET /up HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert old.endswith(b"\r\n\r\npart one, part two")
        assert b"chunked" not in old


async def test_statuses_and_encodings_pass_untouched() -> None:
    body = b"\x1f\x8bnot really gzip"
    reply = b"HTTP/1.1 418 Teapot\r\nContent-Encoding: gzip\r\nX-Raw: caf\xc3\xa9 \xff\r\n"
    reply += b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with (
        raw_upstream(answering(reply)) as upstream,
        door(upstream_of(upstream.port)) as front,
    ):
        answer = await front.get()
        assert status_of(answer) == 418
        assert b"X-Raw: caf\xc3\xa9 \xff\r\n" in answer
        assert b"Content-Encoding: gzip" in answer
        assert answer.endswith(b"\r\n\r\n" + body)


async def test_a_reply_header_that_would_split_the_reply_is_never_written() -> None:
    met: list[str] = []

    async def split(exchange: Exchange) -> None:
        for name, value in (("X", "a\r\nY: b"), ("X", "a\nb"), ("X\r", "a"), ("X", "a\0")):
            try:
                await exchange.send(200, [(name, value)], b"")
            except ValueError as error:
                met.append(str(error))
        await exchange.send(200, [], b"fine")

    async with door(handler=split) as front:
        assert (await front.get()).endswith(b"fine")
        assert len(met) == 4


async def test_sending_to_a_client_that_is_gone() -> None:
    met: list[str] = []

    async def late(exchange: Exchange) -> None:
        exchange.abort()
        try:
            await exchange.send(200, [], b"")
        except ClientGone:
            met.append("gone")

    async with door(handler=late) as front:
        assert await front.get() == b""
        assert met == ["gone"]
