"""The seam to the agent: what the pipeline takes a request from and gives its reply to.

Knows: what a request and its one reply are to the pipeline, whatever carries them.
Must not know: HTTP's framing, pipes, upstreams, policies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.proxy.head import RequestHead

if TYPE_CHECKING:
    from sidecar.policy.terms import Obligations
    from sidecar.proxy.dialects.held import HeldReply
    from sidecar.proxy.websocket_relay import Relay


class ClientGone(Exception):
    """The agent is gone, or it does not take what it is sent."""


class AgentSide(Protocol):
    """A request as it arrived and the one reply to it."""

    head: RequestHead
    #: Whether something of the reply was sent: then no other reply can be.
    has_begun: bool

    @property
    def has_whole_body(self) -> bool:
        """Whether the end of the body was seen."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether the sidecar is stopping: then it is not the client who ends an exchange."""
        ...

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The certificate the client has shown and TLS has verified, as `ssl` tells it."""
        ...

    def arrived_body(self, limit_bytes: int) -> bytes | None:
        """The whole body if it is here already, None while it is not. Raises Refused."""
        ...

    async def read_body(
        self, limit_bytes: int, wait_s: float, arriving: Callable[[int], None]
    ) -> bytes:
        """The whole body; `arriving` is told how much of it is kept by now, and may refuse it.
        Raises Refused, ClientGone."""
        ...

    def oblige(self, obligations: Obligations) -> None:
        """What the reply is held to also holds for what else reaches the agent meanwhile.

        Called when the intent is durable and before the call is forwarded; it holds until the
        exchange ends.
        """
        ...

    async def hold_on(self, held: HeldReply | None, words: str) -> None:
        """The reply will be a while: what else this agent says need not wait for it. By `held` he
        is told so, before any reply, in the same way each time.

        Raises ClientGone.
        """
        ...

    def write(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> bool:
        """Writes a whole reply; whether `drain` must be waited for. Raises ClientGone."""
        ...

    async def drain(self) -> None:
        """Waits while the client is slow; raises ClientGone."""
        ...

    async def stream(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        chunks: AsyncIterator[bytes],
    ) -> None:
        """Sends a reply as it comes. Raises ClientGone; whatever `chunks` raises."""
        ...

    async def switch(self, headers: Sequence[tuple[str, str]], relay: Relay) -> None:
        """Sends a 101 and leaves the connection to `relay` until that has ended.

        Raises ClientGone.
        """
        ...

    async def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Sends a whole reply, mostly a refusal, and waits until it is taken. Raises ClientGone."""
        ...

    def abort(self) -> None:
        """A reply that has begun must not pass for a whole one."""
        ...
