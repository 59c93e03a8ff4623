-- name: create_schema_migration
-- The runner's own table, made before anything else.
CREATE TABLE IF NOT EXISTS schema_migration (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    applied_at_us BIGINT NOT NULL
);

-- name: applied_migrations
-- What was applied so far.
SELECT version, name, sha256 FROM schema_migration ORDER BY version;

-- name: insert_migration
-- Stands in the same transaction as the migration itself.
INSERT INTO schema_migration (version, name, sha256, applied_at_us)
VALUES ($1, $2, $3, $4);

-- name: put_state
-- Sets one named value of the store itself (the probe's mark).
INSERT INTO store_state (name, value)
VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: keep_state
-- Sets a named value unless it is set, and gives what holds (the node's name).
INSERT INTO store_state (name, value)
VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = store_state.value
RETURNING value;

-- name: heads_out_of_step
-- Job across tenants, the tail check: whose head is not their last receipt. None on a sound store.
SELECT h.tenant_id, h.seq
FROM chain_head h
LEFT JOIN receipts r ON r.tenant_id = h.tenant_id AND r.seq = h.seq
WHERE (h.seq > 0 AND (r.receipt_hash IS NULL OR r.receipt_hash <> h.receipt_hash))
    OR EXISTS (SELECT 1 FROM receipts n WHERE n.tenant_id = h.tenant_id AND n.seq > h.seq)
LIMIT 1;
