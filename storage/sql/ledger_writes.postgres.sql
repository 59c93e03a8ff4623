-- name: lock_heads
-- Heads of some tenants, a JSON list, each row locked to the end of the transaction, in one order
-- everywhere, so that two nodes cannot wait for each other.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch
FROM chain_head
WHERE tenant_id IN (SELECT jsonb_array_elements_text($1::jsonb))
ORDER BY tenant_id
FOR UPDATE;
