-- name: move_heads
-- Job across tenants: every head there is.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch FROM chain_head;

-- name: move_facts
-- A page of a tenant's facts.
SELECT tenant_id, seq, salt, arguments, facts
FROM call_facts
WHERE tenant_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3;

-- name: move_facts_end
-- Where a page of a tenant's facts ends, and how many it has: so many rows, or up to the one that
-- reaches so many characters. All of the rows are measured, so ask for few where they are large.
SELECT max(page.seq), count(*)
FROM (
    SELECT few.seq, sum(few.size) OVER (ORDER BY few.seq) - few.size AS size_before
    FROM (
        SELECT f.seq, coalesce(length(f.arguments), 0) + length(f.facts) AS size
        FROM call_facts f
        WHERE f.tenant_id = $1 AND f.seq > $2
        ORDER BY f.seq
        LIMIT $3
    ) few
) page
WHERE page.size_before < $4;

-- name: move_any_receipt
-- Job across tenants: whether there is one at all.
SELECT seq FROM receipts LIMIT 1;

-- name: move_any_facts
-- Job across tenants: whether there are any at all.
SELECT seq FROM call_facts LIMIT 1;

-- name: move_open_intents
-- Job across tenants: calls in flight when the sidecar stopped; there are few.
SELECT tenant_id, call_id, node_id, boot_id FROM open_intent;

-- name: move_run_heads
-- Job across tenants: one small row for each agent.
SELECT tenant_id, agent_id, version, state FROM run_head;

-- name: move_buckets
-- Job across tenants: what limits have counted and still counts.
SELECT tenant_id, limit_id, bucket, state, until_us FROM limit_bucket;

-- name: move_tool_pins
-- Job across tenants: what MCP servers said of their tools.
SELECT tenant_id, upstream, tool, version, definition, sha256, at_us, seen, seen_sha256, seen_at_us
FROM tool_pin;

-- name: move_last_receipt
-- How far a tenant's receipts were copied.
SELECT coalesce(max(seq), 0) FROM receipts WHERE tenant_id = $1;

-- name: move_last_facts
-- How far a tenant's facts were copied.
SELECT coalesce(max(seq), 0) FROM call_facts WHERE tenant_id = $1;

-- name: move_put_intent
-- A call in flight, once.
INSERT INTO open_intent (tenant_id, call_id, node_id, boot_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, call_id) DO NOTHING;

-- name: move_put_head
-- A head as it stood, its epoch included; put when all before it was verified.
INSERT INTO chain_head (tenant_id, seq, receipt_hash, ts_us, frontier, epoch)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id) DO NOTHING;

-- name: state_value
-- One named value of the store itself.
SELECT value FROM store_state WHERE name = $1;

-- name: drop_state
-- Forgets one named value.
DELETE FROM store_state WHERE (name = $1);

-- name: move_states
-- Job across tenants: where chains were cut, and what is kept for good (`keep:`), which both stand
-- among the values of the store itself.
SELECT name, value FROM store_state
WHERE substr(name, 1, 4) = 'cut:' OR substr(name, 1, 5) = 'keep:';
