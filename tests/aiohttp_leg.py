"""An upstream leg over aiohttp's connector and response parser: the yardstick of the product's own,
put to the same tests.

Knows: connections are pooled per upstream, a request is written in one piece, and a connection on
which anything was odd is never used again. `ClientSession` is left out on purpose: it re-quotes
URLs, retries on its own, keeps cookies, and costs more than everything else on the way of a call.
Must not know: the agent's side, policies, the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientTimeout, TCPConnector
from aiohttp.client_exceptions import ClientPayloadError, SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp_line import Line, LineProtocol
from yarl import URL

from sidecar.addresses import PublicResolver, is_literal, is_public
from sidecar.config.upstream_tls import client_context, client_material
from sidecar.errors import Refused
from sidecar.proxy.arrived import arrived_body
from sidecar.proxy.location import read_base
from sidecar.proxy.reply_head import checked_headers
from sidecar.proxy.upstream import Reply
from sidecar.proxy.upstream_pool import Deadlines, Pool
from sidecar.proxy.upstream_request import RequestForm

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

INTERIM_REPLIES_MAX = 8

_READ_ERRORS = (ClientError, HttpProcessingError, OSError, EOFError)


class AiohttpLeg:
    """An UpstreamLeg; one connector per upstream, made at its first call."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> Reply:
        """See UpstreamLeg.send."""
        link = self._links.get(upstream.name)
        if link is None:
            link = self._links[upstream.name] = _Link(upstream)
        if link.in_flight >= upstream.limits.calls:
            raise Refused("upstream_busy", retry_after_s=1)
        link.in_flight += 1
        try:
            line = link.pool.take() or await link.connect()
        except BaseException:
            link.in_flight -= 1
            raise
        try:
            line.expect_reply(has_body=method != "HEAD")
            _write(line, link.form.head(method, target, headers, len(body)) + body)
            return await _read_reply(line, link)
        except BaseException:
            link.drop(line)
            raise

    async def ask(
        self, upstream: Upstream, reply_id: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Reply:
        """As any other: the server tells them apart by their connections."""
        return await self.send(upstream, "POST", "", headers, body)

    async def open_websocket(
        self, upstream: Upstream, target: str, headers: Sequence[tuple[str, str]]
    ) -> Reply:
        """What a switched connection does is the product's own."""
        raise Refused("upgrade_refused")

    async def close(self) -> None:
        """Drops all connections."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()


class _Link:
    """What is known of one upstream: its pool, and the parts of a request that never change."""

    def __init__(self, upstream: Upstream) -> None:
        base = read_base(upstream.url)
        self.in_flight = 0
        self.awaited = Deadlines(upstream.timeouts.response_s)
        self.idle_s = upstream.timeouts.idle_s
        self.form = RequestForm(upstream)
        self._may_connect = upstream.private or not is_literal(base.host) or is_public(base.host)
        self.pool: Pool[Line] = Pool()
        self._connector = TCPConnector(
            limit=0,
            force_close=True,
            resolver=None if upstream.private else PublicResolver(),
            ssl=client_context(client_material(upstream.tls)) if base.scheme == "https" else True,
        )
        # Without this seam of aiohttp's (its own class of connections) all works, a little slower.
        lines = partial(LineProtocol, loop=asyncio.get_running_loop())
        self._connector._factory = lines  # type: ignore[assignment]
        self._destination = ClientRequest(
            "GET", URL(upstream.url, encoded=True), loop=asyncio.get_running_loop()
        )
        connect_s = upstream.timeouts.connect_s
        self._timeout = ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)

    async def connect(self) -> Line:
        """A new connection to this upstream; raises Refused("upstream_unreachable")."""
        if not self._may_connect:
            raise Refused("upstream_unreachable", detail="the upstream's address is private")
        try:
            return Line(await self._connector.connect(self._destination, [], self._timeout))
        except (ClientError, OSError, TimeoutError) as error:
            raise Refused("upstream_unreachable", detail=repr(error)) from error

    def drop(self, line: Line) -> None:
        """Ends a call whose connection must not be used again."""
        self.in_flight -= 1
        line.abort()

    def keep(self, line: Line) -> None:
        """Ends a call whose reply was read to its end."""
        self.in_flight -= 1
        self.pool.give(line)

    async def close(self) -> None:
        """Drops all connections."""
        self.pool.close()
        self.awaited.close()
        await self._connector.close()


def _write(line: Line, request: bytes) -> None:
    """Writes the request in one piece."""
    transport = line.protocol.transport
    if transport is None or transport.is_closing():
        raise Refused("upstream_unreachable", detail="the connection closed before it was used")
    transport.write(request)


async def _read_reply(line: Line, link: _Link) -> Reply:
    protocol = line.protocol
    link.awaited.begin(line)
    try:
        message, payload = await protocol.read()
        if message.code < 200:
            message, payload = await _read_past_interim(protocol, message)
    except SocketTimeoutError as error:
        raise Refused("upstream_timeout") from error
    except _READ_ERRORS as error:
        raise Refused("upstream_broken", detail=repr(error)) from error
    finally:
        link.awaited.end(line)
    headers = checked_headers(message.code, message.version, message.raw_headers)
    if not payload.is_eof():
        source = _Stream(line, payload, link)
        return Reply(message.code, headers, source=source.chunks(), close=source.close)
    try:
        first = arrived_body(payload, protocol)
    except Exception as error:  # whatever was set on the payload
        raise Refused("upstream_broken", detail=repr(error)) from error
    link.keep(line)
    return Reply(message.code, headers, first)


async def _read_past_interim(
    protocol: ResponseHandler, message: RawResponseMessage
) -> tuple[RawResponseMessage, StreamReader]:
    """The first reply behind an interim one that is not interim itself."""
    for _ in range(INTERIM_REPLIES_MAX):
        if message.code == 101:
            raise Refused("upstream_broken", "The upstream switched protocols unasked")
        message, payload = await protocol.read()
        if message.code >= 200:
            return message, payload
    raise Refused("upstream_broken", "The upstream sent interim replies without end")


class _Stream:
    """A reply's body on its way, with an idle deadline between its bytes."""

    def __init__(self, line: Line, payload: StreamReader, link: _Link) -> None:
        self._line: Line | None = line
        self._protocol = line.protocol
        self._payload = payload
        self._link = link

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises Refused: upstream_timeout, upstream_broken."""
        closed = self._watch()
        try:
            while chunk := await self._payload.readany():
                yield chunk
        except SocketTimeoutError as error:
            raise Refused("upstream_timeout") from error
        except _READ_ERRORS as error:
            raise Refused("upstream_broken", detail=repr(error)) from error
        finally:
            if closed is not None:
                closed.remove_done_callback(self._end)
        line, self._line = self._line, None
        if line is not None:
            self._link.keep(line)

    def _watch(self) -> asyncio.Future[None] | None:
        """Starts the idle deadline, and sees to it that a lost connection ends the body.

        aiohttp tells a body's reader of a lost connection, but not where the connection was
        closed because the body's own framing was wrong.
        """
        if self._payload.is_eof():  # nobody would stop the timer any more
            return None
        closed = self._protocol.closed
        if closed is None:
            self._end()
            return None
        closed.remove_done_callback(_take_note)
        closed.add_done_callback(_take_note)
        closed.add_done_callback(self._end)
        self._protocol.read_timeout = self._link.idle_s
        self._protocol.start_timeout()
        return closed

    def _end(self, _closed: object = None) -> None:
        if not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(ClientPayloadError("the body's framing is wrong"))

    def close(self) -> None:
        """Drops the connection unless the body was read to its end."""
        line, self._line = self._line, None
        if line is not None:
            self._link.drop(line)


def _take_note(closed: asyncio.Future[None]) -> None:
    """Looks at how a connection ended, so that asyncio does not report it as overlooked."""
    if not closed.cancelled():
        closed.exception()
