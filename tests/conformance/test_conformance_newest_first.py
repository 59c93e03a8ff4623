"""Lists begin at the newest, also in a database that sorts as a language does, as most do."""

from __future__ import annotations

import argparse

from conformance_setup import draft

from sidecar.cli import store_erase
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from storage import SqlStore, open_store
from storage.records import AFTER_ALL_IDS, Entry, Recorded
from storage.standing import ApprovalRow
from storage.watch_rows import AlertRow, ContainmentRow, DeliveryRow, IncidentRow

ID = "01a22aba270970b0baeab8dd0a404055"
ROWS = (
    ApprovalRow(
        "acme", ID, 1, "spent", "a" * 64, "agent", "c1", "crm/send",
        '{"terms":[],"user":"","asked_sha256":""}', '{"args":{"iban":"SECRET"}}', "[]", 1, 2, 3,
        "c1",
    ),
    AlertRow("acme", ID, 1, "open", "d", "high", "[]", "agent", "", ID, "why", 1, "[]", "[]", 1, 1,
             1, 1),
    IncidentRow("acme", ID, 1, "open", "high", "agent", "", "t", "[]", 1, 1, 1),
    ContainmentRow("acme", ID, 1, "active", "freeze", "agent", "", "detection:d", ID, "", 1, 9, 1),
    DeliveryRow("acme", ID, 1, "dead", "sink", "alert", 1, "{}", 1, 1, "", 1, 1),
)  # fmt: skip


async def test_lists_begin_at_the_newest(store: SqlStore) -> None:
    entry = Entry(draft("acme", "control", agent_id="agent"), puts=ROWS)
    [answer] = await store.record([entry], seal)
    assert isinstance(answer, Recorded)
    if store.has_leases:
        [[is_first]] = await store._driver.fetch("SELECT '~' < '0'", tenant="acme")
        assert is_first, "the database sorts as a language does: else this shows nothing"
    assert [
        *await store.approvals_before("acme", AFTER_ALL_IDS, 9),
        *await store.alerts_before("acme", AFTER_ALL_IDS, 9),
        *await store.incidents_before("acme", AFTER_ALL_IDS, 9),
        *await store.containments_before("acme", AFTER_ALL_IDS, 9),
        *await store.deliveries_before("acme", AFTER_ALL_IDS, 9),
    ] == list(ROWS)


async def test_what_an_approval_asked_is_erased(store_url: str) -> None:
    store = await open_store(store_url, now_us=Clock().now_us, node_id="node")
    await store.record([Entry(draft("acme", "control", agent_id="agent"), puts=ROWS)], seal)
    await store.close()
    asked = argparse.Namespace(
        store=store_url, config=None, tenant="acme", agent="agent", user=None, call=None,
        dry_run=False,
    )  # fmt: skip
    assert await store_erase._erase(asked) == 0
    store = await open_store(store_url, now_us=Clock().now_us, node_id="node")
    try:
        row = await store.approval("acme", ID)
        assert row is not None and "SECRET" not in row.asked
    finally:
        await store.close()
