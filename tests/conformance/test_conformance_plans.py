"""How a server reads pages of a chain: along the key, also without any figures of the table."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
import postgres_server

import storage
from storage.postgres_connect import reader_settings
from storage.statements import load_statements

RECEIPTS = 20_000
#: Statements that read a chain, with what they are asked; a filter each that fits nothing.
PAGES = {
    "receipts": ("acme", 5, 200),
    "recorded_after": ("acme", 5, 200, 8 * 1024 * 1024),
    "calls_page": ("acme", RECEIPTS, 5, *("nobody",) * 9, 51),
    "calls_of_agent": ("acme", RECEIPTS, 5, "nobody", 51),
    "shadow_differences": ("acme", RECEIPTS, 5, 51),
    "count_calls": ("acme", 5, 10_000, 1000),
    "last_seq_before": ("acme", 0, RECEIPTS, 7_000),
    "audit_page": ("acme", RECEIPTS, 0, "", "", "", 0, 2**53, 51),
}
FILLED = (
    "ALTER TABLE receipts SET (autovacuum_enabled = false)",
    "SELECT set_config('aegis.tenants', 'acme', false)",
    "INSERT INTO receipts (tenant_id, seq, kind, event_id, call_id, ts_us, receipt_hash)"
    f" SELECT 'acme', n, 'intent', 'e' || n, 'c' || n, n, '' FROM generate_series(1, {RECEIPTS}) n",
)


async def plans(url: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The plan of each page in a session with these settings, as an execution of it has it."""
    connection = await asyncpg.connect(url, server_settings=dict(settings))
    try:
        await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
        texts, found = load_statements("postgres"), {}
        for name, asked in PAGES.items():
            await connection.execute(f"PREPARE {name} AS {texts[name]}")
            shown = ", ".join(f"'{one}'" if isinstance(one, str) else str(one) for one in asked)
            rows = await connection.fetch(f"EXPLAIN EXECUTE {name} ({shown})")
            found[name] = "\n".join(row[0] for row in rows)
        return found
    finally:
        await connection.close()


def gathers(plan: str) -> bool:
    """Whether a plan reads a table otherwise than along a key."""
    return any(word in plan for word in ("Bitmap", "Seq Scan", "Hash Join", "Merge Join"))


async def test_pages_of_a_chain_are_read_along_its_key_before_any_statistics(
    postgres_dsn: str,
) -> None:
    url = await postgres_server.new_database(postgres_dsn)
    store = await storage.open_store(url, now_us=lambda: 1, node_id="node")
    await store.close()
    connection = await asyncpg.connect(url)
    for statement in FILLED:
        await connection.execute(statement)
    await connection.close()
    usual = await plans(url, {})
    assert gathers(usual["receipts"]), "positive control: what a session without figures does"
    ours = await plans(url, reader_settings(1.0))
    assert not [plan for plan in ours.values() if gathers(plan)], ours
    in_order = ("receipts", "recorded_after", "calls_page", "calls_of_agent", "shadow_differences")
    for name in in_order:
        assert "Sort" not in ours[name], "in the key's order already"
