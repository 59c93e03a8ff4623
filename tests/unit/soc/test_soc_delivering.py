"""The outbox is delivered: at least once, each with its id, whatever sinks and nodes do (G11)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from soc_receivers import Receiver, answered
from test_soc_sinks import sink_at

import storage
from sidecar.bell import Bell
from sidecar.clock import Clock
from sidecar.ledger.fence import Fence, Standing
from sidecar.soc import attempts, delivering, delivery_care
from sidecar.soc.attempts import failed, taken
from sidecar.soc.deliveries import Ids, Kind, Told, deliveries_of
from sidecar.soc.delivering import IN_FLIGHT_MAX, Delivering
from sidecar.soc.delivery_care import DeliveryCare
from sidecar.soc.model import Severity
from sidecar.soc.sinks.seam import NotDelivered, Outgoing, Sink
from storage import SqlStore
from storage.errors import StoreBusy
from storage.records import AFTER_ALL_IDS
from storage.statements import load_statements
from storage.watch_rows import DeliveryRow

STANDING = Standing("f1", "elsewhere", "a move", 1)


class Desk:
    """One node on a store: what it delivers to, and how it is run."""

    def __init__(self, store: Any, sinks: dict[str, Sink], node: str = "n1") -> None:
        self.fence, self.bell = Fence(), Bell()
        self.delivering = Delivering(
            store, Clock(), sinks, node=node, fence=self.fence, bell=self.bell
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        task = asyncio.create_task(self.delivering.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Answers:
    """A sink that does what a test says; for faults that no receiver can have."""

    def __init__(self, act: Callable[[Outgoing], Any]) -> None:
        self.sent: list[str] = []
        self._act = act

    async def send(self, delivery: Outgoing) -> None:
        self.sent.append(delivery.delivery_id)
        result = self._act(delivery)
        if result is not None:
            await result

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only polled for is found soon."""
    monkeypatch.setattr(delivering, "POLL_S", 0.1)
    monkeypatch.setattr(attempts, "BACKOFF_BASE_S", 0.05)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with opened(f"sqlite:///{tmp_path}/store.db") as store:
        yield store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    store = await storage.open_store(url, now_us=Clock().now_us, node_id="n1")
    try:
        yield store
    finally:
        await store.close()


def news(count: int, *sinks: str, tenant: str = "acme", **changes: Any) -> list[DeliveryRow]:
    told = [Told(sink, Severity.INFO) for sink in sinks]
    at_us = Clock().now_us()
    return [
        row._replace(**changes)
        for number in range(count)
        for row in deliveries_of(
            Kind.ALERT_OPENED, {"reason": f"r{number}"}, Severity.HIGH, told,
            Ids(tenant, f"a{number}"), at_us,
        )
    ]  # fmt: skip


async def states(store: SqlStore, tenant: str = "acme") -> Counter[tuple[str, str]]:
    rows = await store.deliveries_before(tenant, AFTER_ALL_IDS, 10_000)
    return Counter((row.sink, row.state) for row in rows)


async def until(holds: Callable[[], Any], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


async def test_what_waits_is_delivered_and_marked(store: SqlStore) -> None:
    rows = news(30, "ops")
    await store.put_rows("acme", rows)
    async with Receiver().serving() as receiver:
        async with Desk(store, {"ops": sink_at(receiver.url)}).running() as desk:
            await until(lambda: desk.delivering.results["ops", "delivered"] == 30)
        told = [got.headers["Aegis-Delivery"] for got in receiver.got]
    assert sorted(told) == sorted(row.delivery_id for row in rows), "each once"
    assert await states(store) == {("ops", "delivered"): 30}


async def test_a_ring_is_heard_before_the_next_poll(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "POLL_S", 60.0)
    sink = Answers(lambda _: None)
    async with Desk(store, {"ops": sink}).running() as desk:
        await asyncio.sleep(0.1)
        await store.put_rows("acme", news(1, "ops"))
        desk.bell.ring()
        await until(lambda: bool(sink.sent), 2.0)


async def test_g11_what_failed_is_tried_again_with_the_same_id(store: SqlStore) -> None:
    await store.put_rows("acme", news(1, "ops"))
    async with Receiver(answered(500, b"boom")).serving() as receiver:
        async with Desk(store, {"ops": sink_at(receiver.url)}).running() as desk:
            await until(lambda: desk.delivering.results["ops", "retried"] >= 2)
            (row,) = await store.deliveries_before("acme", AFTER_ALL_IDS, 9)
            assert (row.state, row.said[:21]) == ("waiting", "it answered 500: boom")
            receiver.answer = answered(204)
            await until(lambda: desk.delivering.results["ops", "delivered"] == 1)
        told = [(got.headers["Aegis-Delivery"], got.body) for got in receiver.got]
    assert len(told) >= 3 and len(set(told)) == 1
    assert told[0][0] == row.delivery_id


async def test_g11_gone_is_dead_at_once(store: SqlStore) -> None:
    await store.put_rows("acme", news(2, "ops"))
    receiver = Receiver(answered(410))
    async with receiver.serving(), Desk(store, {"ops": sink_at(receiver.url)}).running() as desk:
        await until(lambda: desk.delivering.results["ops", "dead"] == 2)
    dead = await store.deliveries_before("acme", AFTER_ALL_IDS, 9, state="dead")
    assert [(row.said, row.attempts) for row in dead] == [("it answered 410", 1)] * 2


async def test_g11_one_sink_holds_up_no_other_and_no_more_than_so_many_wait_in_it(
    store: SqlStore,
) -> None:
    await store.put_rows("acme", news(40, "stuck", "ops"))
    gate, most = asyncio.Event(), []
    stuck = Answers(lambda _: gate.wait())
    async with Receiver().serving() as receiver:
        sinks = {"stuck": stuck, "ops": sink_at(receiver.url)}
        async with Desk(store, sinks).running() as desk:
            await until(lambda: desk.delivering.results["ops", "delivered"] == 40)
            most.append(len(stuck.sent))
            gate.set()
            await until(lambda: desk.delivering.results["stuck", "delivered"] == 40)
    assert most == [IN_FLIGHT_MAX]


async def test_g11_a_sink_that_fails_is_left_alone_for_a_while(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_BASE_S", 1.0)
    await store.put_rows("acme", news(200, "ops"))

    def fail(_: Outgoing) -> None:
        raise NotDelivered("no")

    sink = Answers(fail)
    async with Desk(store, {"ops": sink}).running():
        await asyncio.sleep(0.6)
    assert 0 < len(sink.sent) <= IN_FLIGHT_MAX


async def test_a_crash_between_sending_and_marking_sends_it_again_with_the_same_id(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "VISIBLE_AFTER_S", 0.3)
    await store.put_rows("acme", news(1, "ops"))
    one, two = Answers(lambda _: None), Answers(lambda _: None)
    first = Desk(store, {"ops": one})
    await first.delivering.turn()  # takes it and sends it; then nobody comes back
    await until(lambda: bool(one.sent))
    async with Desk(store, {"ops": two}, "n2").running() as desk:
        await asyncio.sleep(0.1)
        assert two.sent == [], "it is still the first one's"
        await until(lambda: desk.delivering.results["ops", "delivered"] == 1)
    assert two.sent == one.sent
    await first.delivering.turn()  # and should it come back, it changes nothing
    (row,) = await store.deliveries_before("acme", AFTER_ALL_IDS, 9)
    assert (row.state, row.attempts) == ("delivered", 2)


async def test_what_is_on_its_way_when_it_stops_is_still_marked(store: SqlStore) -> None:
    await store.put_rows("acme", news(3, "ops"))
    sink = Answers(lambda _: asyncio.sleep(0.2))
    async with Desk(store, {"ops": sink}).running():
        await until(lambda: len(sink.sent) == 3)
    assert await states(store) == {("ops", "delivered"): 3}


async def test_a_fault_in_a_sink_is_a_failed_attempt(store: SqlStore) -> None:
    await store.put_rows("acme", news(1, "ops"))

    def fail(_: Outgoing) -> None:
        raise KeyError("a fault")

    async with Desk(store, {"ops": Answers(fail)}).running() as desk:
        await until(lambda: desk.delivering.results["ops", "retried"] == 1)
    (row,) = await store.deliveries_before("acme", AFTER_ALL_IDS, 9)
    assert (row.state, row.said) == ("waiting", "a fault: KeyError")


async def test_while_the_store_is_moved_nothing_is_sent_or_written(store: SqlStore) -> None:
    await store.put_rows("acme", news(1, "ops"))
    sink = Answers(lambda _: None)
    desk = Desk(store, {"ops": sink})
    desk.fence.stand(STANDING)
    async with desk.running():
        await asyncio.sleep(0.1)
        assert sink.sent == []
        desk.fence.lift()
        desk.bell.ring()
        await until(lambda: bool(sink.sent))


async def test_a_store_that_fails_for_a_while_loses_nothing(store: SqlStore) -> None:
    await store.put_rows("acme", news(3, "ops"))

    class Failing:
        def __init__(self) -> None:
            self.fails = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def put_rows(self, tenant: str, rows: Any) -> bool:
            if any(row.state == "delivered" for row in rows) and self.fails < 2:
                self.fails += 1
                raise StoreBusy("locked")
            return await store.put_rows(tenant, rows)

    failing, sink = Failing(), Answers(lambda _: None)
    async with Desk(failing, {"ops": sink}).running() as desk:
        await until(lambda: desk.delivering.results["ops", "delivered"] == 3)
    assert (failing.fails, len(sink.sent)) == (2, 3), "marked later, not sent again"


async def test_what_another_nodes_sink_is_to_be_told_is_left_to_it(store: SqlStore) -> None:
    await store.put_rows("acme", news(1, "elsewhere", "ops"))
    sink = Answers(lambda _: None)
    async with Desk(store, {"ops": sink}).running():
        await until(lambda: bool(sink.sent))
    assert await states(store) == {("ops", "delivered"): 1, ("elsewhere", "waiting"): 1}


async def test_two_nodes_on_one_server_deliver_each_once() -> None:
    with postgres_server.server() as dsn:
        url = await postgres_server.new_database(dsn)
        async with AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(opened(url)) for _ in range(2)]
            for tenant in ("acme", "rival"):
                await stores[0].put_rows(tenant, news(60, "ops", tenant=tenant))
            receiver = await stack.enter_async_context(Receiver().serving())
            desks = [
                await stack.enter_async_context(
                    Desk(one, {"ops": sink_at(receiver.url)}, f"n{number}").running()
                )
                for number, one in enumerate(stores)
            ]
            done = [desk.delivering.results for desk in desks]
            await until(lambda: sum(one["ops", "delivered"] for one in done) == 120, 30.0)
            told = Counter(json.loads(got.body)["delivery_id"] for got in receiver.got)
            for tenant in ("acme", "rival"):
                assert await states(stores[0], tenant) == {("ops", "delivered"): 60}
    assert len(told) == 120 and set(told.values()) == {1}
    assert all(one["ops", "delivered"] for one in done), "both had their share"


async def test_of_too_much_the_least_severe_and_oldest_is_given_up_with_a_reason(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_care, "WAITING_MAX", 5)
    monkeypatch.setattr(delivery_care, "ROWS_AT_ONCE", 2)
    at_us = Clock().now_us()
    kept = news(5, "ops", created_us=at_us)
    gone = [row._replace(delivery_id=f"{n}", severity=1) for n, row in enumerate(kept)]
    await store.put_rows("acme", [*kept, *gone])
    care = DeliveryCare(store, Fence(), ["ops"])
    await care.turn()
    await care.turn()
    dead = await store.deliveries_before("acme", AFTER_ALL_IDS, 99, state="dead")
    assert sorted(row.delivery_id for row in dead) == ["0", "1", "2", "3", "4"]
    assert {row.said for row in dead} == {delivery_care.TOO_MANY}
    assert (care.waiting_by_sink(), care.dead_by_sink()) == ({"ops": 5}, {"ops": 5})
    monkeypatch.setattr(delivery_care, "DEAD_MAX", 2)
    await care.turn()
    await care.turn()
    assert (care.waiting_by_sink(), care.dead_by_sink()) == ({"ops": 5}, {"ops": 2})


async def test_the_oldest_and_the_unknown_are_counted_and_forgotten_in_time(
    store: SqlStore,
) -> None:
    at_us, day_us = Clock().now_us(), 86_400_000_000
    waiting = news(1, "ops", created_us=at_us - 90_000_000)
    unknown = news(1, "gone", created_us=at_us - 2 * 3_600_000_000)
    young = news(1, "new", created_us=at_us)
    old = [
        row._replace(delivery_id=f"old-{state}-{days}", state=state,
                     changed_at_us=at_us - days * day_us)
        for row in news(1, "ops")
        for state, days in (("delivered", 6), ("delivered", 8), ("dead", 29), ("dead", 31))
    ]  # fmt: skip
    await store.put_rows("acme", [*waiting, *unknown, *young, *old])
    store_tenants = store.tenants
    store.tenants = lambda: _given(["acme"])  # type: ignore[method-assign]
    care = DeliveryCare(store, Fence(), ["ops"])
    await care.turn()
    store.tenants = store_tenants  # type: ignore[method-assign]
    assert 89 < care.oldest_s_by_sink()["ops"] < 120
    assert care.oldest_s_by_sink()["other"] > 7000
    await care.turn()
    rows = {
        row.delivery_id: row for row in await store.deliveries_before("acme", AFTER_ALL_IDS, 99)
    }
    assert [one for one in rows if one.startswith("old")] == ["old-delivered-6", "old-dead-29"]
    assert rows[unknown[0].delivery_id].said == delivery_care.UNKNOWN_SINK
    assert rows[young[0].delivery_id].state == rows[waiting[0].delivery_id].state == "waiting"


async def _given(value: list[str]) -> list[str]:
    return value


def test_looking_for_what_is_due_reads_indexes_and_not_what_was_delivered(tmp_path: Path) -> None:
    texts = load_statements("sqlite")
    asyncio.run(_made(f"sqlite:///{tmp_path}/store.db"))
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        for name, given in {
            "sinks_due": (1,),
            "count_every_open_delivery": (),
            "count_open_deliveries": ("acme",),
            "deliveries_due": ("acme", "ops", 1, 9),
            "forget_delivered": ("acme", 1, 9),
        }.items():
            found = connection.execute(f"EXPLAIN QUERY PLAN {texts[name]}", given)
            looks = [str(row[3]) for row in found if "delivery" in str(row[3])]
            assert looks and all(" INDEX delivery_" in look for look in looks), (name, looks)


async def _made(url: str) -> None:
    async with opened(url):
        pass


async def test_g11_a_fault_of_ours_in_one_turn_silences_nobody(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = Answers(lambda _: None)
    faults = iter([TypeError("ours"), ValueError("ours too")])
    due = store.sinks_due

    async def sometimes(at_us: int) -> list[tuple[str, str]]:
        for fault in faults:
            raise fault
        return await due(at_us)

    monkeypatch.setattr(store, "sinks_due", sometimes)
    await store.put_rows("acme", news(1, "ops"))
    async with Desk(store, {"ops": told}).running():
        await until(lambda: told.sent)
    assert caplog.text.count("a turn of deliveries failed") == 2


async def test_what_another_node_is_still_trying_is_not_given_up(store: SqlStore) -> None:
    """Told two hours ago to a sink that is down; its node's tenth attempt failed just now, and
    the next is due soon: sixteen are made, in some four hours."""
    at_us = Clock().now_us()
    [row] = news(1, "ops", created_us=at_us - 7_200_000_000)
    await store.put_rows("acme", [row])
    for tried in range(1, 11):
        when_us = at_us - 1_000_000 if tried == 10 else at_us - 3_600_000_000 - (10 - tried)
        row = taken(row, "knows-ops", when_us)
        await store.put_rows("acme", [row])
        row = failed(row, "503", when_us, is_final=False, wait_s=0, jitter=0)
        await store.put_rows("acme", [row])
    assert row.due_us > at_us
    await DeliveryCare(store, Fence(), ["mail"]).turn()  # a node without `ops`
    [stands] = await store.deliveries_before("acme", AFTER_ALL_IDS, 9)
    assert (stands.state, stands.said) == ("waiting", "503")
