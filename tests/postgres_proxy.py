"""A TCP proxy before a PostgreSQL that cuts connections at chosen bytes, or speaks TLS for it.

Knows: bytes on their way, and the few messages that come before a session. Threads, because it
serves a sidecar in another process as well as a test's own loop.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from enum import Enum

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
CHUNK = 1 << 16


class Cut(Enum):
    """Where a connection is cut that carries the mark."""

    #: Before the server gets the mark.
    BEFORE = "before"
    #: When the server has answered what carried it, before the client gets the answer.
    AFTER = "after"


class Proxy:
    """Listens on a port of its own; every connection is carried to the server's."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: Set: the next connection that carries the mark is cut there, once.
        self.mark = b""
        self.cut = Cut.BEFORE
        self.cuts = 0
        self.is_deaf = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, mark: bytes, cut: Cut) -> None:
        """From now on."""
        self.mark, self.cut = mark, cut

    def close(self) -> None:
        """Nobody is listened to, nothing is carried any more."""
        self._listener.close()
        self.break_all()

    def break_all(self) -> None:
        """Every connection is lost at once."""
        for one in list(self._open):
            _end(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        self._open.add(client)
        server: socket.socket | None = None
        try:
            if self.is_deaf:
                client.recv(CHUNK)  # the client says something, and hears nothing
                client.recv(CHUNK)
                return
            if self._tls is not None:
                client = self._secured(client)
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {client, server}
            lost = threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, lost), daemon=True)
            back.start()
            self._forth(client, server, lost)
        except OSError:
            return
        finally:
            for one in (client, server):
                if one is not None:
                    _end(one)
                    self._open.discard(one)

    def _secured(self, client: socket.socket) -> socket.socket:
        assert self._tls is not None
        if client.recv(len(SSL_REQUEST)) != SSL_REQUEST:
            raise OSError("not a request for TLS")
        client.sendall(b"S")
        return self._tls.wrap_socket(client, server_side=True)

    def _forth(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while data := client.recv(CHUNK):
            is_marked = bool(self.mark) and self.mark in data
            if is_marked:
                self.mark = b""
                self.cuts += 1
                if self.cut is Cut.BEFORE:
                    return
                lost.set()
            server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                if lost.is_set():
                    break
                client.sendall(data)
        _end(client)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()


@contextlib.contextmanager
def proxy(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy before the server on this port of this machine."""
    carrier = Proxy(port, tls)
    try:
        yield carrier
    finally:
        carrier.close()


def through(url: str, port: int, proxy: Proxy) -> str:
    """The same URL, by way of the proxy."""
    return url.replace(f":{port}/", f":{proxy.port}/")
