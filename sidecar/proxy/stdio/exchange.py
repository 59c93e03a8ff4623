"""One line of the agent and the one line that answers it, as the pipeline takes them.

Knows: that a notification gets no answer, whatever comes of it, and that an answer to a request
always carries its id, or the agent would wait for ever.
Must not know: policies, the server's side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from sidecar.errors import Refused
from sidecar.proxy.agent_side import ClientGone
from sidecar.proxy.head import RequestHead
from sidecar.proxy.stdio.message import Incoming

if TYPE_CHECKING:
    from sidecar.policy.terms import Obligations
    from sidecar.proxy.dialects.held import HeldReply
    from sidecar.proxy.websocket_relay import Relay


class Sink(Protocol):
    """Where lines for the agent go."""

    @property
    def is_gone(self) -> bool:
        """Whether nobody reads them any more."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether `drain` should be waited for."""
        ...

    def write(self, line: bytes) -> None:
        """Hands a line over, which gets its end."""
        ...

    async def drain(self) -> None:
        """Waits until there is room again, or nobody reads any more."""
        ...


class StdioExchange:
    """A line, from its arrival to its answer.

    `passed` is set when the line went to the server or will not; `ended` when all is said and
    recorded. `obligations` are what holds for all that the agent is told meanwhile.
    """

    __slots__ = (
        "_sink",
        "ended",
        "has_begun",
        "head",
        "incoming",
        "is_draining",
        "is_held",
        "obligations",
        "passed",
        "reply_id",
        "task",
        "was_told",
    )

    def __init__(self, incoming: Incoming, head: RequestHead, sink: Sink) -> None:
        self.incoming = incoming
        self.head = head
        self.has_begun = False
        self.is_draining = False
        #: Whether it waits, or waited, for a person or a list before it goes to the server.
        self.is_held = False
        #: Whether the server was given it.
        self.was_told = False
        self.obligations: Obligations | None = None
        self.passed = asyncio.Event()
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.reply_id = incoming.refused_under
        self._sink = sink

    @property
    def is_answered(self) -> bool:
        """Whether the agent gets an answer: to a request, and to what nobody could read."""
        message = self.incoming.message
        return message is None or message.expects_reply

    # -- the request -----------------------------------------------------------------------

    @property
    def has_whole_body(self) -> bool:
        """A line is there as a whole or not at all."""
        return True

    @property
    def certificate(self) -> None:
        """Nobody shows one on a pipe."""
        return None

    def arrived_body(self, limit_bytes: int) -> bytes | None:
        """The line; raises Refused where there is a fault in it, or in its time."""
        if self.incoming.fault is not None:
            raise self.incoming.fault
        if len(self.incoming.body) > limit_bytes:
            raise Refused("body_too_large", f"The line is longer than {limit_bytes} bytes")
        return self.incoming.body

    async def read_body(
        self, limit_bytes: int, wait_s: float, arriving: Callable[[int], None]
    ) -> bytes:
        """The line, which is there."""
        return self.arrived_body(limit_bytes) or b""

    def oblige(self, obligations: Obligations) -> None:
        """The server's other messages share the agent's pipe with the answer to this call."""
        self.obligations = obligations

    async def hold_on(self, held: HeldReply | None, words: str) -> None:
        """Lets the agent's next lines pass, and says that this call waits. Raises ClientGone."""
        if self._sink.is_gone:
            raise ClientGone
        self.let_others_pass()
        if held is not None:
            self._sink.write(held.progress(words))
            await self.drain()

    def let_others_pass(self) -> None:
        """What the agent says next need not wait for this one, which can be taken back."""
        self.is_held = True
        self.passed.set()

    # -- the reply -------------------------------------------------------------------------

    def write(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bool:
        """Hands the answer over; whether `drain` must be waited for. Raises ClientGone."""
        if self._sink.is_gone:
            raise ClientGone
        self.has_begun = True
        if body and self.is_answered:
            self._sink.write(body)
        return self._sink.is_full

    async def drain(self) -> None:
        """Waits while the agent is slow; raises ClientGone."""
        await self._sink.drain()
        if self._sink.is_gone:
            raise ClientGone

    async def stream(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        chunks: AsyncIterator[bytes],
    ) -> None:
        """Gathers the answer: a line is given whole or not at all."""
        body = b"".join([chunk async for chunk in chunks])
        if self.write(status, headers, body):
            await self.drain()

    async def switch(self, headers: Sequence[tuple[str, str]], relay: Relay) -> None:
        """A pipe carries lines and nothing else; no line asks for it."""
        raise Refused("upgrade_refused")

    async def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Says a refusal, under the request's id."""
        if self.write(status, headers, _addressed(body, self.reply_id)):
            await self.drain()

    def abort(self) -> None:
        """A line was handed over whole: there is nothing left to break off."""


def _addressed(body: bytes, reply_id: str | int | None) -> bytes:
    """A refusal as a JSON-RPC answer to `reply_id`.

    Over HTTP the connection says what is refused, so that a refusal from before the message was
    read carries no id, and may be problem details (RFC 9457).
    """
    said: dict[str, Any] = orjson.loads(body)
    if "jsonrpc" not in said:
        error = {
            "code": said["status"],
            "message": said["title"],
            "data": {name: said[name] for name in ("code", "call_id", "next_step")},
        }
        said = {"jsonrpc": "2.0", "id": None, "error": error}
    if said.get("id") is None:
        said["id"] = reply_id
    return orjson.dumps(said)
