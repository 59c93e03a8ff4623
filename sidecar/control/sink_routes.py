"""Sinks over control.sock: which path asks what of whom.

Knows: who acts: the user at the other end of the socket, as the kernel knows them.
Must not know: what is answered.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sidecar.control.caller_routes import user_name

if TYPE_CHECKING:
    from sidecar.control.sink_care import SinkCare

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Asked = dict[str, Any]


def add_sink_routes(
    app: web.Application,
    care: SinkCare,
    *,
    asked: Callable[[web.Request], Awaitable[Asked]],
    user_id: Callable[[web.Request], int],
) -> None:
    """Adds them; `asked` reads the JSON object of a body, `user_id` is who sent it."""

    def reads(answer: Callable[[Asked], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            return _json(await answer(await asked(request)))

        return handle

    def acts(answer: Callable[[Asked, str], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            actor = f"socket:{user_name(user_id(request))}"
            return _json(await answer(await asked(request), actor))

        return handle

    app.router.add_post("/sinks/list", reads(care.list))
    app.router.add_post("/sinks/dead", reads(care.dead))
    app.router.add_post("/sinks/show", reads(care.show))
    app.router.add_post("/sinks/test", acts(care.test))
    app.router.add_post("/sinks/retry", acts(care.retry))


def _json(content: dict[str, Any]) -> web.Response:
    return web.Response(
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
