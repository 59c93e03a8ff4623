"""A chain whose calls have large arguments: verified in memory for a few of them."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.commitment import NONCE_BYTES
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.replaying import recorded_pages
from sidecar.ledger.stored_chain import verified_stretches, verify_chain
from storage.records import CallFactsRow, Entry, Recorded
from storage.retention import WHOLE

MIB = 1024 * 1024
CALLS = 40
SALT = b"\x5a" * NONCE_BYTES


@asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[storage.SqlStore]:
    """A store with as many refusals as there are calls, each with 1 MiB of arguments."""
    url = f"sqlite:///{folder}/large.db"
    store = await storage.open_store(url, now_us=lambda: 1, node_id="n1")
    try:
        for number in range(CALLS):
            await put(store, number)
        yield store
    finally:
        await store.close()


async def put(store: storage.SqlStore, number: int) -> None:
    arguments = f'{{"text":"{number % 10}{"x" * MIB}"}}'
    name = f"c{number}"
    blank = blank_receipt("acme", "refusal", event_id=name, call_id=name, ts_us=number)
    digest = hmac.digest(SALT, arguments.encode(), "sha256").hex()
    facts = CallFactsRow("acme", 0, SALT.hex(), arguments, "{}")
    entry = Entry(blank._replace(args_commitment=digest), facts=facts)
    (answer,) = await store.record([entry], seal)
    assert isinstance(answer, Recorded)


async def test_a_chain_with_large_arguments_is_verified_in_memory_for_a_few(
    tmp_path: Path,
) -> None:
    async with stored(tmp_path) as store:
        head = await store.head("acme")
        stretches = verified_stretches(store, "acme", WHOLE, head.seq)
        sizes = [len(stretch.rows) async for stretch in stretches]
        assert sizes == [8] * 5
        report = await verify_chain(store, "acme")
        assert (report.fault, report.last_seq, report.facts) == (None, CALLS, CALLS)
        pages = [page async for _, page in recorded_pages(store, "acme", 0, head.seq)]
        assert [len(page) for page in pages] == [8] * 5
        assert [one.receipt.seq for page in pages for one in page] == list(range(1, CALLS + 1))


async def test_arguments_that_were_changed_are_found_in_a_later_page(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        with sqlite3.connect(tmp_path / "large.db") as raw:
            raw.execute("UPDATE call_facts SET arguments = '{}' WHERE seq = 29")
        raw.close()
        report = await verify_chain(store, "acme")
        assert report.fault is not None
        assert report.fault.startswith("receipt 29: its arguments are not those")
