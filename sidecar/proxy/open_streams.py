"""Replies that go on for long, by whose they are: they end when their agent may not call any more.

Knows: that a call which went ahead has its receipt and its answer, and that an open stream is not
only that: as long as it stands, the agent hears what comes, and over a WebSocket says more. Whoever
is frozen, here or at another node, is cut off as soon as this process knows.
Must not know: how a reply is carried, how an agent came to stand as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from sidecar.identity.agent_states import barred
from sidecar.model import AgentState

if TYPE_CHECKING:
    from sidecar.errors import Refused
    from sidecar.identity.registry import Registry
    from sidecar.model import Principal

#: Ends one.
End = Callable[[], None]


class OpenStreams:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ends: dict[tuple[str, str], set[End]] = {}
        registry.on_read.append(self._look)

    @contextlib.contextmanager
    def ended_by(self, principal: Principal, end: End) -> Iterator[None]:
        """`end` is called once the agent may not call any more. Raises Refused if that is so."""
        key = (principal.tenant, principal.agent)
        if (refused := self._refused(*key)) is not None:
            raise refused
        ends = self._ends.setdefault(key, set())
        ends.add(end)
        try:
            yield
        finally:
            ends.discard(end)
            if not ends and self._ends.get(key) is ends:
                del self._ends[key]

    @contextlib.asynccontextmanager
    async def cut_for(self, principal: Principal) -> AsyncIterator[None]:
        """What is done within is broken off once the agent may not call any more.

        Raises Refused then.
        """
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
        try:
            async with limit:
                with self.ended_by(principal, lambda: limit.reschedule(loop.time())):
                    yield
        except TimeoutError:
            refused = self._refused(principal.tenant, principal.agent)
            if not limit.expired() or refused is None:
                raise
            raise refused from None

    def _refused(self, tenant: str, agent: str) -> Refused | None:
        now = self._registry.agent(tenant, agent)
        if now is not None and now.state is AgentState.ACTIVE:
            return None
        return barred(AgentState.DELETED if now is None else now.state)

    def _look(self, tenant: str) -> None:
        for key, ends in list(self._ends.items()):
            if key[0] == tenant and self._refused(*key) is not None:
                for end in list(ends):
                    ends.discard(end)  # it may take a while to come about, and is asked for once
                    end()
