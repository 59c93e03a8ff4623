-- name: head
-- The tenant's head, without a lock.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch
FROM chain_head
WHERE tenant_id = $1;

-- name: tenants
-- Job across tenants: everyone who has a head. Sorted by the caller (collations differ).
SELECT tenant_id FROM chain_head;

-- name: receipts
-- A page of a tenant's chain.
SELECT
    tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
    upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
    policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
    outcome, http_status, receipt_hash
FROM receipts
WHERE tenant_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3;

-- name: receipts_of_call
-- How a call began and how it ended; one branch for each of the two partial indexes.
SELECT
    tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
    upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
    policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
    outcome, http_status, receipt_hash
FROM receipts
WHERE tenant_id = $1 AND call_id = $2 AND (kind = 'intent' OR kind = 'refusal')
UNION ALL
SELECT
    tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
    upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
    policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
    outcome, http_status, receipt_hash
FROM receipts
WHERE tenant_id = $1 AND call_id = $2 AND (kind = 'outcome' OR kind = 'recovery')
ORDER BY seq;

-- name: call_facts
-- The erasable facts beside one receipt.
SELECT tenant_id, seq, salt, arguments, facts
FROM call_facts
WHERE tenant_id = $1 AND seq = $2;

-- name: open_intents
-- Job across tenants: what a node left open. The table holds only calls in flight.
SELECT tenant_id, call_id, node_id, boot_id
FROM open_intent
WHERE node_id = $1
LIMIT $2;

-- name: run_head
-- Version and state of one run.
SELECT version, state FROM run_head WHERE tenant_id = $1 AND agent_id = $2;

-- name: tool_marks
-- What the tools of one upstream are pinned to, and what was seen since, by hash.
SELECT tool, version, sha256, seen_sha256
FROM tool_pin
WHERE tenant_id = $1 AND upstream = $2;

-- name: tool_pins
-- The same with the definitions, which may be long.
SELECT tenant_id, upstream, tool, version, definition, sha256, at_us, seen, seen_sha256, seen_at_us
FROM tool_pin
WHERE tenant_id = $1 AND upstream = $2;

-- name: tool_pin
-- One of them, with its definition.
SELECT tenant_id, upstream, tool, version, definition, sha256, at_us, seen, seen_sha256, seen_at_us
FROM tool_pin
WHERE tenant_id = $1 AND upstream = $2 AND tool = $3;

-- name: pinned_upstreams
-- Job across tenants: whose tools are pinned, of which MCP servers.
SELECT DISTINCT tenant_id, upstream FROM tool_pin;
