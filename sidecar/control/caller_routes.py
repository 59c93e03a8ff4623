"""Agents, keys and containments over control.sock: which path asks what of whom.

Knows: who acts: the user at the other end of the socket, as the kernel knows them.
Must not know: what is answered.
"""

from __future__ import annotations

import json
import pwd
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from sidecar.control.caller_care import CallerCare
    from sidecar.control.containment_care import ContainmentCare

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Asked = dict[str, Any]


def add_caller_routes(
    app: web.Application,
    care: CallerCare,
    containments: ContainmentCare,
    *,
    asked: Callable[[web.Request], Awaitable[Asked]],
    user_id: Callable[[web.Request], int],
) -> None:
    """Adds them; `asked` reads the JSON object of a body, `user_id` is who sent it."""

    def reads(answer: Callable[[Asked], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            return json_answer(await answer(await asked(request)))

        return handle

    def acts(answer: Callable[[Asked, str], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            actor = f"socket:{user_name(user_id(request))}"
            return json_answer(await answer(await asked(request), actor))

        return handle

    app.router.add_post("/agents/list", reads(care.agents))
    app.router.add_post("/agents/show", reads(care.agent))
    app.router.add_post("/agents/register", acts(care.register))
    app.router.add_post("/agents/move", acts(care.move))
    app.router.add_post("/agents/rotate-token", acts(care.rotate_token))
    app.router.add_post("/keys/list", reads(care.keys))
    app.router.add_post("/keys/create", acts(care.make_key))
    app.router.add_post("/keys/revoke", acts(care.revoke_key))
    app.router.add_post("/containments/begin", acts(containments.begin))
    app.router.add_post("/containments/list", reads(containments.list))
    app.router.add_post("/containments/show", reads(containments.show))
    app.router.add_post("/containments/undo", acts(containments.undo))


def user_name(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def json_answer(content: dict[str, Any]) -> web.Response:
    """What the command line reads."""
    return web.Response(
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
