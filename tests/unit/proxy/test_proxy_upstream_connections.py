"""Which connection a call travels on, where it leads, and what becomes of it, with every leg."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from proxy_wire_setup import (
    OK,
    answering,
    every_leg,
    made_leg,
    raw_upstream,
    read_request,
    until,
    upstream_of,
)

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.proxy.upstream import UpstreamLeg

__all__ = ["every_leg"]
pytestmark = pytest.mark.usefixtures("every_leg")

only_lean = pytest.mark.parametrize("every_leg", ["lean"], indirect=True)
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@contextlib.asynccontextmanager
async def leg() -> AsyncIterator[UpstreamLeg]:
    made = made_leg()
    try:
        yield made
    finally:
        await made.close()


async def body_of(leg: UpstreamLeg, upstream: Upstream, body: bytes = b"") -> bytes:
    reply = await leg.send(upstream, "POST", "/x", [], body)
    try:
        return b"".join([chunk async for chunk in reply.chunks])
    finally:
        reply.close()


class OtherThread:
    """An upstream that goes on while the event loop stands still: blocking sockets."""

    def __init__(self, *, behind: bytes, closes: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = 0
        self._behind = behind
        self._closes = closes
        #: Set by the test when the reply was read; by this side when all was done behind it.
        self.go_on = threading.Event()
        self.is_done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        is_first = self.connections == 1
        with contextlib.suppress(OSError), peer:
            while peer.recv(65536):
                self.requests += 1
                peer.sendall(OK)
                if is_first:
                    self.go_on.wait(5)
                    peer.sendall(self._behind)
                    if self._closes:
                        peer.shutdown(socket.SHUT_WR)
                    self.is_done.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@only_lean
@pytest.mark.parametrize(("behind", "closes"), [(EVIL, False), (b"", True), (b"\r\n", False)])
async def test_b24_what_lies_unread_in_the_kernel_spoils_a_connection(
    behind: bytes, closes: bool
) -> None:
    """The event loop has no chance to see it: the call before ends, and the next begins at once."""
    upstream = OtherThread(behind=behind, closes=closes)
    try:
        async with leg() as one:
            up = upstream_of(upstream.port)
            assert await body_of(one, up) == b"ok"
            upstream.go_on.set()
            assert upstream.is_done.wait(5)  # blocks the loop, on purpose
            time.sleep(0.02)
            assert await body_of(one, up) == b"ok"
            assert (upstream.connections, upstream.requests) == (2, 2)
    finally:
        upstream.close()


async def test_a_connection_the_upstream_closed_is_no_reason_to_fail() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await closed.wait()

    async with raw_upstream(talk) as upstream, leg() as one:
        up = upstream_of(upstream.port)
        assert await body_of(one, up) == b"ok"
        closed.set()
        await asyncio.sleep(0.05)
        assert await body_of(one, up) == b"ok"
        assert [bytes(one).count(b"POST") for one in upstream.received] == [1, 1]


async def test_b24_a_connection_is_dropped_with_the_reply_that_was_not_read() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\npart")
        await writer.drain()
        assert await reader.read() == b""
        left.set()

    async with raw_upstream(talk) as upstream, leg() as one:
        up = upstream_of(upstream.port, calls=1)
        for begins in (True, False):
            reply = await one.send(up, "GET", "/x", [], b"")
            if begins:
                assert await anext(aiter(reply.chunks)) == b"part"
            reply.close()
            reply.close()
            async with asyncio.timeout(2):
                await left.wait()
            left.clear()
        assert len(upstream.received) == 2


async def test_b24_cancelling_a_call_closes_its_connection() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        left.set()

    async with raw_upstream(talk) as upstream, leg() as one:
        call = asyncio.create_task(body_of(one, upstream_of(upstream.port)))
        await until(lambda: upstream.bytes_in > 0)
        call.cancel()
        async with asyncio.timeout(2):
            await left.wait()
        assert call.cancelled() or isinstance(await _outcome(call), asyncio.CancelledError)


async def _outcome(task: asyncio.Task[Any]) -> BaseException | None:
    return (await asyncio.gather(task, return_exceptions=True))[0]


@only_lean
async def test_b24_a_reply_before_the_request_was_all_sent_ends_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.transport.pause_reading()
        await asyncio.sleep(5)

    async with raw_upstream(talk) as upstream, leg() as one:
        up = upstream_of(upstream.port)
        for calls in (1, 2):
            reply = await one.send(up, "POST", "/x", [], b"x" * (16 << 20))
            assert reply.status == 413
            reply.close()
            assert len(upstream.received) == calls


async def test_b23_a_cookie_is_not_kept() -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=secret; Path=/\r\nContent-Length: 2\r\n\r\nok"
    async with raw_upstream(answering(reply)) as upstream, leg() as one:
        up = upstream_of(upstream.port)
        first = await one.send(up, "GET", "/x", [], b"")
        assert ("Set-Cookie", "sid=secret; Path=/") in first.headers
        first.close()
        await body_of(one, up)
        assert upstream.bytes_in > 0
        assert b"secret" not in b"".join(upstream.received)


async def test_b22_a_redirect_is_a_reply_and_nothing_more() -> None:
    async with raw_upstream(answering(EVIL)) as other, leg() as one:
        place = f"http://127.0.0.1:{other.port}/latest/meta-data".encode()
        reply = b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"
        async with raw_upstream(answering(reply)) as upstream:
            answer = await one.send(upstream_of(upstream.port), "GET", "/x", [], b"")
            assert (answer.status, dict(answer.headers)["Location"]) == (302, place.decode())
            answer.close()
        assert other.received == []


async def test_b25_a_name_is_resolved_once_and_that_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name server says something harmless first, and loopback whenever it is asked again."""
    asked: list[str] = []
    plain = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "rebind.example":
            return plain(host, port, *rest, **options)
        asked.append(host)
        address = "127.0.0.1" if len(asked) > 1 else "192.0.0.9"  # global, and nobody is there
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with raw_upstream(answering(OK)) as upstream, leg() as one:
        url = f"http://rebind.example:{upstream.port}"
        up = upstream_of(upstream.port, url=url, private=False, connect_s=0.3)
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await body_of(one, up)
            assert caught.value.code == "upstream_unreachable"
        assert asked
        assert upstream.received == []
        allowed = upstream_of(upstream.port, url=url, name="allowed")
        asked.append("")
        assert await body_of(one, allowed) == b"ok"


async def test_b25_one_private_address_among_several_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        addresses = ("1.1.1.1", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with raw_upstream(answering(OK)) as upstream, leg() as one:
        url = f"http://mixed.example:{upstream.port}"
        with pytest.raises(Refused) as caught:
            await body_of(one, upstream_of(upstream.port, url=url, private=False))
        assert caught.value.code == "upstream_unreachable"
        assert "private" in caught.value.detail
        assert upstream.received == []


async def test_an_address_that_does_not_answer_is_not_the_last_one_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        addresses = ("127.0.0.2", "127.0.0.1")  # the server listens on the second alone
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with raw_upstream(answering(OK)) as upstream, leg() as one:
        url = f"http://several.example:{upstream.port}"
        assert await body_of(one, upstream_of(upstream.port, url=url)) == b"ok"


async def test_bytes_that_keep_coming_outlast_the_idle_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"1", b";", b"a", b"\r\n", b"o", b"\r\n", b"1\r\n", b"k\r\n", b"0\r\n\r\n"):
            await asyncio.sleep(0.06)
            writer.write(piece)

    async with raw_upstream(talk) as upstream, leg() as one:
        assert await body_of(one, upstream_of(upstream.port, idle_s=0.2)) == b"ok"


async def test_the_head_deadline_is_each_calls_own() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        if b"/slow" not in head:
            await asyncio.sleep(0.15)
            writer.write(OK)
        await reader.read()

    async with raw_upstream(talk) as upstream, leg() as one:
        up = upstream_of(upstream.port, response_s=0.2)
        slow = asyncio.create_task(one.send(up, "GET", "/slow", [], b""))
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(one.send(up, "GET", "/x", [], b"")) for _ in range(3)]
        with pytest.raises(Refused) as caught:
            await slow
        assert caught.value.code == "upstream_timeout"
        assert [(await other).status for other in others] == [200] * 3


@only_lean
async def test_closing_the_leg_ends_what_is_under_way() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        if b"/stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await reader.read()

    async with raw_upstream(talk) as upstream:
        one = made_leg()
        up = upstream_of(upstream.port)
        stream = await one.send(up, "GET", "/stream", [], b"")
        waiting = asyncio.create_task(one.send(up, "GET", "/x", [], b""))
        await until(lambda: len(upstream.received) == 2 and upstream.bytes_in > 80)
        await one.close()
        async with asyncio.timeout(2):
            assert isinstance(await _outcome(waiting), Refused)
            with pytest.raises(Refused):
                _ = [chunk async for chunk in stream.chunks]
        stream.close()
