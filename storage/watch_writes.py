"""Writes that no receipt commits to: `storage.protocol.WatchStore`, over any driver.

Knows: that rows put together are all put or none. Must not know: the engine, or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from storage.driver import Driver, Script, execute_many, fetch
from storage.errors import UniqueViolation
from storage.standing import PUTS
from storage.watch_rows import UnrecordedRow

#: A few milliseconds of a disk.
MEMORIES_FORGOTTEN_AT_ONCE: Final = 500
DELIVERIES_FORGOTTEN_AT_ONCE: Final = 500


class _Overtaken(Exception):
    """A row is not one version after what stands: nothing of its transaction is to stay."""


class WatchWrites:
    """See `WatchStore`; the store it is part of has the driver."""

    _driver: Driver
    _sql: Mapping[str, str]
    _now_us: Callable[[], int]

    async def put_rows(self, tenant_id: str, rows: Sequence[UnrecordedRow]) -> bool:
        """See `WatchStore.put_rows`."""

        def script() -> Script[None]:
            for row in rows:
                name, _ = PUTS[type(row)]
                if row.tenant_id != tenant_id or not (
                    yield from execute_many(self._sql[name], [row])
                ):
                    raise _Overtaken

        try:
            await self._driver.transaction(script, [tenant_id])
        except (_Overtaken, UniqueViolation):
            return False
        return True

    async def clock_us(self) -> int:
        """See `WatchStore.clock_us`."""
        if "server_clock" not in self._sql:
            return self._now_us()
        moment_us: int = (await self._driver.fetch(self._sql["server_clock"]))[0][0]
        return moment_us

    async def forget_memories(self, tenant_id: str, at_us: int) -> int:
        """See `WatchStore.forget_memories`."""
        return await self._forget("forget_memories", tenant_id, at_us, MEMORIES_FORGOTTEN_AT_ONCE)

    async def forget_delivered(self, tenant_id: str, before_us: int) -> int:
        """See `WatchStore.forget_delivered`."""
        return await self._forget(
            "forget_delivered", tenant_id, before_us, DELIVERIES_FORGOTTEN_AT_ONCE
        )

    async def forget_dead(self, tenant_id: str, before_us: int) -> int:
        """See `WatchStore.forget_dead`."""
        return await self._forget("forget_dead", tenant_id, before_us, DELIVERIES_FORGOTTEN_AT_ONCE)

    async def forget_oldest_dead(self, tenant_id: str, count: int) -> int:
        """See `WatchStore.forget_oldest_dead`."""
        limit = min(count, DELIVERIES_FORGOTTEN_AT_ONCE)
        script = partial(fetch, self._sql["forget_oldest_dead"], tenant_id, limit)
        return len(await self._driver.transaction(script, [tenant_id]))

    async def _forget(self, name: str, tenant_id: str, before_us: int, limit: int) -> int:
        script = partial(fetch, self._sql[name], tenant_id, before_us, limit)
        return len(await self._driver.transaction(script, [tenant_id]))
