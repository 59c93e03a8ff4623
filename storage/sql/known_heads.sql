-- name: last_receipts
-- Job across tenants: where every chain ends.
SELECT tenant_id, seq, receipt_hash FROM chain_head;
