"""Replies that go on for long, by whose they are: they end when their agent may not call any more.

Knows: that a call which went ahead has its receipt and its answer, and that an open stream is not
only that: as long as it stands, the agent hears what comes, and over a WebSocket says more. Whoever
is frozen, or came with a token that counts for nothing any more, is cut off as soon as this process
knows, wherever it was done. A stream on which an MCP server speaks by itself ends by nothing that
is done here, and has no answer that a sidecar that stops would have to wait for.
Must not know: how a reply is carried, how an agent came to stand as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.identity.agent_states import barred
from sidecar.model import AgentState
from sidecar.policy.protocol_methods import LISTEN
from sidecar.proxy.dialects.mcp_methods import STREAM_METHOD

if TYPE_CHECKING:
    from sidecar.errors import Refused
    from sidecar.identity.registry import Registry
    from sidecar.model import Principal, ToolCall
    from sidecar.telemetry.counters import Counters

#: Ends one.
End = Callable[[], None]


class OpenStreams:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(self, registry: Registry, counters: Counters) -> None:
        self._registry = registry
        self._counters = counters
        self._ends: dict[tuple[str, str], dict[End, Sequence[str]]] = {}
        registry.on_read.append(self._look)

    @contextlib.contextmanager
    def ended_by(
        self, principal: Principal, end: End, tokens: Sequence[str] = ()
    ) -> Iterator[None]:
        """`end` is called once the agent may not call any more, or not with one of these tokens
        (their hashes). Raises Refused if that is so."""
        key = (principal.tenant, principal.agent)
        if (refused := self._refused(key, tokens)) is not None:
            raise refused
        ends = self._ends.setdefault(key, {})
        ends[end] = tokens
        try:
            yield
        finally:
            ends.pop(end, None)
            if not ends and self._ends.get(key) is ends:
                del self._ends[key]

    @contextlib.asynccontextmanager
    async def cut_for(
        self, principal: Principal, tokens: Sequence[str] = (), call: ToolCall | None = None
    ) -> AsyncIterator[None]:
        """What is done within, for the reply to `call`, is broken off once the agent may not call
        any more.

        Raises Refused then.
        """
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
        listens = call is not None and _only_listens(call)
        self._counters.listening += listens
        try:
            async with limit:
                with self.ended_by(principal, lambda: limit.reschedule(loop.time()), tokens):
                    yield
        except TimeoutError:
            refused = self._refused((principal.tenant, principal.agent), tokens)
            if not limit.expired() or refused is None:
                raise
            raise refused from None
        finally:
            self._counters.listening -= listens

    def _refused(self, key: tuple[str, str], tokens: Sequence[str]) -> Refused | None:
        now = self._registry.agent(*key)
        if now is None or now.state is not AgentState.ACTIVE:
            return barred(AgentState.DELETED if now is None else now.state)
        if all(self._registry.by_token(token) is now for token in tokens):
            return None
        return barred(AgentState.REVOKED)  # as unknown as any other

    def _look(self, tenant: str) -> None:
        for key, ends in list(self._ends.items()):
            if key[0] != tenant:
                continue
            for end, tokens in list(ends.items()):
                if self._refused(key, tokens) is not None:
                    ends.pop(end, None)  # it may take a while, and is asked for once
                    end()


def _only_listens(call: ToolCall) -> bool:
    return call.dialect == "mcp" and call.action in (STREAM_METHOD, LISTEN)
