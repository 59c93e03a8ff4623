"""Caps and deadlines of the front door (B19): a slow or greedy client hurts only itself."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop
from proxy_wire_setup import (
    OK,
    answering,
    door,
    limits_of,
    raw_upstream,
    request,
    status_of,
    until,
    upstream_of,
)

from sidecar.errors import Refused
from sidecar.proxy.exchange import Exchange


async def _say_ok(exchange: Exchange) -> None:
    await exchange.send(200, [], b"ok")


async def test_b19_a_head_that_does_not_end_is_cut_off() -> None:
    async with door(handler=_say_ok, limits=limits_of(header_wait_s=0.1)) as front:
        reader, writer = await front.open()
        writer.write(b"GET /up HTTP/1.1\r\nHost: local")
        async with asyncio.timeout(1):
            answer = await reader.read()
        assert status_of(answer) == 408
        assert front.front.turned_away_total["header_wait"] == 1
        assert status_of(await front.get()) == 200
        writer.close()


async def test_b19_trickled_heads_do_not_push_the_deadline_back() -> None:
    async with door(handler=_say_ok, limits=limits_of(header_wait_s=0.15)) as front:
        reader, writer = await front.open()
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            for byte in b"GET /up HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                await writer.drain()
                if reader.at_eof():
                    raise ConnectionResetError
        assert asyncio.get_running_loop().time() - started < 1
        writer.close()


async def test_b19_the_second_head_of_a_connection_has_a_deadline_too() -> None:
    async with door(handler=_say_ok, limits=limits_of(header_wait_s=0.1)) as front:
        reader, writer = await front.open()
        writer.write(request("/up"))
        assert b"200 OK" in await reader.readuntil(b"ok")
        await asyncio.sleep(0.15)  # idle between requests is not the head's deadline
        writer.write(request("/up"))
        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.write(b"GET /up HT")
        async with asyncio.timeout(1):
            assert status_of(await reader.read()) == 408
        writer.close()


async def test_a_slow_but_timely_head_is_served() -> None:
    async with door(handler=_say_ok, limits=limits_of(header_wait_s=0.5)) as front:
        reader, writer = await front.open()
        raw = request("/up")
        for at in range(0, len(raw), 8):
            writer.write(raw[at : at + 8])
            await asyncio.sleep(0.005)
        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.close()


async def test_b19_idle_connections_end_with_the_keep_alive_time() -> None:
    async with door(handler=_say_ok, keepalive_s=0.1) as front:
        reader, writer = await front.open()
        async with asyncio.timeout(1):
            assert await reader.read() == b""
        writer.close()
        reader, writer = await front.open()
        writer.write(request("/up"))
        async with asyncio.timeout(1):
            assert (await reader.read()).endswith(b"ok")
        writer.close()


async def test_b19_connections_over_the_cap_are_told_and_closed() -> None:
    async with door(handler=_say_ok, limits=limits_of(connections=2)) as front:
        held = [await front.open() for _ in range(2)]
        await until(lambda: front.front.open_connections == 2)
        assert status_of(await front.get()) == 503
        assert front.front.turned_away_total["connections"] == 1
        assert front.front.open_connections == 2
        held[0][1].close()
        await until(lambda: front.front.open_connections == 1)
        assert status_of(await front.get()) == 200
        held[1][1].close()


async def test_b19_one_address_has_its_own_cap() -> None:
    async with door(handler=_say_ok, limits=limits_of(per_address=1)) as front:
        _, writer = await front.open()
        await until(lambda: front.front.open_connections == 1)
        assert status_of(await front.get()) == 503
        assert front.front.turned_away_total["per_address"] == 1
        writer.close()
        await until(lambda: front.front.open_connections == 0)
        assert status_of(await front.get()) == 200


async def test_b19_a_flood_over_the_cap_leaves_nothing_behind() -> None:
    async with door(handler=_say_ok, limits=limits_of(connections=5)) as front:
        held = [await front.open() for _ in range(5)]
        await until(lambda: front.front.open_connections == 5)
        answers = await asyncio.gather(*[front.get() for _ in range(40)], return_exceptions=True)
        told = [answer for answer in answers if isinstance(answer, bytes)]
        assert {status_of(answer) for answer in told} <= {0, 503}
        assert any(status_of(answer) == 503 for answer in told)
        assert all(isinstance(answer, bytes | ConnectionResetError) for answer in answers)
        assert front.front.turned_away_total["connections"] == 40
        for _, writer in held:
            writer.close()
        await until(lambda: front.front.open_connections == 0)
        assert status_of(await front.get()) == 200


async def test_b19_a_reader_that_does_not_read_is_cut_off() -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.send(200, [], b"x" * 50_000_000)

    async with door(handler=flood, write_wait_s=0.2) as front:
        client = socket.create_connection(("127.0.0.1", front.port))
        client.sendall(request("/up"))
        await until(lambda: front.front.open_connections == 1)
        await until(lambda: front.front.open_connections == 0)
        client.close()


async def test_a_connection_serves_many_requests_unless_told_otherwise() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        reader, writer = await front.open()
        for _ in range(5):
            writer.write(request("/up/x", method="POST", body=b"{}"))
            assert b"onnection: close" not in await reader.readuntil(b"\r\n\r\nok")
        front.front.drain()
        writer.close()
        answer = await front.get()
        assert b"Connection: close" in answer
        assert len(upstream.received) == 1


async def test_http_1_0_clients() -> None:
    async with door(handler=_say_ok) as front:
        answer = await front.ask(b"GET /up HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert answer.endswith(b"Connection: close\r\n\r\nok")
        reader, writer = await front.open()
        writer.write(b"GET /up HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        assert b"Connection: keep-alive" in await reader.readuntil(b"\r\n\r\nok")
        writer.close()


def test_b19_the_door_keeps_its_caps_on_uvloop_too() -> None:
    async def ask() -> None:
        async with door(
            handler=_say_ok, limits=limits_of(connections=1, header_wait_s=0.1)
        ) as front:
            reader, writer = await front.open()
            await until(lambda: front.front.open_connections == 1)
            assert status_of(await front.get()) == 503
            writer.write(b"GET /up HT")
            assert status_of(await reader.read()) == 408
            await until(lambda: front.front.open_connections == 0)
            assert status_of(await front.get()) == 200

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())


@pytest.mark.parametrize("before", [b"", b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_b4_chunks_of_a_byte_are_weighed_as_they_are_parsed(before: bytes) -> None:
    """Also those that came in one read with the head, or behind another request."""
    parsed: list[int] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.read_body(1 << 20, 5.0, lambda _: None)
        except Refused as refused:
            parsed.append(exchange.body_bytes)
            await exchange.send(refused.status, [], b"")
            return
        await exchange.send(200, [], b"")

    head = b"POST /up/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with door(handler=handler) as one:
        answer = await one.ask(before + head + b"1\r\na\r\n" * 200_000)
        assert b"HTTP/1.1 413 " in answer and b"Connection: close" in answer
        # Six bytes bring one: of a quarter of a megabyte the loop may read at once, 43,000.
        assert 10_000 < parsed[0] < 18_000
        honest = b"7\r\n" + b"\r\n7\r\n".join([b"honest "] * 12_000) + b"\r\n0\r\n\r\n"
        answer = await one.ask(head.replace(b"chunked", b"chunked\r\nConnection: close") + honest)
        assert status_of(answer) == 200
