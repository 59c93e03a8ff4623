"""The control listener: metrics and health, read-only, signed links, the API, the console.

Knows: HTTP, and which Host and Origin may ask (a web page that rebinds its name to this address
may not). An address is never trusted here: whoever connects may read how the sidecar does, and
nothing else without a key, or a link made for it.
Must not know: how numbers and reasons are found, what the API serves, what a page shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web

from sidecar import __version__
from sidecar.control.approval_links import LinkPages
from sidecar.control.connection_limits import ConnectionLimits
from sidecar.control.continuing import end_if_uninvited, hold_back, is_unknown
from sidecar.errors import REFUSALS, StartRefused
from sidecar.listening import listening_sockets

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from sidecar.config.model import Address
    from sidecar.control.api.mount import Api
    from sidecar.control.console.mount import Console
    from sidecar.control.state import ControlState

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Renders the metrics for an Accept header: body and content type.
Render = Callable[[str], Awaitable[tuple[bytes, str]]]
#: Why calls cannot be served now; empty if they can.
NotReady = Callable[[], Awaitable[list[str]]]

BACKLOG: Final = 128
PATHS: Final = ("/health", "/healthz", "/metrics", "/readyz")
SERVED: Final = f"Served here: {', '.join(PATHS)}; pages at /console, the API below /v1."
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "aegis-sidecar",
}


def control_app(
    *,
    render: Render,
    not_ready: NotReady,
    hosts: Collection[str],
    api: Api | None = None,
    before: Sequence[Middleware] = (),
    links: LinkPages | None = None,
    console: Console | None = None,
) -> web.Application:
    """The application. `hosts` are the names that may stand in Host, without port; `before` are
    asked first."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return _json(200, {"status": "alive"})

    async def health(_: web.Request) -> web.Response:
        """For clients of agents' SDKs, which ask no more than this of a version and a store."""
        reasons = await not_ready()
        status, word = (503, "unhealthy") if reasons else (200, "healthy")
        said: dict[str, object] = {"status": word, "version": __version__}
        return _json(status, {**said, "reasons": reasons} if reasons else {**said, "db": "up"})

    async def readyz(_: web.Request) -> web.Response:
        reasons = await not_ready()
        if reasons:
            return _json(503, {"status": "not ready", "reasons": reasons})
        return _json(200, {"status": "ready"})

    app = web.Application(middlewares=[_guard(frozenset(hosts)), *before], client_max_size=4096)
    app.on_response_prepare.append(end_if_uninvited)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/health", health)
    if links is not None:
        links.add_to(app)
    if api is not None:
        api.add_to(app)
    if console is not None:
        console.add_to(app)
    return app


class ControlServer:
    """The listener of one sidecar; `port` is the one it has (for port 0, one that was free)."""

    def __init__(
        self,
        address: Address,
        state: ControlState,
        context: ssl.SSLContext | None = None,
        api: Api | None = None,
        before: Sequence[Middleware] = (),
        console: Console | None = None,
    ) -> None:
        self._address = address
        self._context = context
        self._sockets: list[socket.socket] = []
        self._sites: list[web.SockSite] = []
        self._swaps: set[asyncio.Task[None]] = set()
        app = control_app(
            render=state.render_metrics,
            not_ready=state.not_ready,
            hosts=address.hosts,
            api=api,
            before=before,
            links=_links(state),
            console=console,
        )
        # Nothing that is sent here is decompressed: no route takes it, and it may be a bomb.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=30.0,
            shutdown_timeout=2.0,
            auto_decompress=False,
        )
        self.port = address.port

    async def start(self) -> None:
        """Listens; raises StartRefused if the address cannot be had."""
        host, port = self._address.host, self._address.port
        await self._runner.setup()
        if self._runner.server is not None:
            ConnectionLimits().hold(self._runner.server)
            hold_back(self._runner.server)
        try:
            self._sockets = await listening_sockets(host, port, BACKLOG)
            await self._serve()
        except OSError as error:
            await self._runner.cleanup()
            raise StartRefused(
                f"the control listener cannot have {host}:{port}: "
                f"{os.strerror(error.errno) if error.errno else error}; "
                "end what has it, or name another as `listen.control`"
            ) from error
        self.port = self._sockets[0].getsockname()[1]

    @property
    def listening(self) -> Sequence[socket.socket]:
        """The sockets it listens on, while it does."""
        return self._sockets

    def speak(self, context: ssl.SSLContext) -> None:
        """From now on new connections meet this context; those that are open keep theirs."""
        self._context = context
        task = asyncio.get_running_loop().create_task(self._serve())
        self._swaps.add(task)
        task.add_done_callback(self._swaps.discard)

    async def _serve(self) -> None:
        """Accepts with the context as it is now; on the same sockets, so that nobody is missed."""
        before, self._sites = self._sites, []
        for listener in self._sockets:
            site = web.SockSite(self._runner, listener.dup(), ssl_context=self._context)
            await site.start()
            self._sites.append(site)
        for site in before:
            await site.stop()

    async def stop(self) -> None:
        """Ends it; answers under way may finish. Idempotent."""
        await self._runner.cleanup()
        while self._sockets:
            self._sockets.pop().close()


def _links(state: ControlState) -> LinkPages | None:
    """The pages of signed links, where there are approvals."""
    if state.approvals is None or state.approval_care is None:
        return None
    return LinkPages(state.approvals, state.approval_care.groups_of)


def _guard(hosts: frozenset[str]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_host_served(request, hosts):
            return _problem(421, "misdirected_request", "This Host is not served here")
        origin = request.headers.get("Origin")
        if origin is not None and _host_of(origin.partition("://")[2]) not in hosts:
            return _problem(403, "origin_not_allowed", "Requests from this web origin are refused")
        if is_unknown(request):
            return _problem(417, "expectation_failed", "Unknown expectation")
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            refusal = _problem(405, "method_not_allowed", "This is only read: send GET")
            refusal.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return refusal
        except web.HTTPNotFound:
            return _problem(404, "not_found", "There is no such path here")
        except web.HTTPException as error:
            return _problem(error.status, "malformed_request", "The request cannot be served")

    return guard


def _is_host_served(request: web.Request, hosts: frozenset[str]) -> bool:
    """A configured name, or literally the address this connection came to: what a probe of a
    container knows. A rebound web page always sends a name."""
    named = request.headers.getall("Host", [])
    if len(named) != 1:
        return False
    name = _host_of(named[0])
    if name in hosts:
        return True
    local = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(local, tuple) and name == local[0]


def _host_of(authority: str) -> str:
    """The host of `host[:port]` in lower case, an IPv6 address without its brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def _json(status: int, content: dict[str, object]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers=_HEADERS,
    )


def _problem(status: int, code: str, title: str) -> web.Response:
    refusal = REFUSALS.get(code)
    said = {"code": code, "title": title, "status": status, "detail": title}
    said["next_step"] = refusal.next_step if refusal else SERVED
    problem = _json(status, said)
    problem.content_type = "application/problem+json"
    return problem
