"""Agents, keys, containments, alerts, incidents and sinks over control.sock: which path asks what
of whom.

Knows: what only looks, and what changes something and is told who does it: the user at the other
end of the socket, as the kernel knows them.
Must not know: what is answered.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from sidecar.local_users import user_name

if TYPE_CHECKING:
    from sidecar.control.caller_care import CallerCare
    from sidecar.control.incident_care import IncidentCare
    from sidecar.control.sink_care import SinkCare
    from sidecar.control.state import ControlState

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Asked = dict[str, Any]
Reads = Callable[[Asked], Awaitable[dict[str, Any]]]
#: The second is who wants it.
Acts = Callable[[Asked, str], Awaitable[dict[str, Any]]]


class Care(NamedTuple):
    """What may be asked of somebody, by path."""

    reads: Mapping[str, Reads]
    acts: Mapping[str, Acts]


def cares_of(state: ControlState) -> Iterator[Care]:
    """Of everybody whom this sidecar has."""
    if state.sinks is not None:
        yield _of_sinks(state.sinks)
    if state.callers is not None:
        yield _of_callers(state.callers)
    if state.incident_care is not None:
        yield _of_incidents(state.incident_care)


def _of_callers(care: CallerCare) -> Care:
    containments = care.containments
    return Care(
        {
            "/agents/list": care.agents,
            "/agents/show": care.agent,
            "/keys/list": care.keys,
            "/containments/list": containments.list,
            "/containments/show": containments.show,
        },
        {
            "/agents/register": care.register,
            "/agents/move": care.move,
            "/agents/rotate-token": care.rotate_token,
            "/keys/create": care.make_key,
            "/keys/revoke": care.revoke_key,
            "/containments/begin": containments.begin,
            "/containments/undo": containments.undo,
        },
    )


def _of_incidents(care: IncidentCare) -> Care:
    return Care(
        {
            "/alerts/list": care.alerts,
            "/alerts/show": care.alert,
            "/incidents/list": care.incidents,
            "/incidents/show": care.incident,
        },
        {"/alerts/move": care.move_alert, "/incidents/move": care.move_incident},
    )


def _of_sinks(care: SinkCare) -> Care:
    return Care(
        {"/sinks/list": care.list, "/sinks/dead": care.dead, "/sinks/show": care.show},
        {"/sinks/test": care.test, "/sinks/retry": care.retry},
    )


def add_care(
    app: web.Application,
    care: Care,
    *,
    asked: Callable[[web.Request], Awaitable[Asked]],
    user_id: Callable[[web.Request], int],
) -> None:
    """Serves it; `asked` reads the JSON object of a body, `user_id` is who sent it."""

    def reading(answer: Reads) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            return json_answer(200, await answer(await asked(request)))

        return handle

    def acting(answer: Acts) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            actor = f"socket:{user_name(user_id(request))}"
            return json_answer(200, await answer(await asked(request), actor))

        return handle

    for path, look in care.reads.items():
        app.router.add_post(path, reading(look))
    for path, act in care.acts.items():
        app.router.add_post(path, acting(act))


def json_answer(status: int, content: dict[str, Any]) -> web.Response:
    """What the command line reads."""
    return web.Response(
        status=status,
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
