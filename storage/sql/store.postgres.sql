-- name: has_schema
-- Whether a database holds a store at all. Every engine keeps its list of tables elsewhere.
SELECT table_name FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name = 'schema_migration';

-- name: lock_schema
-- One node at a time brings the schema up to date; held to the end of the transaction.
SELECT pg_advisory_xact_lock(4711200801);

-- name: set_scope
-- The tenants whose rows this connection may see, separated by the unit separator; * is for jobs.
SELECT set_config('aegis.tenants', $1, false);

-- name: server_state
-- Version, whether it only follows another server, and whether it takes writes.
SELECT
    current_setting('server_version'),
    pg_is_in_recovery(),
    current_setting('transaction_read_only'),
    current_setting('synchronous_commit'),
    current_setting('server_version_num')::bigint;

-- name: database_size
-- Bytes of the whole database.
SELECT pg_database_size(current_database());
