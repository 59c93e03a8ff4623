"""control.sock: how the command line of the same user speaks with the running sidecar.

Knows: HTTP over a Unix socket that only its owner may open (mode 0600), and that checks who has
connected all the same: the sidecar's user or root. GET /status reads; POST /reload, POST /fence,
DELETE /fence and POST /fence/moved act, as do POST /runs/…, /tools/…, /approvals/…, /agents/…,
/keys/…, /containments/…, /alerts/…, /incidents/… and /sinks/….
Must not know: what a status holds, how a reload is done, what a fence is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from sidecar.config.store_url import shown_store
from sidecar.control.approval_care import VERBS as APPROVAL_VERBS
from sidecar.control.approval_care import ApprovalCare, ApprovalCareRefused
from sidecar.control.care_routes import add_care, cares_of, json_answer
from sidecar.control.fencing import FenceRefused, Fencing
from sidecar.control.run_care import RunCare, RunCareRefused
from sidecar.control.sink_care import SinkCareRefused
from sidecar.control.socket_file import NAME, PATH_BYTES_MAX, bound
from sidecar.control.tool_care import ToolCare, ToolCareRefused
from sidecar.errors import StartRefused
from sidecar.identity.changes import ChangeRefused
from sidecar.local_users import user_name
from sidecar.soc.incidents import IncidentRefused

if TYPE_CHECKING:
    from sidecar.control.state import ControlState

BODY_BYTES_MAX: Final = 8192

__all__ = ["NAME", "PATH_BYTES_MAX", "ControlSocket", "peer_uid"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[], Awaitable[dict[str, Any]]]


class ControlSocket:
    """The socket of one sidecar, in its data folder."""

    def __init__(self, folder: Path, state: ControlState) -> None:
        self.path = folder / NAME
        self._runner = web.AppRunner(
            _app(state),
            access_log=None,
            shutdown_timeout=1.0,
        )
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def start(self, listener: socket.socket | None = None) -> None:
        """Listens, on what `bound` gave or newly; takes the place of a socket that was left behind.

        Raises StartRefused as `bound` does.
        """
        listener = listener or bound(self.path)
        try:
            self._inode = os.lstat(self.path).st_ino
            await self._runner.setup()
            serve = self._runner.server
            if serve is None:
                raise StartRefused("control.sock has nothing to serve")
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(serve, sock=listener)
        except BaseException:
            listener.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends it and takes the socket away, unless a successor's is there. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)  # noqa: PTH108
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


def _app(state: ControlState) -> web.Application:
    async def get_status(_: web.Request) -> web.Response:
        return json_answer(200, await state.status())

    async def post_reload(request: web.Request) -> web.Response:
        actor = f"socket:{user_name(_user_id(request))}"
        return json_answer(200, await state.reload(actor))

    app = web.Application(middlewares=[_owner_only], client_max_size=BODY_BYTES_MAX)
    app.router.add_get("/status", get_status)
    app.router.add_post("/reload", post_reload)
    if state.fencing is not None:
        _add_fence(app, state.fencing)
    if state.runs is not None:
        _add_runs(app, state.runs)
    if state.tools is not None:
        _add_tools(app, state.tools)
    if state.approval_care is not None:
        _add_approvals(app, state.approval_care)
    for care in cares_of(state):
        add_care(app, care, asked=_asked, user_id=_user_id)
    return app


def _add_approvals(app: web.Application, approvals: ApprovalCare) -> None:
    async def post_list(request: web.Request) -> web.Response:
        asked = await _asked(request)
        every, after = asked.get("all") is True, _text(asked, "after")
        said = await approvals.list(_text(asked, "tenant"), every=every, after=after)
        return json_answer(200, said)

    async def post_show(request: web.Request) -> web.Response:
        asked = await _asked(request)
        return json_answer(200, await approvals.show(_text(asked, "id"), _text(asked, "tenant")))

    async def post_act(request: web.Request) -> web.Response:
        asked, connection = await _asked(request), _connection_of(request)
        uid = os.geteuid() if connection is None else peer_uid(connection)
        said = await approvals.act(
            request.path.rpartition("/")[2],
            _text(asked, "id"),
            _text(asked, "tenant"),
            uid,
            _text(asked, "reason"),
        )
        return json_answer(200, said)

    async def post_link(request: web.Request) -> web.Response:
        asked, connection = await _asked(request), _connection_of(request)
        uid = os.geteuid() if connection is None else peer_uid(connection)
        groups = asked.get("groups")
        named = [one for one in groups if isinstance(one, str)] if isinstance(groups, list) else []
        said = await approvals.link(
            _text(asked, "id"), _text(asked, "tenant"), uid, _text(asked, "name"), named
        )
        return json_answer(200, said)

    app.router.add_post("/approvals/link", post_link)
    app.router.add_post("/approvals/list", post_list)
    app.router.add_post("/approvals/show", post_show)
    for verb in APPROVAL_VERBS:
        app.router.add_post(f"/approvals/{verb}", post_act)


def _add_tools(app: web.Application, tools: ToolCare) -> None:
    async def post_diff(request: web.Request) -> web.Response:
        asked = await _asked(request)
        return json_answer(
            200, await tools.drifted(_text(asked, "upstream"), _text(asked, "tenant"))
        )

    async def post_accept(request: web.Request) -> web.Response:
        asked = await _asked(request)
        tool = asked.get("tool")
        if not isinstance(tool, str | None):
            return json_answer(400, {"code": "malformed_request", "title": "`tool` is no text"})
        said = await tools.accept(
            _text(asked, "upstream"),
            None if tool is None else [tool],
            _text(asked, "tenant"),
            _text(asked, "seen"),
            _text(asked, "reason"),
            actor=f"socket:{user_name(_user_id(request))}",
        )
        return json_answer(200, said)

    async def post_forget(request: web.Request) -> web.Response:
        asked = await _asked(request)
        named = asked.get("tools", 0)  # null means all: whoever says nothing means nothing
        if named is not None and not _are_texts(named):
            return json_answer(400, {"code": "malformed_request", "title": "`tools` are no texts"})
        said = await tools.forget(
            _text(asked, "upstream"),
            named,
            _text(asked, "tenant"),
            _text(asked, "reason"),
            actor=f"socket:{user_name(_user_id(request))}",
            is_tried=asked.get("is_tried") is True,
        )
        return json_answer(200, said)

    app.router.add_post("/tools/forget", post_forget)
    app.router.add_post("/tools/diff", post_diff)
    app.router.add_post("/tools/accept", post_accept)


def _add_runs(app: web.Application, runs: RunCare) -> None:
    async def post_show(request: web.Request) -> web.Response:
        asked = await _asked(request)
        return json_answer(200, await runs.show(*_agent(asked), _text(asked, "run_id")))

    async def post_reset(request: web.Request) -> web.Response:
        asked = await _asked(request)
        reason, run_id = _text(asked, "reason"), _text(asked, "run_id")
        actor = f"socket:{user_name(_user_id(request))}"
        return json_answer(200, await runs.reset(*_agent(asked), reason, run_id, actor=actor))

    app.router.add_post("/runs/show", post_show)
    app.router.add_post("/runs/reset", post_reset)


def _agent(asked: dict[str, Any]) -> tuple[str, str | None]:
    return _text(asked, "agent"), _text(asked, "tenant") or None


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_unicode(*texts: str) -> bool:
    """JSON may hold halves of characters, which no record can."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _add_fence(app: web.Application, fencing: Fencing) -> None:
    async def post_fence(request: web.Request) -> web.Response:
        asked = await _asked(request)
        wait_s, target, reason = asked.get("wait_s"), _text(asked, "target"), _text(asked, "reason")
        if not target or not isinstance(wait_s, int | float | None):
            return json_answer(400, {"code": "malformed_request", "title": "`target` is missing"})
        if not _is_unicode(target, reason):
            return json_answer(400, {"code": "malformed_request", "title": "That is no text"})
        actor = f"socket:{user_name(_user_id(request))}"
        said = await fencing.stand(
            target=shown_store(target), reason=reason, wait_s=wait_s, actor=actor
        )
        return json_answer(200, said)

    async def delete_fence(request: web.Request) -> web.Response:
        reason = _text(await _asked(request), "reason")
        if not _is_unicode(reason):
            return json_answer(400, {"code": "malformed_request", "title": "That is no text"})
        actor = f"socket:{user_name(_user_id(request))}"
        return json_answer(200, await fencing.lift(actor=actor, reason=reason))

    async def post_moved(request: web.Request) -> web.Response:
        return json_answer(200, await fencing.leave(str((await _asked(request)).get("fence_id"))))

    app.router.add_post("/fence", post_fence)
    app.router.add_delete("/fence", delete_fence)
    app.router.add_post("/fence/moved", post_moved)


async def _asked(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request's body; {} for anything else."""
    try:
        asked = json.loads(await request.read())
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


@web.middleware
async def _owner_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _user_id(request) not in (os.geteuid(), 0):
        return json_answer(403, {"code": "forbidden", "title": "Only the sidecar's user and root"})
    try:
        return await handler(request)
    except (
        ApprovalCareRefused, ChangeRefused, FenceRefused, IncidentRefused, RunCareRefused,
        SinkCareRefused,
        ToolCareRefused,
    ) as error:  # fmt: skip
        said = {"code": error.code, "title": error.title, "next_step": error.next_step}
        return json_answer(409, said)
    except web.HTTPException as error:
        return json_answer(error.status, {"code": "not_found", "title": error.reason})


def _connection_of(request: web.Request) -> socket.socket | None:
    found = request.transport.get_extra_info("socket") if request.transport else None
    connection: socket.socket | None = found
    return connection


def _user_id(request: web.Request) -> int:
    """Who has connected; -1 if that cannot be known."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    return -1 if connection is None else peer_uid(connection)


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel knows it."""
    if sys.platform == "darwin":  # pragma: no cover - struct xucred: version, uid, groups
        credentials = connection.getsockopt(0, 0x001, 76)
        return int(struct.unpack_from("=II", credentials)[1])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", credentials)[1])
