"""What a caller is told, and when: after COMMIT, the truth, and about its own entry only."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from storage_load_setup import make_call, one_call, queue_on
from storage_queue_setup import ToldStore, begin, intent, outcome, told_queue, until

from sidecar.ledger.chain import seal as ledger_seal
from storage import SqlStore, open_store
from storage.errors import CommitUnknown
from storage.records import Answer, Entry, Recorded, RunHead, Seal, Stale, Unrecordable
from storage.write_queue import RecordingStore, WriteQueue


class EarlyStore:
    """The planted fault: says "recorded" first and writes afterwards."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._later: set[asyncio.Task[object]] = set()

    async def record(self, entries: Sequence[Entry], seal: Seal) -> list[Answer]:
        async def write() -> None:
            await asyncio.sleep(0.02)
            await self._store.record(entries, seal)

        self._later.add(asyncio.get_running_loop().create_task(write()))
        return [Recorded(1, "", 1, 0)] * len(entries)

    async def after_commit(self) -> None:
        await self._store.after_commit()

    async def probe(self) -> None:
        await self._store.probe()

    async def finish(self) -> None:
        await asyncio.gather(*self._later)


async def acknowledged_and_missing(queue: WriteQueue, path: Path, count: int) -> int:
    """How many entries are not in the file at the moment their caller is told they are."""
    missing = 0
    with sqlite3.connect(path) as beside:

        async def caller() -> None:
            nonlocal missing
            entry = make_call()[0]
            answer = await queue.submit(entry)
            assert isinstance(answer, Recorded)
            found = beside.execute(
                "SELECT count(*) FROM receipts WHERE call_id = ?", (entry.receipt.call_id,)
            ).fetchone()[0]
            missing += not found

        await asyncio.gather(*(caller() for _ in range(count)))
    beside.close()
    return missing


@pytest.mark.parametrize("is_planted", [False, True], ids=["as it is", "planted: early"])
async def test_nobody_is_told_before_the_commit(tmp_path: Path, is_planted: bool) -> None:
    path = tmp_path / "a.db"
    real = await open_store(f"sqlite:///{path}", now_us=lambda: 1, node_id="node")
    early = EarlyStore(real)
    store: RecordingStore = early if is_planted else real
    queue = WriteQueue(
        store, ledger_seal, capacity=100, wait_s=5.0, monotonic_ns=time.perf_counter_ns
    )
    missing = await acknowledged_and_missing(queue, path, 40)
    await queue.close()
    await early.finish()
    await real.close()
    assert bool(missing) == is_planted


async def test_a_call_end_to_end_on_a_real_store(tmp_path: Path) -> None:
    async with queue_on(tmp_path / "a.db") as queue:
        await asyncio.gather(*(one_call(queue, make_call(f"t{n % 3}")) for n in range(60)))
        assert await queue.drain(5.0) == 0
        assert queue.counters.entries == 120
        assert queue.counters.batches < 60
    with sqlite3.connect(tmp_path / "a.db") as beside:
        assert beside.execute("SELECT count(*) FROM receipts").fetchone() == (120,)
        assert beside.execute("SELECT count(*) FROM open_intent").fetchone() == (0,)
    beside.close()


async def test_what_gathers_during_a_commit_is_the_next_batch() -> None:
    store = ToldStore()
    store.gate.clear()
    async with told_queue(store) as queue:
        first = begin(queue, intent(call_id="first"))
        await store.entered.wait()
        others = [begin(queue, intent(call_id=f"c{n}")) for n in range(10)]
        slot = queue.reserve()
        queue.enqueue(outcome("done"), slot)
        await asyncio.sleep(0.01)
        assert not first.done()
        assert queue.depth("committed") == 11
        assert queue.depth("queued") == 1
        store.gate.set()
        await asyncio.gather(first, *others)
        assert [len(batch) for batch in store.batches] == [1, 11]
        assert store.batches[1][:10] == [f"c{n}" for n in range(10)]
        assert store.upkeeps >= 1
        assert queue.depth("committed") == queue.depth("queued") == 0
        assert queue.counters.batch_size_counts[0] == 1
        assert queue.counters.batch_size_counts[4] == 1


async def test_each_waiter_hears_of_its_own_entry() -> None:
    answers: dict[str, Answer] = {
        "good": Recorded(7, "h", 1, 0),
        "stale": Stale(3, RunHead(4, "")),
        "poisoned": Unrecordable("no canonical form"),
    }
    store = ToldStore()
    store.answer = lambda entry: answers[entry.receipt.event_id]
    async with told_queue(store) as queue:
        got = await asyncio.gather(*(queue.submit(intent(call_id=name)) for name in answers))
    assert got == list(answers.values())
    assert queue.healthy


async def test_a_poisoned_entry_harms_no_neighbour_on_a_real_store(tmp_path: Path) -> None:
    good, poisoned = [make_call()[0] for _ in range(5)], make_call()[0]
    poisoned.receipt = poisoned.receipt._replace(tool="up/\ud800")
    async with queue_on(tmp_path / "a.db") as queue:
        answers = await asyncio.gather(*(queue.submit(entry) for entry in [*good, poisoned]))
        assert all(isinstance(answer, Recorded) for answer in answers[:5])
        assert isinstance(answers[5], Unrecordable)
        assert queue.healthy


@pytest.mark.parametrize("fault", ["exception", "too few answers"])
async def test_a_fault_of_the_store_leaves_nobody_waiting(fault: str) -> None:
    store = ToldStore()
    async with told_queue(store) as queue:
        if fault == "exception":
            store.failures = [ValueError("not a store error")]
        else:
            whole = store.record

            async def short(entries: Sequence[Entry], seal: Seal) -> list[Answer]:
                return (await whole(entries, seal))[1:]

            store.record = short  # type: ignore[method-assign]
        results = await asyncio.gather(
            *(queue.submit(intent()) for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [CommitUnknown] * 3
        assert not queue.healthy
        assert queue.counters.last_error_code == "commit_unknown"
        await until(lambda: queue.healthy)


async def test_a_failing_upkeep_fails_no_call() -> None:
    from storage.errors import StoreFull

    store = ToldStore()
    store.upkeep_failure = StoreFull()
    async with told_queue(store) as queue:
        assert isinstance(await queue.submit(intent()), Recorded)
        await until(lambda: not queue.healthy)
        assert queue.counters.last_error_code == "store_full"
        store.upkeep_failure = None
        assert isinstance(await queue.submit(intent()), Recorded)
        await until(lambda: queue.healthy)
