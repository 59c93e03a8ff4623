"""Schema drift on a server: what was done to our tables by hand stops the start and is named."""

from __future__ import annotations

import asyncpg
import expected_schema
import pytest
from conformance_setup import OpenStore
from test_conformance_statements import OWNED

from storage.driver import Row
from storage.errors import StoreError
from storage.schema_check import SERVER_SCHEMA, SchemaDrift, differences, expected_on_server

pytestmark = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)


async def done_by_hand(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_is_expected_is_what_the_migrations_make(store_url: str) -> None:
    rows = await expected_schema.described(store_url)
    assert expected_schema.text_of(rows) == SERVER_SCHEMA.read_text("utf-8"), (
        "run `python tests/expected_schema.py` and read what changed"
    )
    tables = {row[2] for row in rows}
    assert {"receipts", "chain_head", "schema_migration"} <= tables


async def test_g3_every_table_with_a_tenant_is_guarded_by_a_forced_policy(
    open_it: OpenStore, store_url: str
) -> None:
    """Asked of the server itself, so that a table a later migration adds cannot be forgotten."""
    await open_it()
    connection = await asyncpg.connect(store_url)
    try:
        tables = await connection.fetch(
            "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, "
            "(SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
            "WHERE c.relkind = 'r' AND a.attname = 'tenant_id' AND NOT a.attisdropped "
            "AND c.relnamespace = current_schema()::regnamespace"
        )
    finally:
        await connection.close()
    guarded = {name for name, is_forced, policies in tables if is_forced and policies == 1}
    assert guarded == {row[0] for row in tables}
    assert guarded == set(OWNED), "positive control: these are they"


@pytest.mark.parametrize(("statement", "said"), [
    ("DROP INDEX receipts_call_begins", "index receipts_call_begins on receipts is missing"),
    ("CREATE UNIQUE INDEX extra ON receipts (event_id)", "index extra on receipts is unknown"),
    ("CREATE INDEX extra ON receipts (lower(tool))", "index extra on receipts is unknown"),
    ("CREATE INDEX extra ON receipts (seq) WHERE 1 / seq = 0",
     "index extra on receipts is unknown"),
    ("DROP TABLE run_head", "table run_head is missing"),
    ("ALTER TABLE receipts ADD COLUMN mood TEXT", "column receipts.mood is unknown"),
    ("ALTER TABLE call_facts DROP COLUMN arguments", "column call_facts.arguments is missing"),
    ("ALTER TABLE chain_head ALTER epoch DROP NOT NULL",
     "column chain_head.epoch is bigint, not bigint NOT NULL"),
    ("ALTER TABLE chain_head ALTER epoch TYPE INT",
     "column chain_head.epoch is integer NOT NULL, not bigint NOT NULL"),
    ("ALTER TABLE chain_head ALTER epoch SET DEFAULT 7",
     "column chain_head.epoch is bigint NOT NULL DEFAULT 7, not bigint NOT NULL"),
    ('ALTER TABLE run_head ALTER agent_id TYPE TEXT COLLATE "C"',
     "column run_head.agent_id is text COLLATE C NOT NULL, not text NOT NULL"),
    ("ALTER TABLE chain_head DROP CONSTRAINT chain_head_seq_check",
     "constraint chain_head_seq_check on chain_head is missing"),
    ("ALTER TABLE chain_head ADD CHECK (epoch < 9)",
     "constraint chain_head_epoch_check on chain_head is unknown"),
    ("ALTER TABLE receipts DROP CONSTRAINT receipts_pkey",
     "constraint receipts_pkey on receipts is missing"),
    ("CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
     "CREATE TRIGGER forget BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION forget()",
     "trigger forget on receipts is unknown"),
    ("CREATE RULE forget AS ON INSERT TO call_facts DO INSTEAD NOTHING",
     "rule forget on call_facts is unknown"),
    ("DROP POLICY of_named_tenants ON receipts", "policy of_named_tenants on receipts is missing"),
    ("CREATE POLICY wide ON receipts USING (true)", "policy wide on receipts is unknown"),
    ("ALTER POLICY of_named_tenants ON receipts USING (true)",
     "policy of_named_tenants on receipts is defined otherwise: permissive for all to everybody"),
    ("ALTER TABLE receipts DISABLE ROW LEVEL SECURITY",
     "table receipts is defined otherwise: logged with row security off and forced"),
    ("ALTER TABLE receipts NO FORCE ROW LEVEL SECURITY",
     "table receipts is defined otherwise: logged with row security on"),
    ("ALTER TABLE receipts SET UNLOGGED",
     "table receipts is defined otherwise: not logged with row security on and forced"),
    ("CREATE TABLE others () INHERITS (receipts)", "child others on receipts is unknown"),
    ("ALTER TABLE store_state RENAME TO kept; CREATE VIEW store_state AS SELECT * FROM kept",
     "store_state is a view, not a table"),
])  # fmt: skip
async def test_every_drift_stops_the_start_and_is_named(
    open_it: OpenStore, store_url: str, statement: str, said: str
) -> None:
    await (await open_it()).close()
    await done_by_hand(store_url, statement)
    with pytest.raises(SchemaDrift) as caught:
        await open_it()
    assert said in str(caught.value)
    assert str(caught.value).count(";") <= 2, "nothing else is named"
    assert isinstance(caught.value, StoreError)
    assert caught.value.code == "schema_drift"
    assert "does not write to tables it does not know" in caught.value.next_step


@pytest.mark.parametrize("statement", [
    "CREATE INDEX for_reports ON receipts (agent_id, ts_us)",
    "CREATE TABLE cats (name TEXT); CREATE VIEW v AS SELECT 1",
    "ALTER TABLE receipts SET (fillfactor = 80, autovacuum_enabled = off)",
    "ANALYZE",
    "COMMENT ON TABLE receipts IS 'hands off'",
    "GRANT SELECT ON receipts TO PUBLIC",
])  # fmt: skip
async def test_what_cannot_harm_a_record_is_let_be(
    open_it: OpenStore, store_url: str, statement: str
) -> None:
    await (await open_it()).close()
    await done_by_hand(store_url, statement)
    await (await open_it()).probe()


async def test_an_index_that_is_not_valid_guards_nothing(
    open_it: OpenStore, store_url: str, postgres_dsn: str
) -> None:
    """As a REINDEX CONCURRENTLY leaves it that was broken off."""
    await (await open_it()).close()
    database = store_url.rpartition("/")[2]
    await done_by_hand(
        f"{postgres_dsn.rpartition('/')[0]}/{database}",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'receipts_call_ends'::regclass",
    )
    with pytest.raises(SchemaDrift, match=r"receipts_call_ends .*not valid"):
        await open_it()


async def test_a_schema_of_another_name_is_compared_too(store_url: str) -> None:
    from storage import open_store

    await done_by_hand(store_url, "CREATE SCHEMA aegis")
    url = f"{store_url}?search_path=aegis"
    store = await open_store(url, now_us=lambda: 1, node_id="node")
    await store.close()
    await done_by_hand(store_url, "DROP INDEX aegis.receipts_call_ends")
    with pytest.raises(SchemaDrift):
        await open_store(url, now_us=lambda: 1, node_id="node")


def test_differences_are_found_in_what_is_kept_too(store_url: str) -> None:
    """Whatever line is taken out of the description, the comparison finds it."""
    expected = expected_on_server()
    assert differences(expected, expected) == []
    for position, row in enumerate(expected):
        rest: list[Row] = [*expected[:position], *expected[position + 1 :]]
        (found,) = differences(rest, expected)
        assert str(row[4] or row[1]) in found
