-- name: lock_schema
-- The file is locked by the one process that writes to it.
SELECT 1;

-- name: has_schema
-- Whether a file is a store at all. Every engine keeps its list of tables in its own place.
SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration';

-- name: dead_nodes
-- Job across tenants: others with calls in flight. Nobody lives but the one process that has the
-- file; a server tells by leases.
SELECT DISTINCT node_id FROM open_intent WHERE node_id <> $1;
