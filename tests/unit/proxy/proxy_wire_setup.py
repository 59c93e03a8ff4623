"""A real front door and a real upstream leg between real sockets, without policies or ledger."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp_leg import AiohttpLeg

from sidecar.config.model import Auth, Limits, Timeouts, Upstream, UpstreamLimits
from sidecar.errors import Refused
from sidecar.listening import listening_sockets
from sidecar.proxy.dialects.reply import problem_reply
from sidecar.proxy.doorkeeper import Doorkeeper
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.head import HeadRules
from sidecar.proxy.headers import forward_headers, reply_headers
from sidecar.proxy.server import FrontDoor
from sidecar.proxy.upstream import UpstreamLeg
from sidecar.proxy.upstream_lean import LeanLeg

#: Every implementation of the seam. What holds for one holds for all: see `every_leg`.
LEGS: dict[str, Callable[[], UpstreamLeg]] = {"aiohttp": AiohttpLeg, "lean": LeanLeg}

CALL_ID = "0190c0ffee00700080000000000000bb"

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def upstream_of(
    port: int,
    *,
    auth: Auth | None = None,
    path: str = "",
    connect_s: float = 2.0,
    response_s: float = 2.0,
    idle_s: float = 2.0,
    calls: int = 256,
    request_bytes: int = 1 << 20,
    **changes: Any,
) -> Upstream:
    """An upstream `up` at a port of loopback."""
    values: dict[str, Any] = {
        "name": "up",
        "url": f"http://127.0.0.1:{port}{path}",
        "kind": "rest",
        "auth": auth,
        "timeouts": Timeouts(connect_s=connect_s, response_s=response_s, idle_s=idle_s),
        "limits": UpstreamLimits(request_bytes=request_bytes, calls=calls),
        "private": True,
        "encoded_slash": False,
        "redirects": (),
    }
    return Upstream(**(values | changes))


def limits_of(**changes: Any) -> Limits:
    """The default limits with some changed."""
    return Limits(**changes)


@dataclasses.dataclass
class RawUpstream:
    """A scripted server on loopback: what arrived, connection by connection."""

    port: int
    received: list[bytearray]

    @property
    def bytes_in(self) -> int:
        return sum(len(one) for one in self.received)


@contextlib.asynccontextmanager
async def raw_upstream(talk: Conversation) -> AsyncIterator[RawUpstream]:
    """Serves `talk` per connection; whatever it reads through its reader is kept."""
    received: list[bytearray] = []
    tasks: set[asyncio.Task[Any]] = set()

    class Recording(asyncio.StreamReader):
        def __init__(self) -> None:
            super().__init__(limit=1 << 22)
            self.log = bytearray()
            received.append(self.log)

        def feed_data(self, data: bytes) -> None:
            self.log.extend(data)
            super().feed_data(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def started(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: asyncio.StreamReaderProtocol(Recording(), started), "127.0.0.1", 0
    )
    try:
        yield RawUpstream(server.sockets[0].getsockname()[1], received)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next request at the upstream."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head, await reader.readexactly(length)


def answering(*replies: bytes) -> Conversation:
    """A conversation that answers the n-th request of a connection with the n-th reply, over and
    over with the last."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            await read_request(reader)
            writer.write(replies[min(number, len(replies) - 1)])
            await writer.drain()
            number += 1

    return talk


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


@dataclasses.dataclass
class Door:
    """A running front door: its port, its counters, and what its handler met."""

    port: int
    front: FrontDoor
    refusals: list[str]
    ended: list[str]
    leg: UpstreamLeg
    clients: list[asyncio.StreamWriter]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client connection; it is closed with the door at the latest."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        return reader, writer

    async def ask(self, raw: bytes, wait_s: float = 3.0) -> bytes:
        """All that comes back for raw bytes until the door closes or `wait_s` have passed."""
        reader, writer = await self.open()
        answer = bytearray()
        try:
            writer.write(raw)
            async with asyncio.timeout(wait_s):
                while data := await reader.read(65536):
                    answer += data
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return bytes(answer)

    async def get(self, target: str = "/up/x", *lines: str, method: str = "GET") -> bytes:
        """The whole answer to a well-formed request that closes its connection."""
        return await self.ask(request(target, *lines, "Connection: close", method=method))


def request(target: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A well-formed request."""
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines])
    if body:
        head += f"\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    """The status of the last-but-interim reply in raw bytes; 0 if there is none."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


_chosen: list[str] = ["lean"]


def made_leg() -> UpstreamLeg:
    """The leg of this test: the one that `every_leg` chose, else the product's own."""
    return LEGS[_chosen[-1]]()


@pytest.fixture(params=LEGS)
def every_leg(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once with each leg."""
    _chosen.append(request.param)
    yield request.param
    _chosen.pop()


@contextlib.asynccontextmanager
async def door(
    upstream: Upstream | None = None,
    *,
    limits: Limits | None = None,
    handler: Callable[[Exchange], Awaitable[None]] | None = None,
    **options: Any,
) -> AsyncIterator[Door]:
    """A front door whose handler forwards to `upstream`, or is given."""
    leg = made_leg()
    refusals: list[str] = []
    ended: list[str] = []
    used = limits if limits is not None else limits_of()

    async def refuse(exchange: Exchange, refused: Refused) -> None:
        refusals.append(refused.code)
        await exchange.send(*problem_reply(refused, CALL_ID))

    async def forward(exchange: Exchange) -> None:
        assert upstream is not None
        head = exchange.head
        try:
            body = await exchange.read_body(
                upstream.limits.request_bytes, used.body_wait_s, lambda _: None
            )
            reply = await leg.send(
                upstream, head.method, head.target, forward_headers(head, upstream), body
            )
            try:
                headers = reply_headers(reply, upstream, head, CALL_ID)
                if reply.complete:
                    await exchange.send(reply.status, headers, reply.first)
                else:
                    await exchange.stream(reply.status, headers, reply.chunks)
            finally:
                reply.close()
            ended.append("completed")
        except Refused as refused:
            ended.append(refused.code)
            if exchange.has_begun:
                exchange.abort()
            else:
                await refuse(exchange, refused)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    front = FrontDoor(
        handler if handler is not None else forward,
        refuse,
        rules=HeadRules(
            hosts=frozenset({"localhost", "127.0.0.1"}),
            parameters_max=used.query,
            headers_max=used.headers,
        ),
        limits=used,
        **{"lingering_s": 0.2, **options},
    )
    server = Doorkeeper(front, await listening_sockets("127.0.0.1", 0, 100))
    clients: list[asyncio.StreamWriter] = []
    try:
        yield Door(server.sockets[0].getsockname()[1], front, refusals, ended, leg, clients)
    finally:
        for client in clients:
            client.close()
        server.close()
        await front.shutdown(0.1)
        await leg.close()


async def until(condition: Callable[[], bool], wait_s: float = 2.0) -> None:
    """Waits for a condition; raises TimeoutError."""
    async with asyncio.timeout(wait_s):
        while not condition():
            await asyncio.sleep(0.005)
