"""The front door: aiohttp's low-level server with caps, deadlines and checks in front.

Knows: connections, who may open one, how long a head may take, and that a parser's words never
reach a peer. It counts what it turns away in plain numbers.
Must not know: upstreams beyond the names in `HeadRules`, policies, the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp.http_parser
from aiohttp import web_server

from sidecar.errors import Refused, StartRefused
from sidecar.proxy.connection import DoorConnection
from sidecar.proxy.exchange import ClientGone, Exchange
from sidecar.proxy.head import HeadRules
from sidecar.proxy.heartbeats import Heartbeats

if TYPE_CHECKING:
    from sidecar.config.model import Config, Limits
    from sidecar.proxy.head_memory import HeadMemory

Handler = Callable[[Exchange], Awaitable[None]]
RefusedHead = Callable[[Exchange, Refused], Awaitable[None]]

KEEPALIVE_S = 30.0
LINGERING_S = 2.0
LINE_BYTES_MAX = 8190
WRITE_WAIT_S = 60.0

#: Why a connection ended before a request.
TURNED_AWAY_CAUSES = (
    "connections", "per_address", "tls_handshake", "header_wait", "head_incomplete",
)  # fmt: skip

_log = logging.getLogger("aegis.door")


def require_c_parser() -> None:
    """Raises StartRefused unless aiohttp parses requests with its C parser."""
    if aiohttp.http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise StartRefused(
            "aiohttp runs without its C parser, which does not refuse all that it must: install "
            "a wheel for this platform and unset AIOHTTP_NO_EXTENSIONS"
        )


def head_rules(config: Config) -> HeadRules:
    """What the data listener of `config` accepts in a request head."""
    return HeadRules(
        hosts=frozenset(config.listen.data.hosts),
        parameters_max=config.limits.query,
        headers_max=config.limits.headers,
        encoded_slash=frozenset(
            name for name, upstream in config.upstreams.items() if upstream.encoded_slash
        ),
        path_parameters=frozenset(
            name for name, upstream in config.upstreams.items() if upstream.path_parameters
        ),
        by_host={
            host: name for name, upstream in config.upstreams.items() for host in upstream.hosts
        },
        decode={name: up.decode for name, up in config.upstreams.items() if up.decode},
        scheme="http" if config.listen.data.tls is None else "https",
        log_in=frozenset(
            name for name, upstream in config.upstreams.items() if upstream.kind == "mcp"
        ),
    )


class FrontDoor(web_server.Server):
    """What a Doorkeeper lets connections in to; needs a running loop.

    `handler` serves a request with a well-formed head, `on_refused_head` answers one that was
    refused; both send their reply through the exchange. A lost connection cancels the handler.
    Plain numbers for whoever counts: `malformed_total` by code, `turned_away_total` by cause
    (TURNED_AWAY_CAUSES), `requests_count`, `open_connections`.
    """

    def __init__(
        self,
        handler: Handler,
        on_refused_head: RefusedHead,
        *,
        rules: HeadRules,
        limits: Limits,
        write_wait_s: float = WRITE_WAIT_S,
        keepalive_s: float = KEEPALIVE_S,
        lingering_s: float = LINGERING_S,
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]  # DoorConnection calls it, with an Exchange
            handler_cancellation=True,
            keepalive_timeout=keepalive_s,
            lingering_time=lingering_s,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=limits.headers,
            auto_decompress=False,
            access_log=None,
            logger=_log,
        )
        self.handler = handler
        self._on_refused_head = on_refused_head
        self._rules = rules
        self._limits = limits
        self.write_wait_s = write_wait_s
        self.heartbeats = Heartbeats(limits.heartbeat_s, self._loop)
        self._per_address: Counter[str] = Counter()
        self.open_connections = 0
        self.is_draining = False
        self.malformed_total: Counter[str] = Counter()
        # There from the start, so that a rate sees the first of each.
        self.turned_away_total: Counter[str] = Counter(dict.fromkeys(TURNED_AWAY_CAUSES, 0))

    @property
    def header_wait_s(self) -> float:
        """How long a head may take from its first byte on."""
        return self._limits.header_wait_s

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves."""
        return self._loop

    def __call__(self) -> DoorConnection:
        raise TypeError("connections are let in by a Doorkeeper, which keeps the caps")

    def welcome(self, address: str) -> DoorConnection:
        """What carries an admitted connection from `address`."""
        return DoorConnection(self, address, loop=self._loop, **self._kwargs)

    # -- connections -----------------------------------------------------------------------

    def admit(self, address: str) -> bool:
        """Whether one more connection from `address` may come in; it is counted either way."""
        if self.open_connections >= self._limits.connections:
            self.turned_away_total["connections"] += 1
            return False
        if self._per_address[address] >= self._limits.per_address:
            self.turned_away_total["per_address"] += 1
            return False
        self._per_address[address] += 1
        self.open_connections += 1
        return True

    def leave(self, address: str) -> None:
        """An admitted connection from `address` has ended."""
        self.open_connections -= 1
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    @property
    def farewells_max(self) -> int:
        """How many connections that were turned away may stay to read why."""
        return self._limits.connections

    def drain(self) -> None:
        """From now on every reply is its connection's last; idle connections close."""
        self.is_draining = True
        self.pre_shutdown()

    # -- requests --------------------------------------------------------------------------

    def read_head(self, exchange: Exchange, memory: HeadMemory) -> Refused | None:
        """Gives the exchange its head; or why it has none. `memory` is its connection's."""
        message = exchange.message
        try:
            exchange.head = memory.read(
                message.method,
                message.path,
                message.version,
                message.raw_headers,
                exchange.source_ip,
                self._rules,
            )
        except Refused as refused:
            return refused
        return None

    async def refuse_head(self, exchange: Exchange, refused: Refused) -> None:
        """Counts a refused head and has it answered; the connection ends with the reply."""
        self.malformed_total[refused.code] += 1
        exchange.keep_alive = False
        try:
            await self._on_refused_head(exchange, refused)
        except ClientGone:
            exchange.abort()
