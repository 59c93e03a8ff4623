-- name: lock_heads
-- Heads of some tenants, a JSON list: SQLite has no arrays. The whole file is locked already.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch
FROM chain_head
WHERE tenant_id IN (SELECT value FROM json_each($1))
ORDER BY tenant_id;
