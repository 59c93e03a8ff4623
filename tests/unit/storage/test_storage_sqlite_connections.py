"""Connections: what the writer promises, what readers may do, and the private call we lean on."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import aiosqlite
import pytest
from storage_sqlite_setup import check_chain, intent, opened, outcome, seal

from storage import SqlStore, sqlite, sqlite_thread
from storage.driver import Script
from storage.errors import ReadTimeout, StoreBusy, StoreError, StoreUnavailable
from storage.records import Recorded
from storage.sqlite import (
    BATCHES_PER_CHECKPOINT,
    SqliteDriver,
    SqliteReaders,
    on_thread,
    version_warnings,
)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def driver_of(store: SqlStore) -> SqliteDriver:
    """The driver inside a store."""
    driver = store._driver
    assert isinstance(driver, SqliteDriver)
    return driver


async def test_the_private_call_is_the_one_we_know() -> None:
    """`on_thread` leans on these; look again before another version is required."""
    assert aiosqlite.__version__ == "0.22.1"
    assert str(inspect.signature(aiosqlite.Connection._execute)) == "(self, fn, *args, **kwargs)"
    assert isinstance(inspect.getattr_static(aiosqlite.Connection, "_conn"), property)
    connection = await aiosqlite.connect(":memory:")
    ours = threading.get_ident()
    seen = await on_thread(connection, lambda raw: (type(raw), threading.get_ident()))
    assert seen[0] is sqlite3.Connection and seen[1] not in (ours, None)
    with pytest.raises(ZeroDivisionError):
        await on_thread(connection, lambda raw: 1 // 0)
    await connection.close()
    with pytest.raises(StoreUnavailable):
        await on_thread(connection, lambda raw: None)


def test_a_file_that_cannot_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    """One that spoke to a loop which is closed: another user's `store info` ended in tracebacks."""
    for _ in range(20):
        assert asyncio.run(_left_by(tmp_path)) == []


async def _left_by(folder: Path) -> list[str]:
    with pytest.raises(StoreUnavailable):
        await sqlite._open(folder, "ro", lambda _: None)
    return [one.name for one in threading.enumerate() if "connection_worker" in one.name]


def test_an_opening_that_is_given_up_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stopped a sidecar that was starting read a traceback of a loop that is closed."""
    connect = sqlite3.connect

    def slow(*arguments: Any, **more: Any) -> sqlite3.Connection:
        time.sleep(0.2)
        return connect(*arguments, **more)

    async def give_up() -> list[str]:
        opening = asyncio.ensure_future(sqlite._open(tmp_path / "store.db", "rw", lambda _: None))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        return [one.name for one in threading.enumerate() if "connection_worker" in one.name]

    (tmp_path / "store.db").touch()
    monkeypatch.setattr(sqlite3, "connect", slow)
    assert asyncio.run(give_up()) == []


async def test_the_writer_keeps_its_promises(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        pragmas = {
            name: await on_thread(
                driver_of(store)._writer,  # type: ignore[arg-type]
                lambda raw, name=name: raw.execute(f"PRAGMA {name}").fetchone()[0],
            )
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "mmap_size")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
    }
    assert sqlite_thread.BUSY_WAITS * sqlite_thread.BUSY_WAIT_MS == 5_000


async def test_a8_a_batch_is_one_immediate_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record([intent("c1")], seal)
        traced: list[str] = []
        await on_thread(
            driver_of(store)._writer,  # type: ignore[arg-type]
            lambda raw: raw.set_trace_callback(traced.append),
        )
        await store.record([intent("c2"), outcome("c1"), intent("c3", "rival")], seal)
        verbs = [text.split()[0] for text in traced]
    assert traced[0] == "BEGIN IMMEDIATE" and traced[-1] == "COMMIT"
    assert verbs.count("BEGIN") == verbs.count("COMMIT") == 1
    assert "SAVEPOINT" not in verbs


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A busy timeout of 4 times 50 ms."""
    monkeypatch.setattr(sqlite_thread, "BUSY_WAITS", 4)
    monkeypatch.setattr(sqlite_thread, "BUSY_WAIT_MS", 50)
    yield


@pytest.mark.usefixtures("short_waits")
async def test_a8_another_program_that_writes_is_waited_for_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await store.record([intent("c1")], seal)
        assert store.facts().busy_retries_total == 3
        monkeypatch.setattr(sqlite_thread, "BUSY_WAITS", 400)
        waiting = asyncio.ensure_future(store.record([intent("c1")], seal))
        async with asyncio.timeout(10):
            while store.facts().busy_retries_total == 3:
                await asyncio.sleep(0.005)
        other.execute("ROLLBACK")
        [answer] = await waiting
        assert isinstance(answer, Recorded)
        assert store.facts().busy_retries_total > 3
        other.close()
        assert await check_chain(store) == 1


async def test_a_cancelled_caller_leaves_the_store_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        for number in range(20):
            task = asyncio.ensure_future(store.record([intent(f"c{number}")], seal))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        [answer] = await store.record([intent("last")], seal)
        assert isinstance(answer, Recorded)
        assert await check_chain(store) == answer.seq


async def test_verbs_called_at_once_take_their_turns(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await asyncio.gather(
            *(store.record([intent(f"c{number}")], seal) for number in range(40)),
            *(store.raise_epoch("acme") for _ in range(10)),
            *(store.after_commit() for _ in range(40)),
            *(store.receipts("acme", 0, 100) for _ in range(20)),
            *(store.probe() for _ in range(5)),
        )
        assert await check_chain(store) == 40
        assert (await store.head("acme")).epoch == 10


def no_check() -> Script[None]:
    """A script of no statements."""
    yield from ()


async def test_a7_a_read_is_cut_off_at_its_limit_and_the_log_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c0")], seal)
        readers = SqliteReaders(path, limit_s=0.3)
        slow = asyncio.ensure_future(readers.fetch(f"{ENDLESS}, receipts", tenant="acme"))
        await asyncio.sleep(0.05)
        for number in range(60):
            await store.record([intent(f"during{number}")], seal)
            await store.after_commit()
        pinned = store.facts().wal_bytes
        started_ns = perf_counter_ns()
        with pytest.raises(ReadTimeout, match="INTERRUPT"):
            await slow
        assert perf_counter_ns() - started_ns < 2_000_000_000
        for number in range(200):
            await store.record([intent(f"after{number}")], seal)
            await store.after_commit()
        assert store.facts().wal_bytes <= pinned + 20 * 4_200 * 12
        assert await readers.fetch("SELECT count(*) FROM receipts", tenant="acme") == [(261,)]
        await readers.close()


async def test_a_cancelled_read_stops_and_its_connection_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path):
        readers = SqliteReaders(path, count=1, limit_s=30)
        slow = asyncio.ensure_future(readers.fetch(ENDLESS, tenant="acme"))
        await asyncio.sleep(0.05)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert await readers.fetch("SELECT 1", tenant="acme") == [(1,)]
        assert len(readers._open) == 1
        await readers.close()


async def test_readers_cannot_write_and_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        with pytest.raises(StoreError):
            await driver_of(store).fetch("DELETE FROM receipts")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await check_chain(store) == 1
        other.close()


async def test_checkpoints_run_every_few_batches_and_keep_the_log_small(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        for number in range(300):
            await store.record([intent(f"c{number}")], seal)
            await store.after_commit()
        facts = store.facts()
        assert facts.checkpoints_total == 300 // BATCHES_PER_CHECKPOINT > 3
        assert facts.checkpoint_failures_total == 0
        assert facts.checkpoint_seconds_total > 0
        assert facts.wal_bytes < 4_000_000
        assert facts.file_bytes > 100_000
        assert facts.commits_total >= 300
        assert facts.rows_total >= 300 * 4
        assert (facts.engine, facts.version) == ("sqlite", sqlite3.sqlite_version)


async def test_closing_empties_the_log_frees_the_file_and_ends_the_threads(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = set(threading.enumerate())
    async with opened(path) as store:
        await store.record([intent("c1")], seal)
        await check_chain(store)
        ours = set(threading.enumerate()) - before
        assert len(ours) >= 2
    assert sorted(item.name for item in tmp_path.iterdir()) == ["store.db", "store.db.lock"]
    for thread in ours:
        thread.join(2)
        assert not thread.is_alive()
    async with opened(path) as store:
        assert await check_chain(store) == 1


async def test_a_driver_that_was_never_opened_closes(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "x.db", verify_tail=no_check, monotonic_ns=perf_counter_ns)
    with pytest.raises(StoreUnavailable):
        await driver.transaction(no_check)
    await driver.close()
    await driver.close()


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 54, 1), False),
    ],
)
def test_the_wal_reset_bug_is_told_of_by_version(
    version: tuple[int, int, int], is_affected: bool
) -> None:
    assert bool(version_warnings(version)) == is_affected
