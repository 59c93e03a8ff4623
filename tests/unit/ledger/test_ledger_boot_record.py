"""G10: that a sidecar starts, goes on and stops is on record: a real store and queue."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import storage
from sidecar.clock import Clock
from sidecar.ledger.boot_record import BootRecord
from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.verify import verify_lines
from storage.errors import QueueClosed, QueueFull, StoreUnavailable
from storage.records import Answer, Entry, OpenIntentRow, ReceiptRow, Seal
from storage.write_queue import WriteQueue

HOUR_S = 3600.0
STANDING = Standing("f", "elsewhere", "a move", 0)


class LateClock(Clock):
    """A clock that is so much ahead."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


class Life:
    """One boot on a store."""

    def __init__(self, store: storage.SqlStore, boot_id: str, heartbeat_s: float) -> None:
        self.store, self.clock, self.fence = store, LateClock(), Fence()
        self.queue = WriteQueue(store, seal, capacity=64, wait_s=5, monotonic_ns=Clock.monotonic_ns)
        self.boot = BootRecord(
            ("acme", "rival", "idle"), store, seal, self.clock, self.fence,
            boot_id=boot_id, heartbeat_s=heartbeat_s,
        )  # fmt: skip

    async def call(self, tenant: str = "acme", *, opens: bool = False) -> None:
        call_id = self.clock.new_id()
        receipt = blank_receipt(
            tenant, "intent" if opens else "refusal", event_id=call_id, call_id=call_id,
            ts_us=self.clock.now_us(), agent_id="coder",
        )  # fmt: skip
        row = OpenIntentRow(tenant, call_id, self.store.node_id, "boot") if opens else None
        await self.queue.submit(Entry(receipt, opens=row))

    async def rows(self, tenant: str = "acme") -> list[ReceiptRow]:
        return await self.store.receipts(tenant, 0, 99)

    async def told(self, tenant: str = "acme") -> list[str]:
        return [row.action or row.kind for row in await self.rows(tenant)]

    async def said(self, tenant: str = "acme") -> dict[str, Any]:
        """By the newest receipt."""
        found: dict[str, Any] = json.loads((await self.rows(tenant))[-1].resource or "")
        return found


@asynccontextmanager
async def life(
    folder: Path, boot_id: str = "b1", heartbeat_s: float = HOUR_S, *, node: str = "n1"
) -> AsyncIterator[Life]:
    """A boot that is on record as begun; it ends without a word unless somebody says it does."""
    store = await storage.open_store(
        f"sqlite:///{folder / 'aegis.db'}", now_us=Clock().now_us, node_id=node
    )
    made = Life(store, boot_id, heartbeat_s)
    try:
        await made.boot.begin()
        yield made
    finally:
        await made.queue.close()
        await store.close()


async def test_g10_a_new_store_is_told_nothing_and_a_chain_that_begins_is_told_of_the_stop(
    tmp_path: Path,
) -> None:
    async with life(tmp_path) as one:
        await one.boot.beat(one.queue, within_s=1)
        await one.boot.end()
        assert await one.store.tenants() == []
        await one.call()
        await one.boot.end()
        assert await one.told() == ["refusal", "sidecar.stop"]
        assert await one.said() == {"boot": "b1", "open_calls": 0}
        assert await one.store.tenants() == ["acme"], "nor has anybody else a chain by that"


async def test_g10_a_start_says_how_the_boot_before_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(tmp_path) as one:
        await one.call()
        await one.call("rival")
        await one.boot.end()
    async with life(tmp_path, "b2") as two:
        assert await two.told() == ["refusal", "sidecar.stop", "sidecar.start"]
        assert await two.said() == {
            "boot": "b2", "heartbeat_us": 3_600_000_000,
            "before": {"boot": "b1", "ended": "stopped"},
        }  # fmt: skip
        assert (await two.told("rival"))[-1] == "sidecar.start"
    async with life(tmp_path, "b3", 0) as three:  # b2 ended without a stop
        assert await three.said() == {
            "boot": "b3", "heartbeat_us": 0, "before": {"boot": "b2", "ended": "no_stop"},
        }  # fmt: skip
        assert "without a stop on record" in caplog.text
        (event,) = await three.store.audit_events("acme", 2**62, 1)
        assert (event.action, event.actor, event.subject) == ("sidecar.start", "sidecar", "n1")
        assert event.reason == "the boot before ended without a stop on record"
        lines = [line async for line in export_lines(three.store, "acme")]
    verdict = verify_lines(lines)
    assert verdict.holds
    assert [(one.seq, one.boot) for one in verdict.unstopped] == [(4, "b2")]


async def test_g10_another_nodes_boots_say_nothing_of_ones_own(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await one.call()
    async with life(tmp_path, "b2") as two:
        assert (await two.said())["before"] == {"boot": None, "ended": "unknown"}
    async with life(tmp_path, "b3", node="n2") as three:
        assert (await three.said())["before"]["ended"] == "unknown"


async def test_g10_a_stop_tells_how_many_calls_have_no_outcome(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await one.call(opens=True)
        await one.call(opens=True)
        await one.call("rival")
        await one.queue.close()
        await one.boot.end()
        assert await one.said() == {"boot": "b1", "open_calls": 2}
        assert await one.said("rival") == {"boot": "b1", "open_calls": 0}


async def test_a_chain_that_was_silent_is_told_that_the_sidecar_goes_on(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await one.call()
        await one.boot.beat(one.queue, within_s=60)
        assert await one.told() == ["refusal"], "positive control: it is not silent yet"
        one.clock.ahead_us = 3_500_000_000
        await one.boot.beat(one.queue, within_s=60)
        assert await one.told() == ["refusal", "sidecar.alive"]
        assert await one.said() == {"boot": "b1", "heartbeat_us": 3_600_000_000}
        await one.boot.beat(one.queue, within_s=60)
        assert len(await one.rows()) == 2, "another node, or this one, has told already"
        assert await one.store.audit_events("acme", 2**62, 9) == [], "nothing has changed"
        assert await one.store.tenants() == ["acme"]


async def test_a_clock_that_is_behind_what_is_on_record_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Receipts have a frozen time then, which nobody would see."""

    def told() -> list[str]:
        found = [vars(one)["detail"] for one in caplog.records if "behind" in one.getMessage()]
        caplog.clear()
        return found

    async with life(tmp_path) as one:
        one.clock.ahead_us = 2 * 86_400_000_000
        await one.call()
        await one.call("rival")
        await one.boot.beat(one.queue, within_s=60)
        assert told() == [], "positive control"
        one.clock.ahead_us = 0  # set back while it runs
        for _ in range(2):
            await one.boot.beat(one.queue, within_s=60)
        [acme, rival] = told()
        assert "tenant acme: its last receipt is 1727" in acme and "tenant rival" in rival
        one.clock.ahead_us = 2 * 86_400_000_000
        await one.boot.beat(one.queue, within_s=60)
        one.clock.ahead_us = 0
        await one.boot.beat(one.queue, within_s=60)
        assert len(told()) == 2, "it was right in between"
    async with life(tmp_path, "b2") as two:
        assert len(told()) == 2, "at a start too"
        first, *_, last = await two.rows()
        assert last.action == "sidecar.start" and last.ts_us == first.ts_us


async def test_silences_stay_within_what_was_promised(tmp_path: Path) -> None:
    async with life(tmp_path, heartbeat_s=1.0) as one:
        await one.call()
        beating = asyncio.create_task(one.boot.run(one.queue))
        await asyncio.sleep(3.2)
        beating.cancel()
        rows = await one.rows()
        assert 4 <= len(rows) <= 6
        assert {row.action for row in rows[1:]} == {"sidecar.alive"}


async def test_no_heartbeat_is_none(tmp_path: Path) -> None:
    async with life(tmp_path, heartbeat_s=0) as one:
        await asyncio.wait_for(one.boot.run(one.queue), 1)


async def test_behind_a_fence_nothing_is_written(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await one.call()
        one.clock.ahead_us = 9_000_000_000
        one.fence.stand(STANDING)
        await one.boot.beat(one.queue, within_s=1)
        await one.boot.end()
        assert await one.told() == ["refusal"]
        one.fence.lift()
        await one.boot.beat(one.queue, within_s=1)
        assert await one.told() == ["refusal", "sidecar.alive"]


async def test_a_tenant_who_is_not_configured_is_told_nothing(tmp_path: Path) -> None:
    async with life(tmp_path) as one:
        await one.call("gone")
        one.clock.ahead_us = 9_000_000_000
        await one.boot.beat(one.queue, within_s=1)
        await one.boot.end()
        assert await one.told("gone") == ["refusal"]
    async with life(tmp_path, "b2") as two:
        assert await two.told("gone") == ["refusal"]


@pytest.mark.parametrize("error", [QueueFull(), QueueClosed()])
async def test_a_heartbeat_that_fails_is_tried_again(tmp_path: Path, error: Exception) -> None:
    async with life(tmp_path, heartbeat_s=1.0) as one:
        await one.call()
        one.clock.ahead_us = 9_000_000_000
        fails = [error, error]

        class Failing:
            async def submit(self, entry: Entry) -> Answer:
                if fails:
                    raise fails.pop()
                return await one.queue.submit(entry)

        beating = asyncio.create_task(one.boot.run(Failing()))
        await asyncio.sleep(0.5)
        beating.cancel()
        assert not fails and (await one.told())[1:2] == ["sidecar.alive"]


@pytest.mark.parametrize("way", ["fails", "hangs"])
async def test_a_store_that_fails_at_the_end_holds_nothing_up_and_is_told_of(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(tmp_path) as one:
        await one.call()

        async def record(entries: Sequence[Entry], seal: Seal) -> list[Answer]:
            if way == "hangs":
                await asyncio.sleep(60)
            raise StoreUnavailable("the disk is gone")

        monkeypatch.setattr(one.store, "record", record)
        monkeypatch.setattr("sidecar.ledger.boot_record.STOP_S", 0.1)
        with caplog.at_level(logging.ERROR):
            await asyncio.wait_for(one.boot.end(), 2)
        assert "that the sidecar stops in order is not on record" in caplog.text


async def test_a_start_that_cannot_be_put_on_record_serves_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path) as one:
        await one.call()

        async def record(entries: Sequence[Entry], seal: Seal) -> list[Answer]:
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(one.store, "record", record)
        with pytest.raises(StoreUnavailable):
            await one.boot.begin()


async def test_a_look_back_that_takes_too_long_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with life(tmp_path) as one:
        await one.call()

        async def audit_events(*given: Any, **named: Any) -> list[Any]:
            raise StoreUnavailable("the read took too long")

        monkeypatch.setattr(one.store, "audit_events", audit_events)
        await one.boot.begin()
        assert (await one.said())["before"] == {"boot": None, "ended": "unknown"}
        assert "how the boot before ended cannot be told" in caplog.text
