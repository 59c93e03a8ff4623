"""The seam to the upstream: what forwarding takes and gives, whatever client library does it.

Knows: the shape of a reply. Must not know: aiohttp, the agent's side, policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

Headers = tuple[tuple[str, str], ...]


class Switched(NamedTuple):
    """A connection whose upstream has agreed to a WebSocket; it reads nothing until it is taken
    over. `first` came behind the 101."""

    transport: asyncio.Transport
    first: bytes


class Reply:
    """An upstream's reply, from the moment its head is there.

    `headers` stand as received (checked: no CR, LF, NUL). If `complete`, `first` is the whole
    body; else `chunks` yields the body as it comes, `first` included, once, and may raise
    Refused("upstream_timeout" | "upstream_broken"). `close()` must be called in any case and may
    be called twice; before the end of the body it drops the connection.
    If `switched` there is no body: the connection belongs to whoever takes it.
    """

    __slots__ = ("_close", "_source", "complete", "first", "headers", "status", "switched")

    def __init__(
        self,
        status: int,
        headers: Headers,
        first: bytes = b"",
        *,
        source: AsyncIterator[bytes] | None = None,
        close: Callable[[], None] | None = None,
        switched: Switched | None = None,
    ) -> None:
        self.switched = switched
        self.status = status
        self.headers = headers
        self.first = first
        self.complete = source is None and switched is None
        self._source = source
        self._close = close

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        return _whole(self.first) if self._source is None else self._source

    def close(self) -> None:
        """Gives the connection back, or drops it if the reply was not read to its end."""
        close, self._close = self._close, None
        if close is not None:
            close()


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


class UpstreamLeg(Protocol):
    """Forwards one call, at most once."""

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
    ) -> Reply:
        """The reply of `upstream`, once its head has arrived.

        `target` is relative to the upstream's base URL ("/path?query", "?query" or "") and is sent
        byte for byte. Framing, Host and the upstream's configured credential are added here.
        Raises Refused: upstream_busy and upstream_unreachable (nothing was sent), upstream_timeout
        and upstream_broken (it may have taken effect). Cancellation drops the connection.
        """
        ...

    async def ask(
        self, upstream: Upstream, reply_id: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Reply:
        """The reply to a JSON-RPC request of the sidecar's own, under `reply_id`, while the call of
        this task waits for it. Raises Refused as `send` does."""
        ...

    async def open_websocket(
        self, upstream: Upstream, target: str, headers: Sequence[tuple[str, str]]
    ) -> Reply:
        """The reply to a well-formed WebSocket handshake; `switched` if the upstream agreed.

        Raises Refused as `send` does: an agreement to anything else is upstream_broken.
        """
        ...

    async def close(self) -> None:
        """Drops all connections."""
        ...
