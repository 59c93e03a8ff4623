"""G10 of deliveries: what people have tried again, or test, is on record with what was before."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from test_soc_delivering import news, opened

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.soc.delivery_changes import DeliveryChanges, DeliveryRefused
from storage import SqlStore
from storage.records import AFTER_ALL_IDS
from storage.write_queue import WriteQueue

WHO = "person:ana"


class Desk:
    """Changes over a real store, and which sinks were woken by them."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.rung = store, list[str]()
        clock = Clock()
        self.queue = WriteQueue(
            store, seal, capacity=64, wait_s=5.0, monotonic_ns=clock.monotonic_ns
        )
        self.changes = DeliveryChanges(store, self.queue, clock, Fence(), ["ops"], self.rung.append)

    async def told(self) -> list[tuple[str, str, str, Any, Any, str]]:
        """The audit, oldest first; each as its receipt has it."""
        rows = (await self.store.audit_events("acme", 99, 99))[::-1]
        for row in rows:
            (receipt,) = await self.store.receipts("acme", row.seq - 1, 1)
            assert (receipt.action, receipt.approver) == (row.action, row.actor)
            facts = await self.store.call_facts("acme", row.seq)
            assert facts is not None and json.loads(str(facts.arguments)) == {
                "subject": row.subject, "before": json.loads(row.before_state or "null"),
                "after": json.loads(row.after_state), "reason": row.reason,
            }  # fmt: skip
        return [
            (row.actor, row.action, row.subject, json.loads(row.before_state or "null"),
             json.loads(row.after_state), row.reason)
            for row in rows
        ]  # fmt: skip


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(f"sqlite:///{tmp_path}/store.db") as store:
        desk = Desk(store)
        yield desk
        await desk.queue.close()


async def test_g10_what_is_tried_again_is_on_record_as_it_was_and_as_it_is(desk: Desk) -> None:
    dead = [row._replace(state="dead", attempts=7) for row in news(3, "ops")]
    await desk.store.put_rows("acme", dead)
    one, *others = sorted(row.delivery_id for row in dead)
    was, now = {"attempts": 7, "state": "dead"}, {"attempts": 0, "state": "waiting"}
    await desk.changes.again("acme", one, WHO, "it is back")
    assert await desk.changes.every_again("acme", "ops", WHO, "all of it") == 2
    first, second = await desk.told()
    assert first == (
        WHO, "delivery.retry", f"delivery:{one}",
        {"deliveries": {one: was | {"version": 1}}},
        {"deliveries": {one: now | {"version": 2}}}, "it is back",
    )  # fmt: skip
    assert second == (
        WHO, "delivery.retry", "sink:ops",
        {"deliveries": dict.fromkeys(others, was | {"version": 1})},
        {"deliveries": dict.fromkeys(others, now | {"version": 2})}, "all of it",
    )  # fmt: skip
    assert desk.rung == ["ops", "ops"]


async def test_g10_a_test_of_a_sink_is_on_record(desk: Desk) -> None:
    row = await desk.changes.test("acme", "ops", WHO)
    after = {row.delivery_id: {"attempts": 0, "state": "waiting", "version": 1}}
    assert await desk.told() == [
        (WHO, "sink.test", "sink:ops", None, {"deliveries": after}, "")
    ]  # fmt: skip
    assert len(await desk.store.deliveries_before("acme", AFTER_ALL_IDS, 9)) == 1


async def test_what_is_not_given_up_is_not_tried_again_nor_told(desk: Desk) -> None:
    await desk.store.put_rows("acme", news(1, "ops"))
    (row,) = await desk.store.deliveries_before("acme", AFTER_ALL_IDS, 9)
    with pytest.raises(DeliveryRefused, match="not_dead"):
        await desk.changes.again("acme", row.delivery_id, WHO, "")
    assert await desk.told() == []
