"""Every upstream leg against misbehaving servers (B21, B24, B25) and deadlines."""

from __future__ import annotations

import asyncio
import socket

import pytest
from proxy_wire_setup import (
    OK,
    Conversation,
    answering,
    door,
    every_leg,
    made_leg,
    raw_upstream,
    read_request,
    request,
    status_of,
    until,
    upstream_of,
)

from sidecar.config.model import Auth, Secret
from sidecar.errors import Refused

__all__ = ["every_leg"]
pytestmark = pytest.mark.usefixtures("every_leg")

BROKEN = {
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "same_length_twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "length_list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "length_and_chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "gzip_chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked_on_1_0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "cr_in_value": b"HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok",
    "nul_in_value": b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "space_in_name": b"HTTP/1.1 200 OK\r\nX A: a\r\nContent-Length: 2\r\n\r\nok",
    "http_2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "status_999": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok",
    "unasked_101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "interim_flood": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000 + OK,
    "endless_headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000,
    "endless_line": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000,
    "no_http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
}


def saying_once(reply: bytes) -> Conversation:
    """One reply, then the connection closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    return talk


@pytest.mark.parametrize("case", BROKEN)
async def test_b21_a_broken_reply_is_a_502(case: str) -> None:
    async with (
        raw_upstream(saying_once(BROKEN[case])) as upstream,
        door(upstream_of(upstream.port)) as front,
    ):
        answer = await front.get()
        assert status_of(answer) == 502
        assert b"upstream_broken" in answer
        assert b"evil" not in answer
        await front.get()
        assert len(upstream.received) == 2, "the connection was used again"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
    ],
)
async def test_b21_a_reply_that_breaks_off_never_looks_whole(reply: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head, blank, body = reply.partition(b"\r\n\r\n")
        writer.write(head + blank)
        await asyncio.sleep(0.03)
        writer.write(body)

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        answer = await front.get()
        assert status_of(answer) in (200, 502)
        assert not answer.endswith(b"0\r\n\r\n")
        assert front.ended == ["upstream_broken"]


async def test_interim_replies_are_passed_over() -> None:
    reply = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK
    async with (
        raw_upstream(answering(reply)) as upstream,
        door(upstream_of(upstream.port)) as front,
    ):
        answer = await front.get()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"ok")


async def test_b24_bytes_behind_a_reply_are_never_the_next_reply() -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with (
        raw_upstream(answering(OK + evil, OK)) as upstream,
        door(upstream_of(upstream.port)) as front,
    ):
        for _ in range(3):
            assert (await front.get()).endswith(b"ok")
        assert len(upstream.received) == 3


async def test_b24_bytes_that_come_while_a_connection_is_idle_are_never_a_reply() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await asyncio.sleep(0.03)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await asyncio.sleep(5)

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        assert (await front.get()).endswith(b"ok")
        await asyncio.sleep(0.1)
        assert (await front.get()).endswith(b"ok")
        assert len(upstream.received) == 2


async def test_b24_connections_are_reused_where_nothing_was_odd() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        for _ in range(5):
            await front.get()
        assert len(upstream.received) == 1


async def test_nothing_is_sent_twice() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await read_request(reader)  # and closes without an answer

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port)) as front:
        assert status_of(await front.get()) == 200
        assert status_of(await front.get()) == 502
        assert sum(one.count(b"GET /x") for one in upstream.received) == 2


async def test_no_reply_head_in_time_is_a_504() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 500:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async with (
        raw_upstream(talk) as upstream,
        door(upstream_of(upstream.port, response_s=0.15)) as front,
    ):
        async with asyncio.timeout(1):
            answer = await front.get()
        assert status_of(answer) == 504
        assert b"upstream_timeout" in answer


async def test_a_reply_that_stops_midway_is_cut_off() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await asyncio.sleep(5)

    async with (
        raw_upstream(talk) as upstream,
        door(upstream_of(upstream.port, idle_s=0.15)) as front,
    ):
        async with asyncio.timeout(1):
            answer = await front.get()
        assert answer.endswith(b"2\r\nok\r\n")
        assert front.ended == ["upstream_timeout"]


async def test_a_refused_connection_is_a_502_and_nothing_was_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with door(upstream_of(port)) as front:
        answer = await front.get()
        assert status_of(answer) == 502
        assert b"upstream_unreachable" in answer


async def test_a_connect_that_hangs_is_unreachable_not_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with door(upstream_of(full.getsockname()[1], connect_s=0.2)) as front:
            answer = await front.get()
            assert b"upstream_unreachable" in answer
        for filler in fillers:
            filler.close()


async def test_too_many_calls_in_flight() -> None:
    gate = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await gate.wait()
            writer.write(OK)

    async with raw_upstream(talk) as upstream, door(upstream_of(upstream.port, calls=2)) as front:
        held = [asyncio.create_task(front.get()) for _ in range(2)]
        await until(lambda: upstream.bytes_in > 0 and len(upstream.received) == 2)
        answer = await front.get()
        assert status_of(answer) == 503
        assert b"Retry-After: 1" in answer
        gate.set()
        assert [status_of(await one) for one in held] == [200, 200]
        assert status_of(await front.get()) == 200


async def test_b25_a_private_address_needs_permission() -> None:
    async with raw_upstream(answering(OK)) as upstream:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{upstream.port}"
            async with door(upstream_of(upstream.port, url=url, private=False)) as front:
                assert b"upstream_unreachable" in await front.get()
        assert upstream.bytes_in == 0
        url = f"http://localhost:{upstream.port}"
        async with door(upstream_of(upstream.port, url=url)) as front:
            assert status_of(await front.get()) == 200


async def test_the_configured_credential_is_added_and_the_agents_is_not() -> None:
    auth = Auth(header_name="Authorization", header_value=Secret("Bearer upstream-secret"))
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, auth=auth)) as front,
    ):
        await front.get("/up/x", "Authorization: Bearer agent")
        assert upstream.received[0].count(b"uthorization:") == 1
        assert b"Authorization: Bearer upstream-secret\r\n" in upstream.received[0]


async def test_a_header_that_would_split_the_request_is_never_written() -> None:
    async with raw_upstream(answering(OK)) as upstream:
        leg = made_leg()
        up = upstream_of(upstream.port)
        for headers, target in (([("X", "a\r\nY: b")], "/"), ([("X\n", "a")], "/"), ([], "/\r\nX")):
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                await leg.send(up, "GET", target, headers, b"")
        reply = await leg.send(up, "GET", "/", [], b"")
        assert (reply.status, reply.first, reply.complete) == (200, b"ok", True)
        assert [chunk async for chunk in reply.chunks] == [b"ok"]
        reply.close()
        await leg.close()
        assert sum(one.count(b"GET") for one in upstream.received) == 1


async def test_cancelling_a_call_drops_its_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    async with raw_upstream(talk) as upstream:
        leg = made_leg()
        up = upstream_of(upstream.port, calls=1)
        call = asyncio.create_task(leg.send(up, "POST", "/", [], b"{}"))
        await until(lambda: upstream.bytes_in > 0)
        with pytest.raises(Refused) as caught:
            await leg.send(up, "POST", "/", [], b"{}")
        assert caught.value.code == "upstream_busy"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        call = asyncio.create_task(leg.send(up, "POST", "/", [], b"{}"))
        await until(lambda: len(upstream.received) == 2)
        call.cancel()
        await leg.close()


async def test_a_post_without_a_body_says_so_and_a_get_does_not() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        await front.ask(request("/up/x", "Connection: close", method="POST"))
        await front.get()
        received = bytes(upstream.received[0])
        assert received.count(b"Content-Length: 0") == 1
        assert b"Content-Length" not in received[received.index(b"GET") :]
