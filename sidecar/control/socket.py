"""control.sock: how the command line of the same user speaks with the running sidecar.

Knows: HTTP over a Unix socket that only its owner may open (mode 0600), and that checks who has
connected all the same: the sidecar's user or root. GET /status reads, POST /reload acts.
Must not know: what a status holds, how a reload is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from sidecar.errors import StartRefused

if TYPE_CHECKING:
    from sidecar.control.state import ControlState

NAME: Final = "control.sock"
#: macOS takes 103 bytes, Linux 107; one limit for both, with room for a name while it is made.
PATH_BYTES_MAX: Final = 100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[], Awaitable[dict[str, Any]]]


class ControlSocket:
    """The socket of one sidecar, in its data folder."""

    def __init__(self, folder: Path, state: ControlState) -> None:
        self.path = folder / NAME
        self._runner = web.AppRunner(
            _app(state.status, state.reload), access_log=None, shutdown_timeout=1.0
        )
        self._server: asyncio.AbstractServer | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listens; takes the place of a socket that was left behind.

        Raises StartRefused: the path is too long, is no socket, or another process answers there.
        """
        listener = _bind(self.path)
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


def _app(status: Answer, reload: Answer) -> web.Application:
    async def get_status(_: web.Request) -> web.Response:
        return _json(200, await status())

    async def post_reload(_: web.Request) -> web.Response:
        return _json(200, await reload())

    app = web.Application(middlewares=[_owner_only], client_max_size=1024)
    app.router.add_get("/status", get_status)
    app.router.add_post("/reload", post_reload)
    return app


@web.middleware
async def _owner_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None or peer_uid(connection) not in (os.geteuid(), 0):
        return _json(403, {"code": "forbidden", "title": "Only the sidecar's user and root"})
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json(error.status, {"code": "not_found", "title": error.reason})


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel knows it."""
    if sys.platform == "darwin":  # pragma: no cover - struct xucred: version, uid, groups
        credentials = connection.getsockopt(0, 0x001, 76)
        return int(struct.unpack_from("=II", credentials)[1])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", credentials)[1])


def _bind(path: Path) -> socket.socket:
    """A bound socket with the right mode, put in its place in one step; nobody can connect
    before it listens, and that is after its mode is set."""
    length = len(os.fsencode(path))
    if length > PATH_BYTES_MAX:
        raise StartRefused(
            f"the path of {NAME} has {length} bytes and a Unix socket takes {PATH_BYTES_MAX}: "
            f"keep the store in a folder with a shorter path than {path.parent}"
        )
    _refuse_if_taken(path)
    draft = path.with_name(f"{path.name}~")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        draft.unlink(missing_ok=True)
        listener.bind(str(draft))
        draft.chmod(0o600)
        draft.replace(path)
    except OSError as error:
        listener.close()
        raise StartRefused(f"{path} cannot be made: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _refuse_if_taken(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartRefused(f"{path} is there and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1.0)
        try:
            trial.connect(str(path))
        except OSError:
            return
    raise StartRefused(f"another sidecar answers at {path}; one process per data folder")


def _json(status: int, content: dict[str, Any]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(content).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
