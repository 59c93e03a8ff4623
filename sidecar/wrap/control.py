"""control.sock of a wrapped server: status, reload, runs, and what its tools say of themselves.

Knows: that it is seldom asked, and that what answers is heavy: it is loaded when somebody asks.
Must not know: what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.control.socket_file import NAME, bound
from sidecar.errors import StartRefused
from sidecar.rooms import Tasks

if TYPE_CHECKING:
    from sidecar.control.socket import ControlSocket
    from sidecar.control.state import ControlState

_log = logging.getLogger("aegis.wrap")

BACKLOG = 8


class NoDoor:
    """What a front door would count, where there is none."""

    open_connections = 0
    malformed_total: Mapping[str, int] = {}
    turned_away_total: Mapping[str, int] = {}


class LateControl:
    """The socket in the data folder; `made_state` is called when somebody connects."""

    def __init__(self, folder: Path, tasks: Tasks, made_state: Callable[[], ControlState]) -> None:
        self._folder = folder
        self._tasks = tasks
        self._made_state = made_state
        self._listener: socket.socket | None = None
        self._server: ControlSocket | None = None

    def start(self) -> None:
        """Listens. A path that is too long for a socket keeps no server from working."""
        try:
            self._listener = bound(self._folder / NAME)
        except StartRefused as refused:
            _log.warning("nobody can ask this process", extra={"cause": str(refused)})
            return
        self._listener.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._asked)

    def _asked(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._tasks.start(self._serve(self._listener), "control")

    async def _serve(self, listener: socket.socket) -> None:
        from sidecar.control.socket import ControlSocket

        self._server = ControlSocket(self._folder, self._made_state())
        await self._server.start(listener)

    async def stop(self) -> None:
        """Ends it and takes the socket away."""
        if self._server is not None:
            await self._server.stop()
        elif self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / NAME)  # noqa: PTH108 - the store's lock is still ours
