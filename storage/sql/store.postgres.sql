-- name: has_schema
-- Whether a database holds a store at all. Every engine keeps its list of tables elsewhere.
SELECT c.relname::text AS table_name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = 'schema_migration';

-- name: lock_schema
-- One node at a time brings the schema up to date; held to the end of the transaction.
SELECT pg_advisory_xact_lock(4711200801);

-- name: database_size
-- Bytes of the whole database.
SELECT pg_database_size(current_database());

-- name: give_hint
-- Tells all who listen, outside of any other transaction; only a server has listeners.
SELECT pg_notify($1, $2);
