"""Retention over a store: what is found by age, what may be cut off, what is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_sqlite_setup import intent, opened, outcome, seal

from storage import SqlStore
from storage.errors import StoreCorrupt
from storage.records import Entry
from storage.retention import WHOLE, Cut, CutRefused, Retention, Subject


def at(us: int, *entries: Entry) -> list[Entry]:
    """The entries, drafted at a time."""
    for entry in entries:
        entry.receipt = entry.receipt._replace(ts_us=us)
    return list(entries)


async def fill(store: SqlStore) -> None:
    """Ten calls at 1,000, 2,000 … 10,000: receipts 1 to 20; another tenant's beside them."""
    for n in range(1, 11):
        await store.record(at(n * 1000, intent(f"c{n}"), intent(f"c{n}", "beta")), seal)
        await store.record(at(n * 1000, outcome(f"c{n}")), seal)


async def cut_at(store: SqlStore, seq: int) -> Cut:
    row = (await store.receipts("acme", seq - 1, 1))[0]
    return Cut(seq, row.receipt_hash, row.ts_us, row.receipt_hash, "a.jsonl", "5a")


async def test_where_an_age_ends_is_found_by_halving(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        retention, head = Retention(store), await store.head("acme")
        for before_us, seq in ((0, 0), (1000, 0), (1001, 2), (5000, 8), (5001, 10), (99_999, 20)):
            assert await retention.last_before("acme", before_us, head) == seq, before_us
        assert await retention.last_before("none", 5000, await store.head("none")) == 0


async def test_facts_are_deleted_up_to_a_receipt_and_of_one_tenant(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        for size, until, count in ((1, 4, 2), (2, 11, 4), (500, 14, 1)):
            retention = Retention(store, rows_a_transaction=size)
            assert await retention.delete_facts("acme", until) == count
            assert await retention.delete_facts("acme", until) == 0
        assert [f.seq for f in await retention.facts("acme", 0, 99)] == [15, 17, 19]
        assert await retention.count("call_facts", "beta", 0, 10) == 10
        assert await retention.count("receipts", "acme", 0, 20) == 20


async def test_facts_are_found_by_subject_within_a_tenant(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        retention = Retention(store, rows_a_transaction=3)
        about = retention.facts_about
        assert await about("acme", Subject("call", "c2"), 20) == [3]
        assert await about("acme", Subject("agent", "agent"), 9) == [1, 3, 5, 7, 9]
        assert await about("acme", Subject("user", "agent"), 20) == []
        assert await retention.erase("acme", [1, 3, 5, 7]) == 4
        assert await retention.erase("acme", [1, 3, 5, 7]) == 0
        assert await about("acme", Subject("agent", "agent"), 9) == [9]
        assert await about("beta", Subject("agent", "agent"), 5) == [1, 2, 3, 4, 5]


async def test_a_long_chain_is_read_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.retention.SEQS_A_READ", 3)
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        retention = Retention(store)
        assert await retention.count("receipts", "acme", 0, 20) == 20
        assert await retention.count("call_facts", "acme", 0, 19) == 10
        assert len(await retention.facts_about("acme", Subject("agent", "agent"), 20)) == 10


async def test_a_cut_is_recorded_with_the_deletes_below_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        retention = Retention(store, rows_a_transaction=3)
        assert await retention.cut("acme") == WHOLE
        cut = await cut_at(store, 8)
        assert await retention.cut_off("acme", cut) == (8, 4)
        assert await retention.cut("acme") == cut
        assert await retention.first_receipt("acme", 0) == 9
        assert [f.seq for f in await retention.facts("acme", 0, 99)] == [9, 11, 13, 15, 17, 19]
        assert await retention.cut("beta") == WHOLE
        assert len(await store.receipts("beta", 0, 99)) == 10
        assert await retention.last_before("acme", 1, await store.head("acme")) == 8
        await store.record([intent("later")], seal)
    async with opened(tmp_path / "store.db") as store:  # its tail is in order
        assert (await store.head("acme")).seq == 21


async def test_a_cut_that_would_break_the_chain_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        await store.record([intent("open")], seal)
        await store.record([intent("last")], seal)
        await store.record([outcome("last")], seal)
        retention, good = Retention(store), await cut_at(store, 8)
        refused = [
            (await cut_at(store, 23), "nothing of tenant 'acme' would be left"),
            (Cut(99, "", 0, "", "", ""), "nothing of tenant"),
            (Cut(8, "0" * 64, good.ts_us, "", "", ""), "is not the one that was archived"),
            (await cut_at(store, 21), "the call of receipt 21 of 'acme' has not ended"),
            (await cut_at(store, 22), "the call of receipt 21 of 'acme' has not ended"),
        ]  # fmt: skip
        for cut, said in refused:
            with pytest.raises(CutRefused, match=said):
                await retention.cut_off("acme", cut)
        with pytest.raises(CutRefused):
            await retention.cut_off("none", good)
        assert len(await store.receipts("acme", 0, 99)) == 23
        assert await retention.cut("acme") == WHOLE
        assert await retention.cut_off("acme", await cut_at(store, 20)) == (20, 10)


async def test_a_cut_that_cannot_be_read_is_no_whole_chain(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await fill(store)
        sql, retention = store._sql, Retention(store)
        for text in ("", "[]", "{}", '{"seq": 1}'):
            row = [("cut:acme", text)]
            await store._driver.transaction(lambda row=row: _put(sql["put_state"], row))
            with pytest.raises(StoreCorrupt, match="cut of tenant 'acme'"):
                await retention.cut("acme")


def _put(sql: str, rows: list[tuple[str, str]]):  # type: ignore[no-untyped-def]
    from storage.driver import execute_many

    return execute_many(sql, rows)
