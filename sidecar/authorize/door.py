"""What of `/v1` agents need themselves: authorize, poll, consume; on whichever listener they ask.

Knows: three routes, and how a request of the data listener becomes one of them. Whatever else
stands below `/v1` is people's business and served on the control listener alone.
Must not know: what is decided, the control listener's HTTP library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from sidecar.authorize.answers import error_reply
from sidecar.authorize.asked import AskedHttp
from sidecar.authorize.not_here import NOT_HERE
from sidecar.clock import Clock
from sidecar.config.model import Limits
from sidecar.errors import Refused
from sidecar.model import Principal
from sidecar.proxy.dialects.reply import WholeReply
from sidecar.proxy.exchange import ClientGone, Exchange
from sidecar.proxy.held_bodies import HeldBodies, HeldBody
from sidecar.telemetry.counters import Counters

#: The first segment of paths that are the sidecar's own.
RESERVED: Final = "v1"
AUTHORIZE: Final = "authorize"
CONSUME: Final = "consume"
APPROVALS: Final = "approvals"

T = TypeVar("T")
Serve = Callable[[AskedHttp], Awaitable[WholeReply]]
#: By method and path.
Routes = dict[tuple[str, tuple[str, ...]], Serve]


class AuthorizeDoor:
    """Leads requests below `/v1` to who answers them. `routes` are by method and path, in which
    `*` is one segment, whatever it is."""

    def __init__(
        self,
        routes: Routes,
        limits: Limits,
        bodies: HeldBodies,
        counters: Counters,
        clock: Clock,
        knows: Callable[[AskedHttp], bool],
    ) -> None:
        """`knows` tells whether a request bears the credential of an agent."""
        self._routes = routes
        self._limits = limits
        self._bodies = bodies
        self._counters = counters
        self._clock = clock
        self._knows = knows

    async def handle(self, exchange: Exchange) -> None:
        """Serves one request of the data listener whose head is well formed."""
        self._counters.in_flight += 1
        try:
            status, headers, body = await self.answer(self._asked(exchange))
            with contextlib.suppress(ClientGone):  # the decision stands, heard or not
                await exchange.send(status, headers, body)
        finally:
            self._counters.in_flight -= 1

    def serves(self, asked: AskedHttp) -> bool:
        """Whether a request of the control listener is an agent's: what people may ask for too is
        only if an agent asks."""
        if asked.segments[0] == AUTHORIZE or asked.segments[-1] == CONSUME:
            return True
        if _found(NOT_HERE, asked) is not None:
            return True
        return not isinstance(self._route(asked), Refused) and self._knows(asked)

    def body(self) -> HeldBody:
        """What is held of the body of one request, by whichever listener it comes."""
        return HeldBody(self._bodies, RESERVED)

    async def answer(self, asked: AskedHttp) -> WholeReply:
        """What is answered; a path or method that is not served here is told apart. Nothing is held
        of the request's body after it."""
        try:
            return await self._answer(asked)
        finally:
            asked.held.let_go()

    async def _answer(self, asked: AskedHttp) -> WholeReply:
        serve = self._route(asked)
        if isinstance(serve, Refused):
            self._counters.refused(serve.code)
            self._counters.unrecorded_refusals += 1
            reply = error_reply(serve, self._clock.new_id())
            if serve.code == "method_not_allowed":
                reply.headers.append(("Allow", ", ".join(self._methods(asked))))
            return reply
        return await serve(asked)

    def _methods(self, asked: AskedHttp) -> list[str]:
        """Those by which a path is served here."""
        return sorted({method for method, path in self._routes if _fits(path, asked.segments)})

    def _route(self, asked: AskedHttp) -> Serve | Refused:
        serve = _found(self._routes, asked)
        if serve is not None:
            if asked.query:  # it could be meant as a limit, and nothing reads it
                return Refused("malformed_request", "This path takes no query")
            return serve
        if asked.is_control and (said := _found(NOT_HERE, asked)) is not None:
            return Refused(*said)
        if any(_fits(path, asked.segments) for _, path in self._routes):
            return Refused("method_not_allowed", "This path takes another method")
        return Refused("unknown_route")

    def _asked(self, exchange: Exchange) -> AskedHttp:
        head, held, limits = exchange.head, self.body(), self._limits

        async def read_body(principal: Principal) -> bytes:
            if head.is_handshake:
                raise Refused("upgrade_refused")
            held.tenant = principal.tenant
            body = exchange.arrived_body(limits.request_bytes)
            if body is None:
                held.require_room(int(head.first.get("content-length", 0)))
                body = await exchange.read_body(
                    limits.request_bytes, limits.body_wait_s, held.becomes
                )
            held.becomes(len(body))
            return body

        return AskedHttp(
            head.method, head.segments, head.first, head.source_ip, read_body, held,
            certificate=exchange.certificate, query=head.query,
        )  # fmt: skip


def _found(table: Mapping[tuple[str, tuple[str, ...]], T], asked: AskedHttp) -> T | None:
    """What stands in a table for a request."""
    for (method, path), one in table.items():
        if method == asked.method and _fits(path, asked.segments):
            return one
    return None


def _fits(path: Sequence[str], segments: Sequence[str]) -> bool:
    return len(path) == len(segments) and all(
        part in ("*", segment) for part, segment in zip(path, segments, strict=True)
    )
