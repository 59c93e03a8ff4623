"""Keeps the outbox within bounds, and counts what is in it.

Knows: that of too much the least severe and oldest is given up, with a reason; that what was
delivered, or given up long ago, is forgotten; that what waits for a sink nobody knows is given up.
Must not know: how a sink is reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.soc.attempts import given_up
from sidecar.soc.deliveries import State
from storage.errors import StoreError
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import DeliveryRow, OpenDeliveries

if TYPE_CHECKING:
    from sidecar.ledger.fence import Fence

_log = logging.getLogger("aegis.soc")

#: How often the outbox is counted, and cut where it is too large.
COUNT_EVERY_S: Final = 10.0
#: How many counts between two times of forgetting.
FORGET_EVERY: Final = 60
#: Of one tenant.
WAITING_MAX: Final = 10_000
DEAD_MAX: Final = 10_000
#: How long what was delivered, and what was given up, is kept.
DELIVERED_KEPT_S: Final = 7 * 86_400.0
DEAD_KEPT_S: Final = 30 * 86_400.0
#: How long something may wait for a sink that this node does not know: others may.
UNKNOWN_SINK_S: Final = 3600.0
ROWS_AT_ONCE: Final = 200
#: Steps of one turn; what is left is for the next.
STEPS_MAX: Final = 100

OTHER: Final = "other"
TOO_MANY: Final = f"given up: more than {WAITING_MAX} waited"
UNKNOWN_SINK: Final = "given up: no sink of this name is configured"


class Outbox(Protocol):
    """What is needed of a store."""

    async def count_every_open_delivery(self) -> list[OpenDeliveries]:
        """Job across tenants: what waits, and what is given up."""
        ...

    async def deliveries_least(self, tenant_id: str, limit: int) -> list[DeliveryRow]:
        """Waiting ones, the least severe first, of those the oldest."""
        ...

    async def deliveries_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", sink: str = ""
    ) -> list[DeliveryRow]:
        """Newest first."""
        ...

    async def put_rows(self, tenant_id: str, rows: Sequence[DeliveryRow]) -> bool:
        """All of them or none."""
        ...

    async def tenants(self) -> list[str]:
        """Job across tenants: every tenant that has a head."""
        ...

    async def clock_us(self) -> int:
        """Now, by the clock that all nodes share."""
        ...

    async def forget_delivered(self, tenant_id: str, before_us: int) -> int:
        """Forgets some of what was delivered."""
        ...

    async def forget_dead(self, tenant_id: str, before_us: int) -> int:
        """Forgets some of what was given up."""
        ...

    async def forget_oldest_dead(self, tenant_id: str, count: int) -> int:
        """Forgets some of what was given up first."""
        ...


class DeliveryCare:
    """One for a process."""

    def __init__(self, outbox: Outbox, fence: Fence, sinks: Collection[str]) -> None:
        self._outbox = outbox
        self._fence = fence
        self._sinks = frozenset(sinks)
        self._turn = 0
        self._counted: list[OpenDeliveries] = []
        self._counted_at_us = 0

    async def run(self) -> None:
        """Again and again until cancelled. What fails is logged, and tried again next time."""
        while True:
            try:
                await self.turn()
            except StoreError as error:
                _log.warning("the outbox was not looked after", extra={"cause": error.code})
            await asyncio.sleep(COUNT_EVERY_S)

    async def turn(self) -> None:
        """Counts, cuts and, now and then, forgets. Raises StoreError."""
        at_us = await self._outbox.clock_us()
        self._counted = await self._outbox.count_every_open_delivery()
        self._counted_at_us = at_us
        if self._fence.is_up:
            return
        for tenant in {one.tenant_id for one in self._counted}:
            await self._cut(tenant, at_us)
        if self._turn % FORGET_EVERY == 0:
            await self._forget(at_us)
        self._turn += 1

    # -- counts --------------------------------------------------------------------------------

    def waiting_by_sink(self) -> Counter[str]:
        """How many wait, in the store that all nodes share."""
        return self._by_sink(State.WAITING)

    def dead_by_sink(self) -> Counter[str]:
        """How many were given up and are kept."""
        return self._by_sink(State.DEAD)

    def oldest_s_by_sink(self) -> dict[str, float]:
        """For how long the one that waits longest has waited."""
        oldest: dict[str, float] = dict.fromkeys(self._sinks, 0.0)
        for one in self._counted:
            if one.state == State.WAITING:
                age_s = max(0.0, (self._counted_at_us - one.oldest_us) / 1e6)
                name = self._label(one.sink)
                oldest[name] = max(oldest.get(name, 0.0), age_s)
        return oldest

    def _by_sink(self, state: State) -> Counter[str]:
        found = Counter(dict.fromkeys(self._sinks, 0))
        for one in self._counted:
            if one.state == state:
                found[self._label(one.sink)] += one.deliveries
        return found

    def _label(self, sink: str) -> str:
        """Sinks that are no longer configured are counted together."""
        return sink if sink in self._sinks else OTHER

    # -- bounds --------------------------------------------------------------------------------

    async def _cut(self, tenant: str, at_us: int) -> None:
        own = [one for one in self._counted if one.tenant_id == tenant]
        waiting = [one for one in own if one.state == State.WAITING]
        since_us = at_us - round(UNKNOWN_SINK_S * 1e6)
        for one in waiting:
            if one.sink not in self._sinks and one.oldest_us < since_us:
                await self._give_up_unknown(tenant, one.sink, since_us, at_us)
        await self._give_up_least(
            tenant, sum(one.deliveries for one in waiting) - WAITING_MAX, at_us
        )
        surplus = sum(one.deliveries for one in own if one.state == State.DEAD) - DEAD_MAX
        for _ in range(STEPS_MAX):
            if surplus <= 0:
                return
            surplus -= await self._outbox.forget_oldest_dead(tenant, surplus) or surplus

    async def _give_up_least(self, tenant: str, surplus: int, at_us: int) -> None:
        given = 0
        for _ in range(STEPS_MAX):
            left = surplus - given
            if left <= 0:
                break
            rows = await self._outbox.deliveries_least(tenant, min(left, ROWS_AT_ONCE))
            dead = [given_up(row, TOO_MANY, at_us) for row in rows]
            if not dead or not await self._outbox.put_rows(tenant, dead):
                break  # another node is at it: it is counted again
            given += len(dead)
        if given:
            _log.error(
                "deliveries were given up, for too many waited",
                extra={"count": given, "reason": TOO_MANY},
            )

    async def _give_up_unknown(self, tenant: str, sink: str, since_us: int, at_us: int) -> None:
        rows = await self._outbox.deliveries_before(
            tenant, AFTER_ALL_IDS, ROWS_AT_ONCE, state=State.WAITING.value, sink=sink
        )
        # Whoever knows the sink takes what is due; what nobody took for so long, nobody knows.
        dead = [
            given_up(row, UNKNOWN_SINK, at_us)
            for row in rows
            if max(row.created_us, row.due_us) < since_us
        ]
        if dead and await self._outbox.put_rows(tenant, dead):
            _log.error(
                "deliveries were given up: no sink of this name is configured",
                extra={"count": len(dead), "detail": sink},
            )

    async def _forget(self, at_us: int) -> None:
        for tenant in await self._outbox.tenants():
            for forget, kept_s in (
                (self._outbox.forget_delivered, DELIVERED_KEPT_S),
                (self._outbox.forget_dead, DEAD_KEPT_S),
            ):
                before_us = at_us - round(kept_s * 1e6)
                while not self._fence.is_up and await forget(tenant, before_us):
                    pass
