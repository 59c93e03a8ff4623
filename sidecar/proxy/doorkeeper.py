"""Accepts connections and turns away those over the caps before anything is built for them.

Knows: sockets that listen, the caps, and how to turn somebody away so that he can still read why.
Under overload most connections are turned away, and what each of them costs is taken from the
calls that are being served: a transport and a protocol made only to refuse cost ten times as much
as a bare socket.
Must not know: HTTP requests, heads, bodies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from sidecar.errors import REFUSALS

if TYPE_CHECKING:
    from sidecar.proxy.connection import DoorConnection
    from sidecar.proxy.server import FrontDoor

_log = logging.getLogger("aegis.door")

#: How long a connection that was turned away may take to read why.
FAREWELL_S = 0.5
#: Connections accepted in one turn of the loop; calls in progress get their turn after them.
ACCEPTS_A_TURN = 128
#: The pause after a turn in which somebody was turned away and more were waiting: refusing at the
#: rate at which a flood arrives would leave no time for the calls that are served.
FULL_S = 0.005
#: The pause after the system has refused to give a connection (no file descriptors left).
EXHAUSTED_S = 0.1
#: How long a peer may take to say its last word over TLS.
SHUTDOWN_S = 5.0

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_DRAIN_BYTES = 64 * 1024


def farewell(code: str, status_line: str) -> bytes:
    """A whole reply, the connection's last, for one who is refused before he is heard."""
    kind = REFUSALS[code]
    words = f"{kind.title} ({code}).\nNext step: {kind.next_step}"
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": kind.title,
            "status": kind.status,
            "code": code,
            "next_step": kind.next_step,
            # As `problem_reply` has them, for clients of vendors.
            "message": words,
            "error": {"code": code, "message": words},
        }
    )
    head = (
        f"HTTP/1.1 {status_line}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


_TOO_MANY = farewell("too_many_connections", "503 Service Unavailable")


class Doorkeeper:
    """Serves some listening sockets from now until `close`."""

    def __init__(
        self,
        door: FrontDoor,
        listening: Sequence[socket.socket],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """`tls` gives the context of the next connection; without it all speak plain HTTP."""
        self._door = door
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self.sockets = tuple(listening)
        self._entering: set[asyncio.Task[None]] = set()
        #: Turned away, with the time until which each may read why; oldest first.
        self._leaving: deque[tuple[float, socket.socket]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        for listener in self.sockets:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self) -> None:
        """Accepts no more; connections that were let in stay. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for listener in self.sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        if self._timer is not None:
            self._timer.cancel()
        while self._leaving:
            self._leaving.popleft()[1].close()

    def _accept(self, listener: socket.socket) -> None:
        was_full = False
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, peer = listener.accept()
            except ConnectionAbortedError:
                continue
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                _log.exception(
                    "a connection could not be accepted",
                    extra={"next_step": "Raise what the system gives: `ulimit -n`, LimitNOFILE."},
                )
                self._pause(listener, EXHAUSTED_S)
                return
            address = peer[0] if isinstance(peer, tuple) and peer else ""
            if self._door.admit(address):
                task = self._loop.create_task(self._let_in(connection, address))
                self._entering.add(task)
                task.add_done_callback(self._entering.discard)
            else:
                self._turn_away(connection)
                was_full = True
        if was_full:
            self._pause(listener, FULL_S)

    def _pause(self, listener: socket.socket, pause_s: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(pause_s, self._accept_again, listener)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def _let_in(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        made: DoorConnection | None = None

        def welcome() -> DoorConnection:
            nonlocal made
            made = self._door.welcome(address)
            return made

        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(welcome, connection)
            else:
                await self._loop.connect_accepted_socket(
                    welcome,
                    connection,
                    ssl=self._tls(),
                    ssl_handshake_timeout=self._door.header_wait_s,
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
        except OSError:
            connection.close()
        finally:
            # A connection that was made leaves by itself when it is lost.
            if made is None or not made.was_made:
                self._door.leave(address)
                if self._tls is not None:
                    self._door.turned_away_total["tls_handshake"] += 1

    # -- those turned away -----------------------------------------------------------------

    def _turn_away(self, connection: socket.socket) -> None:
        # To say why over TLS would cost a handshake, more than many calls.
        if self._tls is not None or len(self._leaving) >= self._door.farewells_max:
            _reset(connection)
            return
        connection.setblocking(False)
        try:
            connection.send(_TOO_MANY)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(connection)
            return
        # Closing at once would reset a client that is still sending, and lose it the answer.
        self._leaving.append((self._loop.time() + FAREWELL_S, connection))
        if self._timer is None:
            self._timer = self._loop.call_later(FAREWELL_S, self._see_off)

    def _see_off(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._leaving and self._leaving[0][0] <= now_s:
            connection = self._leaving.popleft()[1]
            with contextlib.suppress(OSError):  # it is gone, or has sent nothing
                connection.recv(_DRAIN_BYTES)
            connection.close()
        if self._leaving:
            left_s = self._leaving[0][0] - now_s
            # Never finer than 10 ms: a crowd leaves in crowds.
            self._timer = self._loop.call_later(max(left_s, 0.01), self._see_off)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    connection.close()
