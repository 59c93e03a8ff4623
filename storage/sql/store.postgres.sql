-- name: has_schema
-- Whether a database holds a store at all. Every engine keeps its list of tables elsewhere.
SELECT table_name FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name = 'schema_migration';

-- name: lock_schema
-- One node at a time brings the schema up to date; held to the end of the transaction.
SELECT pg_advisory_xact_lock(4711200801);

-- name: set_scope
-- The tenants whose rows this connection may see, separated by the unit separator; * is for jobs,
-- and nothing for a connection that goes back to the pool.
SELECT set_config('aegis.tenants', $1, false);

-- name: server_state
-- What decides whether a server may be written to, and what its operator should know: version,
-- whether it only follows another, whether it takes writes and keeps what it promised, the
-- timeline (one more with each promotion), whether our role walks through row security, and which
-- characters the database can hold.
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::bigint,
    pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on',
    current_setting('synchronous_commit'),
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
    CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    END,
    rolsuper OR rolbypassrls,
    current_setting('server_encoding')
FROM pg_roles
WHERE rolname = current_user;

-- name: only_read
-- From now on this connection takes no writes; asked of a server that was seen to take them.
SELECT set_config('default_transaction_read_only', 'on', false);

-- name: database_size
-- Bytes of the whole database.
SELECT pg_database_size(current_database());

-- name: give_hint
-- Tells all who listen, outside of any other transaction; only a server has listeners.
SELECT pg_notify($1, $2);
