"""Receipts that are archived while somebody has them verified: that is on record, and no fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from api_setup import Served, key_of

from sidecar.ledger.archive import write_archive
from sidecar.ledger.care import pruned_receipts
from sidecar.ledger.chain import seal
from storage.retention import WHOLE, Cut, Retention
from storage.sql_store import SqlReader
from storage.watch_reads import WatchReads

AUDITOR = key_of("acme", "auditor")
CUT_AT = 4


@pytest_asyncio.fixture
async def cut(served_by_each: Served, tmp_path: Path) -> Cut:
    """Where the chain may be cut: what comes before stands in an archive."""
    store, path = served_by_each.store, tmp_path / "a.jsonl"
    cut = await write_archive(store, "acme", WHOLE, CUT_AT, path, path, with_facts=False)
    await store.record([pruned_receipts(served_by_each.clock, "acme", "cli:ana", cut)], seal)
    return cut


async def asked(served: Served, path: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    return (await served.ask(f"/v1/receipts/{path}", AUDITOR, method=method, body=body))[:2]


async def test_a_stretch_whose_beginning_is_archived_meanwhile_is_verified_from_there(
    served_by_each: Served, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_after = WatchReads.recorded_after

    async def overtaken(reads: WatchReads, tenant: str, *rest: Any) -> Any:
        if (await Retention(served_by_each.store).cut(tenant)).seq == 0:
            await Retention(served_by_each.store).cut_off(tenant, cut)
        return await recorded_after(reads, tenant, *rest)

    monkeypatch.setattr(WatchReads, "recorded_after", overtaken)
    status, said = await asked(served_by_each, "verify-range", {})
    assert (status, said["verified"], said["first_seq"]) == (200, True, CUT_AT + 1), said
    assert said["links_to"] == cut.receipt_hash
    status, said = await asked(served_by_each, "verify-range", {"from_seq": 2})
    assert (status, said["code"]) == (404, "not_found")


async def test_receipts_that_are_archived_while_they_are_read_are_not_changed_ones(
    served_by_each: Served, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one that somebody kept missing in the store."""
    _, kept, _ = await served_by_each.ask("/v1/receipts?limit=6", AUDITOR)
    receipts, reads = SqlReader.receipts, list[int]()

    async def overtaken(reader: SqlReader, tenant: str, after: int, limit: int) -> Any:
        reads.append(after)
        if len(reads) == 2:
            await Retention(served_by_each.store).cut_off(tenant, cut)
        return await receipts(reader, tenant, after, limit)

    monkeypatch.setattr(SqlReader, "receipts", overtaken)
    status, said = await asked(served_by_each, "3/verify")
    assert (status, said["code"]) == (404, "not_found"), said
    status, said = await asked(served_by_each, "verify-chain", {"receipts": kept})
    assert (said["verified"], said["compared"]) == (True, 2), said
