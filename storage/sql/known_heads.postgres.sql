-- name: heads_not_there
-- Job across tenants: of heads that were seen, a JSON list of [tenant, seq, hash], those whose
-- receipt is not in its place; with the head as it is, what is in the place, and the cut.
-- JSON is taken apart differently by each engine.
SELECT w.value ->> 0, h.seq, h.receipt_hash, r.receipt_hash, c.value
FROM jsonb_array_elements($1::jsonb) w
LEFT JOIN chain_head h ON h.tenant_id = w.value ->> 0
LEFT JOIN receipts r ON r.tenant_id = w.value ->> 0 AND r.seq = (w.value ->> 1)::bigint
LEFT JOIN store_state c ON c.name = 'cut:' || (w.value ->> 0)
WHERE r.receipt_hash IS NULL
    OR r.receipt_hash <> w.value ->> 2
    OR h.seq IS NULL
    OR h.seq < (w.value ->> 1)::bigint;
