"""Care of a store on every engine: facts and the beginning of a chain go, what is left verifies."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import storage
from sidecar.clock import Clock
from sidecar.ledger.archive import write_archive
from sidecar.ledger.care import pruned_receipts
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.stored_chain import verify_chain, verify_store
from storage import SqlStore, engine_of, open_reader
from storage.known_heads import KnownHeads
from storage.migrate import migrate, read_migrations
from storage.records import CallFactsRow, Entry, OpenIntentRow
from storage.retention import WHOLE, CareReader, CutRefused, Retention, Subject
from storage.standing import ApprovalRow
from storage.statements import load_statements
from storage.watch_rows import DeliveryRow

CLOCK = Clock()


async def fill(store: SqlStore, tenant_id: str, calls: int = 10) -> None:
    """Calls at 1,000, 2,000 …: an intent with facts and its outcome each; by two agents."""
    for number in range(1, calls + 1):
        call_id, at_us = f"{tenant_id}-{number}", number * 1000
        intent = blank_receipt(
            tenant_id, "intent", event_id=call_id, call_id=call_id, ts_us=at_us,
            agent_id=f"agent-{number % 2}",
        )  # fmt: skip
        outcome = blank_receipt(
            tenant_id, "outcome", event_id=f"{call_id}-end", call_id=call_id, ts_us=at_us,
            outcome="completed",
        )  # fmt: skip
        facts = CallFactsRow(tenant_id, 0, "5a17" * 8, None, "{}")
        opened = OpenIntentRow(tenant_id, call_id, "node", "boot")
        await store.record([Entry(intent, facts, opened)], seal)
        await store.record([Entry(outcome, closes=call_id)], seal)


async def test_chains_are_verified_with_their_heads(store: SqlStore) -> None:
    assert await verify_store(store) == []
    await fill(store, "acme")
    await fill(store, "beta", 3)
    found = await verify_store(store)
    assert [(one.tenant_id, one.last_seq, one.facts, one.fault) for one in found] == [
        ("acme", 20, 10, None), ("beta", 6, 3, None),
    ]  # fmt: skip
    assert found[0].head_hash == (await store.head("acme")).receipt_hash


async def test_facts_go_by_age_and_by_subject_within_a_tenant(store: SqlStore) -> None:
    await fill(store, "acme")
    await fill(store, "beta")
    retention = Retention(store, rows_a_transaction=2)
    head = await store.head("acme")
    assert await retention.last_before("acme", 5001, head) == 10
    assert await retention.delete_facts("acme", 10) == 5
    assert await retention.facts_about("acme", Subject("agent", "agent-0"), 20) == [11, 15, 19]
    assert await retention.facts_about("acme", Subject("call", "acme-7"), 20) == [13]
    assert await retention.facts_about("acme", Subject("user", "ann"), 20) == []
    assert await retention.erase("acme", [11, 15, 19]) == 3
    assert await retention.erase("acme", [11, 15, 19]) == 0
    assert await retention.count("call_facts", "acme", 0, 20) == 2
    assert await retention.count("call_facts", "beta", 0, 20) == 10
    assert [one.fault for one in await verify_store(store)] == [None, None]


async def test_what_approvals_asked_goes_unless_they_are_open(store: SqlStore) -> None:
    blank = blank_receipt("acme", "approval", event_id="e1", call_id=None, ts_us=1)
    rows = [
        ApprovalRow("acme", f"a{n}", 1, state, f"{n:064x}", "coder", "c", "t", "{}", '{"x":1}',
                    "[]", 5, 9, 5, "")
        for n, state in enumerate(("pending", "approved", "spent", "rejected"))
    ]  # fmt: skip
    news = DeliveryRow("acme", "d1", 1, "dead", "ops", "k", 3, "{}", 1, 0, "", 5, 5)
    await store.record([Entry(blank, puts=(*rows, news, news._replace(delivery_id="d2")))], seal)
    retention = Retention(store, rows_a_transaction=2)
    texts = {row.approval_id: "{}" for row in rows}
    assert await retention.erase_approvals("beta", texts) == 0
    assert await retention.erase_approvals("acme", texts) == 2
    found = await store.approvals_before("acme", "z", 9)
    assert [(one.approval_id, one.version, one.asked) for one in found] == [
        ("a3", 2, "{}"), ("a2", 2, "{}"), ("a1", 1, '{"x":1}'), ("a0", 1, '{"x":1}'),
    ]  # fmt: skip
    assert await retention.erase_deliveries("beta", ["d1"]) == 0
    assert await retention.erase_deliveries("acme", ["d1", "d3"]) == 1
    assert [one.delivery_id for one in await store.deliveries_before("acme", "z", 9)] == ["d2"]


async def test_a_chain_is_cut_below_an_archive(store: SqlStore, tmp_path: Path) -> None:
    await fill(store, "acme")
    await fill(store, "beta")
    retention, path = Retention(store, rows_a_transaction=3), tmp_path / "a.jsonl"
    cut = await write_archive(store, "acme", WHOLE, 8, path, path, with_facts=True)
    for wrong in (replace(cut, receipt_hash="0" * 64), replace(cut, seq=20)):
        try:
            await retention.cut_off("acme", wrong)
        except CutRefused:
            continue
        raise AssertionError("a wrong cut was made")
    await store.record([pruned_receipts(CLOCK, "acme", "cli:ana", cut)], seal)
    assert await retention.cut_off("acme", cut) == (8, 4)
    assert await retention.cut("acme") == cut
    report = await verify_chain(store, "acme")
    assert (report.first_seq, report.last_seq, report.facts, report.fault) == (9, 21, 6, None)
    assert (await verify_chain(store, "beta")).last_seq == 20
    # A chain that is cut without a receipt that says so does not hold.
    other = replace(await write_archive(
        store, "beta", WHOLE, 8, tmp_path / "b.jsonl", path, with_facts=False
    ), archive="b")  # fmt: skip
    await retention.cut_off("beta", other)
    assert "no receipt after it says so" in str((await verify_chain(store, "beta")).fault)


async def test_a_call_in_flight_is_known_and_what_info_asks(store: SqlStore) -> None:
    await fill(store, "acme", 2)
    intent = blank_receipt("acme", "intent", event_id="o", call_id="o", ts_us=1)
    await store.record([Entry(intent, opens=OpenIntentRow("acme", "o", "node", "boot"))], seal)
    await fill(store, "beta", 1)
    assert await Retention(store).first_open_call("acme") == 5
    assert await Retention(store).first_open_call("beta") is None
    assert (await Retention(store).counts_of_small_tables())["open_intent"] == 1
    assert await Retention(store).tenants_with_receipts() == ["acme", "beta"]
    server = await Retention(store).server()
    assert (server is None) == (store.facts().engine == "sqlite")
    assert server is None or server[1] > 0
    assert await Retention(store).schema_version() >= 1


async def test_a_store_of_an_older_version_is_counted_before_it_is_brought_up_to_date(
    store_url: str,
) -> None:
    """Whoever looks at it has the new program already, and has not started it."""
    engine = engine_of(store_url)
    sql, shipped = load_statements(engine), read_migrations(engine)
    driver = storage._driver(store_url, engine, sql, time.perf_counter_ns, KnownHeads())
    await driver.open()
    older = [step for step in shipped if step.version < 10]
    await migrate(driver, sql, older, CLOCK.now_us)
    await driver.close()
    for has_all in (False, True):
        reader = await open_reader(store_url)
        try:
            counts = await CareReader(reader).counts_of_small_tables()
        finally:
            await reader.close()
        assert {"open_intent", "tool_pin"} <= counts.keys()
        assert ("said_once" in counts) == ("incident" in counts) == has_all
        await (await storage.open_store(store_url, now_us=CLOCK.now_us, node_id="node")).close()
