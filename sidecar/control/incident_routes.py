"""Alerts and incidents over control.sock: which path asks what of whom.

Knows: who acts: the user at the other end of the socket, as the kernel knows them.
Must not know: what is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sidecar.control.caller_routes import Asked, Handler, json_answer, user_name

if TYPE_CHECKING:
    from sidecar.control.incident_care import IncidentCare


def add_incident_routes(
    app: web.Application,
    care: IncidentCare,
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

    app.router.add_post("/alerts/list", reads(care.alerts))
    app.router.add_post("/alerts/show", reads(care.alert))
    app.router.add_post("/alerts/move", acts(care.move_alert))
    app.router.add_post("/incidents/list", reads(care.incidents))
    app.router.add_post("/incidents/show", reads(care.incident))
    app.router.add_post("/incidents/move", acts(care.move_incident))
