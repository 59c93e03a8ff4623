"""What agents said once is forgotten when its time is over, and while nothing is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.clock import Clock
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.said_care import forget_what_was_said
from storage.errors import StoreUnavailable


class Kept:
    """So many rows of each tenant; it fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.left = {"acme": 1200, "rival": 3}
        self.failures = failures

    async def tenants(self) -> list[str]:
        return sorted(self.left)

    async def forget_said(self, tenant_id: str, at_us: int) -> int:
        assert at_us > 1_700_000_000_000_000
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("not now")
        gone = min(500, self.left[tenant_id])
        self.left[tenant_id] -= gone
        return gone


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not wanted():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("failures", [0, 2])
async def test_all_that_is_over_is_forgotten_also_after_a_failure(failures: int) -> None:
    kept = Kept(failures)
    task = asyncio.create_task(forget_what_was_said(kept, Clock(), Fence(), every_s=0.01))
    try:
        await until(lambda: not any(kept.left.values()))
    finally:
        task.cancel()


async def test_nothing_is_forgotten_while_the_store_is_moved() -> None:
    kept, fence = Kept(), Fence()
    fence.stand(Standing("f", "elsewhere", "", 0))
    task = asyncio.create_task(forget_what_was_said(kept, Clock(), fence, every_s=0.01))
    try:
        await asyncio.sleep(0.1)
        assert kept.left == {"acme": 1200, "rival": 3}
        fence.lift()
        await until(lambda: not any(kept.left.values()))
    finally:
        task.cancel()
