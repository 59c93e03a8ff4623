"""What a connection leaves in memory once it is lost: nothing that only a collection would find.

Collections are rare in a sidecar that serves (`sidecar.rooms.settle`), so that rings pile up.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from proxy_wire_setup import Door, door, request, until

from sidecar.errors import Refused
from sidecar.proxy.connection import DoorConnection
from sidecar.proxy.exchange import Exchange

CHUNKED = b"POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_memory() -> int:
    return sum(type(one) is DoorConnection for one in gc.get_objects())


async def _say_ok(exchange: Exchange) -> None:
    await exchange.read_body(1000, 1.0, lambda _: None)
    await exchange.send(200, [], b"ok")


async def _never(exchange: Exchange) -> None:
    try:
        await exchange.read_body(1000, 30.0, lambda _: None)
    except Refused:
        await exchange.send(400, [], b"")
    else:
        await asyncio.sleep(30)


async def _answered(front: Door, sent: bytes) -> asyncio.StreamWriter:
    reader, writer = await front.open()
    writer.write(sent)
    assert b"200 OK" in await reader.readuntil(b"ok")
    return writer


@pytest.mark.parametrize("sent", [
    request("/up"), request("/up", method="POST", body=b"body"),
    CHUNKED + b"4\r\nbody\r\n0\r\n\r\n",
], ids=["no-body", "length", "chunked"])  # fmt: skip
async def test_nothing_stays_of_who_leaves_between_two_calls(sent: bytes) -> None:
    async with door(handler=_say_ok) as front:
        writer = await _answered(front, sent)
        assert in_memory() == 1  # it would be seen
        writer.close()
        await until(lambda: in_memory() == 0)


@pytest.mark.parametrize("sent", [
    request("/up"), request("/up", method="POST", body=b"body"), CHUNKED + b"4\r\nbo", CHUNKED,
    CHUNKED + b"4\r\nbody\r\n0\r\n\r\n",
], ids=["no-body", "length", "half-a-chunk", "no-chunk", "chunked"])  # fmt: skip
async def test_nothing_stays_of_who_hangs_up_in_the_middle_of_a_call(sent: bytes) -> None:
    async with door(handler=_never) as front:
        _, writer = await front.open()
        writer.write(sent)
        await until(lambda: front.front.requests_count == 1)
        assert in_memory() == 1
        writer.close()
        await until(lambda: in_memory() == 0)
