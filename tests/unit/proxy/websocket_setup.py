"""A whole sidecar between a WebSocket client and a scripted server, for what passes between them.

Client and server are aiohttp's: an implementation that is not the sidecar's on either end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from proxy_whole_setup import Whole, whole
from proxy_wire_setup import Conversation

TOOLS = "catalogue: api\ntools:\n  live: {route: GET /live, websocket: true}\n  plain: GET /plain\n"
ALLOW = "policy: all\nrules:\n  - {id: all, effect: allow, tools: '*'}\n"
POLICIES = {"tools.yaml": TOOLS, "rules.yaml": ALLOW}

Talk = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


async def echo(socket: web.WebSocketResponse, _: web.Request) -> None:
    """Says back what it hears, until it is closed."""
    async for message in socket:
        if isinstance(message.data, str):
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)


@dataclass
class Server:
    """A WebSocket server: its port, the requests it saw, and how each of its sockets ended."""

    port: int = 0
    requests: list[web.Request] = field(default_factory=list)
    closed: list[int | None] = field(default_factory=list)


@contextlib.asynccontextmanager
async def websocket_server(talk: Talk = echo, **options: Any) -> AsyncIterator[Server]:
    """Upgrades every request and talks; with `compress` it offers permessage-deflate."""
    server = Server()

    async def handle(request: web.Request) -> web.StreamResponse:
        server.requests.append(request)
        if request.headers.get("Upgrade") is None:
            return web.Response(text="plain")
        socket = web.WebSocketResponse(**options)
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):
            await talk(socket, request)
        server.closed.append(socket.close_code)
        return socket

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    talk: Talk = echo,
    *,
    api: str = "",
    policies: dict[str, str] | None = None,
    more: str = "",
    **options: Any,
) -> AsyncIterator[tuple[Whole, Server, ClientSession]]:
    """A sidecar in front of a WebSocket server, and a client's session."""
    async with (
        websocket_server(talk, **options) as server,
        whole(folder, passed_to(server.port), policies or POLICIES, more, api) as proxy,
        ClientSession() as client,
    ):
        yield proxy, server, client


def passed_to(port: int) -> Conversation:
    """A conversation that is had by the server at a port: what arrives stays on record."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while piece := await source.read(65536):
                    sink.write(piece)
                    await sink.drain()
            with contextlib.suppress(ConnectionError, RuntimeError):
                sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    return talk
