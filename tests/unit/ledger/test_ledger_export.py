"""What is exported verifies, whole and consistent, while more is recorded."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from ledger_setup import Ledger, call, chain, decision, draft, ledger, lines_of, principal

import storage
from sidecar.ledger.chain import seal
from sidecar.ledger.export import PAGE_ROWS, export_lines
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.receipt import BODY_KEYS
from sidecar.ledger.verify import verify_lines
from storage.errors import StoreCorrupt
from storage.records import Entry


async def record(at: Ledger, count: int, tenant: str = "default", first: int = 1) -> None:
    drafts = [
        draft(number, tenant, kind="control", call_id=None)
        for number in range(first, first + count)
    ]
    await at.store.record([Entry(row) for row in drafts], seal)


async def exported(at: Ledger, tenant: str = "default", *, with_facts: bool = False) -> list[bytes]:
    return [line async for line in export_lines(at.store, tenant, with_facts=with_facts)]


async def test_an_export_of_several_pages_verifies_to_the_head(tmp_path: Path) -> None:
    count = PAGE_ROWS * 2 + 1
    async with ledger(tmp_path) as at:
        await record(at, count)
        await record(at, 1, "other")
        lines = await exported(at)
        head = await at.store.head("default")
        assert lines == lines_of(await at.rows())
    assert set(json.loads(lines[0])) == {*BODY_KEYS, "receipt_hash"}
    verdict = verify_lines(lines)
    assert (verdict.count, verdict.head_hash) == (count, head.receipt_hash)
    assert verdict.root == root(frontier_from_hex(head.frontier, head.seq)).hex()


async def test_nothing_recorded_is_nothing_exported(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        assert await exported(at) == []


async def test_an_export_ends_at_the_head_it_began_with(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await record(at, PAGE_ROWS + 5)
        lines = []
        async for line in export_lines(at.store, "default"):
            if not lines:
                await record(at, 10, first=5000)
            lines.append(line)
    assert len(lines) == PAGE_ROWS + 5
    assert verify_lines(lines).holds


async def test_a_reader_of_its_own_exports_while_the_store_is_held(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        await record(at, 3)
        reader = await storage.open_reader(f"sqlite:///{tmp_path}/ledger.db")
        try:
            lines = [line async for line in export_lines(reader, "default")]
            assert lines == await exported(at)
        finally:
            await reader.close()


async def test_f7_facts_come_along_on_request_and_may_be_erased(tmp_path: Path) -> None:
    async with ledger(tmp_path) as at:
        for number in (1, 2):
            made = call(f"{number:032x}", {"title": "é", "password": "x"})
            await at.recorder.intent(principal(), made, decision())
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("DELETE FROM call_facts WHERE seq = 2")
    connection.close()
    async with ledger(tmp_path) as at:
        plain, lines = await exported(at), await exported(at, with_facts=True)
    first, second = (json.loads(line) for line in lines)
    assert json.loads(first["arguments"]) == {"title": "é", "password": "***"}
    assert json.loads(first["facts"])["method"] == "POST"
    assert (second["salt"], second["arguments"], second["facts"]) == (None, None, None)
    assert verify_lines(lines).holds and verify_lines(plain).holds
    assert verify_lines(lines).root == verify_lines(plain).root


@pytest.mark.parametrize(
    ("tampering", "line"),
    [
        ("UPDATE receipts SET agent_id = 'other' WHERE seq = 3", 3),
        ("UPDATE receipts SET ts_us = ts_us + 1 WHERE seq = 5", 5),
        ("DELETE FROM receipts WHERE seq = 4", 4),
        ("DELETE FROM receipts WHERE seq = 1", 1),
    ],
)
async def test_f1_a_store_that_was_tampered_with_is_exported_as_it_is(
    tmp_path: Path, tampering: str, line: int
) -> None:
    async with ledger(tmp_path) as at:
        await record(at, 6)
        assert verify_lines(await exported(at)).holds
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute(tampering)
        connection.close()
        fault = verify_lines(await exported(at)).fault
        assert fault is not None and fault.line == line


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM receipts WHERE seq > 3",
        "UPDATE receipts SET seq = 99 WHERE seq = 2",
        "UPDATE receipts SET tool = x'ff00' WHERE seq = 4",
    ],
)
async def test_an_export_that_cannot_be_whole_fails(tmp_path: Path, tampering: str) -> None:
    async with ledger(tmp_path) as at:
        await record(at, 6)
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute(tampering)
        connection.close()
        with pytest.raises(StoreCorrupt, match="default"):
            await exported(at)


def test_lines_are_those_of_the_reference() -> None:
    rows = chain([draft(1), draft(2)])
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines_of(rows))
