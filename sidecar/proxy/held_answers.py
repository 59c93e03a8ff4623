"""How much of answers is held in memory at once, because they are looked into before they pass.

Knows: that each answer has a bound of its own, and many at once have not: one server that answers
every call with as much as it may would take all the memory there is. So there is one bound for all
of them, and one upstream has at most half of it.
Must not know: why an answer is held, what is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sidecar.errors import Refused
from sidecar.proxy.upstream import Reply

if TYPE_CHECKING:
    from sidecar.proxy.visit import Visit
    from sidecar.telemetry.counters import Counters


class HeldAnswers:
    """One for a sidecar; `bytes_max` for all upstreams together. What a visit holds stands in it,
    the sum in `counters`."""

    def __init__(self, bytes_max: int, counters: Counters) -> None:
        self._bytes_max = bytes_max
        self._counters = counters
        self._by_upstream: dict[str, int] = {}

    def coming(self, reply: Reply, visit: Visit) -> Reply:
        """The same reply, whose bytes count as held from when they come; its chunks may raise
        Refused("answers_full"). What has switched to another protocol has none."""
        if reply.switched is not None:
            return reply
        source = self._counted(reply, visit)
        return Reply(reply.status, reply.headers, source=source, close=reply.close)

    async def passing(self, chunks: AsyncIterator[bytes], visit: Visit) -> AsyncIterator[bytes]:
        """What goes on to the agent. Once something does, what came before it is held no more, but
        for the begin of a line or an event in the last chunk; and what was taken out is nowhere."""
        async for chunk in chunks:
            yield chunk
            self.let_go(visit)

    def let_go(self, visit: Visit) -> None:
        """Nothing is held for the visit any more."""
        if visit.held_bytes:
            self._change(visit, -visit.held_bytes)

    async def _counted(self, reply: Reply, visit: Visit) -> AsyncIterator[bytes]:
        async for chunk in reply.chunks:
            self._change(visit, len(chunk))
            yield chunk

    def _change(self, visit: Visit, size: int) -> None:
        name = visit.upstream.name if visit.upstream is not None else ""
        held = self._by_upstream.get(name, 0) + size
        in_all = self._counters.answer_bytes_held + size
        if size > 0 and (in_all > self._bytes_max or held > self._bytes_max // 2):
            raise Refused("answers_full", retry_after_s=1)
        self._by_upstream[name] = held
        self._counters.answer_bytes_held = in_all
        visit.held_bytes += size
