-- name: state
-- One named value of the store itself.
SELECT value FROM store_state WHERE name = $1;

-- name: next_tenant_with_receipts
-- Job across tenants: the next one that has receipts, whether it has a head or not. Asked tenant
-- by tenant, because a list of the distinct ones would read the whole index.
SELECT tenant_id
FROM receipts
WHERE tenant_id > $1
ORDER BY tenant_id
LIMIT 1;

-- name: receipt_time
-- When one receipt was recorded, and its hash: to find by halving where an age begins.
SELECT ts_us, receipt_hash FROM receipts WHERE tenant_id = $1 AND seq = $2;

-- name: first_receipt
-- The oldest receipt of a tenant that is here, after a given one.
SELECT seq FROM receipts WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT 1;

-- name: first_open_call
-- The oldest receipt of a tenant whose call has not ended: what must not be cut off.
SELECT r.seq
FROM open_intent o
JOIN receipts r ON r.tenant_id = o.tenant_id AND r.call_id = o.call_id
WHERE o.tenant_id = $1 AND (r.kind = 'intent' OR r.kind = 'refusal')
ORDER BY r.seq
LIMIT 1;

-- name: facts_page
-- The erasable facts beside a stretch of a tenant's chain.
SELECT tenant_id, seq, salt, arguments, facts
FROM call_facts
WHERE tenant_id = $1 AND seq > $2 AND seq <= $3
ORDER BY seq;

-- name: facts_saying
-- What stands beside receipts of a stretch and says a given word, the newest first; without
-- arguments, which may be large.
SELECT seq, facts
FROM call_facts
WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 AND facts LIKE '%' || $4 || '%'
ORDER BY seq DESC;

-- name: facts_of_agent
-- Where, in a stretch of the chain, facts of calls by one agent are kept.
SELECT f.seq
FROM call_facts f
JOIN receipts r ON r.tenant_id = f.tenant_id AND r.seq = f.seq
WHERE f.tenant_id = $1 AND f.seq > $2 AND f.seq <= $3 AND r.agent_id = $4
ORDER BY f.seq;

-- name: facts_of_user
-- Where, in a stretch of the chain, facts of calls for one user are kept.
SELECT f.seq
FROM call_facts f
JOIN receipts r ON r.tenant_id = f.tenant_id AND r.seq = f.seq
WHERE f.tenant_id = $1 AND f.seq > $2 AND f.seq <= $3 AND r.user_id = $4
ORDER BY f.seq;

-- name: facts_of_call
-- Where, in a stretch of the chain, facts of one call are kept.
SELECT f.seq
FROM call_facts f
JOIN receipts r ON r.tenant_id = f.tenant_id AND r.seq = f.seq
WHERE f.tenant_id = $1 AND f.seq > $2 AND f.seq <= $3 AND r.call_id = $4
ORDER BY f.seq;

-- name: delete_facts_of_receipt
-- Erases the facts beside one receipt.
DELETE FROM call_facts WHERE (tenant_id = $1 AND seq = $2);

-- name: erase_approval
-- Puts something else in place of what was asked, in an approval that nobody needs any more.
UPDATE approval SET version = version + 1, asked = $3
WHERE tenant_id = $1 AND approval_id = $2 AND state <> 'pending' AND state <> 'approved'
RETURNING 1;

-- name: erase_delivery
-- Deletes what was told, or was to be told, of something that is erased.
DELETE FROM delivery WHERE (tenant_id = $1 AND delivery_id = $2);

-- name: erase_alert
-- Puts something else in place of what an alert says, if it still stands as it was looked at.
UPDATE alert SET version = version + 1, reason = $4, notes = $5
WHERE tenant_id = $1 AND alert_id = $2 AND version = $3
RETURNING 1;

-- name: erase_incident
-- The same of an incident.
UPDATE incident SET version = version + 1, title = $4, notes = $5
WHERE tenant_id = $1 AND incident_id = $2 AND version = $3
RETURNING 1;

-- name: erase_containment
-- The same of why something is, or was, contained.
UPDATE containment SET version = version + 1, reason = $4
WHERE tenant_id = $1 AND containment_id = $2 AND version = $3
RETURNING 1;

-- name: erase_memory
-- The same of what is remembered.
UPDATE watch_memory SET version = version + 1, state = $5
WHERE tenant_id = $1 AND detection = $2 AND subject = $3 AND version = $4
RETURNING 1;

-- name: erase_change
-- The same of a change of state, which nothing else ever changes.
UPDATE audit_event SET before_state = $3, after_state = $4, reason = $5
WHERE tenant_id = $1 AND seq = $2
RETURNING 1;

-- name: drop_state_said
-- Forgets one named value, if it is still that.
DELETE FROM store_state WHERE (name = $1 AND value = $2);

-- name: facts_batch_end
-- Where the next few facts to delete end; null if there are none.
SELECT max(few.seq)
FROM (
    SELECT f.seq
    FROM call_facts f
    WHERE f.tenant_id = $1 AND f.seq > $2 AND f.seq <= $3
    ORDER BY f.seq
    LIMIT $4
) few;

-- name: delete_facts
-- Deletes the facts beside a stretch of a tenant's chain.
DELETE FROM call_facts WHERE (tenant_id = $1 AND seq > $2 AND seq <= $3);

-- name: delete_receipts
-- Deletes a stretch of a tenant's chain, which stands in an archive and below a recorded cut.
DELETE FROM receipts WHERE (tenant_id = $1 AND seq > $2 AND seq <= $3);

-- name: count_facts
-- How many facts are kept beside a stretch of a tenant's chain.
SELECT count(*) FROM call_facts WHERE tenant_id = $1 AND seq > $2 AND seq <= $3;

-- name: count_receipts
-- How many receipts are here of a stretch of a tenant's chain.
SELECT count(*) FROM receipts WHERE tenant_id = $1 AND seq > $2 AND seq <= $3;

-- name: count_open_intents
-- Job across tenants: calls in flight.
SELECT count(*) FROM open_intent;

-- name: count_run_heads
-- Job across tenants: agents whose runs are guarded.
SELECT count(*) FROM run_head;

-- name: count_buckets
-- Job across tenants: buckets of limits that are still counted, or not yet forgotten.
SELECT count(*) FROM limit_bucket;

-- name: count_tool_pins
-- Job across tenants: tools of MCP servers whose definitions are pinned.
SELECT count(*) FROM tool_pin;

-- name: count_states
-- Named values of the store itself.
SELECT count(*) FROM store_state;
