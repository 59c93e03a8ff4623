"""The upstream leg of our own: pooled HTTP/1.1 connections over asyncio's transports.

Knows: connections are pooled per upstream, a call is one write and one future, and a connection on
which anything was odd is never used again. Nothing is ever sent twice: another connection is taken
only before a request's first byte was written.
Must not know: the agent's side, policies, the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

from sidecar.errors import Refused
from sidecar.proxy.upstream import Reply, Switched
from sidecar.proxy.upstream_faults import Faults
from sidecar.proxy.upstream_lean_dial import Dialler
from sidecar.proxy.upstream_lean_line import LeanLine
from sidecar.proxy.upstream_pool import Deadlines, Pool
from sidecar.proxy.upstream_request import RequestForm
from sidecar.proxy.websocket_handshake import require_agreement

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from sidecar.config.model import Upstream, UpstreamTls
    from sidecar.listening import OwnListeners

    Contexts = Mapping[UpstreamTls, Callable[[], ssl.SSLContext]]


class LeanLeg:
    """An UpstreamLeg."""

    def __init__(
        self, contexts: Contexts | None = None, ourselves: OwnListeners | None = None
    ) -> None:
        """`contexts` gives that of the next connection where a `tls` of an upstream is kept; no
        connection may lead to `ourselves`."""
        self._links: dict[str, _Link] = {}
        self._ourselves = ourselves
        self._contexts = contexts or {}

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> Reply:
        """See UpstreamLeg.send."""
        link = self._link(upstream)
        head = link.form.head(method, target, headers, len(body))
        return _reply(await link.ask(head, body, method == "HEAD"), link)

    async def ask(
        self, upstream: Upstream, reply_id: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Reply:
        """As any other: the server tells them apart by their connections."""
        return await self.send(upstream, "POST", "", headers, body)

    async def open_websocket(
        self, upstream: Upstream, target: str, headers: Sequence[tuple[str, str]]
    ) -> Reply:
        """See UpstreamLeg.open_websocket."""
        link = self._link(upstream)
        line = await link.ask(link.form.head("GET", target, headers, 0), b"", False, True)
        if not line.has_switched:
            return _reply(line, link)
        try:
            require_agreement(headers, line.headers)
            taken = _Taken(line.hand_over(), link)
        except BaseException:
            link.drop(line)
            raise
        return Reply(line.status, line.headers, switched=taken.switched, close=taken.close)

    def _link(self, upstream: Upstream) -> _Link:
        link = self._links.get(upstream.name)
        if link is None:
            context = self._contexts.get(upstream.tls)
            link = self._links[upstream.name] = _Link(upstream, context, self._ourselves)
        return link

    async def close(self) -> None:
        """Drops all connections."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()


class _Link:
    """What is known of one upstream: its connections, and how its requests look."""

    def __init__(
        self,
        upstream: Upstream,
        context: Callable[[], ssl.SSLContext] | None,
        ourselves: OwnListeners | None,
    ) -> None:
        self.in_flight = 0
        self.calls_max = upstream.limits.calls
        self.form = RequestForm(upstream)
        self.pool: Pool[LeanLine] = Pool()
        self.heads = Deadlines(upstream.timeouts.response_s)
        self._silences = Deadlines(upstream.timeouts.idle_s)
        self._dialler = Dialler(upstream, context=context, ourselves=ourselves)
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._faults = Faults(upstream, self._loop.time)
        self._lines: WeakSet[LeanLine] = WeakSet()

    async def ask(
        self, head: bytes, body: bytes, is_head_request: bool, may_switch: bool = False
    ) -> LeanLine:
        """A line on which the head of the reply has arrived; see UpstreamLeg for what is raised."""
        if self.in_flight >= self.calls_max:
            raise Refused("upstream_busy", retry_after_s=1)
        self.in_flight += 1
        try:
            line = self.pool.take() or await self.connect()
        except BaseException as error:
            self.in_flight -= 1
            self.note(error)
            raise
        try:
            answer = line.ask(head, body, is_head_request, may_switch)
            self.heads.begin(line)
            try:
                await answer
            finally:
                self.heads.end(line)
        except BaseException as error:
            self.drop(line)
            self.note(error)
            raise
        return line

    def note(self, error: BaseException) -> None:
        """Tells operators why a call failed, unless it was we who ended it."""
        if isinstance(error, Refused) and not self._is_closed:
            self._faults.met(error)

    async def connect(self) -> LeanLine:
        """A new connection to this upstream; raises Refused("upstream_unreachable")."""
        line, own = await self._dialler.dial(lambda: LeanLine(self._loop, self._silences))
        if not self._dialler.is_secured:
            line.watch(own)
        if not line.is_fit():
            line.abort()
            raise Refused("upstream_unreachable", detail="the upstream talks before it is asked")
        line.watch(own)  # with TLS only now: its tickets may still lie there after the handshake
        self._lines.add(line)
        return line

    def drop(self, line: LeanLine) -> None:
        """Ends a call whose connection must not be used again."""
        self.in_flight -= 1
        line.abort()

    def keep(self, line: LeanLine) -> None:
        """Ends a call whose reply was read to its end."""
        self.in_flight -= 1
        self.pool.give(line)

    async def close(self) -> None:
        """Drops all connections."""
        self._is_closed = True
        self.pool.close()
        self.heads.close()
        self._silences.close()
        for line in list(self._lines):
            line.cut()
        await self._dialler.close()


def _reply(line: LeanLine, link: _Link) -> Reply:
    if line.is_whole:
        reply = Reply(line.status, line.headers, line.taken())
        link.keep(line)
        return reply
    coming = _Coming(line, link)
    return Reply(line.status, line.headers, source=coming.chunks(), close=coming.close)


class _Taken:
    """A connection that was handed over: its place among the calls is given back at its end."""

    def __init__(self, switched: Switched, link: _Link) -> None:
        self.switched = switched
        self._link = link

    def close(self) -> None:
        """Whoever took it has closed it, or nobody did."""
        self._link.in_flight -= 1
        transport = self.switched.transport
        if not transport.is_closing():
            transport.abort()


class _Coming:
    """A reply's body on its way."""

    def __init__(self, line: LeanLine, link: _Link) -> None:
        self._line: LeanLine | None = line
        self._link = link

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises Refused: upstream_timeout, upstream_broken."""
        try:
            while self._line is not None and (chunk := await self._line.read()):
                yield chunk
        except Refused as refused:
            self._link.note(refused)
            raise
        line, self._line = self._line, None
        if line is not None:
            self._link.keep(line)

    def close(self) -> None:
        """Drops the connection unless the body was read to its end."""
        line, self._line = self._line, None
        if line is not None:
            self._link.drop(line)
