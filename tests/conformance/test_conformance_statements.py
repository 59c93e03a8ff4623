"""Every statement of the catalogue on every engine: understood, of the right shape, never without
its tenant. The checks are functions over texts, so that a planted fault shows they can fail.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from conformance_setup import OpenStore

from storage.errors import UnscopedRead
from storage.gathered import combined, gathered, guarded
from storage.records import (
    BucketRow,
    CallFactsRow,
    HeadRow,
    OpenIntentRow,
    ReceiptRow,
)
from storage.scopes import ACROSS_TENANTS, OF_NO_TENANT
from storage.standing import (
    AgentRow,
    ApprovalRow,
    AuditRow,
    KeyRow,
    OnceRow,
    PinGone,
    PinMark,
    PinRow,
)
from storage.statements import SQL_FOLDER, load_statements
from storage.tree import CheckpointRow, TileRow
from storage.watch_rows import (
    AlertRow,
    ContainmentRow,
    DeliveryRow,
    IncidentRow,
    WatchMark,
    WatchMemory,
)

#: Tables whose rows belong to somebody.
OWNED = (
    "chain_head", "receipts", "call_facts", "open_intent", "run_head", "limit_bucket", "tool_pin",
    "agent", "api_key", "approval", "said_once", "audit_event", "checkpoint", "tree_tile",
    "watch_mark", "watch_memory", "alert", "incident", "containment", "delivery",
)  # fmt: skip
#: What a row of a query becomes.
RECORDS: dict[str, Any] = {
    "head": HeadRow,
    "lock_heads": HeadRow,
    "receipts": ReceiptRow,
    "receipts_of_call": ReceiptRow,
    "call_facts": CallFactsRow,
    "open_intents": OpenIntentRow,
    "tool_marks": PinMark,
    "tool_pins": PinRow,
    "tool_pin": PinRow,
    "agents": AgentRow,
    "api_keys": KeyRow,
    "approval": ApprovalRow,
    "approval_of_action": ApprovalRow,
    "approval_granted_before": ApprovalRow,
    "open_approvals": ApprovalRow,
    "approvals_before": ApprovalRow,
    "said_once": OnceRow,
    "audit_events": AuditRow,
    "watch_mark": WatchMark,
    "watch_memories": WatchMemory,
    "alert": AlertRow,
    "alerts_quiet": AlertRow,
    "alerts_before": AlertRow,
    "alerts_of_incident": AlertRow,
    "incident": IncidentRow,
    "open_incidents": IncidentRow,
    "incidents_before": IncidentRow,
    "containment": ContainmentRow,
    "active_containments": ContainmentRow,
    "containments_before": ContainmentRow,
    "delivery": DeliveryRow,
    "deliveries_due": DeliveryRow,
    "deliveries_before": DeliveryRow,
    "deliveries_least": DeliveryRow,
    "latest_checkpoint": CheckpointRow,
    "latest_checkpoints": CheckpointRow,
    "signed_checkpoints": CheckpointRow,
    "checkpoints_before": CheckpointRow,
    "checkpoints_at": CheckpointRow,
    "tree_tiles": TileRow,
    "move_tiles": TileRow,
}
#: Statements that a driver runs for many rows at once, and the record a row is (None: a part).
MANY: dict[str, Any] = {
    "put_head": HeadRow,
    "insert_receipt": ReceiptRow,
    "insert_short_receipt": None,
    "insert_call_facts": CallFactsRow,
    "insert_open_intent": OpenIntentRow,
    "delete_open_intent": None,
    "put_run_head": None,
    "put_bucket": BucketRow,
    "put_tool_pin": PinRow,
    "drop_tool_pin": PinGone,
    "put_agent": AgentRow,
    "put_api_key": KeyRow,
    "put_approval": ApprovalRow,
    "put_said_once": OnceRow,
    "put_watch_mark": WatchMark,
    "put_watch_memory": WatchMemory,
    "put_alert": AlertRow,
    "put_incident": IncidentRow,
    "put_containment": ContainmentRow,
    "put_delivery": DeliveryRow,
    "put_audit_event": AuditRow,
    "put_checkpoint": CheckpointRow,
    "set_checkpoint": CheckpointRow,
    "put_tile": TileRow,
}
#: Jobs across tenants that are steps of a transaction, and no reads.
WRITES_ACROSS = ("drop_idle_buckets", "move_any_facts", "move_any_receipt")
#: Tables of the engines themselves, and savepoints, which only a transaction can prepare.
SAVEPOINTS = ("begin_entry", "undo_entry", "end_entry")
_NAME = re.compile(r"^-- name: *(\S+) *$", re.MULTILINE)


def commented_texts() -> dict[str, str]:
    """Every text as it stands in its file, comments included, under file and name."""
    texts: dict[str, str] = {}
    for path in sorted(SQL_FOLDER.glob("*.sql")):
        _, *parts = _NAME.split(path.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            texts[f"{path.name}: {name}"] = text
    return texts


def touches_rows_of_tenants(statement: str) -> bool:
    """Whether a statement, its comment gone, is about rows that belong to somebody."""
    touched = re.findall(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+(\w+)", statement)
    return bool(set(touched) & set(OWNED))


def forgets_its_tenant(name: str, text: str) -> bool:
    """Whether a statement touches rows that belong to somebody and neither says whose nor stands
    in the list of jobs across tenants, whatever its comment says."""
    statement = re.sub(r"--[^\n]*", "", text)
    if not touches_rows_of_tenants(statement) or name in ACROSS_TENANTS or name in WRITES_ACROSS:
        return False
    if "INSERT INTO" in statement:
        return "tenant_id" not in statement.partition("(")[2].partition(")")[0]
    return not re.search(r"WHERE\b.*\btenant_id\s*(=|IN)", statement, re.DOTALL)


@pytest.mark.parametrize("name", commented_texts())
def test_no_statement_forgets_its_tenant(name: str) -> None:
    text = commented_texts()[name]
    assert not forgets_its_tenant(name.partition(": ")[2], text)


@pytest.mark.parametrize(
    "text",
    [
        "-- All of them.\nSELECT seq FROM receipts WHERE seq > $1;",
        "-- Gone.\nDELETE FROM call_facts WHERE seq = $1;",
        "-- One.\nINSERT INTO open_intent (call_id) VALUES ($1);",
        "-- Joined.\nSELECT 1 FROM store_state JOIN receipts ON true WHERE name = $1;",
    ],
)
def test_a_statement_that_forgets_its_tenant_is_found(text: str) -> None:
    assert forgets_its_tenant("mine", text)
    assert forgets_its_tenant("mine", f"-- Job across tenants.\n{text}"), "a word is no list"
    assert not forgets_its_tenant("epochs", text), "positive control"


def test_the_list_of_jobs_across_tenants_is_what_the_statements_say_of_themselves() -> None:
    """Each says so in its comment, and whatever says so is in the list, or writes."""
    named = {name.partition(": ")[2]: text for name, text in commented_texts().items()}
    say_so = {
        name for name, text in named.items() if re.search(r"[Aa]cross\s+(--\s+)?tenants", text)
    }
    assert say_so == ACROSS_TENANTS | set(WRITES_ACROSS)
    assert named.keys() >= ACROSS_TENANTS | OF_NO_TENANT
    for name in OF_NO_TENANT:
        assert not touches_rows_of_tenants(re.sub(r"--[^\n]*", "", named[name])), name


async def test_g3_a_read_that_names_no_tenant_is_a_known_job_or_is_refused(
    open_it: OpenStore,
) -> None:
    store = await open_it()
    unscoped = "SELECT tenant_id, seq FROM receipts"
    with pytest.raises(UnscopedRead):
        await store._driver.fetch(unscoped)
    with pytest.raises(UnscopedRead):
        await store._driver.fetch(store._sql["head"], "acme")
    assert await store._driver.fetch(unscoped, tenant="acme") == [], "positive control"
    assert await store._driver.fetch(store._sql["epochs"]) == [], "positive control"
    assert await store._driver.fetch(store._sql["has_schema"]) != [], "positive control"


async def test_every_statement_is_prepared_by_postgres(
    open_it: OpenStore, store_url: str, request: pytest.FixtureRequest
) -> None:
    await open_it()
    if not store_url.startswith("postgresql"):
        _explain_all(store_url.removeprefix("sqlite:///"))
        return
    sql = load_statements("postgres")
    connection = await asyncpg.connect(store_url)
    try:
        for name, text in sql.items():
            if name in SAVEPOINTS:
                continue
            prepared = await connection.prepare(text)
            numbers = {int(one) for one in re.findall(r"\$(\d+)", text)}
            assert len(prepared.get_parameters()) == len(numbers), name
            if name in RECORDS:
                columns = tuple(attribute.name for attribute in prepared.get_attributes())
                assert columns == RECORDS[name]._fields, name
        wide = []
        for name, record in MANY.items():
            types = [one.name for one in (await connection.prepare(sql[name])).get_parameters()]
            assert set(types) <= {"text", "int8"}, name
            if record is not None:
                kinds = [_kind(record.__annotations__[field]) for field in record._fields]
                assert types == kinds, name
            wide.append(gathered(sql[name], types))
        prepared = await connection.prepare(combined(tuple(wide)))
        assert len(prepared.get_attributes()) == len(wide)
        prepared = await connection.prepare(guarded(sql["guard_heads"], tuple(wide)))
        assert len(prepared.get_attributes()) == 2 + len(wide)
    finally:
        await connection.close()


def _kind(annotation: Any) -> str:
    return "int8" if "int" in str(annotation) else "text"


def _explain_all(path: str) -> None:
    raw = sqlite3.connect(path)
    for name, text in load_statements("sqlite").items():
        if name not in SAVEPOINTS:
            raw.execute(f"EXPLAIN {text}", [None] * len(set(re.findall(r"\?\d+", text))))
    for name, record in RECORDS.items():
        text = load_statements("sqlite")[name]
        count = len(set(re.findall(r"\?\d+", text)))
        found = raw.execute(text, ["[]"] * count) if name == "lock_heads" else raw.execute(
            text, [1] * count
        )  # fmt: skip
        assert tuple(column[0] for column in found.description) == record._fields, name
    raw.close()


def test_savepoints_are_all_that_is_not_prepared() -> None:
    assert set(SAVEPOINTS) < set(load_statements("postgres"))
    assert Path(SQL_FOLDER).is_dir()
