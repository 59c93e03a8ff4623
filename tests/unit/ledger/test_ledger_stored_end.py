"""F1: where a store's chain ends is what its receipts come to, and every page follows the last."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from ledger_checkpoint_setup import opened, record

import storage
from sidecar.ledger import stored_chain
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.merkle import append, frontier_to_hex, leaf_hash
from sidecar.ledger.receipt import body_of, receipt_hash
from sidecar.ledger.stored_chain import ChainReport, verify_chain
from storage.sql_store import SqlReader

COUNT = 6


def _done(folder: Path, *statements: str) -> None:
    raw = sqlite3.connect(folder / "aegis.db")
    for statement in statements:
        raw.execute(statement)
    raw.commit()
    raw.close()


async def _report(folder: Path) -> ChainReport:
    """Of a reader of its own: what would work on the store refuses some of these at once."""
    reader = await storage.open_reader(f"sqlite:///{folder}/aegis.db")
    try:
        return await verify_chain(reader, "default")
    finally:
        await reader.close()


async def _head_at(reader: SqlReader, seq: int) -> str:
    """A head as it was after a receipt."""
    previous, ts_us, frontier = "", 0, list[bytes]()
    for row in await reader.receipts("default", 0, seq):
        append(frontier, row.seq - 1, leaf_hash(canonical_body(body_of(row, previous))))
        previous, ts_us = row.receipt_hash, row.ts_us
    return (
        f"UPDATE chain_head SET seq = {seq}, receipt_hash = '{previous}', ts_us = {ts_us}, "
        f"frontier = '{frontier_to_hex(frontier)}'"
    )


@pytest.mark.parametrize(("change", "said"), [
    (f"receipt_hash = '{'ab' * 32}'", "the head's hash is not that of receipt 6"),
    ("ts_us = ts_us + 1", "the head's time is not that of receipt 6"),
    ("ts_us = ts_us - 1", "the head's time is not that of receipt 6"),
    ("frontier = replace(frontier, substr(frontier, 1, 4), '0000')", "the frontier at the head"),
    ("seq = 7", "receipt 7 is missing"),
])  # fmt: skip
async def test_f1_a_head_that_is_not_what_the_receipts_come_to_does_not_hold(
    tmp_path: Path, change: str, said: str
) -> None:
    async with opened(tmp_path) as store:
        await record(store, COUNT)
        assert (await verify_chain(store, "default")).fault is None
    _done(tmp_path, f"UPDATE chain_head SET {change}")
    report = await _report(tmp_path)
    assert said in str(report.fault) and report.last_seq == COUNT


async def test_f1_receipts_after_the_head_do_not_go_unsaid(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await record(store, COUNT)
        earlier = await _head_at(store, 4)
    _done(tmp_path, earlier)
    report = await _report(tmp_path)
    assert report.fault == "there are receipts after the head at 4" and report.last_seq == 4


@pytest.mark.parametrize("first", [3, 4, 5], ids=["on a page", "between two", "after"])
async def test_f1_a_time_that_goes_back_is_found_wherever_a_page_begins(
    tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        await record(store, COUNT)
        rows = await store.receipts("default", 0, COUNT)
    forged, previous = list[str](), ""
    for row in rows:
        ts_us = row.ts_us - 10_000_000 if row.seq >= first else row.ts_us
        again = row._replace(ts_us=ts_us)
        again = again._replace(receipt_hash=receipt_hash(body_of(again, previous)))
        previous = again.receipt_hash
        forged.append(
            f"UPDATE receipts SET ts_us = {ts_us}, receipt_hash = '{previous}' "
            f"WHERE seq = {row.seq}"
        )
    _done(tmp_path, *forged)
    reader = await storage.open_reader(f"sqlite:///{tmp_path}/aegis.db")
    head = await _head_at(reader, COUNT)
    await reader.close()
    _done(tmp_path, head)
    monkeypatch.setattr(stored_chain, "PAGE_ROWS", 3)
    report = await _report(tmp_path)
    assert f"receipt {first}: " in str(report.fault) and "time" in str(report.fault)
    assert report.last_seq == first - 1
